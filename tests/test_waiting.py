"""Where records wait: a folder is named by what identifies its destination, and none is stranded without a word."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from otel_llmlog import config, waiting
from otel_llmlog.pipeline.spool import Spool, encode_record, purpose
from tests import strangers
from tests.pipeline.spooling import run_and_die
from tests.store.records import record

RECORDS = [record() for _ in range(4)]
LLMLOG = str(Path(sys.executable).parent / "llmlog")


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://other:secret@db.example/app",
        "postgresql://db.example:5432/app",
        "postgres://DB.example./app?sslmode=require&application_name=x&connect_timeout=3",
        "postgresql+psycopg://db.example/app?options=-csearch_path%3Dx",
        "postgresql:///app?host=db.example&port=5432",
        "postgresql://nobody@ignored:1/ignored?host=db.example&port=5432&dbname=app",
        "postgresql://db%2Eexample/%61pp",
    ],
)
def test_options_and_credentials_are_no_other_database(url: str) -> None:
    assert purpose.of_postgres(url, {}) == "postgres db.example:5432/app"


@pytest.mark.parametrize(
    ("url", "environ", "words"),
    [
        ("postgresql://h2:6432,h1/app", {}, "postgres h1:5432,h2:6432/app"),
        ("postgresql://h2,h1:6432/app?target_session_attrs=primary", {}, "postgres h1:6432,h2:5432/app"),
        ("postgresql:///app?host=h1,h2&port=6432", {}, "postgres h1:6432,h2:6432/app"),
        ("postgresql://[::1]:6432/app", {}, "postgres [::1]:6432/app"),
        ("postgresql://[::1]/app", {}, "postgres [::1]:5432/app"),
        ("postgresql://%2Fvar%2Frun%2Fpg/app", {}, "postgres /var/run/pg:5432/app"),
        ("postgresql:///app?host=/var/run/pg/", {}, "postgres /var/run/pg:5432/app"),
        ("postgresql://ada@h", {}, "postgres h:5432/ada"),
        ("postgresql://", {"PGHOST": "h", "PGPORT": "6432", "PGDATABASE": "d"}, "postgres h:6432/d"),
        ("postgresql://", {"PGUSER": "ada"}, "postgres local:5432/ada"),
        ("postgresql:///?service=prod", {"PGDATABASE": "d"}, "postgres service prod/d"),
        ("postgresql://u:p@ss@h/app", {}, "postgres h:5432/app"),
        ("postgresql://u:p/s[s@h/app", {}, "postgres h:5432/app"),
        ("host=h2,h1 port=6432 dbname=app", {}, "postgres h1:6432,h2:6432/app"),
    ],
)
def test_a_database_is_named_by_the_addresses_that_libpq_would_use(
    url: str, environ: dict[str, str], words: str
) -> None:
    assert purpose.of_postgres(url, environ) == words


@pytest.mark.parametrize(
    ("endpoint", "words"),
    [
        ("http://user:secret@Collector:4318/v1/traces?x=y", "otlp collector:4318/v1/traces"),
        ("https://collector/v1/traces", "otlp collector:443/v1/traces"),
        ("http://collector:port/x", "otlp http://collector:port/x"),
    ],
)
def test_a_collector_is_named_by_its_address(endpoint: str, words: str) -> None:
    assert purpose.of_collector(endpoint) == words


def test_the_embedded_server_is_named_by_its_directory_whichever_way_leads_there(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "link").symlink_to("data")
    assert purpose.of_embedded(tmp_path / "link") == purpose.of_embedded(tmp_path / "x" / ".." / "data")


Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def command(database_url: str, tmp_path: Path) -> Command:
    def run(*arguments: str, code: int = 0, **extra: str) -> subprocess.CompletedProcess[str]:
        environment = {
            "PATH": "",
            "HOME": str(tmp_path),
            "COLUMNS": "300",
            "LLMLOG_DATABASE_URL": database_url,
            "LLMLOG_SPOOL_DIR": str(tmp_path / "spool"),
            **extra,
        }
        done = subprocess.run(
            [LLMLOG, *arguments], env=environment, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == code, done.stderr + done.stdout
        return done

    return run


def _leave(place: Path, *numbers: int, destination: str = "") -> None:
    """What a process leaves that was killed with so many records to deliver."""

    def body() -> None:
        spool = Spool(place, destination=destination)
        for number in numbers:
            spool.finish(0, encode_record(RECORDS[number]))

    run_and_die(body)


def _stored(url: str) -> int:
    with psycopg.connect(url) as connection:
        return connection.execute("SELECT count(*) FROM llmlog.spend_logs").fetchone()[0]


@pytest.mark.slow
def test_records_for_an_address_that_was_corrected_are_listed_and_can_be_delivered(
    command: Command, database_url: str, tmp_path: Path
) -> None:
    words = purpose.of_postgres("postgresql://ada:secret@wrong.example/app?sslmode=require", {})
    place = tmp_path / "spool" / purpose.folder_name(words)
    _leave(place, 1, 2, 3, destination=words)
    for ask in (("spool", "status"), ("status",), ("doctor",)):
        told = command(*ask).stdout
        assert "3 record(s) for postgres wrong.example:5432/app wait in" in told
        assert f"llmlog spool drain --from {place.name}" in told
        assert "secret" not in told
    for ask in (("spool", "status", "--json"), ("status", "--json")):
        (listed,) = json.loads(command(*ask).stdout)["unserved"]
        assert listed["folder"] == str(place)
        assert (listed["destination"], listed["records"]) == (words, 3)
        assert listed["written_at"].startswith("20")
    command("spool", "drain")
    assert _stored(database_url) == 0
    told = command("spool", "drain", "--from", place.name[:6]).stdout
    assert f"3 record(s) in {place}, meant for {words}, go to postgres " in told
    assert "3 record(s) delivered" in told
    assert _stored(database_url) == 3
    assert json.loads(command("status", "--json").stdout)["unserved"] == []
    _leave(place, 1, 2, 3)
    assert "3 record(s) delivered" in command("spool", "drain", "--from", str(place)).stdout
    assert _stored(database_url) == 3  # each has its identity


def test_other_options_of_the_connection_deliver_what_was_left_under_the_first(
    command: Command, database_url: str, tmp_path: Path
) -> None:
    words = purpose.of_postgres(database_url, {})
    _leave(tmp_path / "spool" / purpose.folder_name(words), 1)
    command("spool", "drain", LLMLOG_DATABASE_URL=f"{database_url}&application_name=other&connect_timeout=7")
    assert _stored(database_url) == 1


def test_folders_that_earlier_versions_named_with_the_options_are_delivered(
    command: Command, database_url: str, tmp_path: Path
) -> None:
    path, _, query = database_url.partition("@")[2].partition("?")
    told = f"None:None/{path.partition('/')[2]}?{query}"
    place = tmp_path / "spool" / hashlib.sha256(told.encode()).hexdigest()[:16]
    _leave(place, 1, 2)
    found = json.loads(command("spool", "status", "--json").stdout)
    assert (found["outcomes"], found["unserved"]) == (2, [])
    assert "2 record(s) delivered" in command("spool", "drain").stdout
    assert _stored(database_url) == 2


def test_a_running_process_delivers_what_an_earlier_version_left(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLMLOG_DATABASE_URL", database_url)
    monkeypatch.setenv("LLMLOG_SPOOL_DIR", str(tmp_path / "spool"))
    former = waiting._former_name(config.load())
    _leave(tmp_path / "spool" / former, 1, 2)
    program = "import otel_llmlog; otel_llmlog.instrument(); from otel_llmlog import audit; audit.record(action='x', table_name='y', object_id='1'); otel_llmlog.flush()"
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
    assert _stored(database_url) == 2


def test_the_folder_of_a_live_process_is_not_called_unserved(command: Command, tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool" / "0123456789abcdef", destination="postgres db.example:5432/app")
    spool.finish(0, encode_record(RECORDS[1]))
    assert json.loads(command("spool", "status", "--json").stdout)["unserved"] == []
    spool.close()


@pytest.mark.parametrize("name", ["nothing", "/nowhere/at/all", "", "0"])
def test_a_folder_that_is_not_there_or_not_one_is_an_error_that_says_where_to_look(
    command: Command, tmp_path: Path, name: str
) -> None:
    for folder in ("01", "02"):
        _leave(tmp_path / "spool" / folder, 1)
    told = command("spool", "drain", "--from", name, code=2).stderr
    assert "llmlog spool status" in " ".join(told.split())


@pytest.mark.slow
def test_the_folder_of_another_user_is_refused_by_every_command_and_named(command: Command, database_url: str) -> None:
    with strangers.common_ground() as ground:
        place = ground / purpose.folder_name(purpose.of_postgres(database_url, {}))
        strangers.do("mkdir", place)
        settings = {"LLMLOG_SPOOL_DIR": str(ground)}
        assert "belongs to nobody" in command("spool", "status", **settings).stdout
        assert "belongs to nobody" in command("status", **settings).stdout
        assert "belongs to nobody" in command("doctor", code=1, **settings).stdout
        told = command("spool", "drain", "--from", str(place), code=2, **settings).stderr
        assert "belongs to nobody" in " ".join(told.split())
        assert json.loads(command("status", "--json", **settings).stdout)["refused"] != []
        # What this user leaves in the folder beside is not stranded when that folder is the plain one again.
        _leave(place.with_name(f"{place.name}-{os.geteuid()}"), 1)
        strangers.do("rmdir", place)
        assert "1 record(s) delivered" in command("spool", "drain", **settings).stdout

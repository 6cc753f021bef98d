"""Databases that are not as this program would have made them: of another encoding, or of a later version."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql as pgsql

from otel_llmlog.config import RetentionSettings
from otel_llmlog.errors import StoreUnavailable
from otel_llmlog.stats import Stats
from otel_llmlog.store import migrate, sql
from otel_llmlog.store.audit_rows import AuditWriter
from otel_llmlog.store.connect import conninfo
from otel_llmlog.store.postgres import PostgresExporter
from tests.audit.events import record as audit_record
from tests.store.records import record, records
from tests.store.test_commands import LLMLOG

Query = Callable[..., list[tuple[Any, ...]]]
ENCODINGS = ("SQL_ASCII", "LATIN1", "EUC_JP", "WIN1252")
NAME = 'odd "name"'


@pytest.fixture(params=ENCODINGS)
def encoding(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def other_url(postgres_server: str, encoding: str) -> Iterator[str]:
    """URL of an empty database of this encoding."""
    with psycopg.connect(postgres_server, autocommit=True) as connection:
        for name in (NAME, f"{NAME}_utf8"):
            connection.execute(pgsql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(pgsql.Identifier(name)))
        made = f"CREATE DATABASE {{}} TEMPLATE template0 ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C'"
        connection.execute(pgsql.SQL(made).format(pgsql.Identifier(NAME)))  # type: ignore[arg-type]
    yield at(postgres_server, NAME)
    with psycopg.connect(postgres_server, autocommit=True) as connection:
        for name in (NAME, f"{NAME}_utf8"):
            connection.execute(pgsql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(pgsql.Identifier(name)))


def at(server_url: str, name: str) -> str:
    before, _, after = server_url.rpartition("/postgres?")
    return f"{before}/{name.replace(' ', '%20').replace(chr(34), '%22')}?{after}"


def as_older_versions_did(url: str) -> None:
    """Make the tables, whatever the encoding."""
    with psycopg.connect(url, client_encoding="utf8") as connection:
        connection.execute("CREATE SCHEMA llmlog; CREATE TABLE llmlog.alembic_version (version_num text)")
        for text in sql.migrations().values():
            connection.execute(text.replace("…", "...").encode())
        connection.execute("INSERT INTO llmlog.alembic_version VALUES (%s)", (sql.newest(),))


def run(*arguments: str, url: str, home: Path, code: int = 0, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": "", "HOME": str(home), "LLMLOG_DATABASE_URL": url, **variables}
    done = subprocess.run(arguments, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == code, done.stderr
    return done


# Encodings.


def test_another_encoding_is_refused_and_the_sql_that_is_told_makes_a_database_that_works(
    other_url: str, postgres_server: str, encoding: str
) -> None:
    with pytest.raises(StoreUnavailable, match=f"encoding is {encoding}, .* name that database") as refused:
        migrate.upgrade(other_url)
    with psycopg.connect(other_url) as connection:
        assert connection.execute("SELECT to_regnamespace('llmlog')").fetchone() == (None,)
    made = re.search("`(.*)`", str(refused.value))
    assert made is not None
    with psycopg.connect(postgres_server, autocommit=True) as connection:
        connection.execute(made[1].encode())
    url = at(postgres_server, f"{NAME}_utf8")
    exporter = PostgresExporter(url)
    assert exporter.export([record(model="モデル-é-🙂")]).written == 1
    exporter.close()


def test_a_writer_keeps_its_rows_where_older_versions_made_tables_in_another_encoding(
    other_url: str, encoding: str
) -> None:
    as_older_versions_did(other_url)
    for migrates in (True, False):
        exporter = PostgresExporter(other_url, auto_migrate=migrates)
        with pytest.raises(StoreUnavailable, match=f"encoding is {encoding}"):
            exporter.export([record(model="モデル-é-🙂"), *records(3)])
        exporter.close()
    one_now = AuditWriter(lambda: conninfo(other_url), 20)
    with pytest.raises(StoreUnavailable, match=f"encoding is {encoding}"):
        one_now.store(audit_record())
    one_now.close()
    with psycopg.connect(other_url) as connection:
        for table in ("spend_logs", "dead_letters", "audit_logs"):
            assert connection.execute(f"SELECT count(*) FROM llmlog.{table}").fetchone() == (0,)


PROGRAM = """
import otel_llmlog
from otel_llmlog import audit

otel_llmlog.instrument()
for _ in range(8):
    audit.record(action="renamed", table_name="documents", object_id="モデル")
"""


@pytest.mark.parametrize("encoding", ["LATIN1"], indirect=True)
def test_an_apps_rows_wait_in_the_spool_and_no_command_counts_them_as_dead(other_url: str, tmp_path: Path) -> None:
    as_older_versions_did(other_url)
    said = run(sys.executable, "-c", PROGRAM, url=other_url, home=tmp_path, LLMLOG_SHUTDOWN_TIMEOUT="3").stderr
    assert "encoding is LATIN1" in said
    found = json.loads(run(LLMLOG, "status", "--json", url=other_url, home=tmp_path).stdout)
    assert {name: found[name] for name in ("audited", "spooled", "rejected", "dead_letters", "dropped")} == {
        "audited": 8, "spooled": 8, "rejected": 0, "dead_letters": 0, "dropped": 0
    }  # fmt: skip
    assert "encoding is LATIN1" in run(LLMLOG, "doctor", url=other_url, home=tmp_path, code=1, COLUMNS="400").stdout
    assert "encoding is LATIN1" in run(LLMLOG, "db", "upgrade", url=other_url, home=tmp_path, code=1).stderr


def test_the_number_of_dead_letters_is_the_tables(database_url: str, query: Query, tmp_path: Path) -> None:
    query(
        "INSERT INTO llmlog.dead_letters (reason, record, digest) SELECT 'x', '{}', sha256(i) FROM unnest('{a,b,c}'::bytea[]) i"
    )
    found = json.loads(run(LLMLOG, "status", "--json", url=database_url, home=tmp_path).stdout)
    assert (found["dead_letters"], found["rejected"]) == (3, 0)
    gone = run(LLMLOG, "status", "--json", url="postgresql://127.0.0.1:1/nowhere", home=tmp_path)
    assert json.loads(gone.stdout)["dead_letters"] is None
    assert "the dead letters are not counted: no database: nothing listens" in gone.stderr


def test_what_cannot_become_a_dead_letter_now_is_sent_again(exporter: PostgresExporter, query: Query) -> None:
    bad = record(attributes={"llmlog.messages": "[1e200000]"})
    batch = [bad, *records(3)]
    query("ALTER TABLE llmlog.dead_letters RENAME TO elsewhere")
    with pytest.raises(StoreUnavailable, match="dead_letters could not be written"):
        exporter.export(batch)
    query("ALTER TABLE llmlog.elsewhere RENAME TO dead_letters")
    delivery = exporter.export(batch)
    assert (delivery.written, delivery.duplicates, len(delivery.rejected)) == (0, 3, 1)
    assert query("SELECT count(*) FROM llmlog.dead_letters") == [(1,)]


# Tables that are newer.


@pytest.fixture(params=["0999", "0001b", "zzz"])
def newer(request: pytest.FixtureRequest, query: Query) -> str:
    query("UPDATE llmlog.alembic_version SET version_num = %s", (request.param,))
    return str(request.param)


def everything(query: Query) -> list[tuple[Any, ...]]:
    """What the schema is made of."""
    return query("""
        SELECT oid::regclass::text, relkind::text, relchecks::text FROM pg_class WHERE relnamespace = 'llmlog'::regnamespace
        UNION ALL SELECT oid::regprocedure::text, md5(prosrc), NULL FROM pg_proc WHERE pronamespace = 'llmlog'::regnamespace
        UNION ALL SELECT version_num, NULL, NULL FROM llmlog.alembic_version
        UNION ALL SELECT task, last_run::text, kept_since::text FROM llmlog.maintenance WHERE task = 'retention'
        ORDER BY 1, 2, 3
    """)


CHANGING = ("db upgrade", "db check --repair", "db prune", "reprice --since 1d --yes")
READING = (
    "db status",
    "db check",
    "db prune --dry-run",
    "logs",
    "spend",
    "sessions",
    "audit list",
    "doctor",
    "dead-letters list",
)


@pytest.mark.slow
@pytest.mark.parametrize("newer", ["0999"], indirect=True)
def test_every_command_says_that_the_tables_are_newer_and_none_changes_them(
    database_url: str, newer: str, query: Query, tmp_path: Path
) -> None:
    variables = {"LLMLOG_MAXIMUM_SPEND_LOGS_RETENTION_PERIOD": "1d", "COLUMNS": "400"}
    before = everything(query)
    expected = f"the llmlog tables are at {newer}, this program knows {sql.newest()} at most: run `pip install --upgrade otel-llmlog`"
    for command in CHANGING:
        done = run(LLMLOG, *command.split(), url=database_url, home=tmp_path, code=1, **variables)
        assert done.stderr == f"llmlog: {expected}; nothing was changed\n"
        assert done.stdout == ""
    with pytest.raises(StoreUnavailable, match=re.escape(expected)):
        migrate.upgrade(database_url)
    for command in READING:
        fails = int(command in {"db status", "doctor"})
        done = run(LLMLOG, *command.split(), url=database_url, home=tmp_path, code=fails, **variables)
        assert expected in done.stderr
        assert "db upgrade" not in done.stdout + done.stderr
    assert everything(query) == before


def test_rows_are_written_into_newer_tables_with_a_word_and_old_ones_are_not_removed(
    database_url: str, newer: str, query: Query, caplog: pytest.LogCaptureFixture
) -> None:
    settings = RetentionSettings(maximum_spend_logs_retention_period="1d", maximum_spend_logs_retention_interval="1s")
    exporter = PostgresExporter(database_url, retention=settings, stats=Stats())
    before = everything(query)
    assert exporter.export(records(3)).written == 3
    assert f"the llmlog tables are at {newer}" in caplog.text
    assert "rows are written, old ones are not removed" in caplog.text
    exporter.close()
    assert [one for one in everything(query) if "_20" not in one[0]] == [one for one in before if "_20" not in one[0]]


def test_rows_wait_when_newer_tables_say_that_this_writer_is_too_old(
    database_url: str, newer: str, query: Query
) -> None:
    exporter = PostgresExporter(database_url)
    query("UPDATE llmlog.maintenance SET revision = '0900' WHERE task = 'oldest_writer'")
    with pytest.raises(StoreUnavailable, match="its rows do not fit into them"):
        exporter.export(records(3))
    query("ALTER TABLE llmlog.maintenance DROP COLUMN revision")
    with pytest.raises(StoreUnavailable, match="its rows do not fit into them"):
        exporter.export(records(3))
    exporter.close()
    assert query("SELECT count(*) FROM llmlog.spend_logs") == [(0,)]


def test_what_newer_tables_lack_is_not_said_to_need_an_upgrade_of_theirs(
    database_url: str, newer: str, query: Query
) -> None:
    query("ALTER TABLE llmlog.spend_logs RENAME COLUMN model TO named")
    exporter = PostgresExporter(database_url)
    with pytest.raises(StoreUnavailable, match=f"tables are at {newer}") as told:
        exporter.export(records(3))
    assert "db upgrade" not in str(told.value)
    exporter.close()

"""Every version of Postgres from the oldest that is taken: tables, writing, reading, sums, audit and retention."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from otel_llmlog.cli import doctor
from otel_llmlog.errors import StoreUnavailable
from otel_llmlog.store import check, connect, migrate, retention, roles
from otel_llmlog.store.postgres import PostgresExporter
from otel_llmlog.store.reader import Filter, Reader
from tests.databases import life, servers
from tests.databases.test_settings import HOSTILE
from tests.store.records import records

pytestmark = pytest.mark.slow
BIN = Path(sys.executable).parent
# Of those, what the oldest version knows.
EVERYWHERE = (
    "DateStyle", "IntervalStyle", "TimeZone", "default_transaction_isolation", "statement_timeout", "lock_timeout",
    "idle_in_transaction_session_timeout", "client_encoding", "standard_conforming_strings", "search_path", "array_nulls",
    "bytea_output", "extra_float_digits", "quote_all_identifiers", "exit_on_error", "enable_partition_pruning", "jit",
    "plan_cache_mode", "plpgsql.extra_errors",
)  # fmt: skip


@pytest.mark.parametrize("major", range(connect.OLDEST, 19))
def test_all_of_it_works_on_every_version_for_a_role_that_owns_its_database_alone(major: int) -> None:
    with servers.server(major) as server:
        life.whole(server.database("plain"))
        hostile = server.database("hostile")
        for name in EVERYWHERE:
            server.ask(f"ALTER ROLE hostile SET {name} = {HOSTILE[name]}")
        life.whole(hostile)
        three_roles(server)


def three_roles(server: servers.Server) -> None:
    """Each of the roles that `llmlog db roles` makes does its work and not the others'."""
    server.ask("CREATE DATABASE shared")
    life.upgraded(server.url("shared"))
    roles.make(server.url("shared"), roles.DEFAULTS)
    for kind, role in roles.DEFAULTS._asdict().items():
        server.ask(f"CREATE ROLE {kind}_of_app LOGIN IN ROLE {role}")
    owner, writer, reader = (server.url("shared", f"{kind}_of_app") for kind in roles.Names._fields)
    exporter = PostgresExporter(writer, auto_migrate=False)
    calls = records(3)
    assert life.outcome(exporter.export(calls)) == (3, 0, 0)
    assert life.outcome(exporter.export([*calls, *records(1)])) == (1, 3, 0)
    exporter.close()
    assert len(Reader(reader).logs(Filter(), limit=10)) == 4
    assert check.check(reader).differences == []
    for url in (writer, reader):
        with pytest.raises(StoreUnavailable, match="only a role that owns the tables"):
            retention.prune(url, life.RETENTION)
    assert retention.prune(owner, life.RETENTION) is not None
    with pytest.raises(StoreUnavailable):
        PostgresExporter(reader, auto_migrate=False).export(records(1))


def test_an_older_version_is_refused_in_one_line_by_all_that_connect(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with servers.server(connect.OLDEST - 1) as server:
        url = server.database("plain")
        said = rf"PostgreSQL {connect.OLDEST - 1}\.\d+; the oldest that otel-llmlog takes is {connect.OLDEST}"
        with pytest.raises(StoreUnavailable, match=said):
            migrate.upgrade(url)
        with pytest.raises(StoreUnavailable, match=said):
            PostgresExporter(url).export(records(1))
        monkeypatch.setenv("LLMLOG_DATABASE_URL", url)
        monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
        assert [f.mark for f in doctor.findings() if "PostgreSQL" in f.says] == ["bad"]
        done = subprocess.run(
            [BIN / "llmlog", "db", "upgrade"], env=os.environ, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 1
        assert len(done.stderr.splitlines()) == 1
        assert f"PostgreSQL {connect.OLDEST - 1}." in done.stderr
        assert server.ask("SELECT to_regnamespace('llmlog')", "plain") == [(None,)]

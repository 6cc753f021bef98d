"""Every version of Postgres from the oldest that is taken: tables, writing, reading, sums, audit and retention."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from otel_llmlog.cli import doctor
from otel_llmlog.errors import StoreUnavailable
from otel_llmlog.store import connect, migrate
from otel_llmlog.store.postgres import PostgresExporter
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

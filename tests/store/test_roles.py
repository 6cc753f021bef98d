"""Owner, writer and reader: each does all of its work, none does the others', and none stops the others."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import errors

from otel_llmlog.config import RetentionSettings
from otel_llmlog.errors import ConfigError
from otel_llmlog.pipeline.record import Record
from otel_llmlog.pricing import Pricer
from otel_llmlog.store import audit_chain, check, migrate, postgres, reprice, retention, roles, sql
from otel_llmlog.store.audit_rows import AuditWriter
from otel_llmlog.store.connect import conninfo
from otel_llmlog.store.dead_letters import DeadLetters
from otel_llmlog.store.postgres import PostgresExporter
from otel_llmlog.store.reader import Reader
from tests.audit import events
from tests.store.conftest import ROLES, Login
from tests.store.records import record

Query = Callable[..., list[tuple[Any, ...]]]

# An hour ago, so that all of it is of one day or two.
NOW = time.time_ns() - 3600 * 10**9
# Only for functions of the migrations: they are called by those that writers call.
INNER = {"audit_chain", "index_own_calls", "join_chains"}


def call(**changes: Any) -> Record:
    return record(start_ns=NOW, user_api_key_team_id="team", **changes)


def work_of_a_writer(url: str) -> None:
    """Calls, some twice, some refused, in a chain, with contents; spans of others and what comes apart; audit events."""
    exporter = PostgresExporter(url, auto_migrate=False)
    exporter.open()
    calls = [call() for _ in range(50)]
    calls += [
        call(id=f"resp-{n}", call_type="responses", previous_response_id=f"resp-{n - 1}", session_id=None)
        for n in range(5)
    ]
    absurd = replace(call(), attributes={**call().attributes, "llmlog.messages": "[1e200000]"})
    delivery = exporter.export([*calls, absurd])
    assert delivery.written == len(calls), delivery
    assert len(delivery.rejected) == 1
    again = exporter.export([*calls, call()])
    assert (again.written, again.duplicates, again.rejected) == (1, len(calls), [])
    others = [call(described_by="genai", trace_id=f"{n << 64:032x}", span_id=f"{n << 56:016x}") for n in range(1, 4)]
    described = exporter.export([*others, call()])
    assert (described.written + described.duplicates, described.rejected) == (4, [])
    told = {"llmlog.messages": '[{"role": "user"}]'}
    assert (
        exporter.export([Record(f"{1 << 64:032x}", f"{1 << 56:016x}", None, NOW, NOW, "shop", told, "content")]).written
        == 1
    )
    assert exporter.export(events.records(3)).written == 3
    exporter.close()
    at_once = AuditWriter(lambda: conninfo(url), 5)
    at_once.store(events.record())
    at_once.close()


def cli(url: str, *arguments: str) -> str:
    done = subprocess.run(
        [Path(sys.executable).parent / "llmlog", *arguments], check=False, capture_output=True, text=True, timeout=100,
        env={**os.environ, "LLMLOG_DATABASE_URL": url},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_writer_writes_everything(login: Login, query: Query, database_url: str) -> None:
    tomorrow = datetime.now(UTC).date() + timedelta(days=1)
    query(f"DROP TABLE llmlog.spend_logs_{tomorrow:%Y%m%d}")
    query("UPDATE llmlog.maintenance SET folded_until = '-infinity'")
    [(database,)] = query("SELECT current_database()")
    query(f"REVOKE TEMPORARY ON DATABASE {database} FROM PUBLIC")
    work_of_a_writer(login("writer"))
    assert query("SELECT count(*) FROM llmlog.spend_logs") == [(60,)]
    assert query("SELECT count(*), count(DISTINCT session_id) FROM llmlog.chain_links") == [(5, 1)]
    assert query("SELECT count(*) FROM llmlog.dead_letters") == [(1,)]
    assert query("SELECT count(*) FROM llmlog.described_calls") == [(3,)]
    assert query("SELECT count(*) FROM llmlog.spend_log_contents") == [(1,)]
    assert query("SELECT count(*) FROM llmlog.audit_logs") == [(4,)]
    assert query(f"SELECT to_regclass('llmlog.spend_logs_{tomorrow:%Y%m%d}') IS NOT NULL") == [(True,)]
    assert query("SELECT folded_until > '-infinity' FROM llmlog.maintenance WHERE task = 'rollups'") == [(True,)]
    assert check.check(database_url).differences == []
    assert audit_chain.verify(database_url).findings == []


def test_a_reader_reads_everything(login: Login, query: Query, database_url: str) -> None:
    work_of_a_writer(database_url)
    url = login("reader")
    reader = Reader(url)
    assert len(reader.logs()) == 60
    assert reader.spend("team")
    assert reader.sessions()
    assert reader.log("resp-1")
    assert reader.status().rows == 60
    assert len(DeadLetters(url).entries()) == 1
    assert check.check(url).differences == []
    assert audit_chain.verify(url).findings == []
    for command in ("status", "logs", "db status"):
        cli(url, *command.split())
    tables = query(
        "SELECT oid::regclass::text FROM pg_class WHERE relnamespace = 'llmlog'::regnamespace AND relkind IN ('r', 'p', 'v')"
    )
    with psycopg.connect(url) as connection:
        for (table,) in tables:
            connection.execute(f"SELECT * FROM {table} LIMIT 1")


def test_partitions_to_come_are_read_by_readers_whoever_makes_them(login: Login, query: Query) -> None:
    with psycopg.connect(login("writer")) as connection:
        connection.execute("SELECT llmlog.ensure_partition(current_date + 5)")
    (name,) = query("SELECT format('llmlog.spend_logs_%s', to_char(current_date + 5, 'YYYYMMDD'))")[0]
    with psycopg.connect(login("reader")) as connection:
        connection.execute(f"SELECT count(*) FROM {name}")


def test_an_owner_keeps_the_tables(login: Login, query: Query, database_url: str) -> None:
    work_of_a_writer(database_url)
    url = login("owner")
    assert "resp-1" in {row["request_id"] for row in Reader(url).logs()}
    query("UPDATE llmlog.spend_hourly SET calls = calls + 1")
    assert check.check(url).differences
    check.repair(url)
    assert check.check(url).differences == []
    query("UPDATE llmlog.spend_logs SET spend = 5, cost_source = 'genai-prices' WHERE request_id = 'resp-1'")
    check.repair(url)
    hour = timedelta(hours=2)
    changed = reprice.reprice(url, Pricer(), datetime.now(UTC) - hour, datetime.now(UTC), changed_by="ada").changed
    assert changed
    assert check.check(url).differences == []
    retry = DeadLetters(url).retry(PostgresExporter(url, auto_migrate=False, keep_rejected=False))
    assert len(retry.rejected) == 1
    last = audit_chain.verify(url).last
    assert last is not None
    audit_chain.save(url, last)
    query(
        "CREATE TABLE llmlog.spend_logs_20010101 PARTITION OF llmlog.spend_logs FOR VALUES FROM ('2001-01-01') TO ('2001-01-02')"
    )
    query(f"ALTER TABLE llmlog.spend_logs_20010101 OWNER TO {owner(query)}")
    query("UPDATE llmlog.maintenance SET last_run = NULL")
    period = timedelta(days=1)
    found = retention.prune(
        url, RetentionSettings(maximum_spend_logs_retention_period=period, maximum_audit_logs_retention_period=period)
    )
    assert found is not None
    assert [each.name for each in found.partitions] == ["spend_logs_20010101"]


def owner(query: Query) -> str:
    [(name,)] = query("SELECT quote_ident(pg_get_userbyid(nspowner)) FROM pg_namespace WHERE nspname = 'llmlog'")
    return str(name)


def test_what_an_owner_upgrades_belongs_to_the_role_of_owners(login: Login, query: Query, database_url: str) -> None:
    query("DROP SCHEMA llmlog CASCADE")
    at_the_version_before(database_url)
    roles.make(database_url, ROLES)
    migrate.upgrade(login("owner"))
    assert query("SELECT version_num FROM llmlog.alembic_version") == [(sql.newest(),)]
    everything = (
        "SELECT DISTINCT quote_ident(pg_get_userbyid(o)) FROM ("
        "SELECT relowner FROM pg_class WHERE relnamespace = 'llmlog'::regnamespace UNION ALL "
        "SELECT proowner FROM pg_proc WHERE pronamespace = 'llmlog'::regnamespace UNION ALL "
        "SELECT typowner FROM pg_type WHERE typnamespace = 'llmlog'::regnamespace) found (o)"
    )
    assert query(everything) == [(owner(query),)]
    work_of_a_writer(login("writer"))


# Nobody does the others' work.

WRITES = [
    "INSERT INTO llmlog.audit_logs (id, updated_at, action, table_name) VALUES ('a', now(), 'a', 't')",
    "INSERT INTO llmlog.dead_letters (reason, record, digest) VALUES ('r', '{}', 'd')",
    "INSERT INTO llmlog.spend_log_contents (start_time, trace_id, span_id) VALUES (now(), 't', 's')",
    "SELECT llmlog.ensure_partition(current_date + 1)",
    "SELECT llmlog.are_described()",
    "SELECT llmlog.expect_described()",
    "SELECT llmlog.fold_rollups()",
    "SELECT llmlog.add_contents('{}', '{}', '{}', '{}')",
    "SELECT llmlog.add_to_rollups('{}'::llmlog.hour_sums[], '{}'::llmlog.session_sums[])",
    "LOCK TABLE llmlog.spend_logs IN ROW EXCLUSIVE MODE",
]
READS = [
    "SELECT model FROM llmlog.spend_logs",
    "SELECT messages FROM llmlog.spend_log_contents",
    "SELECT * FROM llmlog.spend_hourly",
    "SELECT * FROM llmlog.sessions",
    "SELECT updated_values FROM llmlog.audit_logs",
    "SELECT record FROM llmlog.dead_letters",
    "SELECT * FROM llmlog.hidden_calls",
    'SELECT * FROM llmlog."LiteLLM_SpendLogs"',
    "SELECT * FROM llmlog.spend_hourly_of_rows('-infinity')",
]
KEEPS = [
    "UPDATE llmlog.spend_logs SET spend = 0",
    "DELETE FROM llmlog.spend_logs",
    "TRUNCATE llmlog.spend_hourly",
    "UPDATE llmlog.spend_hourly SET spend = 0",
    "DELETE FROM llmlog.audit_logs",
    "INSERT INTO llmlog.audit_checkpoints (kind, seq, hash) VALUES ('pruned', 1, 'x')",
    "UPDATE llmlog.dead_letters SET reason = ''",
    "UPDATE llmlog.maintenance SET folded_until = 'infinity'",
    "DROP TABLE llmlog.spend_logs_default",
    "ALTER TABLE llmlog.audit_logs DISABLE TRIGGER USER",
    "CREATE TABLE llmlog.mine ()",
    "CREATE FUNCTION llmlog.mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "SELECT llmlog.make_partition('2100-01-01')",
    "SELECT llmlog.sum_up('{}', '{}')",
    "SELECT llmlog.take_locks('audit_logs', '{0}')",
    "SELECT llmlog.sign_off_audit('infinity')",
    "SELECT llmlog.correct_deserted('{}')",
    "SELECT llmlog.index_own_calls()",
    "SELECT llmlog.join_chains('{}', '{}', '{}', '{}', '{}', '{}', '{}')",
    "SELECT FROM llmlog.locks FOR UPDATE",
    "LOCK TABLE llmlog.described_calls IN SHARE ROW EXCLUSIVE MODE",
]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "statements"),
    [("writer", READS), ("writer", KEEPS), ("reader", WRITES), ("reader", KEEPS), (None, READS + WRITES + KEEPS)],
)
def test_nobody_does_the_work_of_others(login: Login, kind: str | None, statements: list[str]) -> None:
    with psycopg.connect(login(kind), autocommit=True) as connection:
        done = []
        for statement in statements:
            try:
                with connection.transaction():
                    connection.execute(statement)
            except errors.InsufficientPrivilege:
                continue
            done.append(statement)
    assert done == []


def test_no_function_is_for_everybody_and_none_with_rights_of_its_own_looks_elsewhere(query: Query) -> None:
    functions = query(
        "SELECT proname, prosecdef, proconfig, has_function_privilege('public', oid, 'EXECUTE') FROM pg_proc"
        " WHERE pronamespace = 'llmlog'::regnamespace"
    )
    assert [name for name, _, _, everybody in functions if everybody] == []
    definer = {name: config for name, definer, config, _ in functions if definer}
    assert {setting for config in definer.values() for setting in config if "search_path" in setting} == {
        "search_path=pg_catalog, pg_temp"
    }
    assert all(any("search_path" in setting for setting in config) for config in definer.values())
    # Whoever makes a function with the owner's rights says here, and in `roles`, who calls it.
    assert set(definer) == {*roles.WRITER_FUNCTIONS} | INNER
    assert {*roles.READER_FUNCTIONS} <= {name for name, definer, _, _ in functions if not definer}


# A writer that is not ours.

SUMS = "SELECT llmlog.add_to_rollups(ARRAY[({})::llmlog.hour_sums], '{{}}')"
LINE = "ROW(date_trunc('hour', now()), md5('')::uuid, {names} 'success', {calls}, 0, {tokens}, 0, 0, 0, 0, 0, {spend})"


@pytest.mark.parametrize(
    "odd",
    [{"calls": -1000000}, {"calls": 0}, {"tokens": -5}, {"spend": -1000000}, {"spend": "'NaN'"}, {"tokens": 10**17}],
)
def test_a_writer_takes_nothing_from_the_sums_by_their_function(login: Login, odd: dict[str, Any]) -> None:
    line = LINE.format(**{"names": "NULL, " * 9, "calls": 1, "tokens": 1, "spend": 1, **odd})
    with psycopg.connect(login("writer")) as connection, pytest.raises(errors.CheckViolation, match="below 0"):
        connection.execute(SUMS.format(line))


@pytest.mark.parametrize("day", ["'2100-01-01'", "'1999-01-01'", "'infinity'", "current_date + 400"])
def test_a_writer_makes_no_partition_of_a_far_day(login: Login, query: Query, day: str) -> None:
    count = "SELECT count(*) FROM pg_inherits WHERE inhparent = 'llmlog.spend_logs'::regclass"
    before = query(count)
    with psycopg.connect(login("writer")) as connection:
        assert connection.execute(f"SELECT llmlog.ensure_partition({day})").fetchone() == (False,)
    assert query(count) == before


@pytest.fixture
def stored(login: Login, query: Query) -> Iterator[str]:
    """A row of somebody else: its key, as SQL."""
    exporter = PostgresExporter(login("writer"), auto_migrate=False)
    exporter.export([call(described_by="genai", id="r", span_id="0" * 15 + "1", parent_span_id=None)])
    exporter.close()
    [key] = query(
        "SELECT format('%L::timestamptz', start_time), format('%L', trace_id), format('%L', span_id) FROM llmlog.spend_logs"
    )
    yield ", ".join(f"ARRAY[{part}]" for part in key)
    assert query("SELECT count(*), count(session_id) FROM llmlog.spend_logs") == [(1, 0)]


NOTHING = "'{}'::llmlog.hour_sums[], '{}'::llmlog.session_sums[]"
NO_LINKS = "'{}', " * 7


def test_a_writer_hides_no_row_by_a_span_that_is_not_stored(login: Login, stored: str) -> None:
    _, trace, _ = stored.split(", ")
    better = (
        f"ARRAY[now()], {trace}, ARRAY['x'], ARRAY[NULL], ARRAY['r'], ARRAY[now()], ARRAY['m'], '{{0}}', '{{9}}', "
        + "'{}', " * 6
    )
    own = "'{}', " * 9 + f"ARRAY[now() - interval '1 hour'], {trace}, ARRAY['x'], ARRAY[NULL], ARRAY['r'], ARRAY['m'], "
    for spans in (better, own):
        with psycopg.connect(login("writer")) as connection, pytest.raises(errors.CheckViolation, match="not stored"):
            connection.execute(f"SELECT llmlog.add_described({spans} {NO_LINKS} {NOTHING})")


def test_a_writer_moves_no_row_by_a_link_that_is_not_its_own(login: Login, stored: str) -> None:
    with psycopg.connect(login("writer"), autocommit=True) as connection:
        connection.execute(
            f"SELECT llmlog.add_calls({stored}, '{{r}}', '{{elsewhere}}', ARRAY[NULL], ARRAY[NULL], {NOTHING})"
        )


# A reader that holds whatever it can.


def test_a_reader_stops_no_writer_by_locks(login: Login, query: Query, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrate, "PATIENCE_SECONDS", 0.2)
    today = datetime.now(UTC).date()
    query(f"DROP TABLE llmlog.spend_logs_{today + timedelta(days=1):%Y%m%d}")
    with psycopg.connect(login("reader")) as reader:
        for name in ("ensure_partition", "described_calls", "audit_logs", "retention"):
            reader.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (f"llmlog.{name}",))
        for name in ("chains", "described_calls"):
            reader.execute(
                "SELECT pg_advisory_xact_lock(hashtext(%s), s) FROM generate_series(0, 63) s", (f"llmlog.{name}",)
            )
        reader.execute("SELECT pg_advisory_xact_lock(%s)", (migrate._LOCK,))
        for (table,) in query(
            "SELECT oid::regclass::text FROM pg_class WHERE relnamespace = 'llmlog'::regnamespace AND relkind IN ('r', 'p')"
        ):
            reader.execute(f"LOCK TABLE {table} IN ACCESS SHARE MODE")
        work_of_a_writer(login("writer"))
        migrate.upgrade(login("owner"))
        period = timedelta(days=1)
        assert (
            retention.prune(login("owner"), RetentionSettings(maximum_spend_logs_retention_period=period)) is not None
        )
    assert query("SELECT count(*) FROM llmlog.spend_logs") == [(60,)]


def test_a_partition_that_a_reader_stood_in_the_way_of_is_made_later(
    login: Login, query: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres, "PARTITION_SECONDS", 0.0)
    name = f"llmlog.spend_logs_{datetime.now(UTC).date() + timedelta(days=2):%Y%m%d}"
    query(f"DROP TABLE {name}")
    exporter = PostgresExporter(login("writer"), auto_migrate=False)
    with psycopg.connect(login("reader")) as reader:
        reader.execute("SELECT count(*) FROM llmlog.spend_logs")
        assert exporter.export([call()]).written == 1
    assert query(f"SELECT to_regclass('{name}')") == [(None,)]
    exporter.export([call()])
    exporter.close()
    assert query(f"SELECT to_regclass('{name}') IS NOT NULL") == [(True,)]


# Making them.


def test_the_printed_sql_is_what_is_done(database_url: str, query: Query) -> None:
    names = roles.Names(*(f"printed \\'\"{kind}{os.getpid()}" for kind in roles.Names._fields))
    try:
        named = [part for kind, name in names._asdict().items() for part in (f"--{kind}", name)]
        query(cli(database_url, "db", "roles", "--print", *named))
        assert names.reader in cli(database_url, "db", "roles", *named)
        assert owner(query) == roles.identifier(names.owner)
        found = query("SELECT rolcanlogin FROM pg_roles WHERE rolname = ANY (%s)", (list(names),))
        assert found == [(False,)] * 3
    finally:
        query(f"REASSIGN OWNED BY {roles.identifier(names.owner)} TO CURRENT_USER")
        for name in map(roles.identifier, names):
            query(f"DROP OWNED BY {name}")
            query(f"DROP ROLE {name}")


def test_three_roles_are_three(database_url: str) -> None:
    with pytest.raises(ConfigError, match="a name of its own"):
        roles.make(database_url, roles.Names("a", "b", "b"))


def at_the_version_before(url: str) -> None:
    """Tables as the version before left them, and nothing of this one."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA llmlog")
        for revision, statements in sql.migrations().items():
            if revision <= "0008":
                connection.execute(statements.encode())
        connection.execute("CREATE TABLE llmlog.alembic_version (version_num varchar(32) PRIMARY KEY)")
        connection.execute("INSERT INTO llmlog.alembic_version VALUES ('0008')")


def test_who_could_write_or_read_before_an_upgrade_can_afterwards(empty_database_url: str) -> None:
    at_the_version_before(empty_database_url)
    writer, reader = (f"{kind}_before_{os.getpid()}" for kind in ("writer", "reader"))
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        for role, rights in ((writer, "INSERT, SELECT"), (reader, "SELECT")):
            connection.execute(f"CREATE ROLE {role} LOGIN")
            connection.execute(f"GRANT USAGE ON SCHEMA llmlog TO {role}")
            connection.execute(f"GRANT {rights} ON ALL TABLES IN SCHEMA llmlog TO {role}")
        try:
            migrate.upgrade(empty_database_url)
            work_of_a_writer(empty_database_url.replace("postgres:@", f"{writer}:@"))
            as_reader = empty_database_url.replace("postgres:@", f"{reader}:@")
            assert check.check(as_reader).differences == []
            with psycopg.connect(as_reader) as other, pytest.raises(errors.InsufficientPrivilege):
                other.execute("SELECT llmlog.fold_rollups()")
        finally:
            for role in (writer, reader):
                connection.execute(f"DROP OWNED BY {role}")
                connection.execute(f"DROP ROLE {role}")


def test_an_event_under_way_in_the_version_before_does_not_meet_one_of_this_version(empty_database_url: str) -> None:
    at_the_version_before(empty_database_url)
    insert = "INSERT INTO llmlog.audit_logs (id, updated_at, action, table_name) VALUES (%s, now(), 'a', 't')"
    upgrade = [sys.executable, "-c", "import sys; from otel_llmlog.store import migrate; migrate.upgrade(sys.argv[1])"]
    with psycopg.connect(empty_database_url) as before:
        before.execute(insert, ("before",))
        upgrading = subprocess.Popen([*upgrade, empty_database_url])
        with psycopg.connect(empty_database_url, autocommit=True) as watching:
            waits = (
                "SELECT EXISTS (SELECT FROM pg_locks WHERE relation = 'llmlog.audit_logs'::regclass AND NOT granted)"
            )
            while upgrading.poll() is None and watching.execute(waits).fetchone() == (False,):
                time.sleep(0.05)
        before.commit()
        assert upgrading.wait(60) == 0
        before.execute(insert, ("after",))
    report = audit_chain.verify(empty_database_url)
    assert (report.rows, report.findings) == (2, [])

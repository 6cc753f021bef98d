"""The audit table: what is stored stays as it is, and whatever is done to it all the same is found."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings

from otel_llmlog.config import RetentionSettings
from otel_llmlog.dialects import audit
from otel_llmlog.errors import ConfigError, RowRejected, StoreUnavailable
from otel_llmlog.payload import AuditEvent
from otel_llmlog.pipeline.record import Record
from otel_llmlog.store import audit_chain, audit_shape, connect, retention
from otel_llmlog.store.audit_reader import AuditFilter, AuditReader
from otel_llmlog.store.audit_rows import AuditWriter
from otel_llmlog.store.connect import conninfo
from otel_llmlog.store.dead_letters import DeadLetters
from otel_llmlog.store.postgres import PostgresExporter
from tests.audit.events import event, record, records
from tests.payloads import models
from tests.store.conftest import Login
from tests.store.records import record as call

Query = Callable[..., list[tuple[Any, ...]]]
SETTINGS = RetentionSettings(maximum_audit_logs_retention_period="30d")


@pytest.fixture
def chain(exporter: PostgresExporter, database_url: str) -> str:
    """Twenty rows, stored in three deliveries."""
    for number in (1, 12, 7):
        assert exporter.export(records(number)).written == number
    return database_url


@pytest.fixture(scope="module")
def chain_of_twenty(module_database_url: str) -> str:
    """The same for many tests, which leave it as it is."""
    exporter = PostgresExporter(module_database_url, auto_migrate=False)
    exporter.export(records(20))
    exporter.close()
    return module_database_url


def with_triggers_off(statements: Sequence[str]) -> list[str]:
    """What one does who has all rights: triggers off, and on again so that it does not show."""
    off = [f"ALTER TABLE llmlog.{table} DISABLE TRIGGER USER" for table, _ in sorted(TRIGGERS)]
    on = [f"ALTER TABLE llmlog.{table} ENABLE ALWAYS TRIGGER {name}" for table, name in sorted(TRIGGERS)]
    return [*off, *statements, *on]


TRIGGERS = [(table, name) for _, name, _, table in (one.split() for one in audit_shape.triggers())]


@pytest.fixture
def as_superuser(query: Query) -> Callable[..., None]:
    """Does that."""
    return lambda *statements: [query(statement) for statement in with_triggers_off(statements)]  # type: ignore[func-returns-value]


@pytest.fixture
def writer(login: Login) -> str:
    """URL for a role that has a writer's rights and no more."""
    return login("writer")


def findings(url: str, **more: Any) -> list[tuple[int | None, str]]:
    return [(found.seq, found.what) for found in audit_chain.verify(url, **more).findings]


# Storing.


def test_an_event_is_stored_whole(exporter: PostgresExporter, database_url: str) -> None:
    made = event(
        outcome="refused", error_class="auth_error", status_code=403, source="asgi", route="POST /team/update",
        requester_ip_address="10.0.0.1", trace_id="0a" * 16, span_id="0b" * 8, notes=["a note"],
        before_value={"x": ["ä\n\"'\\", None, True, 1.5, 10**25]}, updated_values="text",
    )  # fmt: skip
    assert exporter.export([record(made)]).written == 1
    (row,) = AuditReader(database_url).audit_logs()
    found = {name: row[name] for name in AuditEvent.model_fields}
    assert found | {"updated_at": None} == made.model_dump() | {"updated_at": None}
    assert row["updated_at"] == datetime.fromtimestamp(made.updated_at, UTC)
    assert abs(row["recorded_at"] - row["updated_at"]) < timedelta(minutes=1)
    assert (row["seq"], row["service_name"], bytes(row["previous_hash"])) == (1, "shop", bytes(32))


EVENTS = models(AuditEvent)


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(EVENTS)
def test_whatever_an_event_holds_it_is_stored_or_rejected_and_the_chain_is_whole(
    database_url: str, made: AuditEvent
) -> None:
    exporter = PostgresExporter(database_url, auto_migrate=False)
    delivery = exporter.export([record(made.model_copy(update={"updated_at": 1.7e9}))])
    exporter.close()
    assert delivery.written + delivery.duplicates + len(delivery.rejected) == 1
    assert not delivery.rejected or not -(2**31) <= (made.status_code or 0) < 2**31
    assert findings(database_url) == []


@given(EVENTS)
def test_attributes_hold_an_event_without_loss(made: AuditEvent) -> None:
    assert audit.decode(audit.encode(made)) == made


NO_EVENTS: list[dict[str, Any]] = [
    {},
    {"llmlog.audit.id": 1, "llmlog.audit.action": "x"},
    {**audit.encode(event()), "llmlog.audit.updated_at": float("nan")},
    {**audit.encode(event()), "llmlog.audit.updated_at": "yesterday"},
    {**audit.encode(event()), "llmlog.audit.before_value": "{"},
    {**audit.encode(event()), "llmlog.audit.before_value": "[" * 10_000},
    {**audit.encode(event()), "llmlog.audit.outcome": "perhaps"},
    {**audit.encode(event()), "llmlog.audit.notes": 7},
]


def test_what_is_no_event_is_rejected_alone_and_kept_as_a_dead_letter(
    exporter: PostgresExporter, database_url: str
) -> None:
    for attributes in NO_EVENTS:
        with pytest.raises(RowRejected):
            audit.decode(attributes)
    broken = [Record("", "", None, n, n, "shop", attributes, kind="log") for n, attributes in enumerate(NO_EVENTS)]
    delivery = exporter.export([record(), *broken, call(), record()])
    assert (delivery.written, len(delivery.rejected)) == (3, len(NO_EVENTS))
    letters = DeadLetters(database_url).entries()
    assert [letter.record["kind"] for letter in letters] == ["log"] * len(NO_EVENTS)


def test_a_dead_letter_of_an_event_can_be_retried(exporter: PostgresExporter, query: Query, database_url: str) -> None:
    query("ALTER TABLE llmlog.audit_logs ADD CONSTRAINT no_bob CHECK (changed_by <> 'bob')")
    assert len(exporter.export([record(changed_by="bob")]).rejected) == 1
    query("ALTER TABLE llmlog.audit_logs DROP CONSTRAINT no_bob")
    assert DeadLetters(database_url).retry(exporter).written == 1
    assert query("SELECT changed_by FROM llmlog.audit_logs") == [("bob",)]
    assert DeadLetters(database_url).entries() == []


def test_delivering_again_changes_nothing(exporter: PostgresExporter, chain: str, query: Query) -> None:
    batch = records(300)
    assert exporter.export(batch).written == 300
    before = query("SELECT * FROM llmlog.audit_logs ORDER BY seq")
    again = exporter.export([*batch[::-1], *batch[:5]])
    assert (again.written, again.duplicates) == (0, 305)
    assert query("SELECT * FROM llmlog.audit_logs ORDER BY seq") == before
    assert findings(chain) == []


def test_writers_at_the_same_time_make_one_chain_and_one_row_of_each_event(database_url: str, query: Query) -> None:
    shared = records(60)
    failures: list[BaseException] = []

    def write(number: int) -> None:
        try:
            exporter = PostgresExporter(database_url, auto_migrate=False)
            one_now = AuditWriter(lambda: conninfo(database_url), 20)
            for start in range(0, 60, 10):
                exporter.export([*shared[start : start + 10], *records(5)])
                one_now.store(record())
            exporter.close()
            one_now.close()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=write, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert query("SELECT count(*), max(seq) FROM llmlog.audit_logs") == [(60 + 6 * 36, 60 + 6 * 36)]
    assert findings(database_url) == []


def test_litellms_view_has_its_columns_and_types_and_only_what_was_done(
    exporter: PostgresExporter, query: Query
) -> None:
    exporter.export(
        [record(id="a", changed_by=None, changed_by_api_key=None, before_value=None), record(outcome="refused")]
    )
    columns = query(
        "SELECT column_name, data_type FROM information_schema.columns WHERE table_name = 'LiteLLM_AuditLog' ORDER BY ordinal_position"
    )
    assert columns == [
        ("id", "text"),
        ("updated_at", "timestamp without time zone"),
        ("changed_by", "text"),
        ("changed_by_api_key", "text"),
        ("action", "text"),
        ("table_name", "text"),
        ("object_id", "text"),
        ("before_value", "jsonb"),
        ("updated_values", "jsonb"),
    ]
    query("SET search_path = llmlog")
    found = query('SELECT id, changed_by, changed_by_api_key, before_value, updated_values FROM "LiteLLM_AuditLog"')
    assert [row[:4] for row in found] == [("a", "", "", None)]


# What may not be done.

FORBIDDEN = [
    "UPDATE llmlog.audit_logs SET changed_by = 'eve'",
    "UPDATE llmlog.audit_logs SET changed_by = changed_by WHERE seq = 3",
    "DELETE FROM llmlog.audit_logs WHERE seq = 20",
    "DELETE FROM llmlog.audit_logs",
    "TRUNCATE llmlog.audit_logs",
    (
        "INSERT INTO llmlog.audit_logs (id, updated_at, action, table_name) VALUES ('event-x', now(), 'a', 't') "
        "ON CONFLICT (id) DO UPDATE SET action = 'b'; UPDATE llmlog.audit_logs SET action = 'b' WHERE id = 'event-x'"
    ),
    "UPDATE llmlog.audit_checkpoints SET seq = 1",
    "DELETE FROM llmlog.audit_checkpoints",
    "TRUNCATE llmlog.audit_checkpoints",
    "INSERT INTO llmlog.audit_checkpoints (kind, seq, hash) VALUES ('verified', 3, sha256('x'))",
    "INSERT INTO llmlog.audit_checkpoints (kind, seq, hash) VALUES ('pruned', 400, sha256('x'))",
]


def test_nobody_changes_or_removes_a_row(chain: str, writer: str, query: Query) -> None:
    audit_chain.save(chain, audit_chain.verify(chain).last)  # type: ignore[arg-type]
    before = query("SELECT * FROM llmlog.audit_logs ORDER BY seq")
    for role in ("owner", "owner as a replica", "writer"):
        for statement in FORBIDDEN:
            with psycopg.connect(writer if role == "writer" else chain) as connection:
                if role == "owner as a replica":
                    connection.execute("SET session_replication_role = replica")
                with pytest.raises((psycopg.errors.InsufficientPrivilege, psycopg.errors.CheckViolation)):
                    connection.execute(statement)
    assert query("SELECT * FROM llmlog.audit_logs ORDER BY seq") == before
    assert findings(chain) == []


OUT_OF_REACH = [
    "ALTER TABLE llmlog.audit_logs DISABLE TRIGGER ALL",
    "DROP TRIGGER audit_chain ON llmlog.audit_logs",
    "DROP TABLE llmlog.audit_logs",
    "SET session_replication_role = replica",
    "CREATE OR REPLACE FUNCTION llmlog.audit_refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN OLD; END'",
    "INSERT INTO llmlog.audit_checkpoints (kind, seq, hash) SELECT 'pruned', seq, hash FROM llmlog.audit_logs WHERE seq = 3",
    "SELECT llmlog.sign_off_audit('infinity')",
    "SELECT llmlog.audit_chain()",
    "COPY llmlog.audit_logs (seq, id) FROM PROGRAM 'echo'",
]


def test_a_writers_rights_do_not_reach_around_the_chain(chain: str, writer: str) -> None:
    for statement in OUT_OF_REACH:
        with psycopg.connect(writer) as connection:
            with pytest.raises(
                (
                    psycopg.errors.InsufficientPrivilege,
                    psycopg.errors.FeatureNotSupported,
                    psycopg.errors.InvalidParameterValue,
                )
            ):
                connection.execute(statement)
    assert findings(chain) == []


def test_a_writers_rights_are_enough_to_write_and_cannot_choose_a_link(chain: str, writer: str, query: Query) -> None:
    exporter = PostgresExporter(writer, auto_migrate=False)
    assert exporter.export(records(3)).written == 3
    exporter.close()
    with psycopg.connect(writer) as connection:
        connection.execute(
            "INSERT INTO llmlog.audit_logs (seq, id, recorded_at, updated_at, action, table_name, previous_hash, hash) "
            "VALUES (1, 'forged', '2001-01-01', now(), 'a', 't', sha256('x'), sha256('y'))"
        )
    assert query("SELECT seq, recorded_at > '2020-01-01' FROM llmlog.audit_logs WHERE id = 'forged'") == [(24, True)]
    assert findings(chain) == []


# What is found when it was done all the same.

REHASH = """
DO $$ DECLARE r llmlog.audit_logs; last bytea := decode(repeat('00', 32), 'hex'); BEGIN
    FOR r IN SELECT * FROM llmlog.audit_logs ORDER BY seq LOOP
        r.previous_hash := last;
        last := sha256(last || convert_to(llmlog.audit_text(r), 'UTF8'));
        UPDATE llmlog.audit_logs SET previous_hash = r.previous_hash, hash = last WHERE seq = r.seq;
    END LOOP;
END $$
"""
MOVE = "UPDATE llmlog.audit_logs SET seq = CASE seq WHEN 5 THEN -6 WHEN 6 THEN -5 END WHERE seq IN (5, 6)"
INSERTED = """
INSERT INTO llmlog.audit_logs SELECT (jsonb_populate_record(l, '{"seq": 21, "id": "put-in"}')).* FROM llmlog.audit_logs l WHERE seq = 20
"""


@pytest.mark.parametrize(
    ("tampering", "first"),
    [
        (["UPDATE llmlog.audit_logs SET changed_by = 'eve' WHERE seq = 7"], (7, "was edited")),
        (["UPDATE llmlog.audit_logs SET recorded_at = recorded_at - interval '1 microsecond' WHERE seq = 1"], (1, "was edited")),
        (["UPDATE llmlog.audit_logs SET updated_values = updated_values || '{\"max_budget\": 7}' WHERE seq = 20"], (20, "was edited")),
        (["UPDATE llmlog.audit_logs SET notes = '{x}' WHERE seq = 2"], (2, "was edited")),
        (["DELETE FROM llmlog.audit_logs WHERE seq = 7"], (8, "row 7 is not there")),
        (["DELETE FROM llmlog.audit_logs WHERE seq BETWEEN 5 AND 9"], (10, "rows 5 to 9 are not there")),
        (["DELETE FROM llmlog.audit_logs WHERE seq <= 3"], (4, "rows 1 to 3 are not there")),
        (
            ["DELETE FROM llmlog.audit_logs WHERE seq = 7", "UPDATE llmlog.audit_logs SET seq = seq - 1 WHERE seq > 7"],
            (7, "was edited"),
        ),
        ([MOVE, "UPDATE llmlog.audit_logs SET seq = -seq WHERE seq < 0"], (5, "was edited")),
        ([INSERTED], (21, "was edited")),
        (
            [INSERTED, "UPDATE llmlog.audit_logs l SET hash = sha256(previous_hash || convert_to(llmlog.audit_text(l), 'UTF8')) WHERE seq = 21"],
            (21, "does not follow"),
        ),
        (
            [
                "UPDATE llmlog.audit_logs SET changed_by = 'eve' WHERE seq = 7",
                "UPDATE llmlog.audit_logs l SET hash = sha256(previous_hash || convert_to(llmlog.audit_text(l), 'UTF8')) WHERE seq = 7",
            ],
            (8, "does not follow"),
        ),
        (
            [
                "UPDATE llmlog.audit_logs SET changed_by = 'eve' WHERE seq = 7",
                "CREATE OR REPLACE FUNCTION llmlog.audit_text(r llmlog.audit_logs) RETURNS text LANGUAGE sql AS 'SELECT ''fooled'''",
            ],
            (7, "was edited"),
        ),
        # From here on nothing in the chain itself tells: what was known before does.
        (["DELETE FROM llmlog.audit_logs WHERE seq > 17"], (20, "the end of the chain was dropped")),
        (["DELETE FROM llmlog.audit_logs"], (20, "the end of the chain was dropped")),
        (["UPDATE llmlog.audit_logs SET changed_by = 'eve' WHERE seq = 7", REHASH], (20, "was written anew")),
        (["DELETE FROM llmlog.audit_logs WHERE seq = 20", "INSERT INTO llmlog.audit_checkpoints (kind, seq, hash) VALUES ('pruned', 20, sha256('x'))"], (20, "no row of the chain tells of it")),
    ],
)  # fmt: skip
def test_whatever_is_done_to_the_table_is_found_and_the_first_wrong_row_is_named(
    chain_of_twenty: str, tampering: list[str], first: tuple[int, str]
) -> None:
    known = audit_chain.verify(chain_of_twenty).last
    assert known is not None
    # Seen from inside the transaction that does it, which is then rolled back: one database serves all.
    with connect.engine(chain_of_twenty).connect() as connection:
        for statement in with_triggers_off(tampering):
            connection.exec_driver_sql(statement)
        found = audit_chain._verify(connection, known, 100).findings
        connection.rollback()
    assert found
    assert found[0].seq == first[0]
    assert first[1] in found[0].what


def test_a_dropped_end_is_found_by_a_checkpoint_in_the_database_too(chain: str, as_superuser: Any) -> None:
    audit_chain.save(chain, audit_chain.verify(chain).last)  # type: ignore[arg-type]
    as_superuser("DELETE FROM llmlog.audit_logs WHERE seq > 17")
    assert [seq for seq, _ in findings(chain)] == [20]


@pytest.mark.parametrize(
    "statement",
    [
        "ALTER TABLE llmlog.audit_logs DISABLE TRIGGER audit_refuse",
        "ALTER TABLE llmlog.audit_logs ENABLE TRIGGER audit_chain",
        "DROP TRIGGER audit_refuse_truncate ON llmlog.audit_checkpoints",
    ],
)
def test_triggers_that_are_off_are_found(chain_of_twenty: str, statement: str) -> None:
    with connect.engine(chain_of_twenty).connect() as connection:
        connection.exec_driver_sql(statement)
        (found,) = audit_chain._verify(connection, None, 100).findings
        connection.rollback()
    assert found.seq is None
    assert "is missing or off" in found.what


def test_an_empty_table_is_whole(database_url: str) -> None:
    found = audit_chain.verify(database_url)
    assert (found.rows, found.last, found.findings) == (0, None, [])


def test_a_checkpoint_file_comes_back_as_it_was_written(chain: str, tmp_path: Path) -> None:
    last, path = audit_chain.verify(chain).last, tmp_path / "audit.checkpoint"
    assert last is not None
    assert audit_chain.read_file(path) is None
    audit_chain.write_file(path, last)
    assert audit_chain.read_file(path) == last
    path.write_text(json.dumps({"seq": "x"}))
    with pytest.raises(ConfigError, match="is no checkpoint"):
        audit_chain.read_file(path)


# Retention.


def test_retention_takes_the_start_of_the_chain_and_what_is_left_verifies(
    chain: str, exporter: PostgresExporter, query: Query, as_superuser: Any
) -> None:
    kept = audit_chain.verify(chain).last
    # As if the first twelve had been stored 31 days ago: chained anew, as the database would have done it then.
    as_superuser("UPDATE llmlog.audit_logs SET recorded_at = recorded_at - interval '31 days' WHERE seq <= 12", REHASH)
    assert retention.plan(chain, SETTINGS).audit_logs == 12
    done = retention.prune(chain, SETTINGS)
    assert done is not None
    assert done.audit_logs == 12
    exporter.export(records(2))
    assert query("SELECT min(seq), max(seq), count(*) FROM llmlog.audit_logs") == [(13, 23, 11)]
    told = query("SELECT operation, source, updated_values->>'up_to_seq' FROM llmlog.audit_logs WHERE seq = 21")
    assert told == [("audit.prune", "llmlog", "12")]
    found = audit_chain.verify(chain)
    assert (found.pruned, found.findings) == (12, [])
    # Twice in a row takes nothing, and what is left is still watched over.
    assert retention.prune(chain, SETTINGS).audit_logs == 0  # type: ignore[union-attr]
    as_superuser("DELETE FROM llmlog.audit_logs WHERE seq = 13")
    assert findings(chain)[0] == (14, "comes after a gap: row 13 is not there")
    assert kept is not None


def test_all_of_a_chain_may_go_and_it_goes_on_where_it_was(
    chain: str, exporter: PostgresExporter, query: Query, as_superuser: Any
) -> None:
    as_superuser("UPDATE llmlog.audit_logs SET recorded_at = recorded_at - interval '31 days'", REHASH)
    assert retention.prune(chain, SETTINGS).audit_logs == 20  # type: ignore[union-attr]
    exporter.export(records(1))
    assert query("SELECT array_agg(seq ORDER BY seq) FROM llmlog.audit_logs") == [([21, 22],)]
    assert findings(chain) == []


def test_a_role_that_does_not_own_the_table_cannot_prune(chain: str, writer: str, as_superuser: Any) -> None:
    as_superuser("UPDATE llmlog.audit_logs SET recorded_at = recorded_at - interval '31 days'", REHASH)
    with pytest.raises(StoreUnavailable, match="only a role that owns the tables may"):
        retention.prune(writer, SETTINGS)
    assert audit_chain.verify(chain).rows == 20


# One at once.


def test_a_record_stored_at_once_is_there_when_the_call_returns(database_url: str, query: Query) -> None:
    one_now, made = AuditWriter(lambda: conninfo(database_url), 20), event()
    one_now.store(record(made))
    assert query("SELECT id FROM llmlog.audit_logs") == [(made.id,)]
    one_now.store(record(made))
    assert query("SELECT count(*) FROM llmlog.audit_logs") == [(1,)]
    # A connection that the server has ended meanwhile is replaced.
    query(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'llmlog' AND datname = current_database()"
    )
    one_now.store(record())
    assert query("SELECT count(*) FROM llmlog.audit_logs") == [(2,)]
    with pytest.raises(RowRejected):
        one_now.store(Record("", "", None, 1, 1, "shop", {}, kind="log"))
    one_now.close()


def test_a_chain_that_is_held_by_another_is_given_up_in_time(database_url: str) -> None:
    one_now = AuditWriter(lambda: conninfo(database_url), 0.2)
    with psycopg.connect(database_url) as other:
        other.execute("SELECT llmlog.take_locks('audit_logs', '{0}')")
        with pytest.raises(StoreUnavailable):
            one_now.store(record())
    one_now.close()
    assert audit_chain.verify(database_url).rows == 0


# Reading.


def test_filters_restrict_and_pages_follow_each_other(exporter: PostgresExporter, database_url: str) -> None:
    exporter.export(
        [
            record(
                id="a", changed_by="ada", action="created", table_name="T", object_id="x", updated_at=1_700_000_000.0
            ),
            record(id="b", changed_by="bob", changed_by_api_key="cd" * 32, operation="team.member_add"),
            record(id="c", changed_by="ada", outcome="refused"),
        ]
    )
    reader = AuditReader(database_url)

    def ids(**where: Any) -> list[str]:
        return [row["id"] for row in reader.audit_logs(AuditFilter(**where))]

    assert ids() == ["c", "b", "a"]
    assert ids(actor="ada") == ["c", "a"]
    assert ids(api_key="cd" * 32) == ["b"]
    assert ids(action="created") == ["a"]
    assert ids(action="team.member_add") == ["b"]
    assert ids(table_name="T") == ids(object_id="x") == ["a"]
    assert ids(outcome="refused") == ["c"]
    assert ids(since=datetime(2024, 1, 1, tzinfo=UTC)) == ["c", "b"]
    assert ids(until=datetime(2024, 1, 1, tzinfo=UTC)) == ["a"]
    assert ids(actor="'; DROP TABLE llmlog.audit_logs; --") == []
    first = reader.audit_logs(limit=2)
    assert [row["id"] for row in reader.audit_logs(limit=2, before_seq=first[-1]["seq"])] == ["a"]
    assert [row["id"] for row in reader.every_audit_log()] == ["c", "b", "a"]
    assert reader.audit_log("b") == reader.audit_log("2")
    assert reader.audit_log("nobody") is None


@pytest.mark.slow
def test_a_hundred_thousand_rows_are_verified_and_one_edit_among_them_is_found(
    database_url: str, query: Query, as_superuser: Any
) -> None:
    query(
        "INSERT INTO llmlog.audit_logs (id, updated_at, changed_by, action, table_name, object_id, before_value, updated_values) "
        "SELECT i, now(), 'ada', 'updated', 'LiteLLM_TeamTable', i, jsonb_build_object('max_budget', i, 'models', '[1, 2]'::jsonb), "
        "jsonb_build_object('max_budget', i + 1) FROM generate_series(1, 100000) i"
    )
    assert findings(database_url) == []
    as_superuser("UPDATE llmlog.audit_logs SET object_id = 'x' WHERE seq = 77777")
    assert findings(database_url) == [(77777, "was edited: its hash is not that of what it says")]


def test_the_columns_of_the_table_are_those_of_the_event(query: Query) -> None:
    columns = query("SELECT attname FROM pg_attribute WHERE attrelid = 'llmlog.audit_logs'::regclass AND attnum > 0")
    own = {"seq", "recorded_at", "service_name", "previous_hash", "hash"}
    assert {name for (name,) in columns} == set(AuditEvent.model_fields) | own

"""What keeps events out of the audit logs, or takes them away, is found; what is stored is read back."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from otel_llmlog.config import RetentionSettings
from otel_llmlog.errors import StoreUnavailable
from otel_llmlog.store import audit_chain, connect, retention
from otel_llmlog.store.audit_chain import Checkpoint
from otel_llmlog.store.audit_rows import AuditWriter
from otel_llmlog.store.connect import conninfo
from otel_llmlog.store.postgres import PostgresExporter
from tests.audit.events import record, records
from tests.store.test_audit import REHASH, chain_of_twenty, with_triggers_off
from tests.store.test_tables import LLMLOG, run

__all__ = ["chain_of_twenty"]
Query = Callable[..., list[tuple[Any, ...]]]
MONTH = RetentionSettings(maximum_audit_logs_retention_period="30d")
FOR_EVER = RetentionSettings()

SWALLOW = (
    "CREATE FUNCTION public.swallow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
    "CREATE TRIGGER aa BEFORE INSERT ON llmlog.audit_logs FOR EACH ROW EXECUTE FUNCTION public.swallow()",
    "ALTER TABLE llmlog.audit_logs ENABLE ALWAYS TRIGGER aa",
)
# At COMMIT, when the statement has long said that all is stored.
LATER = (
    "DROP TRIGGER audit_refuse ON llmlog.audit_logs",
    "CREATE FUNCTION public.later() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN DELETE FROM llmlog.audit_logs WHERE id = NEW.id; RETURN NULL; END'",
    "CREATE CONSTRAINT TRIGGER aa AFTER INSERT ON llmlog.audit_logs DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION public.later()",
)
ALSO = (
    "DROP TRIGGER audit_refuse ON llmlog.audit_logs",
    "CREATE RULE aa AS ON INSERT TO llmlog.audit_logs DO ALSO DELETE FROM llmlog.audit_logs WHERE id = NEW.id",
)
INSTEAD = ("CREATE RULE aa AS ON INSERT TO llmlog.audit_logs DO INSTEAD NOTHING",)
TRUNCATED = (
    "DROP TRIGGER audit_refuse ON llmlog.audit_logs",
    "CREATE FUNCTION public.clear() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN DELETE FROM llmlog.audit_logs; RETURN NULL; END'",
    "CREATE TRIGGER aa AFTER INSERT ON llmlog.audit_logs FOR EACH STATEMENT EXECUTE FUNCTION public.clear()",
)
REPLACED = (
    "CREATE OR REPLACE FUNCTION llmlog.audit_chain() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS 'BEGIN RETURN NULL; END'",
)
SWALLOWING = {
    "a trigger": SWALLOW, "at COMMIT": LATER, "a rule that also deletes": ALSO, "a rule instead": INSTEAD,
    "a statement's trigger": TRUNCATED, "our own function replaced": REPLACED,
}  # fmt: skip


@pytest.fixture
def one_now(database_url: str) -> Iterator[AuditWriter]:
    made = AuditWriter(lambda: conninfo(database_url), 20)
    yield made
    made.close()


# What is stored is read back.


@pytest.mark.parametrize("way", SWALLOWING)
def test_an_event_that_is_kept_out_is_not_said_to_be_stored(
    database_url: str, exporter: PostgresExporter, one_now: AuditWriter, query: Query, way: str
) -> None:
    query("BEGIN")
    for statement in SWALLOWING[way]:
        query(statement)
    query("COMMIT")
    made, more = record(), records(3)
    with pytest.raises(StoreUnavailable, match=r"audit verify|stands in the way"):
        one_now.store(made)
    with pytest.raises(StoreUnavailable, match=r"audit verify|stands in the way"):
        exporter.export([made, *more])
    assert query("SELECT count(*) FROM llmlog.audit_logs") == [(0,)]
    assert audit_chain.verify(database_url).findings
    # Once that is gone, what waited is stored.
    query("DROP TRIGGER IF EXISTS aa ON llmlog.audit_logs")
    query("DROP RULE IF EXISTS aa ON llmlog.audit_logs")
    if way == "our own function replaced":
        return
    assert exporter.export([made, *more]).written == 4


def test_an_event_of_the_same_name_is_a_duplicate_and_no_alteration(
    exporter: PostgresExporter, one_now: AuditWriter
) -> None:
    one_now.store(record(id="twice", changed_by="ada"))
    one_now.store(record(id="twice", changed_by="bob"))
    assert exporter.export([record(id="twice", changed_by="eve")]).duplicates == 1


PROGRAM = """
import otel_llmlog
from otel_llmlog import audit
from otel_llmlog.errors import AuditNotRecorded

otel_llmlog.instrument()
try:
    audit.record(action="renamed", table_name="documents", object_id="7", sync=True)
except AuditNotRecorded as told:
    print(told)
"""


def test_what_sync_could_not_store_waits_in_the_spool_until_the_cause_is_gone(
    database_url: str, query: Query, tmp_path: Path
) -> None:
    import sys

    for statement in SWALLOW:
        query(statement)
    told = run(sys.executable, "-c", PROGRAM, url=database_url, home=tmp_path, LLMLOG_SHUTDOWN_TIMEOUT="1").stdout
    assert "not stored yet: audit events are not there after they were stored" in told
    assert "it waits in the spool" in told
    found = json.loads(run(LLMLOG, "status", "--json", url=database_url, home=tmp_path).stdout)
    assert (found["audited"], found["spooled"], found["written"], found["duplicates_ignored"]) == (1, 1, 0, 0)
    query("DROP TRIGGER aa ON llmlog.audit_logs")
    run(LLMLOG, "spool", "drain", url=database_url, home=tmp_path)
    assert query("SELECT object_id FROM llmlog.audit_logs") == [("7",)]


# What keeps the chain.

SHAPES = {
    "a trigger before": SWALLOW,
    "a trigger that is off": (*SWALLOW, "ALTER TABLE llmlog.audit_logs DISABLE TRIGGER aa"),
    "a trigger of ours on the other table": (
        "CREATE FUNCTION public.swallow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
        "CREATE TRIGGER audit_chain BEFORE INSERT ON llmlog.audit_checkpoints FOR EACH ROW EXECUTE FUNCTION public.swallow()",
    ),
    "a trigger after": TRUNCATED[1:],
    "a trigger at COMMIT": LATER[1:],
    "a trigger of ours with a condition": (
        "DROP TRIGGER audit_chain ON llmlog.audit_logs",
        "CREATE TRIGGER audit_chain BEFORE INSERT ON llmlog.audit_logs FOR EACH ROW WHEN (NEW.changed_by <> 'eve') EXECUTE FUNCTION llmlog.audit_chain()",
        "ALTER TABLE llmlog.audit_logs ENABLE ALWAYS TRIGGER audit_chain",
    ),
    "a trigger of ours with another function": (
        "CREATE FUNCTION llmlog.audit_refuse2() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN OLD; END'",
        "DROP TRIGGER audit_refuse ON llmlog.audit_logs",
        "CREATE TRIGGER audit_refuse BEFORE UPDATE OR DELETE ON llmlog.audit_logs FOR EACH ROW EXECUTE FUNCTION llmlog.audit_refuse2()",
        "ALTER TABLE llmlog.audit_logs ENABLE ALWAYS TRIGGER audit_refuse",
    ),
    "a rule instead": INSTEAD,
    "a rule also": ALSO[1:],
    "a rule of the checkpoints": ("CREATE RULE aa AS ON INSERT TO llmlog.audit_checkpoints DO INSTEAD NOTHING",),
    "a rule on delete": ("CREATE RULE aa AS ON DELETE TO llmlog.audit_logs DO INSTEAD NOTHING",),
    "row level security": ("ALTER TABLE llmlog.audit_logs ENABLE ROW LEVEL SECURITY",),
    "a policy": ("CREATE POLICY aa ON llmlog.audit_logs FOR INSERT WITH CHECK (changed_by <> 'eve')",),
    "our function": REPLACED,
    "the function of the text": (
        "CREATE OR REPLACE FUNCTION llmlog.audit_text(r llmlog.audit_logs) RETURNS text LANGUAGE sql AS 'SELECT r.id'",
    ),
    "the function of sign-offs": ("CREATE OR REPLACE FUNCTION llmlog.sign_off_audit(before timestamptz) RETURNS bigint LANGUAGE sql AS 'SELECT 0::bigint'",),
    "the function that refuses": ("CREATE OR REPLACE FUNCTION llmlog.audit_refuse() RETURNS trigger LANGUAGE plpgsql SET search_path = pg_catalog, pg_temp AS 'BEGIN RETURN OLD; END'",),
    "a function's path": ("ALTER FUNCTION llmlog.audit_chain() SET search_path = public, pg_catalog",),
    "a function's setting": ("ALTER FUNCTION llmlog.audit_chain() SET session_replication_role = replica",),
    "a function's rights": ("ALTER FUNCTION llmlog.audit_chain() SECURITY INVOKER",),
    "a function's owner": ("CREATE ROLE e_other", "GRANT CREATE ON SCHEMA llmlog TO e_other", "ALTER FUNCTION llmlog.audit_chain() OWNER TO e_other"),
    "a second function of the name": ("CREATE FUNCTION llmlog.audit_text(r text) RETURNS text LANGUAGE sql AS 'SELECT ''x'''",),
    "a child": ("CREATE TABLE public.child () INHERITS (llmlog.audit_logs)",),
    "a parent": (
        "CREATE TABLE public.parent (seq bigint NOT NULL)", "ALTER TABLE llmlog.audit_logs INHERIT public.parent",
    ),
    "no longer logged": ("ALTER TABLE llmlog.audit_logs SET UNLOGGED",),
    "a view in its place": (
        'DROP VIEW llmlog."LiteLLM_AuditLog"',
        "ALTER TABLE llmlog.audit_logs RENAME TO audit_logs_real",
        "CREATE VIEW llmlog.audit_logs AS SELECT * FROM llmlog.audit_logs_real",
    ),
    "another table in its place": (
        "ALTER TABLE llmlog.audit_logs RENAME TO audit_logs_real",
        "CREATE TABLE llmlog.audit_logs (LIKE llmlog.audit_logs_real INCLUDING DEFAULTS)",
        "INSERT INTO llmlog.audit_logs SELECT * FROM llmlog.audit_logs_real",
    ),
    "no unique id": ("ALTER TABLE llmlog.audit_logs DROP CONSTRAINT audit_logs_id_key",),
    "no primary key": ("ALTER TABLE llmlog.audit_logs DROP CONSTRAINT audit_logs_pkey",),
    "one more unique index": ("CREATE UNIQUE INDEX aa ON llmlog.audit_logs (seq, changed_by)",),
    "an index of an expression": (
        "CREATE FUNCTION public.first(t text) RETURNS text IMMUTABLE LANGUAGE sql AS 'SELECT left(t, 1)'",
        "CREATE INDEX aa ON llmlog.audit_logs (public.first(changed_by))",
    ),
    "an index of some rows": (
        "CREATE FUNCTION public.wanted(t text) RETURNS boolean IMMUTABLE LANGUAGE sql AS 'SELECT true'",
        "CREATE INDEX aa ON llmlog.audit_logs (seq) WHERE public.wanted(changed_by)",
    ),
    "a unique index of some rows": ("CREATE UNIQUE INDEX aa ON llmlog.audit_logs (changed_by) WHERE seq > 100",),
    "one more constraint": ("ALTER TABLE llmlog.audit_logs ADD CHECK (changed_by <> 'eve')",),
    "one that is not validated": ("ALTER TABLE llmlog.audit_logs ADD CONSTRAINT aa CHECK (changed_by <> 'eve') NOT VALID",),
    "a reference": ("CREATE TABLE public.users (id text PRIMARY KEY)", "ALTER TABLE llmlog.audit_logs ADD FOREIGN KEY (changed_by) REFERENCES public.users NOT VALID"),
    "no constraint": ("ALTER TABLE llmlog.audit_logs DROP CONSTRAINT audit_logs_outcome_check",),
    "a default": ("ALTER TABLE llmlog.audit_logs ALTER outcome SET DEFAULT 'failure'",),
    "a column": ("ALTER TABLE llmlog.audit_logs ADD extra text",),
    "a computed column": ("ALTER TABLE llmlog.audit_logs ADD extra text GENERATED ALWAYS AS (upper(changed_by)) STORED",),
    "a checkpoint's column": ("ALTER TABLE llmlog.audit_checkpoints ALTER made_by DROP NOT NULL",),
}  # fmt: skip


@pytest.mark.parametrize("way", SHAPES)
def test_whatever_could_pass_the_chain_by_is_found(chain_of_twenty: str, way: str) -> None:
    with connect.engine(chain_of_twenty).connect() as connection:
        for statement in SHAPES[way]:
            connection.exec_driver_sql(statement)
        found = audit_chain._verify(connection, None, 100).findings
        connection.rollback()
    assert found
    assert all(one.what for one in found)


def test_what_an_owner_may_do_for_speed_is_nothing_wrong(chain_of_twenty: str) -> None:
    with connect.engine(chain_of_twenty).connect() as connection:
        for statement in (
            "CREATE INDEX aa ON llmlog.audit_logs (changed_by)",
            "CREATE INDEX bb ON llmlog.audit_logs (lower(changed_by)) WHERE outcome = 'refused'",
            "DROP INDEX llmlog.audit_logs_updated_at",
            "ALTER TABLE llmlog.audit_logs SET (fillfactor = 90)",
            "GRANT SELECT ON llmlog.audit_logs TO PUBLIC",
            "COMMENT ON TABLE llmlog.audit_logs IS 'ours'",
        ):
            connection.exec_driver_sql(statement)
        assert audit_chain._verify(connection, None, 100).findings == []
        connection.rollback()


def test_event_triggers_are_told_and_are_no_fault_of_the_chain(database_url: str, query: Query, tmp_path: Path) -> None:
    query("CREATE FUNCTION public.ddl() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'")
    query("CREATE EVENT TRIGGER watching ON ddl_command_end EXECUTE FUNCTION public.ddl()")
    said = run(LLMLOG, "audit", "verify", url=database_url, home=tmp_path).stdout
    assert "note: event trigger watching runs public.ddl at ddl_command_end" in said
    assert "nothing is wrong, see the notes" in said
    assert "all is well" not in said


def test_of_tables_newer_than_the_program_it_does_not_say_that_all_is_well(
    database_url: str, query: Query, tmp_path: Path
) -> None:
    query("UPDATE llmlog.alembic_version SET version_num = '0999'")
    said = run(LLMLOG, "audit", "verify", "--save", url=database_url, home=tmp_path, code=1).stdout
    assert "what keeps the chain cannot be looked at" in said
    assert "all is well" not in said
    assert query("SELECT count(*) FROM llmlog.audit_checkpoints") == [(0,)]


# What was removed.

PERIOD = "LLMLOG_MAXIMUM_AUDIT_LOGS_RETENTION_PERIOD"


def aged(query: Query, days: int, up_to: int = 1000) -> None:
    """As if the first rows had been stored so long ago."""
    age = f"UPDATE llmlog.audit_logs SET recorded_at = recorded_at - interval '{days} days' WHERE seq <= {up_to}"
    signed = "UPDATE llmlog.audit_checkpoints SET made_at = made_at - interval '1 day' * %(d)s, recorded_at = recorded_at - interval '1 day' * %(d)s"
    for statement in with_triggers_off([age, REHASH, signed.replace("%(d)s", str(days))]):
        query(statement)


def test_a_removal_that_retention_asks_for_is_told_and_is_right(
    database_url: str, exporter: PostgresExporter, query: Query, tmp_path: Path
) -> None:
    exporter.export(records(20))
    aged(query, 31, 12)
    assert retention.prune(database_url, MONTH).audit_logs == 12  # type: ignore[union-attr]
    said = run(LLMLOG, "audit", "verify", url=database_url, home=tmp_path, **{PERIOD: "30d"}).stdout
    assert "9 audit logs, 13 to 21; up to 12 removed by retention, last by postgres at 20" in said
    assert said.endswith("0 checkpoints compared: all is well\n")
    found = json.loads(
        run(LLMLOG, "audit", "verify", "--json", url=database_url, home=tmp_path, **{PERIOD: "30d"}).stdout
    )
    assert [removal["seq"] for removal in found["removals"]] == [12]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, "row 12 was signed off as removed by postgres at"),
        ({}, f"{PERIOD} asks for no removal"),
        ({PERIOD: "90d"}, f"31 days after it was stored; {PERIOD} keeps it 90 days"),
    ],
)
def test_a_removal_that_the_setting_does_not_ask_for_fails(
    database_url: str,
    exporter: PostgresExporter,
    query: Query,
    tmp_path: Path,
    variables: dict[str, str],
    expected: str,
) -> None:
    exporter.export(records(20))
    aged(query, 31, 12)
    retention.prune(database_url, MONTH)
    said = run(LLMLOG, "audit", "verify", url=database_url, home=tmp_path, code=1, **variables).stdout
    assert expected in said
    assert "all is well" not in said
    # Who has changed the setting since says which one it was.
    assert (
        "all is well"
        in run(LLMLOG, "audit", "verify", "--retention", "30d", url=database_url, home=tmp_path, **variables).stdout
    )
    assert (
        "must be a period"
        in run(LLMLOG, "audit", "verify", "--retention", "x", url=database_url, home=tmp_path, code=2).stderr
    )


@pytest.mark.parametrize(
    "sign_off",
    [
        "SELECT llmlog.sign_off_audit(now())",
        "INSERT INTO llmlog.audit_checkpoints (kind, seq, hash) SELECT 'pruned', seq, hash FROM llmlog.audit_logs WHERE seq = 12",
        "INSERT INTO llmlog.audit_checkpoints (kind, seq, hash, recorded_at, made_at) SELECT 'pruned', seq, hash, '2001-01-01', '2001-03-01' FROM llmlog.audit_logs WHERE seq = 12",
    ],
)
def test_a_sign_off_before_its_time_is_found_for_ever(
    database_url: str, exporter: PostgresExporter, query: Query, sign_off: str
) -> None:
    exporter.export(records(20))
    query(sign_off)
    query("DELETE FROM llmlog.audit_logs WHERE seq <= 12")
    exporter.export(records(3))
    found = audit_chain.verify(database_url, retention=MONTH).findings
    assert len(found) == 1
    assert "0.0 hours after it was stored" in found[0].what
    # A removal that is right, which takes along what told of the other one, does not make that good.
    aged(query, 31)
    retention.prune(database_url, MONTH)
    (left,) = audit_chain.verify(database_url, retention=MONTH).findings
    assert "0.0 hours after it was stored" in left.what


def test_a_sign_off_to_a_time_to_come_is_refused(database_url: str, exporter: PostgresExporter, query: Query) -> None:
    exporter.export(records(3))
    for time in ("'infinity'", "now() + interval '1 hour'"):
        with pytest.raises(psycopg.errors.InvalidParameterValue):
            query(f"SELECT llmlog.sign_off_audit({time})")
    assert audit_chain.verify(database_url, retention=FOR_EVER).findings == []


def test_a_second_removal_may_take_what_told_of_the_first(
    database_url: str, exporter: PostgresExporter, query: Query
) -> None:
    for _ in range(3):
        exporter.export(records(5))
        aged(query, 31)
        assert retention.prune(database_url, MONTH).audit_logs  # type: ignore[union-attr]
    assert len(audit_chain.verify(database_url, retention=MONTH).removals) == 3


FORGED = {
    "in the future": ("UPDATE llmlog.audit_checkpoints SET made_at = now() + interval '1 year'", "still to come"),
    "older than it was": ("UPDATE llmlog.audit_checkpoints SET recorded_at = '2001-01-01'", "tells another time"),
    "of another row": ("UPDATE llmlog.audit_checkpoints SET hash = sha256('x')", "is not the row that was signed off"),
    "never told": ("INSERT INTO llmlog.audit_checkpoints (kind, seq, hash, recorded_at) VALUES ('pruned', 15, sha256('x'), '2001-01-01')", "no row of the chain tells of it"),
}  # fmt: skip


@pytest.mark.parametrize("way", FORGED)
def test_a_sign_off_that_was_changed_afterwards_is_found(
    database_url: str, exporter: PostgresExporter, query: Query, way: str
) -> None:
    exporter.export(records(20))
    aged(query, 31, 12)
    query("SELECT llmlog.sign_off_audit(now() - interval '30 days')")
    assert audit_chain.verify(database_url, retention=MONTH).findings == []
    statement, expected = FORGED[way]
    for one in with_triggers_off([statement]):
        query(one)
    assert any(expected in found.what for found in audit_chain.verify(database_url, retention=MONTH).findings)


def test_rows_that_are_signed_off_and_still_there_cannot_be_changed_unseen(
    database_url: str, exporter: PostgresExporter, query: Query
) -> None:
    exporter.export(records(20))
    aged(query, 31, 12)
    query("SELECT llmlog.sign_off_audit(now() - interval '30 days')")
    query("DELETE FROM llmlog.audit_logs WHERE seq IN (1, 2, 7, 12)")
    assert audit_chain.verify(database_url, retention=MONTH).findings == []
    for one in with_triggers_off(["UPDATE llmlog.audit_logs SET changed_by = 'eve' WHERE seq = 5"]):
        query(one)
    (found,) = audit_chain.verify(database_url, retention=MONTH).findings
    assert (found.seq, "was edited" in found.what) == (5, True)


def test_a_checkpoint_kept_outside_tells_a_removal_before_its_time_whatever_the_database_says(
    database_url: str, exporter: PostgresExporter, query: Query, tmp_path: Path
) -> None:
    path = tmp_path / "checkpoint"
    exporter.export(records(20))
    assert (
        "all is well"
        in run(LLMLOG, "audit", "verify", "--checkpoint", str(path), url=database_url, home=tmp_path).stdout
    )
    known = audit_chain.read_file(path)
    assert known is not None
    assert known.recorded_at is not None
    assert datetime.now(UTC) - known.recorded_at < timedelta(hours=1)
    # The owner makes the rows, the sign-off and what tells of it as old as need be.
    aged(query, 31)
    query("SELECT llmlog.sign_off_audit(now() - interval '30 days')")
    query("DELETE FROM llmlog.audit_logs WHERE seq <= 20")
    assert audit_chain.verify(database_url, retention=MONTH).findings == []
    found = run(
        LLMLOG, "audit", "verify", "--checkpoint", str(path), url=database_url, home=tmp_path, code=1, **{PERIOD: "30d"}
    ).stdout
    assert "was stored at" in found
    assert "before its 30 days were over" in found
    # Files of older versions do not say when the row was stored.
    audit_chain.write_file(path, Checkpoint(known.seq, known.hash, known.made_at))
    assert (
        "all is well"
        in run(
            LLMLOG, "audit", "verify", "--checkpoint", str(path), url=database_url, home=tmp_path, **{PERIOD: "30d"}
        ).stdout
    )

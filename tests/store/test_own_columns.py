"""Names of any length find a place, and so does what users add to our tables."""

from __future__ import annotations

import datetime as dt
import random
import string
import time
from collections.abc import Callable
from typing import Any

import pytest

from otel_llmlog import redact
from otel_llmlog.config import RetentionSettings
from otel_llmlog.dialects import llmlog
from otel_llmlog.pipeline.record import Record
from otel_llmlog.store import check, retention
from otel_llmlog.store.audit_reader import AuditFilter, AuditReader
from otel_llmlog.store.postgres import PostgresExporter
from otel_llmlog.store.reader import Filter, Reader
from otel_llmlog.store.rows import TEXTS
from tests.audit.events import record as audit_record
from tests.store.records import record, records
from tests.store.test_described import Said, made

Query = Callable[..., list[tuple[Any, ...]]]
ALPHABETS = {
    "ascii": string.ascii_letters + string.digits,
    "four bytes a character": "".join(map(chr, range(0x1F300, 0x1F5FF))),
}
DAY = 86_400 * 10**9


def long(seed: object, alphabet: str = ALPHABETS["ascii"], size: int = 5_000) -> str:
    """Characters that cannot be compressed, the same for the same seed; the first 1,000 are those of every seed."""
    return "".join(
        random.Random(1).choices(alphabet, k=1_000) + random.Random(str(seed)).choices(alphabet, k=size - 1_000)
    )


# Long names.


@pytest.mark.parametrize("alphabet", ALPHABETS)
def test_no_name_is_too_long_for_a_table(
    exporter: PostgresExporter, database_url: str, query: Query, alphabet: str
) -> None:
    names = {
        column: llmlog.PREFIX + path
        for column, path in TEXTS.items()
        if column not in {"status", "call_type", "described_by"}
    }

    def of(seed: int, **more: Any) -> Record:
        attributes = {key: long((seed, key), ALPHABETS[alphabet]) for key in names.values()}
        return record(
            attributes={**attributes, "llmlog.request_tags": (long(seed, ALPHABETS[alphabet]), "short"), **more},
            service_name=long(seed),
        )

    # Calls of a chain, and one that another instrumentation describes, meet all other indexes.
    batch = [
        of(1), of(1), of(2), of(3, **{"llmlog.call_type": "responses"}), of(3, **{"llmlog.call_type": "responses"}),
        of(4, **{"llmlog.described_by": "openllmetry"}),
    ]  # fmt: skip
    delivery = exporter.export(batch)
    assert (delivery.written, list(delivery.rejected)) == (6, [])
    for column in set(names) - {"error_str"}:
        found = [one for (one,) in query(f"SELECT {column} FROM llmlog.spend_logs ORDER BY start_time, span_id")]
        assert {len(one) for one in found} == {redact.MAX_NAME}
        assert found[0] == found[1]
        assert len({found[0], found[2], found[3], found[5]}) == 4
        assert all(one[redact.MAX_NAME - 33] == "…" for one in found)
    assert query("SELECT count(*) FROM llmlog.dead_letters") == [(0,)]
    assert not check.check(database_url).differences


def test_long_names_are_found_by_the_whole_name(exporter: PostgresExporter, database_url: str) -> None:
    session, user, team, request = map(long, ("session", "user", "team", "request"))
    exporter.export(
        [
            record(
                session_id=session,
                user_api_key_user_id=user,
                user_api_key_team_id=team,
                id=request,
                request_tags=[long("tag")],
            ),
            record(session_id=long("other"), user_api_key_user_id=long("another")),
        ]
    )
    reader = Reader(database_url)
    for where in (Filter(session_id=session), Filter(user_id=user), Filter(team=team), Filter(tag=long("tag"))):
        assert len(reader.logs(where)) == 1
        assert sum(line.calls for line in reader.spend("user", where)) == 1
    assert (
        len(reader.log(request))
        == len(reader.session(session))
        == len(reader.sessions(Filter(session_id=session)))
        == 1
    )


def test_an_audit_event_of_long_names_is_stored_once_and_found(exporter: PostgresExporter, database_url: str) -> None:
    fields = (
        "id",
        "changed_by",
        "action",
        "table_name",
        "object_id",
        "operation",
        "error_class",
        "source",
        "route",
        "trace_id",
        "span_id",
    )
    given = {name: long(name) for name in fields}
    event = audit_record(**given, requester_ip_address=long("ip"))
    assert exporter.export([event]).written == 1
    delivery = exporter.export([event, audit_record(id=long("another id"))])
    assert (delivery.written, delivery.duplicates, list(delivery.rejected)) == (1, 1, [])
    reader = AuditReader(database_url)
    assert len(reader.audit_logs(AuditFilter(actor=given["changed_by"], object_id=given["object_id"]))) == 1
    assert reader.audit_log(given["id"]) is not None


def test_a_name_is_cut_once_however_often_it_is_read() -> None:
    whole = long("x")
    cut = redact.short(whole)
    assert redact.short(cut) == redact.name(cut) == redact.name(whole) == cut
    assert whole.startswith(redact.beginning(cut))
    assert redact.beginning(cut) == redact.beginning(whole)
    for size in (1, 511, 512):
        assert redact.short(whole[:size]) == whole[:size]
    assert redact.name(long("a")) != redact.name(long("b"))
    assert redact.object_id(long("a")) != redact.object_id(long("b"))
    assert redact.short("\ud800" * 600) == redact.short("\ufffd" * 600)


# What users add.

ADDED = {
    "a computed column": "ADD weekday int GENERATED ALWAYS AS (extract(isodow FROM start_time AT TIME ZONE 'UTC')) STORED",
    "a column with a default": "ADD seen_at timestamptz NOT NULL DEFAULT now()",
    "a column without": "ADD remark text",
    "a constraint": "ADD CONSTRAINT sane CHECK (start_time > '2000-01-01')",
    "a unique constraint": "ADD UNIQUE (start_time, trace_id, span_id)",
    "a reference": "ADD FOREIGN KEY (trace_id) REFERENCES public.traces NOT VALID",
}  # fmt: skip
OTHERS = {
    "an index": "CREATE INDEX ON llmlog.{table} (trace_id, start_time)",
    "an index of an expression": "CREATE INDEX ON llmlog.{table} (lower(trace_id))",
    "a trigger": "CREATE TRIGGER own AFTER INSERT ON llmlog.{table} FOR EACH ROW EXECUTE FUNCTION public.own()",
    "statistics": "CREATE STATISTICS llmlog.own_{table} ON trace_id, span_id FROM llmlog.{table}",
}  # fmt: skip


@pytest.mark.parametrize("way", [*ADDED, *OTHERS])
def test_what_users_add_to_the_tables_does_not_stop_the_next_day(
    database_url: str, exporter: PostgresExporter, query: Query, way: str
) -> None:
    if way == "a reference":
        query("CREATE TABLE public.traces (trace_id text PRIMARY KEY)")
    query("CREATE FUNCTION public.own() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'")
    for table in ("spend_logs", "spend_log_contents"):
        query(f"ALTER TABLE llmlog.{table} {ADDED[way]}" if way in ADDED else OTHERS[way].format(table=table))
    now = time.time_ns()
    days = [record(start_ns=now - n * DAY, messages=[{"role": "user", "content": "x"}]) for n in (0, 4, 5)]
    if way == "a reference":
        query("INSERT INTO public.traces SELECT unnest(%s::text[])", ([one.trace_id for one in days],))
    assert exporter.export(days).written == 3
    again = exporter.export(days)
    assert (again.written, again.duplicates) == (0, 3)
    for n in (4, 5):
        day = (dt.datetime.now(dt.UTC) - dt.timedelta(days=n)).strftime("%Y%m%d")
        assert query(f"SELECT count(*) FROM llmlog.spend_logs_{day}") == [(1,)]
        assert query(f"SELECT count(*) FROM llmlog.spend_log_contents_{day}") == [(1,)]
    assert query("SELECT llmlog.ensure_partition((now() AT TIME ZONE 'UTC')::date + 5)") == [(True,)]
    assert not check.check(database_url).differences
    settings = RetentionSettings(maximum_spend_logs_retention_period="3d")
    assert len(retention.prune(database_url, settings).partitions) == 4  # type: ignore[union-attr]
    assert query("SELECT count(*) FROM llmlog.spend_logs") == [(1,)]


def test_a_partition_of_the_users_own_stands_in_no_ones_way(exporter: PostgresExporter, query: Query) -> None:
    start = (dt.datetime.now(dt.UTC) - dt.timedelta(days=5)).date()
    query(
        f"CREATE TABLE llmlog.our_week PARTITION OF llmlog.spend_logs FOR VALUES FROM ('{start}') TO ('{start + dt.timedelta(days=3)}')"
    )
    now = time.time_ns()
    assert exporter.export([record(start_ns=now - n * DAY) for n in (0, 3, 4)]).written == 3
    assert query("SELECT count(*) FROM llmlog.our_week") == [(2,)]


def test_a_hidden_call_comes_back_beside_a_computed_column(exporter: PostgresExporter, query: Query) -> None:
    query("ALTER TABLE llmlog.spend_logs ADD twice bigint GENERATED ALWAYS AS (total_tokens * 2) STORED")
    # The outer description is shown until a better informed one comes; the one below is shown when that does not match.
    outer, inner = Said(1, None, "openinference", "r"), Said(2, 1, "openllmetry", "r")
    for one in (outer, inner):
        assert exporter.export([made(one)]).written == 1
    assert query("SELECT count(*) FROM llmlog.spend_logs") == [(1,)]
    assert query("SELECT count(*) FROM llmlog.hidden_calls") == [(1,)]
    key = query("SELECT trace_id, span_id, start_time FROM llmlog.hidden_calls")
    query("SELECT * FROM llmlog.show_calls(ARRAY(SELECT call FROM llmlog.hidden_calls))")
    assert (
        query(
            "SELECT trace_id, span_id, start_time FROM llmlog.spend_logs WHERE twice = 200 AND (trace_id, span_id) = (%s, %s)",
            key[0][:2],
        )
        == key
    )


def test_rows_that_a_trigger_of_the_users_keeps_out_are_dead_letters_and_in_no_sum(
    database_url: str, exporter: PostgresExporter, query: Query
) -> None:
    query(
        "CREATE FUNCTION public.own() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN IF NEW.model = ''not-this'' THEN RETURN NULL; END IF; RETURN NEW; END'"
    )
    query("CREATE TRIGGER own BEFORE INSERT ON llmlog.spend_logs FOR EACH ROW EXECUTE FUNCTION public.own()")
    kept, refused = records(20), records(2, model="not-this")
    delivery = exporter.export([*kept, *refused])
    assert (delivery.written, delivery.duplicates) == (20, 0)
    assert {reason for _, reason in delivery.rejected} == {"the database refuses it: triggered_action_exception"}
    delivery = exporter.export([*kept, *refused])
    assert (delivery.written, delivery.duplicates, len(delivery.rejected)) == (0, 20, 2)
    assert query("SELECT count(*) FROM llmlog.dead_letters") == [(2,)]
    assert query("SELECT sum(calls) FROM llmlog.spend_hourly") == [(20,)]
    assert not check.check(database_url).differences

"""Rollups equal the rows: whatever is delivered, how often, in which order and by how many at once."""

from __future__ import annotations

import gc
import random
import subprocess
import sys
import threading
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from otel_llmlog.errors import StoreUnavailable
from otel_llmlog.store import check, copy, migrate, rollups, sql
from otel_llmlog.store.postgres import PostgresExporter
from otel_llmlog.store.rows import row
from tests.store.records import record, records

DAY_NS = 86_400 * 10**9
ROOT = Path(__file__).resolve().parents[2]
HOUR = int(time.time()) // 3600 * 3600 * 10**9
# A program that stores records, the same each time it runs, in an order of its own.
STORE_SHUFFLED = """
import random, sys
from otel_llmlog.store.postgres import PostgresExporter
from tests.store.records import records
exporter = PostgresExporter(sys.argv[1])
batch = records(1200, session_id="s", start_ns=int(sys.argv[2]))
random.Random(int(sys.argv[3])).shuffle(batch)
sys.stdin.readline()
for start in range(0, 1200, 100):
    exporter.export(batch[start : start + 200])
"""


def equal(url: str) -> bool:
    report = check.check(url)
    assert report.differences == []
    return report.hours > 0


def test_an_hour_is_summed_up_by_who_what_and_how_it_ended(exporter: PostgresExporter, query: Any) -> None:
    known = {"user_api_key_user_id": "ann", "user_api_key_team_id": "t", "user_api_key_team_alias": "Team"}
    exporter.export(
        [
            *records(3, start_ns=HOUR, spend=Decimal("0.1"), **known),
            record(start_ns=HOUR + 3599 * 10**9, spend=None, response_cost=None, **known),
            record(start_ns=HOUR, status="failure", spend=None, response_cost=None, **known),
            record(start_ns=HOUR - 1000, spend=Decimal("1E-30"), response_cost=None),
        ]
    )
    found = query(
        "SELECT extract(epoch FROM hour)::bigint, model, provider, team_id, team_alias, user_id, status, calls, unpriced,"
        " prompt_tokens, completion_tokens, total_tokens, cache_read_tokens, spend FROM llmlog.spend_hourly ORDER BY 1, 7"
    )
    hour, names = HOUR // 10**9, ("gpt-4o", "openai", "t", "Team", "ann")
    assert found == [
        (hour - 3600, "gpt-4o", "openai", None, None, None, "success", 1, 0, 100, 20, 120, 40, Decimal("1E-30")),
        (hour, *names, "failure", 1, 0, 100, 20, 120, 40, None),
        (hour, *names, "success", 4, 1, 400, 80, 480, 160, Decimal("0.3")),
    ]


def test_a_session_is_summed_up_with_its_latest_call(exporter: PostgresExporter, query: Any, database_url: str) -> None:
    latest = record(
        session_id="s", start_ns=HOUR + 5 * 10**9, model="claude", user_api_key_user_id="bob", end_user="eve"
    )
    exporter.export([latest])
    exporter.export(
        [
            record(session_id="s", start_ns=HOUR, status="failure", spend=None, response_cost=None),
            record(session_id="s", start_ns=HOUR + 10**9, end_ns=HOUR + 60 * 10**9, cache_hit=True),
            record(session_id="s", start_ns=HOUR + 2 * 10**9, spend=None, response_cost=None),
            record(session_id=None),
        ]
    )
    assert query(
        "SELECT session_id, extract(epoch FROM first_start)::bigint, extract(epoch FROM last_start)::bigint,"
        " extract(epoch FROM last_end)::bigint, calls, failures, unpriced, cache_hits, total_tokens, spend, last_model,"
        " last_user_id, last_team_id, last_end_user FROM llmlog.session_totals"
    ) == [
        ("s", HOUR // 10**9, HOUR // 10**9 + 5, HOUR // 10**9 + 60, 4, 1, 1, 1, 480, Decimal("0.025"), "claude", "bob", None, "eve")
    ]  # fmt: skip
    assert equal(database_url)


def test_what_is_delivered_again_is_not_added_again(exporter: PostgresExporter, query: Any, database_url: str) -> None:
    batch = records(1100, session_id="s")
    exporter.export(batch)
    exporter.export(batch[::-1])
    exporter.export(batch[500:700] + records(100) + batch[:5])
    assert query("SELECT sum(calls)::int FROM llmlog.spend_hourly") == [(1200,)]
    assert query("SELECT calls FROM llmlog.session_totals") == [(1100,)]
    assert equal(database_url)


def test_two_processes_that_store_the_same_records_out_of_order_add_each_once(database_url: str, query: Any) -> None:
    start_ns = str(time.time_ns())
    running = [
        subprocess.Popen(
            [sys.executable, "-c", STORE_SHUFFLED, database_url, start_ns, seed], stdin=subprocess.PIPE, cwd=ROOT
        )
        for seed in "12"
    ]
    for process in running:
        process.stdin.write(b"\n")
        process.stdin.flush()
    assert [process.communicate(timeout=60) and process.returncode for process in running] == [0, 0]
    assert query("SELECT sum(calls)::int, count(*) FROM llmlog.spend_hourly") == [(1200, 1)]
    assert equal(database_url)


def test_late_and_future_rows_are_added_to_their_hours(
    exporter: PostgresExporter, query: Any, database_url: str
) -> None:
    days = (-20_000, -400, -7, 0, 2, 400)
    exporter.export([record(start_ns=HOUR + day * DAY_NS) for day in days])
    exporter.export([record(start_ns=HOUR + day * DAY_NS) for day in days[::-1]])
    assert query("SELECT calls FROM llmlog.spend_hourly") == [(2,)] * 6
    assert equal(database_url)


def test_a_rejected_row_is_not_added(exporter: PostgresExporter, query: Any, database_url: str) -> None:
    batch = records(600, session_id="s")
    for place in (3, 590):
        batch.insert(place, record(session_id="s", attributes={"llmlog.messages": "[1e200000]"}))
    assert exporter.export(batch).written == 600
    assert query("SELECT calls FROM llmlog.session_totals") == [(600,)]
    assert equal(database_url)


def test_a_sum_that_is_refused_rejects_only_the_row_that_makes_it_so(
    exporter: PostgresExporter, query: Any, database_url: str
) -> None:
    batch = records(2000, session_id="s")
    bad = record(session_id="s", attributes={"llmlog.prompt_tokens": 10**16})
    batch.insert(100, bad)
    delivery = exporter.export(batch)
    assert (delivery.written, [found for found, _ in delivery.rejected]) == (2000, [bad])
    assert equal(database_url)


names = st.lists(st.one_of(st.none(), st.text(max_size=20)), min_size=10, max_size=10)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(names=names)
def test_the_key_made_here_is_the_key_made_by_the_database(module_database_url: str, names: list[str | None]) -> None:
    names = [name and name.replace("\0", "").encode("utf-8", "ignore").decode() for name in names]
    with psycopg.connect(module_database_url) as connection:
        marks = ", ".join(["%s::text"] * 10)
        (found,) = connection.execute(f"SELECT llmlog.spend_hourly_key({marks})", names).fetchone()
    assert found.hex == rollups.key(tuple(map(copy.field, names)))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    texts=st.lists(st.text(st.characters(codec=None), max_size=8), min_size=1, max_size=30),
    spends=st.lists(st.one_of(st.none(), st.decimals(0, 10**30, places=30)), min_size=30, max_size=30),
    seed=st.integers(0, 99),
)
def test_any_names_and_amounts_add_up(module_database_url: str, texts: Any, spends: Any, seed: int) -> None:
    choose = random.Random(seed)
    exporter = PostgresExporter(module_database_url, auto_migrate=False)
    batch = [
        record(
            spend=None,
            response_cost=None,
            attributes={
                "llmlog.model": choose.choice(texts),
                "llmlog.session_id": choose.choice(texts),
                "llmlog.metadata.user_api_key_team_alias": choose.choice(texts),
                **({} if spend is None else {"llmlog.spend": f"{spend:f}"}),
            },
        )
        for spend in spends
    ]
    exporter.export(batch)
    exporter.export(batch[::2] + batch[::3])
    exporter.close()
    assert equal(module_database_url)


def test_names_that_a_line_must_quote_add_up(exporter: PostgresExporter, query: Any, database_url: str) -> None:
    texts = ["a,b", "(a", "a)", 'a"b', "a\\b", '\\"', '""', " a ", "NULL", "{}", "'", "a\tb\nc\r", "\\N", "\\", ","]
    exporter.export(
        [
            record(model=text, session_id=f"{text}{n}", attributes={"llmlog.metadata.user_api_key_team_alias": text})
            for text in texts
            for n in range(2)
        ]
    )
    exporter.export([record(session_id="", end_user="")])
    found = query("SELECT DISTINCT model, team_alias FROM llmlog.spend_hourly WHERE team_alias IS NOT NULL")
    assert sorted(found) == [(text, text) for text in sorted(texts)]
    assert equal(database_url)


def _statement(known: set[str], n: int = 1) -> bytes:
    added = rollups.Added()
    added.add([row(record(model=f"m{m}", start_ns=HOUR, user_api_key_user_id="ann")) for m in range(n)])
    return added.statement(lambda literal: b"'" + literal + b"'", known)


def test_names_are_sent_once_for_a_line_that_stays(exporter: PostgresExporter, query: Any) -> None:
    known: set[str] = set()
    first, second = _statement(known), _statement(known)
    assert (b"ann" in first, b"ann" in second) == (True, False)
    query(first.decode())
    query(second.decode())
    assert query("SELECT model, user_id, status, calls FROM llmlog.spend_hourly") == [("m0", "ann", "success", 2)]


def test_a_line_is_never_made_without_its_names(exporter: PostgresExporter, query: Any) -> None:
    exporter.export([])
    known: set[str] = set()
    _statement(known)
    with pytest.raises(psycopg.errors.NoDataFound):
        query(_statement(known).decode())
    assert query("SELECT count(*) FROM llmlog.spend_hourly") == [(0,)]


def test_a_line_that_somebody_removed_is_made_again(exporter: PostgresExporter, query: Any) -> None:
    for n in (3, 2, 1):
        delivery = exporter.export([*records(n, start_ns=HOUR), *records(n, start_ns=HOUR, model="claude")])
        assert (delivery.written, delivery.rejected) == (2 * n, [])
        if n == 3:
            query("DELETE FROM llmlog.spend_hourly WHERE model = 'claude'")
    assert query("SELECT model, status, calls FROM llmlog.spend_hourly ORDER BY model") == [
        ("claude", "success", 3),
        ("gpt-4o", "success", 6),
    ]


def test_late_rows_find_their_day_by_a_line_that_is_there(
    exporter: PostgresExporter, query: Any, database_url: str
) -> None:
    for _ in range(3):
        assert exporter.export([record(start_ns=HOUR - 20 * DAY_NS, user_api_key_user_id="ann")]).written == 1
    assert query("SELECT model, user_id, status, calls FROM llmlog.spend_daily") == [("gpt-4o", "ann", "success", 3)]
    assert equal(database_url)


def test_what_a_writer_remembers_of_lines_has_an_end() -> None:
    known = {str(n) for n in range(100_000)}
    _statement(known)
    assert len(known) == 1


@pytest.mark.parametrize(("function", "before"), [("add_to_rollups", 0), ("add_calls", 7), ("add_described", 22)])
def test_writers_of_the_version_before_add_to_the_same_lines(
    exporter: PostgresExporter, query: Any, database_url: str, function: str, before: int
) -> None:
    exporter.export([*records(20, session_id="s"), record(start_ns=HOUR - 20 * DAY_NS), record(spend=None)])
    arrays = ["'{}'"] * before
    for kind, rows in (("hour_sums", "spend_hourly_of_rows"), ("session_sums", "session_totals_of_rows")):
        columns = "SELECT attname FROM pg_attribute WHERE attrelid = CAST(%s AS regclass) ORDER BY attnum"
        names = query(columns, (f"llmlog.{kind}",))
        arrays += [f"(SELECT array_agg({name}) FROM llmlog.{rows}('-infinity'))" for (name,) in names]
    query(f"SELECT llmlog.{function}({', '.join(arrays)})")
    query(
        "INSERT INTO llmlog.spend_logs"
        " SELECT (jsonb_populate_record(l, jsonb_build_object('span_id', l.span_id || 'x'))).* FROM llmlog.spend_logs l"
    )
    assert query("SELECT sum(calls)::int FROM llmlog.spend_hourly") == [(44,)]
    assert equal(database_url)


def test_sums_hold_no_object_for_each_row() -> None:
    made = [row(record(model=f"m{n % 700}")) for n in range(1000)]
    gc.collect()
    before = len(gc.get_objects())
    added = rollups.Added()
    added.add(made)
    # Of 1,000 rows 300 add to a line that is there.
    assert len(gc.get_objects()) - before < 400


@pytest.mark.parametrize("seconds", [3, pytest.param(60, marks=pytest.mark.slow)])
def test_eight_writers_on_the_same_lines_never_deadlock(database_url: str, query: Any, seconds: int) -> None:
    until = time.monotonic() + seconds
    failed: list[BaseException] = []
    written = [0] * 8

    def write(number: int) -> None:
        choose = random.Random(number)
        exporter = PostgresExporter(database_url, auto_migrate=False)
        before: list[Any] = []
        try:
            while time.monotonic() < until:
                batch = [
                    record(
                        session_id=f"s{choose.randrange(9)}",
                        model=f"m{choose.randrange(5)}",
                        start_ns=HOUR + choose.randrange(7200) * 10**9,
                    )
                    for _ in range(choose.randrange(1, 120))
                ]
                choose.shuffle(batch)
                written[number] += exporter.export(batch + before[: choose.randrange(2) * 20]).written
                before = batch
        except BaseException as error:
            failed.append(error)
        exporter.close()

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert min(written) > 0
    assert query("SELECT sum(calls)::int FROM llmlog.spend_hourly") == [(sum(written),)]
    assert query("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()") == [(0,)]
    assert equal(database_url)


def test_a_writer_that_dies_before_commit_leaves_neither_rows_nor_sums(
    exporter: PostgresExporter, query: Any, database_url: str
) -> None:
    exporter.export(records(10))
    with psycopg.connect(database_url) as blocker:
        # Holds the line that the next batch adds to, so that it waits there until its session is ended.
        blocker.execute("SELECT FROM llmlog.spend_hourly FOR UPDATE")
        failed: list[BaseException] = []

        def write() -> None:
            try:
                exporter.export(records(10))
            except StoreUnavailable as error:
                failed.append(error)

        thread = threading.Thread(target=write)
        thread.start()
        waiting = "FROM pg_stat_activity WHERE application_name = 'llmlog' AND wait_event_type = 'Lock'"
        while not query(f"SELECT 1 {waiting}"):
            time.sleep(0.01)
        query(f"SELECT pg_terminate_backend(pid) {waiting}")
        thread.join(30)
    assert len(failed) == 1
    assert query("SELECT sum(calls)::int, (SELECT count(*)::int FROM llmlog.spend_logs) FROM llmlog.spend_hourly") == [
        (10, 10)
    ]
    assert equal(database_url)


def test_check_tells_what_differs_and_repair_puts_it_right(
    exporter: PostgresExporter, query: Any, database_url: str
) -> None:
    exporter.export(records(20, session_id="s") + records(10, session_id="t", model="claude"))
    query("UPDATE llmlog.spend_hourly SET spend = spend + 0.000001 WHERE model = 'claude'")
    query("DELETE FROM llmlog.session_totals WHERE session_id = 't'")
    query("UPDATE llmlog.session_totals SET session_id = 'x' WHERE session_id = 's'")
    hourly, *sessions = check.check(database_url).differences
    assert (hourly.table, hourly.found["spend"], hourly.expected["spend"]) == (
        "spend_hourly",
        Decimal("0.125001"),
        Decimal("0.1250"),
    )
    assert [(line.key, line.found is None, line.expected is None) for line in sessions] == [
        ({"session_id": "s"}, True, False), ({"session_id": "t"}, True, False), ({"session_id": "x"}, False, True)
    ]  # fmt: skip
    check.repair(database_url)
    assert equal(database_url)
    exporter.export(records(5, session_id="s"))
    assert equal(database_url)


def test_the_migration_sums_up_the_rows_that_are_there(
    empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as older:
        files = sql.migrations()
        older.setattr(sql, "newest", lambda: "0001")
        older.setattr(sql, "migrations", lambda: files | {name: "SELECT 1" for name in files if name > "0001"})
        migrate.upgrade(empty_database_url)
    with psycopg.connect(empty_database_url) as connection:
        connection.execute("UPDATE llmlog.alembic_version SET version_num = '0001'")
        connection.execute(
            "INSERT INTO llmlog.spend_logs (trace_id, span_id, request_id, call_id, call_type, status, start_time, end_time,"
            " request_duration_ms, spend, session_id, model) SELECT i, i, 'r', 'c', 'x', 'success', now() - i * interval '1 min',"
            " now(), 0, nullif(i, 7) * 0.01, 's' || i % 3, 'm' || i % 4 FROM generate_series(1, 500) i"
        )
    migrate.upgrade(empty_database_url)
    assert equal(empty_database_url)
    PostgresExporter(empty_database_url).export(records(50, session_id="s1"))
    assert equal(empty_database_url)
    with psycopg.connect(empty_database_url) as connection:
        assert connection.execute("SELECT sum(calls)::int FROM llmlog.spend_hourly").fetchone() == (550,)

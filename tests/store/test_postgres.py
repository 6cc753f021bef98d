"""The exporter: every record ends in exactly one of written, duplicates and rejected, whatever the database does."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest

from otel_llmlog.errors import ConfigError, StoreUnavailable
from otel_llmlog.pipeline.record import Delivery, Record
from otel_llmlog.store import connect
from otel_llmlog.store.postgres import PostgresExporter
from tests.store.records import record, records

DAY_NS = 86_400 * 10**9
ROOT = Path(__file__).resolve().parents[2]
# A program that stores the same records each time it runs, and says how many were new.
STORE_SAME = """
import sys
from otel_llmlog.store.postgres import PostgresExporter
from tests.store.records import records
exporter = PostgresExporter(sys.argv[1])
sys.stdin.readline()
print(exporter.export(records(1500, start_ns=int(sys.argv[2]))).written)
"""


def count(query: Callable[..., list[tuple[Any, ...]]], table: str = "spend_logs") -> int:
    return query(f"SELECT count(*) FROM llmlog.{table}")[0][0]


def outcome(delivery: Delivery) -> tuple[int, int, int]:
    return delivery.written, delivery.duplicates, len(delivery.rejected)


def test_rows_and_contents_are_stored_in_one_transaction(exporter: PostgresExporter, query: Any) -> None:
    plain, kept = records(700), records(700, messages=[{"role": "user", "content": 'a\t"b"\n\\c'}], response="x")
    assert outcome(exporter.export(plain + kept)) == (1400, 0, 0)
    assert (count(query), count(query, "spend_log_contents")) == (1400, 700)
    assert query("SELECT DISTINCT messages->0->>'content', response#>>'{}' FROM llmlog.spend_log_contents") == [
        ('a\t"b"\n\\c', "x")
    ]


def test_nothing_to_store_stores_nothing(exporter: PostgresExporter) -> None:
    assert outcome(exporter.export([])) == (0, 0, 0)


def test_delivering_again_changes_nothing(exporter: PostgresExporter, query: Any) -> None:
    batch = records(600, messages="hello")
    assert outcome(exporter.export(batch)) == (600, 0, 0)
    assert outcome(exporter.export(batch[::-1])) == (0, 600, 0)
    assert outcome(exporter.export(batch[:10] + records(5) + batch[:3] + records(1) * 2)) == (6, 14, 0)
    assert (count(query), count(query, "spend_log_contents")) == (606, 600)


def test_two_processes_that_store_the_same_records_leave_one_row_each(database_url: str, query: Any) -> None:
    start_ns = str(time.time_ns())
    command = [sys.executable, "-c", STORE_SAME, database_url, start_ns]
    running = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) for _ in range(2)
    ]
    for process in running:
        process.stdin.write("\n")
        process.stdin.flush()
    assert sum(int(process.communicate(timeout=60)[0]) for process in running) == 1500
    assert count(query) == 1500


BAD: dict[str, tuple[Callable[[], Record], int]] = {
    "NUL in a name": (lambda: record(attributes={"llmlog.model": "a\0b"}), 1),
    "NUL escaped in JSON": (lambda: record(attributes={"llmlog.model_parameters": '{"a":"\\u0000"}'}), 1),
    "lone surrogate": (lambda: record(attributes={"llmlog.error_str": "a\ud800b"}), 1),
    "lone surrogate escaped in JSON": (lambda: record(attributes={"llmlog.messages": '"\\ud800"'}), 1),
    "tabs, newlines and backslashes": (lambda: record(attributes={"llmlog.user_agent": "a\tb\r\n\\N\\.\n"}), 1),
    "NaN cost": (lambda: record(attributes={"llmlog.spend": "NaN"}), 0),
    "negative cost": (lambda: record(attributes={"llmlog.spend": "-0.1"}), 0),
    "cost beyond numeric": (lambda: record(attributes={"llmlog.spend": "1E+200000"}), 0),
    "10**30 tokens": (lambda: record(attributes={"llmlog.prompt_tokens": 10**30}), 0),
    "10**17 tokens": (lambda: record(attributes={"llmlog.prompt_tokens": 10**17}), 0),
    "10**17 tokens in a session": (lambda: record(session_id="s", attributes={"llmlog.total_tokens": 10**17}), 0),
    "names of thousands of characters": (
        lambda: record(model=os.urandom(3000).hex(), user_api_key_user_id="ü" * 900),
        1,
    ),
    "quotes, commas and braces in names": (lambda: record(model="a\"b,{}\\'NULL", session_id='"\\,{'), 1),
    "negative tokens": (lambda: record(attributes={"llmlog.prompt_tokens": -1}), 0),
    "no JSON": (lambda: record(attributes={"llmlog.messages": "{"}), 0),
    "a JSON number beyond numeric": (lambda: record(attributes={"llmlog.messages": "[1e200000]"}), 0),
    "too long for an index": (lambda: record(attributes={"llmlog.session_id": os.urandom(9000).hex()}), 1),
    "the year 9999": (lambda: record(start_ns=253_402_300_000 * 10**9), 1),
    "1970": (lambda: record(start_ns=0), 1),
    "before 1970": (lambda: record(start_ns=-(10**18)), 1),
    "beyond time": (lambda: record(start_ns=10**30), 0),
    "no trace id": (lambda: record(trace_id=None), 0),
    "start no number": (lambda: record(start_ns="now", end_ns=0), 0),
    "no attributes": (lambda: Record("a", "b", None, 1, 2, "x", {}), 0),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_record_harms_no_other(exporter: PostgresExporter, query: Any, name: str) -> None:
    make, lands = BAD[name]
    bad = make() if name != "start no number" else Record("a", "b", None, "now", 0, "x", {})  # type: ignore[arg-type]
    batch = records(511)
    batch.insert(300, bad)
    delivery = exporter.export(batch)
    assert outcome(delivery) == (511 + lands, 0, 1 - lands)
    assert count(query) == 511 + lands
    assert all(found is bad and "\n" not in reason and len(reason) < 200 for found, reason in delivery.rejected)
    assert query("SELECT reason FROM llmlog.dead_letters") == [(reason,) for _, reason in delivery.rejected]
    assert query("SELECT sum(calls)::int FROM llmlog.spend_hourly") == [(511 + lands,)]


def test_several_refused_rows_are_found_among_many(exporter: PostgresExporter, query: Any) -> None:
    batch = records(1600)
    refused = [record(attributes={"llmlog.messages": "[1e200000]"}) for _ in range(3)]
    for place, bad in zip((0, 700, 701), refused, strict=True):
        batch.insert(place, bad)
    batch += batch[:2]
    delivery = exporter.export(batch)
    assert outcome(delivery) == (1600, 1, 4)
    assert {reason for _, reason in delivery.rejected} == {"the database refuses it: numeric_value_out_of_range"}
    assert count(query) == 1600


def test_rows_go_to_the_partition_of_their_day_and_odd_days_to_the_default(
    exporter: PostgresExporter, query: Any
) -> None:
    now = time.time_ns()
    exporter.export([record(start_ns=now + day * DAY_NS) for day in (-30, -7, 0, 2, 30)])
    names = [row[0] for row in query("SELECT tableoid::regclass::text FROM llmlog.spend_logs ORDER BY start_time")]

    def daily(day: int) -> str:
        return f"llmlog.spend_logs_{datetime.fromtimestamp(now / 1e9 + day * 86_400, UTC):%Y%m%d}"

    default = "llmlog.spend_logs_default"
    assert names == [default, daily(-7), daily(0), daily(2), default]


def test_rows_that_came_before_the_partition_of_their_day_move_there(exporter: PostgresExporter, query: Any) -> None:
    then = time.time_ns() - 3 * DAY_NS
    at = datetime.fromtimestamp(then / 1e9, UTC)
    query(
        "INSERT INTO llmlog.spend_logs (trace_id, span_id, request_id, call_id, call_type, status, start_time, end_time,"
        " request_duration_ms) VALUES ('t', 's', 'r', 'c', 'x', 'success', %s, %s, 0) RETURNING 1",
        (at, at),
    )
    assert outcome(exporter.export(records(3, start_ns=then))) == (3, 0, 0)
    assert query("SELECT count(*) FROM llmlog.spend_logs_default") == [(0,)]
    [(where,)] = query("SELECT tableoid::regclass::text FROM llmlog.spend_logs WHERE trace_id = 't'")
    assert where == f"llmlog.spend_logs_{at:%Y%m%d}"
    assert query("SELECT llmlog.ensure_partition(%s)", (at.date(),)) == [(True,)]


def test_writers_that_meet_a_new_day_together_make_its_partition_once(database_url: str, query: Any) -> None:
    start = threading.Barrier(6)
    failed: list[BaseException] = []

    def write() -> None:
        try:
            exporter = PostgresExporter(database_url)
            start.wait(10)
            exporter.export(records(50, start_ns=time.time_ns() - 4 * DAY_NS))
            exporter.close()
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=write) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert count(query) == 300
    assert query("SELECT count(*) FROM llmlog.spend_logs_default") == [(0,)]


def test_a_session_that_was_ended_while_it_was_idle_is_made_anew_without_a_word(
    exporter: PostgresExporter, query: Any
) -> None:
    exporter.export(records(1))
    gone = "SELECT pid FROM pg_stat_activity WHERE application_name = 'llmlog' AND datname = current_database()"
    [(pid,)] = query(gone)
    query("SELECT pg_terminate_backend(%s, 10000)", (pid,))
    assert outcome(exporter.export(records(2))) == (2, 0, 0)
    assert query(gone) != [(pid,)]


@pytest.mark.slow
def test_a_lock_that_is_not_given_is_a_reason_to_try_again(
    exporter: PostgresExporter, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connect, "begin", lambda _: "BEGIN; SET LOCAL lock_timeout = '50ms'")
    batch = records(3)
    with psycopg.connect(database_url) as blocker:
        blocker.execute("LOCK TABLE llmlog.spend_logs")
        with pytest.raises(StoreUnavailable, match="lock was not given"):
            exporter.export(batch)
    assert outcome(exporter.export(batch)) == (3, 0, 0)


def test_a_child_process_leaves_the_parents_session_alone(exporter: PostgresExporter, query: Any) -> None:
    exporter.export(records(1))
    mine = "SELECT pid FROM pg_stat_activity WHERE application_name = 'llmlog'"
    before = query(mine)
    batch = records(2)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = 0 if outcome(exporter.export(batch)) == (2, 0, 0) else 2
            exporter.close()
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0
    assert outcome(exporter.export(records(3) + batch)) == (3, 2, 0)
    assert query(mine) == before


def test_a_server_that_is_down_is_told_without_the_password(postgres_server: str) -> None:
    url = "postgresql://someone:hunter2@127.0.0.1:1/nowhere?connect_timeout=2"
    with pytest.raises(StoreUnavailable) as caught:
        PostgresExporter(url).export(records(1))
    assert str(caught.value) == "no database: nothing listens at the database's address; is the server running?"
    assert "hunter2" not in repr(caught.value.__cause__) + repr(caught.value)


def test_a_wrong_password_is_told_without_the_password(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise psycopg.OperationalError('FATAL:  password authentication failed for user "someone" (hunter2)')

    monkeypatch.setattr(psycopg, "connect", refuse)
    with pytest.raises(StoreUnavailable) as caught:
        PostgresExporter("postgresql://someone:hunter2@db/x").export(records(1))
    assert str(caught.value) == "no database: the database refused user or password; check LLMLOG_DATABASE_URL"


def test_a_url_that_is_none_is_told_without_the_url() -> None:
    with pytest.raises(ConfigError) as caught:
        PostgresExporter("postgresql://a:hunter2@[/x?y=z")
    assert "hunter2" not in str(caught.value)


def test_a_missing_database_is_told(postgres_server: str) -> None:
    with pytest.raises(StoreUnavailable, match="does not exist"):
        PostgresExporter(postgres_server.replace("/postgres?", "/nowhere?")).export(records(1))


def test_without_auto_migrate_missing_tables_are_told(empty_database_url: str) -> None:
    exporter = PostgresExporter(empty_database_url, auto_migrate=False)
    with pytest.raises(StoreUnavailable, match="llmlog db upgrade"):
        exporter.export(records(1))
    assert outcome(PostgresExporter(empty_database_url).export(records(1))) == (1, 0, 0)
    assert outcome(exporter.export(records(1))) == (1, 0, 0)


def test_close_may_be_called_twice_and_export_connects_again(exporter: PostgresExporter) -> None:
    exporter.close()
    exporter.export(records(1))
    exporter.close()
    exporter.close()
    assert outcome(exporter.export(records(1))) == (1, 0, 0)

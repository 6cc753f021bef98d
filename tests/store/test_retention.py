"""Retention: old days leave whole, one process does it, nobody waits for it, sums stay."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from otel_llmlog.config import RetentionSettings, Settings
from otel_llmlog.errors import ConfigError, StoreUnavailable
from otel_llmlog.stats import Stats
from otel_llmlog.store import check, postgres, retention
from otel_llmlog.store.postgres import PostgresExporter
from otel_llmlog.store.reader import Filter, Reader
from tests.store.records import record

DAY_NS = 86_400 * 10**9
NOON = int(time.time()) // 86_400 * DAY_NS + DAY_NS // 2
ROOT = Path(__file__).resolve().parents[2]
TABLES = ("spend_logs", "spend_log_contents")
# A program that says whether it was the one that removed old rows.
MAINTAIN = """
import sys
from otel_llmlog.config import RetentionSettings
from otel_llmlog.store import retention
settings = RetentionSettings(maximum_spend_logs_retention_period="3d")
sys.stdin.readline()
done = retention.maintain(sys.argv[1], settings)
print("none" if done is None else len(done.partitions))
"""
# Days of a million rows, made by the server.
MILLION = """
DO $$ BEGIN
    PERFORM llmlog.ensure_partition(current_date - d) FROM generate_series(10, 19) d;
    INSERT INTO llmlog.spend_logs (trace_id, span_id, request_id, call_id, call_type, status, start_time, end_time,
        request_duration_ms, model)
    SELECT i, i, i, i, 'completion', 'success', t, t, 0, 'm'
    FROM generate_series(1, %s) i, LATERAL (SELECT (current_date - 10 - i %% 10)::timestamp AT TIME ZONE 'UTC' AS t) x;
END $$
"""


def settings(logs: str | None = "3d", contents: str | None = None, interval: str = "1d") -> RetentionSettings:
    return RetentionSettings(
        maximum_spend_logs_retention_period=logs,
        maximum_spend_log_contents_retention_period=contents,
        maximum_spend_logs_retention_interval=interval,
    )


@pytest.fixture
def days(database_url: str) -> None:
    """A call with content at noon of each of the last 7 days, and some long ago and in the future."""
    exporter = PostgresExporter(database_url, auto_migrate=False)
    ago = (-400, *range(8), 20, 400)
    exporter.export([record(start_ns=NOON - day * DAY_NS, messages="hello", session_id=f"s{day}") for day in ago])
    exporter.close()


def kept(query: Any, table: str = "spend_logs") -> list[int]:
    today = "(now() AT TIME ZONE 'UTC')::date"
    return [
        row[0]
        for row in query(
            f"SELECT {today} - (start_time AT TIME ZONE 'UTC')::date AS ago FROM llmlog.{table} ORDER BY 1"
        )
    ]


@pytest.mark.parametrize(
    ("text", "period"),
    [
        ("30d", timedelta(days=30)),
        ("12h", timedelta(hours=12)),
        ("2w", timedelta(days=14)),
        ("90m", timedelta(minutes=90)),
        ("7", timedelta(days=7)),
        (14, timedelta(days=14)),
        (None, None),
    ],
)
def test_a_period_is_a_number_with_a_unit_or_of_days(text: Any, period: timedelta | None) -> None:
    found = Settings({"maximum_spend_logs_retention_period": text}).retention
    assert found.maximum_spend_logs_retention_period == period
    assert found.maximum_spend_logs_retention_interval == timedelta(days=1)


@pytest.mark.parametrize("text", ["0", "0d", "soon", "-1", "1.5d", "30 days", True])
def test_a_period_that_is_none_is_told_with_what_is_allowed(text: Any) -> None:
    with pytest.raises(
        ConfigError, match=r"_period must be a period such as 30d, 12h or 2w, or a number of days, found"
    ):
        Settings({"maximum_spend_logs_retention_period": text})


@pytest.mark.usefixtures("days")
def test_days_older_than_their_period_leave_whole_and_sums_stay(query: Any, database_url: str) -> None:
    before = Reader(database_url).spend("model")
    done = retention.prune(database_url, settings("3d"))
    assert [(partition.table, (datetime.now(UTC).date() - partition.day).days) for partition in done.partitions] == [
        (table, day) for day in (7, 6, 5, 4) for table in sorted(TABLES)
    ]
    assert done.strays == {"spend_logs": 2, "spend_log_contents": 2}
    assert kept(query) == kept(query, "spend_log_contents") == [-400, 0, 1, 2, 3]
    assert Reader(database_url).spend("model") == before
    report = check.check(database_url)
    assert (report.differences, report.sessions) == ([], 5)
    assert report.since == datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=3)


@pytest.mark.usefixtures("days")
@pytest.mark.parametrize(
    ("logs", "contents", "kept_logs", "kept_contents"),
    [
        ("5d", "1d", 6, 2),
        (None, "12h", 10, 2),
        ("1d", "5d", 2, 2),
        ("1w", None, 8, 8),
    ],
)
def test_contents_have_a_period_of_their_own_that_ends_with_the_logs_at_the_latest(
    query: Any, database_url: str, logs: str | None, contents: str | None, kept_logs: int, kept_contents: int
) -> None:
    retention.prune(database_url, settings(logs, contents))
    near = [day for day in kept(query) if day > -1]
    assert len(near) == kept_logs
    # Half a day ago is today or yesterday.
    assert len([day for day in kept(query, "spend_log_contents") if day > -1]) in {
        kept_contents,
        kept_contents - (contents == "12h"),
    }
    assert (check.check(database_url).since is None) == (logs is None)


@pytest.mark.usefixtures("days")
def test_a_plan_removes_nothing(query: Any, database_url: str) -> None:
    before = kept(query)
    planned = retention.plan(database_url, settings())
    assert kept(query) == before
    assert retention.prune(database_url, settings()) == planned
    assert retention.plan(database_url, settings()).partitions == []


@pytest.mark.usefixtures("days")
def test_of_three_instances_that_race_one_runs(query: Any, database_url: str) -> None:
    command = [sys.executable, "-c", MAINTAIN, database_url]
    running = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) for _ in range(3)
    ]
    for process in running:
        process.stdin.write("\n")
        process.stdin.flush()
    said = sorted(process.communicate(timeout=60)[0].strip() for process in running)
    assert said == ["8", "none", "none"]
    assert kept(query) == [-400, 0, 1, 2, 3]
    assert retention.maintain(database_url, settings()) is None
    query("UPDATE llmlog.maintenance SET last_run = last_run - interval '25 hours' RETURNING task")
    assert retention.maintain(database_url, settings()) is not None


def test_while_one_is_at_it_others_leave_it_to_that_one(query: Any, database_url: str) -> None:
    lease = "UPDATE llmlog.maintenance SET lease = gen_random_uuid(), leased_until = now() + interval '%s seconds' {}"
    with psycopg.connect(database_url) as other:  # is just renewing its lease
        other.execute(lease.format("WHERE task = 'retention'") % -1)
        assert retention.prune(database_url, settings()) is None
        other.rollback()
    query(lease.format("WHERE task = 'retention'") % 30)  # removes something between two renewals
    assert retention.prune(database_url, settings()) is None
    query("UPDATE llmlog.maintenance SET leased_until = now() - interval '1 second' WHERE task = 'retention'")
    assert retention.prune(database_url, settings()) is not None  # that one is gone


@pytest.mark.usefixtures("days")
def test_who_was_away_for_longer_than_its_lease_stops(
    query: Any, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "_drop", lambda *_: query("UPDATE llmlog.maintenance SET lease = gen_random_uuid()"))
    with pytest.raises(StoreUnavailable, match="another process has taken this over"):
        retention.prune(database_url, settings())
    assert query("SELECT last_run FROM llmlog.maintenance WHERE task = 'retention'") == [(None,)]


@pytest.mark.usefixtures("days")
def test_a_run_that_cannot_finish_is_not_counted(
    query: Any, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "PATIENCE_SECONDS", 0.3)
    with psycopg.connect(database_url) as reader:
        reader.execute("SELECT count(*) FROM llmlog.spend_logs")
        with pytest.raises(StoreUnavailable, match="old rows could not be removed"):
            retention.maintain(database_url, settings())
    assert query("SELECT last_run FROM llmlog.maintenance WHERE task = 'retention'") == [(None,)]
    assert check.check(database_url).differences == []
    assert retention.maintain(database_url, settings()) is not None


@pytest.mark.usefixtures("days")
def test_queries_do_not_queue_behind_a_drop_that_waits(query: Any, database_url: str) -> None:
    with psycopg.connect(database_url) as slow:
        slow.execute("SELECT count(*) FROM llmlog.spend_logs")
        pruning = threading.Thread(target=retention.prune, args=(database_url, settings()))
        pruning.start()
        # Queued behind the drop, a query would wait until the slow one is over, which is never while this goes on.
        query("SET statement_timeout = '20s'")
        until = time.monotonic() + 1.5
        while time.monotonic() < until:
            query("SELECT count(*) FROM llmlog.spend_logs")
            time.sleep(0.002)
        assert pruning.is_alive()
    pruning.join(30)
    assert kept(query) == [-400, 0, 1, 2, 3]


@pytest.mark.usefixtures("days")
def test_the_exporter_removes_old_rows_when_it_is_time(query: Any, database_url: str) -> None:
    exporter = PostgresExporter(database_url, retention=settings(), auto_migrate=False)
    exporter.open()
    for thread in threading.enumerate():
        if thread.name == "llmlog-retention":
            thread.join(30)
    assert kept(query) == [-400, 0, 1, 2, 3]
    assert query("SELECT last_run IS NOT NULL FROM llmlog.maintenance WHERE task = 'retention'") == [(True,)]
    exporter.close()


@pytest.mark.usefixtures("days")
def test_a_role_that_does_not_own_the_tables_is_told_who_must_do_it(query: Any, database_url: str) -> None:
    role = f"keeper_{os.getpid()}"
    query(f"CREATE ROLE {role} LOGIN")
    try:
        query(f"GRANT USAGE ON SCHEMA llmlog TO {role}")
        query(f"GRANT SELECT, INSERT, UPDATE ON ALL TABLES IN SCHEMA llmlog TO {role}")
        with pytest.raises(StoreUnavailable, match="only a role that owns the tables may"):
            retention.prune(database_url.replace("postgres:@", f"{role}:@"), settings())
    finally:
        query(f"DROP OWNED BY {role}")
        query(f"DROP ROLE {role}")


def test_a_failure_of_retention_is_told_and_harms_no_write(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[str, str]] = []
    stats = Stats()
    monkeypatch.setattr(stats, "warn", lambda kind, message: told.append((kind, message)))

    def fail(*_: Any, **__: Any) -> None:
        raise StoreUnavailable("no")

    monkeypatch.setattr(postgres, "maintain", fail)
    exporter = PostgresExporter(database_url, retention=settings(), stats=stats)
    assert exporter.export([record()]).written == 1
    for thread in threading.enumerate():
        if thread.name == "llmlog-retention":
            thread.join(30)
    assert told == [("retention", "no")]
    exporter.close()


def test_partitions_are_made_before_they_are_needed(database_url: str, query: Any) -> None:
    names = "SELECT relname FROM pg_class WHERE relname ~ '^spend_logs_[0-9]{8}$' ORDER BY 1"
    today = datetime.now(UTC).date()
    ahead = [(f"spend_logs_{today + timedelta(days=day):%Y%m%d}",) for day in range(3)]
    assert query(names) == ahead
    query(f"DROP TABLE llmlog.{ahead[1][0]}, llmlog.{ahead[2][0]}")
    exporter = PostgresExporter(database_url, auto_migrate=False)
    exporter.open()
    assert query(names) == ahead
    exporter.close()


def test_a_new_day_gets_partitions_ahead_with_its_first_batch(
    database_url: str, query: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    exporter = PostgresExporter(database_url, auto_migrate=False)
    exporter.open()
    tomorrow = time.time_ns() + DAY_NS
    monkeypatch.setattr(postgres.time, "time_ns", lambda: tomorrow)
    exporter.export([record(start_ns=tomorrow)])
    day = datetime.now(UTC).date() + timedelta(days=3)
    assert query("SELECT to_regclass(%s) IS NOT NULL", (f"llmlog.spend_logs_{day:%Y%m%d}",)) == [(True,)]
    exporter.close()


@pytest.mark.slow
def test_a_million_rows_of_old_days_leave_in_two_seconds(
    database_url: str, query: Any, record_property: Callable[[str, object], None]
) -> None:
    query(MILLION % 1_000_000 + "")
    started = time.monotonic()
    done = retention.prune(database_url, settings())
    took = time.monotonic() - started
    record_property("seconds", took)
    assert done is not None
    assert len(done.partitions) == 20
    assert query("SELECT count(*) FROM llmlog.spend_logs") == [(0,)]
    # A tenth of that on two cores: files are removed, no row is looked at.
    assert took < 2


@pytest.mark.slow
def test_old_days_leave_while_others_read_and_write_and_nobody_waits_for_it(
    database_url: str, query: Any, record_property: Callable[[str, object], None]
) -> None:
    query(MILLION % 100_000 + "")
    ended = threading.Event()
    times: dict[str, list[float]] = {"read": [], "write": []}
    failed: list[BaseException] = []

    def work(kind: str, step: Callable[[], Any]) -> None:
        try:
            while not ended.is_set():
                started = time.monotonic()
                step()
                times[kind].append(time.monotonic() - started)
        except BaseException as error:
            failed.append(error)

    reader, exporter = Reader(database_url), PostgresExporter(database_url, auto_migrate=False)
    recent = Filter(since=datetime.now(UTC) - timedelta(hours=1))
    threads = [
        threading.Thread(target=work, args=("read", lambda: reader.logs(recent, limit=5))),
        threading.Thread(target=work, args=("write", lambda: exporter.export([record() for _ in range(50)]))),
    ]
    for thread in threads:
        thread.start()
    while min(map(len, times.values())) < 10:
        time.sleep(0.01)
    started = time.monotonic()
    done = retention.prune(database_url, settings())
    took = time.monotonic() - started
    ended.set()
    for thread in threads:
        thread.join()
    exporter.close()
    # No lock that a writer waits for is given up: it would be an error by now. How long they took is for who reads it.
    assert failed == []
    record_property("seconds", {"prune": took, **{kind: max(found) for kind, found in times.items()}})
    assert done is not None
    assert len(done.partitions) == 20
    assert query("SELECT count(*) FROM llmlog.spend_logs WHERE start_time < now() - interval '5 days'") == [(0,)]

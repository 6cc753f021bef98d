"""What a big table costs: writing into it against writing into an empty one, and asking it what was spent.

    python benchmarks/big_table.py [--rows 1000000] [--records 10240] [--rounds 5]

The server fills one of two databases with rows of the last 30 days (8 models, 200 users of 20 teams, sessions of 10
calls) and sums them up; then both get the same batches of 512, their rounds interleaved. The ratio of the medians
counts: 1.00 means that a writer does not notice the size. Below are the answers of `Reader.spend`, connecting included:
from the rollups, and the same from the rows; lists of sessions; the newest rows by LiteLLM's name and by ours; and what
it costs to store calls that follow one another and name no session, which the database must find. Ten million rows take
some 12 GB of disk and a quarter of an hour.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import write_path

from otel_llmlog.store import embedded, migrate
from otel_llmlog.store.postgres import PostgresExporter
from otel_llmlog.store.reader import SORTINGS, Filter, Reader

DAYS = 30
FILL = """
INSERT INTO llmlog.spend_logs (trace_id, span_id, request_id, call_id, session_id, call_type, status, start_time, end_time,
    request_duration_ms, model, response_model, provider, spend, prompt_tokens, completion_tokens, total_tokens, api_key,
    api_key_alias, user_id, team_id, team_alias, organization_id, request_tags, metadata)
SELECT md5(i::text), left(md5('s' || i), 16), 'chatcmpl-' || i, md5('c' || i), 'session-' || i / 10, 'completion',
    CASE WHEN i %% 50 = 0 THEN 'failure' ELSE 'success' END, t, t + interval '2 s', 2000, 'model-' || m,
    'model-' || m || '-2026-01-01', 'provider-' || m %% 3, CASE WHEN i %% 50 > 0 THEN (i %% 9973) * 0.0000025 END, i %% 9000,
    i %% 700, i %% 9000 + i %% 700, repeat(md5('k' || u %% 20), 2), 'key-' || u %% 20, 'user-' || u, 'team-' || u %% 20,
    'Team ' || u %% 20, 'organisation-1', ARRAY['production', 'job-' || i %% 50], '{"usage_object": {"input_tokens": 1}}'
FROM generate_series(%(first)s::int, %(last)s::int) i,
    LATERAL (SELECT date_trunc('day', now(), 'UTC') - %(day)s * interval '1 day' + (i %% 86400) * interval '1 s'
             + i * interval '1 us' AS t, hashint4(i) & 7 AS m, (hashint4(i) >> 8 & 65535) %% 200 AS u) x
"""


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--rows", type=int, default=1_000_000)
    arguments.add_argument("--records", type=int, default=20 * write_path.BATCH)
    arguments.add_argument("--rounds", type=int, default=5)
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        server = embedded.start(Path(directory) / "postgres")
        urls = {name: server.replace("/postgres?", f"/{name}?") for name in ("empty", "big")}
        with psycopg.connect(server, autocommit=True) as connection:
            for name in urls:
                connection.execute(f"CREATE DATABASE {name}")
        for url in urls.values():
            migrate.upgrade(url)
        _fill(urls["big"], options.rows)
        _write(urls, options.records, options.rounds)
        _ask(urls["big"])
        _sessions(urls["big"])
        _chains(urls)


def _fill(url: str, rows: int) -> None:
    started = time.perf_counter()
    # Nothing of this is measured, and none of it must survive: it is made with all safety off.
    loading = ("fsync = off", "full_page_writes = off", "max_wal_size = '32GB'", "checkpoint_timeout = '1h'")
    with psycopg.connect(url, autocommit=True) as connection:
        for setting in loading:
            connection.execute(f"ALTER SYSTEM SET {setting}")
        connection.execute("SELECT pg_reload_conf()")
        # All of them first: the last rows of a day are of the next one, by seconds.
        for day in range(-1, DAYS):
            connection.execute("SELECT llmlog.make_partition(current_date - %s)", (day,))
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        for _ in threads.map(lambda day: _fill_day(url, day, rows), range(DAYS)):
            pass
    print(f"{rows:,} rows made in {time.perf_counter() - started:.0f} s", flush=True)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SET maintenance_work_mem = '512MB'; SET work_mem = '512MB'")
        connection.execute("INSERT INTO llmlog.spend_hourly SELECT * FROM llmlog.spend_hourly_of_rows('-infinity')")
        connection.execute("INSERT INTO llmlog.session_totals SELECT * FROM llmlog.session_totals_of_rows('-infinity')")
        connection.execute("UPDATE llmlog.maintenance SET folded_until = '-infinity'")
        connection.execute("SELECT llmlog.fold_rollups()")
        print(f"summed up after {time.perf_counter() - started:.0f} s", flush=True)
        connection.execute("VACUUM ANALYZE")
        for setting in loading:
            connection.execute(f"ALTER SYSTEM RESET {setting.partition(' ')[0]}")
        connection.execute("SELECT pg_reload_conf()")
        connection.execute("CHECKPOINT")
        (lines,) = connection.execute("SELECT count(*) FROM llmlog.spend_hourly").fetchone()
        print(f"{lines:,} lines of spend_hourly; all in {time.perf_counter() - started:.0f} s", flush=True)


def _fill_day(url: str, day: int, rows: int) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("SET synchronous_commit = off; SET work_mem = '256MB'")
        connection.execute(FILL, {"day": day, "first": rows * day // DAYS, "last": rows * (day + 1) // DAYS - 1})


def _write(urls: dict[str, str], count: int, rounds: int) -> None:
    generator = random.Random(7)
    exporters = {name: PostgresExporter(url) for name, url in urls.items()}
    seconds: dict[str, list[float]] = {name: [] for name in urls}
    for number in range(rounds + 1):
        for name, exporter in exporters.items():
            took = 0.0
            for start in range(0, count, write_path.BATCH):
                batch = [write_path._record(generator, start + i, contents=False) for i in range(write_path.BATCH)]
                started = time.perf_counter()
                assert exporter.export(batch).written == len(batch)
                took += time.perf_counter() - started
            if number:  # the first round warms caches
                seconds[name].append(took)
    middle = {name: statistics.median(found) for name, found in seconds.items()}
    for name, found in seconds.items():
        rate, ratio = count / middle[name], middle["empty"] / middle[name]
        print(f"write into {name:6} {rate:9,.0f} rows/s   ratio {ratio:.2f}   {min(found):.3f}-{max(found):.3f} s")
    for exporter in exporters.values():
        exporter.close()


def _ask(url: str) -> None:
    reader = Reader(url)
    now = datetime.now(UTC)
    periods = {"7 days": now - timedelta(days=7), "30 days": now - timedelta(days=30), "all": None}
    for period, since in periods.items():
        for by in ("model", "team", "user", "day"):
            times = {}
            for kind, ask in (("rollup", reader.spend), ("rows", reader.spend_of_rows)):
                took = []
                for _ in range(5 if kind == "rollup" else 1):
                    started = time.perf_counter()
                    ask(by, Filter(since=since))
                    took.append(time.perf_counter() - started)
                times[kind] = statistics.median(took)
            rollup, rows = times["rollup"] * 1000, times["rows"] * 1000
            print(f"spend by {by:6} {period:8} {rollup:8.1f} ms from the rollups, {rows:9.1f} ms from the rows")


def _sessions(url: str) -> None:
    reader = Reader(url)
    for sort in SORTINGS:
        _time(f"sessions by {sort}", lambda sort=sort: reader.sessions(sort=sort, limit=20))
    for name, where in {
        "user": Filter(user_id="user-7"),
        "tag": Filter(tag="job-3"),
        "no one": Filter(tag="x"),
    }.items():
        _time(f"sessions of {name}", lambda where=where: reader.sessions(where, limit=20))
    _time("one session", lambda: reader.session("session-4711"))
    with psycopg.connect(url) as connection:
        view = "SELECT * FROM llmlog.sessions ORDER BY spend DESC NULLS LAST LIMIT 20"
        _time("the view by spend", lambda: connection.execute(view).fetchall())
        grouped = "SELECT session_id, sum(spend) FROM llmlog.spend_logs GROUP BY 1 ORDER BY 2 DESC NULLS LAST LIMIT 20"
        _time("for comparison, GROUP BY", lambda: connection.execute(grouped).fetchall(), times=1)
        for name, newest in {
            "newest 50 of LiteLLM's": 'SELECT * FROM llmlog."LiteLLM_SpendLogs" ORDER BY "startTime" DESC LIMIT 50',
            "newest 50 of the table": "SELECT * FROM llmlog.spend_logs ORDER BY start_time DESC LIMIT 50",
        }.items():
            _time(name, lambda newest=newest: connection.execute(newest).fetchall())


def _time(what: str, ask: Callable[[], object], times: int = 5) -> None:
    took = []
    for _ in range(times):
        started = time.perf_counter()
        ask()
        took.append(time.perf_counter() - started)
    print(f"{what:24} {statistics.median(took) * 1000:8.1f} ms")


def _chains(urls: dict[str, str]) -> None:
    """Calls that name no session: of other APIs; first calls; each following one of the batch before."""
    generator = random.Random(7)
    exporter = PostgresExporter(urls["big"])
    kinds = {"no chain": [], "first calls": [], "followers": []}
    before: list[str] = []
    for number in range(12):
        ids = [f"resp-{number}-{i}" for i in range(write_path.BATCH)]
        for kind, took in kinds.items():
            batch = [write_path._record(generator, i, contents=False) for i in range(write_path.BATCH)]
            for i, made in enumerate(batch):
                made.attributes.pop("llmlog.session_id", None)
                made.attributes.pop("llmlog.previous_response_id", None)
                if kind != "no chain":
                    made.attributes["llmlog.call_type"] = "responses"
                    made.attributes["llmlog.id"] = ids[i] + kind
                if kind == "followers":
                    made.attributes["llmlog.previous_response_id"] = before[i] if before else f"unknown-{i}"
            started = time.perf_counter()
            assert exporter.export(batch).written == len(batch)
            took.append(time.perf_counter() - started)
        before = [id_ + ("first calls" if number % 2 else "followers") for id_ in ids]
    for kind, took in kinds.items():
        print(f"write {kind:12} {write_path.BATCH / statistics.median(took):9,.0f} rows/s")


if __name__ == "__main__":
    main()

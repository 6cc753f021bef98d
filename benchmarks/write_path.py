"""How much of Postgres' own speed is left: records -> committed rows, against COPY of the same rows made before.

    python benchmarks/write_path.py [--records 20480] [--rounds 7] [--users 400] [--contents]

Both sides write to tables of the same shape with the same indexes, on the same server, 512 rows a transaction, and
their rounds are interleaved. (b) keeps two cores busy where (a) keeps one: on a machine that has only one to spare the
ratio falls, so the idle share of the machine before the first round is printed too. (a) is libpq's COPY of text that was
formatted before the clock started; (b) is `PostgresExporter.export`: reading attributes, formatting, deduplication, the
sums by hour and by session, which (a) does not keep, and all. The sums cost by the line: with 100 users and three models
2,048 calls add to 300 lines, with 400 users to 1,000. The ratio of the medians counts; rows/s is for this machine
only. (b) is shown for batches of 512 and of 2,048 that come alone, so that nothing can be done while the server commits,
and for batches that follow one another, as the pipeline hands them over when much waits. CPU is the client's own.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import psycopg

from otel_llmlog.dialects import llmlog
from otel_llmlog.payload import (
    CallPayload,
    StandardLoggingAdditionalHeaders,
    StandardLoggingHiddenParams,
    StandardLoggingMetadata,
    StandardLoggingModelInformation,
    Usage,
)
from otel_llmlog.pipeline.record import Record
from otel_llmlog.store import copy, embedded, migrate, rows
from otel_llmlog.store.postgres import PostgresExporter

Store = Callable[[list[list[Record]]], tuple[float, float]]

BATCH = 512
MODELS = {"gpt-4o": "openai", "claude-sonnet-4-5": "anthropic", "gemini-2.5-pro": "gemini"}
QUESTION = 'Summarise the ticket below in three sentences.\n\nCustomer: "My order has not arrived."\n' * 12
ANSWER = "The customer's order is late.\nSupport offered a refund.\nThe case is closed." * 6


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--records", type=int, default=40 * BATCH)
    arguments.add_argument("--rounds", type=int, default=7)
    arguments.add_argument("--users", type=int, default=400, help="users among whom the calls are spread")
    arguments.add_argument("--contents", action="store_true", help="keep messages and responses too")
    options = arguments.parse_args()
    generator = random.Random(7)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        url = embedded.start(Path(directory) / "postgres")
        migrate.upgrade(url)
        _mirror(url)
        sides = {
            "(a) preformatted COPY": (BATCH, _raw(url)),
            f"(b) export, {BATCH} alone": (BATCH, _export(url)),
            f"(b) export, {4 * BATCH} alone": (4 * BATCH, _export(url)),
            f"(b) export, {4 * BATCH} in a row": (4 * BATCH, _export(url)),
        }
        seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
        print(f"{_idle():.0%} of {os.cpu_count()} cores idle before the start")
        for number in range(options.rounds + 1):
            for name, (size, store) in sides.items():
                # Each record is stored only once: duplicates cost less.
                made = [_record(generator, i, options.users, contents=options.contents) for i in range(options.records)]
                batches = [made[start : start + size] for start in range(0, options.records, size)]
                times = [store(batches)] if name.endswith("in a row") else [store([batch]) for batch in batches]
                if number:  # the first round makes partitions and warms caches
                    seconds[name].append((sum(wall for wall, _ in times), sum(cpu for _, cpu in times)))
            _empty(url)
    base = statistics.median(wall for wall, _ in seconds["(a) preformatted COPY"])
    for name, rounds in seconds.items():
        walls = [wall for wall, _ in rounds]
        middle, cpu = statistics.median(walls), statistics.median(cpu for _, cpu in rounds) / options.records * 1e6
        rate, spread = options.records / middle, f"{min(walls):.3f}-{max(walls):.3f} s"
        print(f"{name:26} {rate:9,.0f} rows/s   ratio {base / middle:.2f}   CPU {cpu:4.1f} us/row   {spread}")


def _idle() -> float:
    """Share of the machine that nobody else used for a second."""
    times = []
    for pause in (1, 0):
        fields = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
        times.append((fields[3] + fields[4], sum(fields[:8])))
        time.sleep(pause)
    return (times[1][0] - times[0][0]) / (times[1][1] - times[0][1])


def _raw(url: str) -> Store:
    columns, content_columns = ", ".join(rows.SpendLogRow._fields), ", ".join(rows.SpendLogContent._fields)
    connection = psycopg.connect(url)

    def store(batches: list[list[Record]]) -> tuple[float, float]:
        [records] = batches
        logs, _ = copy.lines([rows.row(record) for record in records])
        contents, _ = copy.lines([found for record in records if (found := rows.content(record))])
        started = time.perf_counter(), time.process_time()
        with connection.cursor() as cursor:
            with cursor.copy(f"COPY raw.spend_logs ({columns}) FROM STDIN") as writer:
                writer.write(logs)
            if contents:
                with cursor.copy(f"COPY raw.spend_log_contents ({content_columns}) FROM STDIN") as writer:
                    writer.write(contents)
        connection.commit()
        return time.perf_counter() - started[0], time.process_time() - started[1]

    return store


def _export(url: str) -> Store:
    exporter = PostgresExporter(url)
    exporter.export([])  # connecting is not what is measured

    def store(batches: list[list[Record]]) -> tuple[float, float]:
        started = time.perf_counter(), time.process_time()
        written = sum(delivery.written for delivery in exporter.export_all(batches))
        took = time.perf_counter() - started[0], time.process_time() - started[1]
        assert written == sum(map(len, batches))
        return took

    return store


def _mirror(url: str) -> None:
    """The same tables, partitions and indexes in schema `raw`."""
    with psycopg.connect(url) as connection:
        connection.execute("CREATE SCHEMA raw")
        for table in ("spend_logs", "spend_log_contents"):
            connection.execute(
                f"CREATE TABLE raw.{table} (LIKE llmlog.{table} INCLUDING ALL) PARTITION BY RANGE (start_time)"
            )
            connection.execute(
                f"CREATE TABLE raw.{table}_today PARTITION OF raw.{table} "
                "FOR VALUES FROM (current_date - 3) TO (current_date + 3)"
            )


def _empty(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "TRUNCATE raw.spend_logs, raw.spend_log_contents, llmlog.spend_logs, llmlog.spend_log_contents,"
            " llmlog.spend_hourly, llmlog.session_totals"
        )
        connection.execute("CHECKPOINT")


def _record(generator: random.Random, i: int, users: int = 400, *, contents: bool = False) -> Record:
    """A call as an app with users, teams, tags and sessions leaves it: 63 attributes."""
    start_us = time.time_ns() // 1000 - 10**6
    prompt, completion = generator.randrange(100, 9000), generator.randrange(1, 2000)
    spend = prompt * Decimal("0.0000025") + completion * Decimal("0.00001")
    model, provider = generator.choice(list(MODELS.items()))
    base = f"https://api.{provider}.example/v1"
    payload = CallPayload(
        id=f"chatcmpl-{generator.getrandbits(96):024x}",
        trace_id=f"{generator.getrandbits(128):032x}",
        call_id=f"{generator.getrandbits(128):032x}",
        session_id=f"session-{i // 20}",
        call_type="acompletion",
        operation="chat",
        status="success",
        stream=i % 2 == 0,
        custom_llm_provider=provider,
        model=model,
        response_model=f"{model}-2025-08-06",
        model_group=model,
        model_id="deployment-1",
        api_base=base,
        response_cost=float(spend),
        spend=spend,
        cost_source="genai-prices",
        price_version="0.2.3",
        cost_breakdown={"input_cost": prompt * 2.5e-6, "output_cost": completion * 1e-5, "total_cost": float(spend)},
        prompt_tokens=prompt,
        completion_tokens=completion,
        total_tokens=prompt + completion,
        usage=Usage(
            input_tokens=prompt,
            output_tokens=completion,
            cache_read_tokens=prompt // 2,
            source="provider",
            service_tier="default",
        ),
        startTime=start_us / 1e6,
        endTime=start_us / 1e6 + 2.5,
        completionStartTime=start_us / 1e6 + 0.4,
        response_time=0.4,
        finish_reasons=["stop"],
        model_map_information=StandardLoggingModelInformation(model_map_key=model),
        cache_hit=False,
        request_tags=["production", "summaries", f"job-{i % 50}"],
        end_user=f"customer-{i % 1000}",
        requester_ip_address="10.0.0.1",
        user_agent="OpenAI/Python 3.1.0",
        model_parameters={"temperature": 0.7, "max_tokens": 2048, "stream": i % 2 == 0},
        metadata=StandardLoggingMetadata(
            # A user is of one team and has one key.
            user_api_key_hash=f"{i % users % 7:064x}",
            user_api_key_alias="shop-production",
            user_api_key_org_id="organisation-1",
            user_api_key_team_id=f"team-{i % users % 9}",
            user_api_key_team_alias="Customer care",
            user_api_key_user_id=f"user-{i % users}",
            requester_ip_address="10.0.0.1",
            requester_custom_headers={"x-app": "shop", "x-request-id": f"request-{i}"},
            spend_logs_metadata={"feature": "summaries", "job": i},
        ),
        hidden_params=StandardLoggingHiddenParams(
            model_id="deployment-1",
            api_base=base,
            litellm_model_name=model,
            additional_headers=StandardLoggingAdditionalHeaders(
                x_ratelimit_limit_requests=10_000, x_ratelimit_remaining_requests=9_999
            ),
        ),
        messages=[{"role": "user", "content": f"{QUESTION}{i}"}] if contents else None,
        response={"choices": [{"message": {"role": "assistant", "content": ANSWER}}]} if contents else None,
    )
    span_id = f"{generator.getrandbits(64):016x}"
    start, end = start_us * 1000, start_us * 1000 + 2_500_000_000
    return Record(payload.trace_id, span_id, None, start, end, "shop", llmlog.encode(payload))


if __name__ == "__main__":
    main()

"""How fast the sink turns OTLP into committed rows, beside the exporter that writes the same calls directly.

    python benchmarks/sink.py [--spans 25600] [--rounds 5] [--connections 2] [--in-flight 4] [--dialect llmlog]

One `llmlog sink` (one process) with its Postgres beside it on the same machine; the client sends batches of 512 spans over
gRPC, encoded before the clock starts, so that it costs little; `--in-flight` requests wait for their answer on each
connection, as a collector's queue consumers do. A span counts when its batch is answered, which is after COMMIT. The
direct exporter stores the same calls in the same run, rounds interleaved; rates are for this machine only, the ratio is
what counts. After that the same calls come as another instrumentation writes them, in the words of the GenAI
conventions: read, priced and looked at for what else describes them; there the tables are not emptied between rounds, so
that the last rounds tell what a full table costs. Ordinary spans (HTTP server and client, database; 12 attributes) are sent the same way and leave no rows.
The idle share of the machine before the start is printed: on a busy one nothing here means much.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import grpc
import psycopg
import write_path
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_llmlog.pipeline import otlp
from otel_llmlog.pipeline.otlp_values import pair
from otel_llmlog.pipeline.record import Record
from otel_llmlog.store import embedded, migrate
from otel_llmlog.store.postgres import PostgresExporter

BATCH = 512
EXPORT = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--spans", type=int, default=50 * BATCH)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--connections", type=int, default=2)
    arguments.add_argument("--in-flight", type=int, default=4, help="requests at a time on each connection")
    arguments.add_argument(
        "--dialect", choices=("llmlog", "genai"), help="in which calls are written; both, one after the other, without"
    )
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as directory:
        url = embedded.start(Path(directory) / "postgres")
        migrate.upgrade(url)
        print(f"{write_path._idle():.0%} of {os.cpu_count()} cores idle before the start")
        sink, address = _start(url, directory)
        try:
            # Our own first: once others' are there, every row is looked at for them.
            for dialect in [options.dialect] if options.dialect else ["llmlog", "genai"]:
                _measure(url, address, sink.pid, options, dialect)
            status = Path(f"/proc/{sink.pid}/status").read_text().splitlines()
            peak = next(line.split()[1] for line in status if line.startswith("VmHWM"))
            print(f"memory  {int(peak) / 1024:.0f} MB at most")
        finally:
            sink.terminate()
            sink.wait(30)


def _start(url: str, directory: str) -> tuple[subprocess.Popen[str], str]:
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("LLMLOG_", "OTEL_"))},
        "LLMLOG_DATABASE_URL": url,
        "LLMLOG_SPOOL_DIR": directory,
    }
    command = [str(Path(sys.executable).parent / "llmlog"), "sink", "--grpc-port", "0", "--http-port", "0"]
    sink = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    said = sink.stdout.readline()
    found = re.search(r"gRPC on http://(\S+),", said)
    assert found, said
    return sink, found[1]


def _measure(url: str, address: str, pid: int, options: argparse.Namespace, dialect: str) -> None:
    generator = random.Random(dialect)
    _empty(url)
    exporter = PostgresExporter(url)
    exporter.export([])
    rates: dict[str, list[float]] = {"sink": [], "direct": [], "ordinary": []}
    waits: list[float] = []
    cpu = 0.0
    ordinary = _ordinary(generator)
    for number in range(options.rounds + 1):
        records = [write_path._record(generator, i) for i in range(2 * options.spans)]
        sent, kept = records[: options.spans], records[options.spans :]
        encode = _genai if dialect == "genai" else otlp.encode
        bodies = [encode(part).SerializeToString() for part in _parts(sent)]
        before = _cpu(pid)
        seconds, times = asyncio.run(_send(address, bodies, options))
        spent = _cpu(pid) - before
        started = time.perf_counter()
        for start in range(0, len(kept), 4 * BATCH):
            assert not exporter.export(kept[start : start + 4 * BATCH]).rejected
        direct = time.perf_counter() - started
        plain, _ = asyncio.run(_send(address, [ordinary] * len(bodies), options))
        with psycopg.connect(url, autocommit=True) as connection:
            stored = connection.execute("SELECT count(*) FROM llmlog.spend_logs").fetchone()
            assert stored == (2 * options.spans * (number + 1 if dialect == "genai" else 1),), stored
        if number:  # the first round makes partitions and warms caches
            rates["sink"].append(options.spans / seconds)
            rates["direct"].append(options.spans / direct)
            rates["ordinary"].append(options.spans / plain)
            waits += times
            cpu += spent
        if dialect == "llmlog":
            _empty(url)
    middle = {name: statistics.median(found) for name, found in rates.items()}
    size = len(bodies[0]) / BATCH
    spread = ", ".join(f"{rate:,.0f}" for rate in rates["sink"])
    print(f"-- calls in the words of {'GenAI' if dialect == 'genai' else 'our own dialect'}")
    print(f"sink    {middle['sink']:9,.0f} LLM spans/s to committed rows ({spread}), {size:,.0f} bytes a span")
    print(
        f"direct  {middle['direct']:9,.0f} rows/s by the exporter itself, 2,048 a call: the sink is {middle['sink'] / middle['direct']:.2f} of it"
    )
    waits.sort()
    print(f"ack     p50 {waits[len(waits) // 2] * 1e3:.0f} ms, p99 {waits[len(waits) * 99 // 100] * 1e3:.0f} ms")
    print(f"CPU     {cpu / options.rounds / options.spans * 1e6:.1f} us a span in the sink")
    print(f"plain   {middle['ordinary']:9,.0f} ordinary spans/s")


def _genai(records: list[Record]) -> ExportTraceServiceRequest:
    """The same calls as an instrumentation of the GenAI conventions writes them: 20 attributes, no price."""
    request = ExportTraceServiceRequest()
    of_resource = request.resource_spans.add()
    of_resource.resource.attributes.append(pair("service.name", "shop"))
    scope = of_resource.scope_spans.add()
    scope.scope.name = "opentelemetry.instrumentation.openai_v2"
    for record in records:
        of = {name.removeprefix("llmlog."): value for name, value in record.attributes.items()}
        given = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": of["custom_llm_provider"],
            "gen_ai.request.model": of["model"],
            "gen_ai.request.temperature": 0.2,
            "gen_ai.request.max_tokens": 1024,
            "gen_ai.response.id": of["id"],
            "gen_ai.response.model": of["model"],
            "gen_ai.response.finish_reasons": ("stop",),
            "gen_ai.usage.input_tokens": of["prompt_tokens"],
            "gen_ai.usage.output_tokens": of["completion_tokens"],
            "gen_ai.usage.cache_read.input_tokens": of["usage.cache_read_tokens"],
            "gen_ai.conversation.id": of["session_id"],
            "gen_ai.output.type": "text",
            "server.address": "api.openai.com",
            "server.port": 443,
            "user.id": of["metadata.user_api_key_user_id"],
            "thread.id": 139_000_000,
            "thread.name": "MainThread",
        }
        scope.spans.add(
            trace_id=bytes.fromhex(record.trace_id),
            span_id=bytes.fromhex(record.span_id),
            name=f"chat {of['model']}",
            kind=3,
            start_time_unix_nano=record.start_ns,
            end_time_unix_nano=record.end_ns,
            attributes=[pair(name, value) for name, value in given.items()],
        )
    return request


def _parts(records: list[Record]) -> list[list[Record]]:
    return [records[start : start + BATCH] for start in range(0, len(records), BATCH)]


async def _send(address: str, bodies: list[bytes], options: argparse.Namespace) -> tuple[float, list[float]]:
    """Send all; answers how long that took, and how long each request waited for its answer."""
    waiting = iter(bodies)
    times: list[float] = []

    async def consume(channel: grpc.aio.Channel) -> None:
        export = channel.unary_unary(EXPORT)
        for body in waiting:
            began = time.perf_counter()
            assert await export(body) == b""
            times.append(time.perf_counter() - began)

    channels = [
        grpc.aio.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)])
        for _ in range(options.connections)
    ]
    for channel in channels:
        await channel.channel_ready()
    started = time.perf_counter()
    await asyncio.gather(*(consume(channel) for channel in channels for _ in range(options.in_flight)))
    took = time.perf_counter() - started
    for channel in channels:
        await channel.close()
    return took, times


def _ordinary(generator: random.Random) -> bytes:
    """A batch of spans that are no LLM calls, as web frameworks and database drivers make them."""
    request = ExportTraceServiceRequest()
    of_resource = request.resource_spans.add()
    of_resource.resource.attributes.append(pair("service.name", "shop"))
    scope = of_resource.scope_spans.add()
    scope.scope.name = "opentelemetry.instrumentation.fastapi"
    for i in range(BATCH):
        now = time.time_ns()
        scope.spans.add(
            trace_id=generator.randbytes(16),
            span_id=generator.randbytes(8),
            parent_span_id=generator.randbytes(8),
            name="GET /orders/{id}",
            kind=2,
            start_time_unix_nano=now,
            end_time_unix_nano=now + 10**7,
            attributes=[
                pair("http.request.method", "GET"),
                pair("url.path", f"/orders/{i}"),
                pair("url.scheme", "https"),
                pair("http.route", "/orders/{id}"),
                pair("http.response.status_code", 200),
                pair("server.address", "shop.internal"),
                pair("server.port", 8443),
                pair("client.address", f"10.0.0.{i % 256}"),
                pair("user_agent.original", "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36"),
                pair("network.protocol.version", "1.1"),
                pair("thread.id", 139_000_000 + i),
                pair("thread.name", "MainThread"),
            ],
        )
    return request.SerializeToString()


def _cpu(pid: int) -> float:
    """Seconds of CPU that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _empty(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "TRUNCATE llmlog.spend_logs, llmlog.spend_log_contents, llmlog.spend_hourly, llmlog.session_totals,"
            " llmlog.described_calls, llmlog.hidden_calls"
        )
        connection.execute("CHECKPOINT")


if __name__ == "__main__":
    main()

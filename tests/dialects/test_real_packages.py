"""The real packages, against the local provider, ours on beside them: the same tokens and cost, and one row a request.

Each test runs `app.py` in a process of an environment that has the packages (`make .venv-dialects/.test
.venv-dialects-newer/.test`), and stores what it wrote down in a real Postgres, in orders of its own.
"""

from __future__ import annotations

import gzip
import itertools
import os
import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psycopg
import pytest
from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_llmlog.demo.provider import LocalProvider
from otel_llmlog.payload import CallPayload
from otel_llmlog.pipeline.record import Record
from otel_llmlog.store import check
from otel_llmlog.store.postgres import PostgresExporter
from tests.dialects import spans

ROOT = Path(__file__).resolve().parents[2]
OLDER, NEWER = ROOT / ".venv-dialects/bin/python", ROOT / ".venv-dialects-newer/bin/python"
# Three minutes in all on two idle cores: most of it is imports.
pytestmark = pytest.mark.slow

OPENAI = ("openllmetry", "openinference", "openlit", "genai", "logfire", "langfuse")
APPS: dict[str, tuple[Path, str, tuple[str, ...]]] = {
    **{name: (OLDER, "openai", (name,)) for name in OPENAI},
    "litellm_v1": (OLDER, "litellm", ("litellm_v1",)),
    "litellm_v2": (OLDER, "litellm", ("litellm_v2",)),
    "pydantic_ai": (OLDER, "pydantic_ai", ("pydantic_ai",)),
    "anthropic": (Path(sys.executable), "anthropic", ()),
    "newer openllmetry": (NEWER, "openai", ("openllmetry",)),
    "newer openinference": (NEWER, "openai", ("openinference",)),
    "anthropic openllmetry": (NEWER, "anthropic", ("openllmetry",)),
    "anthropic openinference": (NEWER, "anthropic", ("openinference",)),
}
# What the dialects' files declare as gaps: (who, call) -> fields that differ from our own row.
GAPS = {
    ("openllmetry", "stream"): {"reasoning"},
    ("newer openllmetry", "stream"): {"reasoning"},
    ("openlit", "plain"): {"reasoning"},
    ("openlit", "stream"): {"reasoning"},
    ("litellm_v2", "plain"): {"reasoning"},
    ("litellm_v2", "stream"): {"reasoning"},
    ("anthropic openllmetry", "plain"): {"cache_write_1h", "spend"},
    ("anthropic openllmetry", "stream"): {"cache_write_1h", "spend", "output"},
    ("anthropic openinference", "plain"): {"cache_write_1h", "spend"},
    ("anthropic openinference", "stream"): {"cache_write_1h", "spend"},
}
# Requests that an app makes: one a call, two where the SDK tries again.
REQUESTS = {"retried": 2}


@pytest.fixture(scope="module")
def provider() -> Iterator[LocalProvider]:
    with LocalProvider() as running:
        yield running


class Collector(ThreadingHTTPServer):
    """Takes the rows of our own capture over OTLP, as a collector would."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []
        super().__init__(("127.0.0.1", 0), _Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = gzip.decompress(self.rfile.read(int(self.headers["content-length"])))
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            for one in resource.scope_spans[0].spans:
                attributes = MessageToDict(one)["attributes"]
                self.server.rows.append(
                    {
                        "what": "span", "trace_id": one.trace_id.hex(), "span_id": one.span_id.hex(),
                        "parent_span_id": one.parent_span_id.hex() or None, "name": one.name, "kind": one.kind,
                        "start_ns": one.start_time_unix_nano, "end_ns": one.end_time_unix_nano, "events": [], "status": 0,
                        "attributes": {pair["key"]: _value(pair["value"]) for pair in attributes}, "status_message": "",
                        "scope": "otel_llmlog", "scope_version": "", "resource": {"service.name": "shop"},
                    }
                )  # fmt: skip
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None: ...


def _value(given: dict[str, Any]) -> Any:
    ((kind, value),) = given.items()
    if kind == "arrayValue":
        return tuple(_value(one) for one in value.get("values", ()))
    return int(value) if kind == "intValue" else value


def run(
    provider: LocalProvider, directory: Path, python: Path, client: str, on: tuple[str, ...]
) -> list[dict[str, Any]]:
    """Run the app; answers the lines that it wrote, and the rows of our own capture."""
    assert python.exists(), f"{python} is missing: make {python.parents[1].name}/.test"
    directory.mkdir(exist_ok=True)
    out = directory / "spans.jsonl"
    collector = Collector()
    try:
        done = subprocess.run(
            [python, str(ROOT / "tests/dialects/app.py"), provider.url, str(out), client, "ours", *on],
            cwd=directory,
            env={
                **{name: value for name, value in os.environ.items() if not name.startswith("OTEL_")},
                "LLMLOG_EXPORTER": "otlp",
                "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"http://127.0.0.1:{collector.server_port}/v1/traces",
            },
            capture_output=True,
            timeout=120,
            text=True,
            check=False,
        )
    finally:
        collector.shutdown()
        collector.server_close()
    assert done.returncode == 0, done.stderr[-2000:]
    return [line for line in spans.lines(out) if line.get("scope") != "otel_llmlog"] + collector.rows


def calls(lines: list[dict[str, Any]]) -> dict[str, list[spans.Span]]:
    """What was said of each of the app's calls, by its name."""
    traces = {line["trace_id"]: line["name"] for line in lines if line["what"] == "span" and line["scope"] == "app"}
    found: dict[str, list[spans.Span]] = {name: [] for name in traces.values()}
    for line in lines:
        if line["what"] == "span" and line["scope"] != "app":
            found[traces[line["trace_id"]]].append(spans.span(line))
    return found


def facts(payload: CallPayload) -> dict[str, Any]:
    usage = payload.usage
    return {
        "status": payload.status,
        "provider": payload.custom_llm_provider,
        "model": payload.model,
        "input": payload.prompt_tokens,
        "output": payload.completion_tokens,
        "cache_read": usage.cache_read_tokens,
        "cache_write": usage.cache_write_tokens,
        "cache_write_1h": usage.cache_write_1h_tokens,
        "reasoning": usage.reasoning_tokens,
        "spend": payload.spend,
    }


def stored(url: str, records: list[Record], generator: random.Random) -> int:
    """Store the records in an order and batches of chance; answers how many rows there are then."""
    order = [*records, *generator.sample(records, len(records) // 3)]
    generator.shuffle(order)
    exporter = PostgresExporter(url, auto_migrate=False)
    try:
        while order:
            size = generator.randint(1, 4)
            batch, order = order[:size], order[size:]
            assert exporter.export(batch).rejected == []
    finally:
        exporter.close()
    assert check.check(url).differences == []
    with psycopg.connect(url) as connection:
        (rows,) = connection.execute("SELECT count(*) FROM llmlog.spend_logs").fetchone() or (0,)
    return int(rows)


def requests(found: dict[str, list[spans.Span]]) -> int:
    """How many the app made."""
    return sum(REQUESTS.get(call, 1) for call in found)


def records(found: dict[str, list[spans.Span]]) -> list[Record]:
    every = [spans.record(one) for of_call in found.values() for one in of_call]
    return [one for one in every if one is not None]


@pytest.mark.parametrize("name", APPS)
def test_a_dialect_tells_the_same_tokens_and_cost_as_our_own_row(
    provider: LocalProvider, tmp_path: Path, database_url: str, name: str
) -> None:
    found = calls(run(provider, tmp_path, *APPS[name]))
    dialect = name.rsplit(maxsplit=1)[-1].removesuffix("_v1").removesuffix("_v2")
    differ: dict[tuple[str, str], set[str]] = {}
    for call, of_call in found.items():
        payloads = [payload for one in of_call if (payload := spans.call(one))]
        ours = [payload for payload in payloads if payload.described_by is None]
        theirs = [payload for payload in payloads if payload.described_by == dialect]
        assert len(ours) == REQUESTS.get(call, 1), call
        assert len(theirs) == 1, (call, [one.name for one in of_call])
        wanted, got = facts(ours[-1]), facts(theirs[0])
        if different := {field for field in wanted if wanted[field] != got[field]}:
            differ[name, call] = different
    assert differ == {key: fields for key, fields in GAPS.items() if key[0] == name}
    assert stored(database_url, records(found), random.Random(name)) == requests(found)


PAIRS = [
    *itertools.combinations(OPENAI, 2),
    ("openinference", "openlit", "langfuse"),
    ("openllmetry", "openinference", "genai", "langfuse"),
]


@pytest.mark.parametrize("pair", PAIRS, ids="+".join)
def test_several_at_once_are_one_row_a_request(
    provider: LocalProvider, tmp_path: Path, database_url: str, pair: tuple[str, ...]
) -> None:
    found = calls(run(provider, tmp_path, OLDER, "openai", pair))
    for call, of_call in found.items():
        told = {payload.described_by for one in of_call if (payload := spans.call(one))}
        # Logfire suppresses other instrumentations inside its spans: of ours the span is left out, not the row.
        assert told == {None, *pair} or ("logfire" in told and {None} < told < {None, *pair}), call
    assert stored(database_url, records(found), random.Random("+".join(pair))) == requests(found)


OTHER_CLIENTS = [
    (OLDER, "litellm", ("litellm_v1", "openinference")),
    (OLDER, "litellm", ("litellm_v2", "openinference")),
    (OLDER, "pydantic_ai", ("pydantic_ai", "genai")),
    (OLDER, "pydantic_ai", ("pydantic_ai", "openllmetry")),
    (OLDER, "pydantic_ai", ("pydantic_ai", "openinference")),
    (OLDER, "pydantic_ai", ("pydantic_ai", "openlit", "logfire")),
    (NEWER, "anthropic", ("openllmetry", "openinference")),
]


@pytest.mark.parametrize(("python", "client", "on"), OTHER_CLIENTS, ids=["+".join(on) for _, _, on in OTHER_CLIENTS])
def test_frameworks_and_instrumentations_at_once_are_one_row_a_request(
    provider: LocalProvider, tmp_path: Path, database_url: str, python: Path, client: str, on: tuple[str, ...]
) -> None:
    found = calls(run(provider, tmp_path, python, client, on))
    for call, of_call in found.items():
        told = {payload.described_by for one in of_call if (payload := spans.call(one))}
        assert len(told) > len(on), call
    assert stored(database_url, records(found), random.Random("+".join(on))) == requests(found)

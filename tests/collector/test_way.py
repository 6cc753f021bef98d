"""From a real app through a real collector: the trace is in Jaeger without content, the row in Postgres with it."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psycopg
import pytest

from otel_llmlog.demo.provider import LocalProvider
from otel_llmlog.pipeline.otlp import OTLPExporter
from tests.collector import corpus
from tests.collector.conftest import rows_of, run_app, until
from tests.collector.programs import TOKEN, Collector, Jaeger, Rotel, Sink, need_backends
from tests.store.records import record

pytestmark = pytest.mark.slow
CANARY = "canary-content-4711"
# How the app's rows travel: as records that wait in its spool, or as the spans of its traces and nothing else.
RECORDS = {"LLMLOG_EXPORTER": "otlp"}
SPANS = {"LLMLOG_DISABLE_SPEND_LOGS": "true"}


@pytest.fixture(scope="module")
def jaeger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Jaeger]:
    need_backends()
    with Jaeger(tmp_path_factory.mktemp("jaeger")) as running:
        yield running


@pytest.fixture
def sink(database_url: str, tmp_path: Path) -> Iterator[Sink]:
    with Sink(database_url, tmp_path, LLMLOG_STORE_PROMPTS_IN_SPEND_LOGS="true") as running:
        yield running


def _check_trace(trace: dict[str, Any], name: str, row: dict[str, Any]) -> None:
    spans = {span["operationName"]: span for span in trace["spans"]}
    assert len(spans) == len(trace["spans"])
    assert {process["serviceName"] for process in trace["processes"].values()} == {"shop"}
    assert spans.keys() == {f"answer {name}", "chat gpt-4o-mini", "POST"}
    parents = {span["operationName"]: [ref["spanID"] for ref in span["references"]] for span in trace["spans"]}
    call = spans["chat gpt-4o-mini"]
    assert parents["chat gpt-4o-mini"] == [spans[f"answer {name}"]["spanID"]]
    assert parents["POST"] == [call["spanID"]]
    tags = {tag["key"]: tag["value"] for tag in call["tags"]}
    assert tags["llmlog.session_id"] == name
    assert tags["llmlog.model"] == tags["gen_ai.request.model"] == "gpt-4o-mini"
    assert tags.get("llmlog.spend") == (f"{row['spend']:f}" if row["spend"] is not None else None)
    assert row["span_id"] == call["spanID"]


@pytest.mark.parametrize("rotel", [False, True], ids=["", "through-rotel"])
@pytest.mark.parametrize("travel", [RECORDS, SPANS], ids=["records", "spans"])
def test_a_call_is_one_trace_without_content_and_one_row_with_it(
    jaeger: Jaeger,
    sink: Sink,
    database_url: str,
    provider: LocalProvider,
    tmp_path: Path,
    travel: dict[str, str],
    rotel: bool,
) -> None:
    content = {"LLMLOG_STORE_PROMPTS_IN_SPEND_LOGS": "true", "LLMLOG_SPOOL_DIR": str(tmp_path / "spool"), **travel}
    with Collector(tmp_path, sink=sink.grpc, jaeger=jaeger.otlp) as collector, ExitStack() as stack:
        first = stack.enter_context(Rotel(tmp_path, to=collector.grpc)) if rotel else collector
        ids = run_app("app.py", CANARY, provider=provider, endpoint=first.url, **content)
        until(lambda: len(rows_of(database_url)) >= 3)
        # All that it took has gone on, each span once to each: the app's own, the call, its request.
        for exporter in ("llmlog", "jaeger"):
            until(lambda: collector.metric("otelcol_exporter_sent_spans", f"otlp_grpc/{exporter}") >= 9)  # noqa: B023
        until(lambda: collector.metric("otelcol_exporter_queue_size") == 0)
        assert collector.metric("otelcol_exporter_sent_spans") == 18
        traces = [jaeger.trace(trace_id, 3) for trace_id in ids]
        rows = rows_of(database_url)
    assert [row["trace_id"] for row in rows] == ids
    assert [row["session_id"] for row in rows] == ["plain", "stream", "refused"]
    assert [row["status"] for row in rows] == ["success", "success", "failure"]
    assert all(row["spend"] > 0 for row in rows[:2])
    for trace, name, row in zip(traces, ("plain", "stream", "refused"), rows, strict=True):
        _check_trace(trace, name, row)
        assert CANARY not in json.dumps(trace)
        assert CANARY in json.dumps([row["messages"], row["response"]])
        assert "canary-0123456789" not in json.dumps(trace)
    with psycopg.connect(database_url) as connection:
        assert connection.execute("SELECT count(*) FROM llmlog.dead_letters").fetchone() == (0,)


@pytest.mark.parametrize(
    ("settings", "shown"),
    [({"OTEL_TRACES_SAMPLER": "always_off"}, 0), ({"OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": "5"}, 9)],
    ids=["unsampled", "limited"],
)
def test_rows_depend_on_nothing_that_is_set_for_traces(
    sink: Sink, database_url: str, provider: LocalProvider, tmp_path: Path, settings: dict[str, str], shown: int
) -> None:
    need_backends()
    environment = {"LLMLOG_SPOOL_DIR": str(tmp_path / "spool"), **RECORDS, **settings}
    with Collector(tmp_path, sink=sink.grpc) as collector:
        run_app("app.py", CANARY, provider=provider, endpoint=collector.url, **environment)
        until(lambda: len(rows_of(database_url)) >= 3)
        # The app has ended, so all that it sends is here: the records, and as many spans as traces are allowed to have.
        assert collector.metric("otelcol_receiver_accepted_spans") == 3 + shown
        until(lambda: collector.metric("otelcol_exporter_queue_size", "llmlog") == 0)
    rows = rows_of(database_url)
    assert [row["session_id"] for row in rows] == ["plain", "stream", "refused"]
    assert [row["total_tokens"] for row in rows[:2]] == [18, 18]
    assert all(row["cost_breakdown"] and row["user_id"] == "ada" for row in rows[:2])


def test_a_request_that_is_too_large_for_the_collector_comes_in_parts(
    sink: Sink, database_url: str, tmp_path: Path
) -> None:
    need_backends()
    now = time.time_ns()
    large = {"llmlog.metadata.requester_metadata": json.dumps({"x": os.urandom(2_500_000).hex()})}
    sent = [record(start_ns=now + number, attributes=large) for number in range(5)]
    with Collector(tmp_path, sink=sink.grpc) as collector:
        delivery = OTLPExporter(f"{collector.url}/v1/traces", {}).export(sent)
        assert (delivery.written, list(delivery.rejected)) == (5, [])
        until(lambda: len(rows_of(database_url)) == 5)


def test_rotel_alone_brings_calls_to_the_sink(
    sink: Sink, database_url: str, provider: LocalProvider, tmp_path: Path
) -> None:
    with Rotel(tmp_path, to=sink.grpc, headers=f"authorization=Bearer {TOKEN}") as rotel:
        spool = {"LLMLOG_SPOOL_DIR": str(tmp_path / "spool")}
        ids = run_app("app.py", CANARY, provider=provider, endpoint=rotel.url, **RECORDS, **spool)
        until(lambda: len(rows_of(database_url)) >= 3)
    assert [row["trace_id"] for row in rows_of(database_url)] == ids


def test_no_dialects_content_reaches_jaeger_and_everything_else_does(jaeger: Jaeger, tmp_path: Path) -> None:
    with Collector(tmp_path, sink=9, jaeger=jaeger.otlp) as collector:
        trace_id = corpus.send(collector.url, CANARY)
        trace = jaeger.trace(trace_id, len(corpus.SPANS))
    shown = {span["operationName"]: {tag["key"] for tag in span["tags"]} for span in trace["spans"]}
    assert CANARY not in json.dumps(trace)
    for name, (kept, _) in corpus.SPANS.items():
        assert set(kept) - shown[name] == set(), name

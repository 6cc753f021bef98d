"""What is sent to the sink becomes the row that the app would have written itself, over either transport and encoding."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as OverGrpc
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as OverHttp
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExportResult

from otel_llmlog import emit
from otel_llmlog.dialects import llmlog
from otel_llmlog.pipeline.otlp import OTLPExporter, encode
from otel_llmlog.pipeline.otlp_values import pair
from otel_llmlog.pipeline.record import Record
from otel_llmlog.store.postgres import PostgresExporter
from tests.audit.events import record as audit_record
from tests.sink.conftest import Query
from tests.sink.receiving import JSON, LOGS, Reply, Sink, as_json, body, in_json, over_grpc, over_http, packed, reply_of
from tests.store.records import record

_OF = "SELECT * FROM llmlog.spend_logs WHERE span_id = %s"


def _by_http(sink: Sink, records: list[Record]) -> Reply:
    return reply_of(over_http(sink, body(records)))


def _by_packed_http(sink: Sink, records: list[Record]) -> Reply:
    return reply_of(over_http(sink, packed(body(records)), headers={"content-encoding": "gzip"}))


def _by_json(sink: Sink, records: list[Record]) -> Reply:
    answer = over_http(sink, as_json(records), kind=JSON)
    return Reply("OK" if answer.json() == {} else answer.text)


def _by_grpc(sink: Sink, records: list[Record]) -> Reply:
    return over_grpc(sink, body(records))


def _call() -> Record:
    """One with every kind of value, and with names of other alphabets."""
    return record(
        model="gpt-4o-mini",
        request_tags=["prod", "été", 'a "quoted" one'],
        finish_reasons=["stop"],
        user_api_key_user_id="アダ",
        spend_logs_metadata={"ticket": 4711, "deep": [{"er": None}]},
        cost_breakdown={"input": {"units": 11, "cost": "0.00000165"}},
        stream=True,
        completionStartTime=1.5,
        model_parameters={"temperature": 0.2},
        prompt_tokens=2**40,
    )


@pytest.mark.parametrize("send", [_by_http, _by_packed_http, _by_json, _by_grpc])
def test_a_received_call_is_the_row_that_the_app_would_have_written(
    send: Callable[[Sink, list[Record]], Reply], sink: Sink, query: Query, module_database_url: str
) -> None:
    sent = _call()
    local = Record(
        **{**{name: getattr(sent, name) for name in Record.__slots__}, "span_id": "f" * 15 + str(id(send) % 10)}
    )
    exporter = PostgresExporter(module_database_url)
    exporter.export([local])
    exporter.close()
    assert send(sink, [sent]) == Reply("OK")
    [received], [written] = query(_OF, sent.span_id), query(_OF, local.span_id)
    own = {"span_id", "created_at"}
    assert {k: v for k, v in received.items() if k not in own} == {k: v for k, v in written.items() if k not in own}
    query("DELETE FROM llmlog.spend_logs WHERE span_id = %s RETURNING 1", local.span_id)


@pytest.mark.parametrize("transport", ["grpc", "http"])
def test_spans_of_opentelemetrys_own_exporters_are_taken(transport: str, sink: Sink, query: Query) -> None:
    exporter: Any = (
        OverGrpc(sink.grpc, insecure=True)
        if transport == "grpc"
        else OverHttp(f"{sink.http}/v1/traces", compression=Compression.Gzip)
    )
    results = []
    send = exporter.export
    exporter.export = lambda spans: results.append(send(spans)) or results[-1]
    provider = TracerProvider(resource=Resource({"service.name": "billing"}))
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    payload = llmlog.decode(record().attributes)
    tracer = provider.get_tracer("otel_llmlog")
    with tracer.start_as_current_span("GET /"):
        span = tracer.start_span("chat")
        emit.end_span(span, payload, llmlog.encode(payload), span.start_time + 10**9)  # type: ignore[attr-defined]
    provider.shutdown()
    assert results == [SpanExportResult.SUCCESS] * 2
    context = span.get_span_context()
    [row] = query(_OF, f"{context.span_id:016x}")
    assert row["trace_id"] == f"{context.trace_id:032x}"
    assert row["service_name"] == "billing"
    assert row["model"] == payload.model
    assert row["parent_span_id"]
    assert query("SELECT 1 FROM llmlog.spend_logs WHERE trace_id = %s", row["trace_id"]) == [{"?column?": 1}]


def test_an_app_without_a_database_of_its_own_may_send_straight_to_the_sink(sink: Sink, query: Query) -> None:
    exporter = OTLPExporter(f"{sink.http}/v1/traces", {})
    call, event = record(), audit_record()
    assert exporter.export([call, event]).written == 2
    exporter.close()
    assert len(query(_OF, call.span_id)) == 1
    [row] = query("SELECT * FROM llmlog.audit_logs WHERE id = %s", event.attributes["llmlog.audit.id"])
    assert row["before_value"] == json.loads(event.attributes["llmlog.audit.before_value"])
    assert row["service_name"] == "shop"


def test_a_span_that_is_sent_twice_is_one_row(sink: Sink, query: Query) -> None:
    calls = [record(), record()]
    assert over_grpc(sink, body(calls)) == over_grpc(sink, body([*calls, calls[0]])) == Reply("OK")
    assert [len(query(_OF, call.span_id)) for call in calls] == [1, 1]


def test_audit_events_are_masked_where_they_are_received(sink: Sink, query: Query) -> None:
    event = audit_record(
        updated_values={"token": "sk-1234567890abcdefghij", "models": ["gpt-4o"]}, changed_by_api_key="sk-raw"
    )
    assert over_grpc(sink, body([event]), method=LOGS) == Reply("OK")
    assert over_http(sink, as_json([event]), kind=JSON, path="/v1/logs").json() == {}
    [row] = query("SELECT * FROM llmlog.audit_logs WHERE id = %s", event.attributes["llmlog.audit.id"])
    assert row["updated_values"] == {"token": "[redacted]", "models": ["gpt-4o"]}
    assert len(row["changed_by_api_key"]) == 64


def test_an_event_that_cannot_be_read_is_refused_with_the_reason_and_kept_without_its_values(
    sink: Sink, query: Query
) -> None:
    event = audit_record()
    broken = Record(**{**{n: getattr(event, n) for n in Record.__slots__}, "attributes": {
        **event.attributes, "llmlog.audit.outcome": "perhaps", "llmlog.audit.before_value": '{"token": "canary"}'}})  # fmt: skip
    answer = over_grpc(sink, body([event, broken]), method=LOGS)
    assert (answer.code, answer.rejected) == ("OK", 1)
    assert answer.message == "outcome is not as it should be (1)"
    [letter] = query("SELECT record FROM llmlog.dead_letters WHERE record::text LIKE %s", "%perhaps%")
    assert "canary" not in json.dumps(letter["record"])


def _cut(call: Record, copy: str) -> ExportTraceServiceRequest:
    """The call as a span that has lost an attribute."""
    request = encode([call])
    [scope] = request.resource_spans[0].scope_spans
    [span] = scope.spans
    [lost] = [one for one in span.attributes if one.key == "llmlog.request_tags"]
    span.attributes.remove(lost)
    scope.scope.attributes[0].CopyFrom(pair("llmlog.copy", copy))
    return request


@pytest.mark.parametrize("as_json", [False, True], ids=["protobuf", "json"])
def test_a_span_whose_record_comes_by_itself_is_passed_over_and_any_other_is_the_call(
    sink: Sink, query: Query, as_json: bool
) -> None:
    def send(request: ExportTraceServiceRequest) -> Reply:
        if not as_json:
            return reply_of(over_http(sink, request.SerializeToString()))
        answer = over_http(sink, in_json(request), kind=JSON)
        return Reply("OK" if answer.json() == {} else answer.text)

    call, only = record(request_tags=["blue"]), record(request_tags=["blue"])
    assert send(_cut(call, "trace")) == send(_cut(only, "perhaps")) == Reply("OK")
    assert (query(_OF, call.span_id), len(query(_OF, only.span_id))) == ([], 1)
    assert send(encode([call])) == Reply("OK")
    [row] = query(_OF, call.span_id)
    assert row["request_tags"] == ["blue"]

"""Spans and content events of other instrumentations, sent to a real sink: one priced row each."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from otel_llmlog.pipeline.otlp_values import pair
from tests.sink.receiving import LOGS, Reply, Sink, over_grpc

TRACE, SPAN = bytes(range(1, 17)), bytes(range(1, 9))
START = 1_764_000_000_000_000_000


def _span() -> bytes:
    request = ExportTraceServiceRequest()
    scope = request.resource_spans.add().scope_spans.add()
    scope.scope.name = "opentelemetry.instrumentation.openai_v2"
    given = {
        "gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.request.model": "gpt-4o-mini",
        "gen_ai.response.model": "gpt-4o-mini-2024-07-18", "gen_ai.response.id": "chatcmpl-1",
        "gen_ai.usage.input_tokens": 11, "gen_ai.usage.output_tokens": 7, "server.address": "api.openai.com",
    }  # fmt: skip
    scope.spans.append(
        Span(trace_id=TRACE, span_id=SPAN, name="chat gpt-4o-mini", kind=3, start_time_unix_nano=START,
             end_time_unix_nano=START + 10**9, attributes=[pair(name, value) for name, value in given.items()])
    )  # fmt: skip
    return request.SerializeToString()


def _event() -> bytes:
    request = ExportLogsServiceRequest()
    said = {"gen_ai.input.messages": '[{"role":"user","parts":[{"type":"text","content":"Name three rivers."}]}]'}
    request.resource_logs.add().scope_logs.add().log_records.append(
        LogRecord(trace_id=TRACE, span_id=SPAN, time_unix_nano=START, attributes=[pair(n, v) for n, v in said.items()],
                  event_name="gen_ai.client.inference.operation.details")
    )  # fmt: skip
    return request.SerializeToString()


def test_a_genai_span_and_its_content_event_are_one_priced_row_in_whichever_order(
    start: Callable[..., Sink], database_url: str
) -> None:
    sink = start(store_prompts_in_spend_logs="true")
    sink.wait_until_ready()
    for _ in range(2):
        assert over_grpc(sink, _event(), method=LOGS) == over_grpc(sink, _span()) == Reply("OK")
    with psycopg.connect(database_url) as connection:
        rows = connection.execute(
            "SELECT request_id, model, prompt_tokens, completion_tokens, spend::text FROM llmlog.spend_logs"
        ).fetchall()
        contents = connection.execute("SELECT messages::text FROM llmlog.spend_log_contents").fetchall()
    assert rows == [("chatcmpl-1", "gpt-4o-mini", 11, 7, "0.00000585")]
    assert "Name three rivers." in contents[0][0]
    assert len(contents) == 1

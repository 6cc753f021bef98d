"""Sending to a collector: delivered is what it took, and nothing is lost or told wrong when it does not."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from otel_llmlog.dialects import audit, llmlog
from otel_llmlog.errors import ConfigError, StoreUnavailable
from otel_llmlog.pipeline.otlp import OTLPExporter, endpoint, headers, logs_endpoint
from otel_llmlog.pipeline.record import Record
from tests.audit.events import event, record
from tests.payloads import PAYLOADS


class Collector:
    """Speaks OTLP over HTTP; keeps the spans it takes, answers with `status`, refuses span ids in `poison`."""

    def __init__(self) -> None:
        self.spans: list[Any] = []
        self.logs: list[Any] = []
        self.headers: list[dict[str, str]] = []
        self.status = 200
        self.poison: set[bytes] = set()
        self.rejects = 0
        collector = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.path == "/v1/logs":
                    self.take_logs(gzip.decompress(body))
                    return
                request = ExportTraceServiceRequest.FromString(gzip.decompress(body))
                spans = [s for r in request.resource_spans for scope in r.scope_spans for s in scope.spans]
                collector.headers.append(dict(self.headers))
                status = collector.status
                if any(span.span_id in collector.poison for span in spans):
                    status = 400
                answer = ExportTraceServiceResponse()
                if status == 200:
                    answer.partial_success.rejected_spans = collector.rejects
                    collector.spans += spans
                self.answer(status, answer)

            def take_logs(self, body: bytes) -> None:
                sent = ExportLogsServiceRequest.FromString(body)
                answer = ExportLogsServiceResponse()
                if collector.status == 200:
                    answer.partial_success.rejected_log_records = collector.rejects
                    collector.logs += [log for r in sent.resource_logs for s in r.scope_logs for log in s.log_records]
                self.answer(collector.status, answer)

            def answer(self, status: int, answer: Any) -> None:
                said = answer.SerializeToString()
                self.send_response(status)
                self.send_header("content-length", str(len(said)))
                self.end_headers()
                self.wfile.write(said)

            def log_message(self, *_: Any) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1/traces"


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector()
    thread = threading.Thread(target=made.server.serve_forever)
    thread.start()
    yield made
    made.server.shutdown()
    thread.join()
    made.server.server_close()


def records(number: int) -> list[Record]:
    attributes = llmlog.encode(PAYLOADS.example())
    return [
        Record("0a" * 16, f"{n + 1:016x}", "0b" * 8 if n % 2 else None, n, n + 5, f"service-{n % 2}", attributes)
        for n in range(number)
    ]


def _read(value: Any) -> Any:
    kind = value.WhichOneof("value")
    return tuple(map(_read, value.array_value.values)) if kind == "array_value" else getattr(value, kind)


@pytest.mark.filterwarnings("ignore::hypothesis.errors.NonInteractiveExampleWarning")
def test_a_collector_gets_every_record_whole(collector: Collector) -> None:
    sent = records(1200)
    exporter = OTLPExporter(collector.url, {"authorization": "Bearer x"})
    delivery = exporter.export(sent)
    exporter.close()
    assert (delivery.written, list(delivery.rejected)) == (1200, [])
    assert {span.span_id.hex() for span in collector.spans} == {record.span_id for record in sent}
    got = {attribute.key: _read(attribute.value) for attribute in collector.spans[0].attributes}
    assert llmlog.decode(got) == llmlog.decode(sent[0].attributes)
    assert collector.headers[0]["authorization"] == "Bearer x"


@pytest.mark.filterwarnings("ignore::hypothesis.errors.NonInteractiveExampleWarning")
@pytest.mark.parametrize("status", [408, 429, 502, 503, 504, 401, 403, 404])
def test_an_answer_that_can_change_means_try_again(collector: Collector, status: int) -> None:
    collector.status = status
    with pytest.raises(StoreUnavailable, match=str(status)):
        OTLPExporter(collector.url, {}).export(records(3))


@pytest.mark.filterwarnings("ignore::hypothesis.errors.NonInteractiveExampleWarning")
def test_no_collector_means_try_again() -> None:
    with pytest.raises(StoreUnavailable, match="no collector"):
        OTLPExporter("http://127.0.0.1:9/v1/traces", {}).export(records(1))


@pytest.mark.filterwarnings("ignore::hypothesis.errors.NonInteractiveExampleWarning")
def test_a_record_the_collector_never_takes_is_rejected_alone(collector: Collector) -> None:
    sent = records(512)
    collector.poison = {bytes.fromhex(sent[300].span_id)}
    delivery = OTLPExporter(collector.url, {}).export(sent)
    assert delivery.written == 511
    assert [record for record, _ in delivery.rejected] == [sent[300]]
    assert len(collector.spans) == 511


@pytest.mark.filterwarnings("ignore::hypothesis.errors.NonInteractiveExampleWarning")
@pytest.mark.parametrize(("rejects", "known"), [(2, False), (10, True)])
def test_partial_success_is_believed_and_not_sent_again(collector: Collector, rejects: int, known: bool) -> None:
    collector.rejects = rejects
    delivery = OTLPExporter(collector.url, {}).export(records(10))
    assert (delivery.written, len(delivery.rejected)) == (10 - rejects, rejects)
    assert all((record is not None) == known for record, _ in delivery.rejected)
    assert len(collector.headers) == 1


@pytest.mark.filterwarnings("ignore::hypothesis.errors.NonInteractiveExampleWarning")
def test_audit_events_go_to_the_same_collector_as_log_records(collector: Collector) -> None:
    made = [event(trace_id="0a" * 16, span_id="0b" * 8, notes=["n"]), event(outcome="refused")]
    delivery = OTLPExporter(collector.url, {}).export([*records(3), *map(record, made)])
    assert (delivery.written, len(collector.spans)) == (5, 3)
    first, second = collector.logs
    got = [{attribute.key: _read(attribute.value) for attribute in log.attributes} for log in collector.logs]
    assert [audit.decode(attributes) for attributes in got] == made
    assert [attributes["log.record.uid"] for attributes in got] == [one.id for one in made]
    assert (first.trace_id, first.span_id) == (b"\x0a" * 16, b"\x0b" * 8)
    assert (second.trace_id, second.span_id) == (b"", b"")
    assert first.event_name == "llmlog.audit"
    assert first.body.string_value == f"updated LiteLLM_TeamTable {made[0].object_id}"
    assert (first.severity_number, second.severity_number) == (9, 13)
    assert abs(first.time_unix_nano / 1e9 - made[0].updated_at) < 1e-6


@pytest.mark.parametrize("status", [503, 401])
def test_a_collector_that_takes_no_logs_now_means_try_again(collector: Collector, status: int) -> None:
    collector.status = status
    with pytest.raises(StoreUnavailable, match=str(status)):
        OTLPExporter(collector.url, {}).export([record()])


def test_what_the_collector_rejects_of_logs_is_believed(collector: Collector) -> None:
    collector.rejects = 1
    delivery = OTLPExporter(collector.url, {}).export([record(), record()])
    assert (delivery.written, [reason for _, reason in delivery.rejected]) == (
        1,
        ["the collector rejected 1 of 2 logs"],
    )


def test_where_to_and_as_whom_come_from_opentelemetrys_variables() -> None:
    assert endpoint({}) == "http://localhost:4318/v1/traces"
    assert endpoint({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:1/"}) == "http://c:1/v1/traces"
    assert endpoint({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://c:1/x"}) == "http://c:1/x"
    assert logs_endpoint({}) == "http://localhost:4318/v1/logs"
    assert logs_endpoint({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:1/"}) == "http://c:1/v1/logs"
    assert logs_endpoint({"OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": "http://c:1/x"}) == "http://c:1/x"
    assert headers({"OTEL_EXPORTER_OTLP_HEADERS": "Authorization=Bearer%20a,b=c"}) == {
        "authorization": "Bearer a",
        "b": "c",
    }
    with pytest.raises(ConfigError, match="must start with http"):
        OTLPExporter("grpc://x", {})

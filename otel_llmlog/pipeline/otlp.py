"""OTLPExporter: calls as spans and audit events as logs to an OpenTelemetry Collector, for apps without credentials.

Always true: records count as delivered only after the collector's success; what it says it rejected is told, never
sent again (the protocol forbids that); an answer that asks for patience, and no answer, mean "try again".

Source of the rules: the OTLP specification, "OTLP/HTTP": 429, 502, 503 and 504 are retryable, other errors are not, and
`partial_success` in a 200 says how many records were rejected.
"""

from __future__ import annotations

import gzip
import netrc  # noqa: F401 - requests imports it with its first request: on our thread, where a fork may meet it
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import unquote

import requests
from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY, attach, detach, set_value
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status

from otel_llmlog.dialects.llmlog import PREFIX
from otel_llmlog.emit import COPY, RECORD_COPY, SCOPE
from otel_llmlog.errors import ConfigError, StoreUnavailable
from otel_llmlog.pipeline import otlp_logs
from otel_llmlog.pipeline.otlp_values import pair
from otel_llmlog.pipeline.record import Delivery, Exporter, Kind, Record

# Seconds a collector may take to answer: it answers after its queue has the spans, not after they are stored.
_TIMEOUT = 10.0
_RETRYABLE = {408, 429, 502, 503, 504}
_DEFAULT_ENDPOINT = "http://localhost:4318"
# Records per request: a collector refuses bodies above a limit, in its default 20 MiB.
_AT_ONCE = 512


class _Signal(NamedTuple):
    kind: Kind
    endpoint: str
    encode: Callable[[Sequence[Record]], Any]
    rejected: Callable[[bytes], int]


class OTLPExporter(Exporter):
    """An `Exporter` that sends to the full URLs of OTLP/HTTP's traces and logs. One thread uses it at a time."""

    def __init__(self, endpoint: str, headers: Mapping[str, str], logs: str | None = None) -> None:
        """`logs`: by default beside the traces. Raises ConfigError when an endpoint is no URL."""
        logs = logs or f"{endpoint.removesuffix('/v1/traces').rstrip('/')}/v1/logs"
        if not all(url.startswith(("http://", "https://")) for url in (endpoint, logs)):
            raise ConfigError("OTEL_EXPORTER_OTLP_ENDPOINT must start with http:// or https://")
        self._signals = (
            _Signal("span", endpoint, encode, _rejected_spans),
            _Signal("log", logs, otlp_logs.encode, otlp_logs.rejected),
        )
        self._headers = {**headers, "content-type": "application/x-protobuf", "content-encoding": "gzip"}
        self._session: requests.Session | None = None

    def open(self) -> None:
        """Nothing to get ready: connections are made when there is something to send."""

    def export(self, records: Sequence[Record]) -> Delivery:
        """Send the records; returns after the collector took them. Raises StoreUnavailable."""
        written = 0
        rejected: list[tuple[Record | None, str]] = []
        for signal in self._signals:
            chosen = [record for record in records if record.kind == signal.kind]
            for start in range(0, len(chosen), _AT_ONCE):
                part = chosen[start : start + _AT_ONCE]
                refused = self._send(signal, part)
                rejected += refused
                written += len(part) - len(refused)
        return Delivery(written, 0, rejected)

    def close(self) -> None:
        """Close the connection."""
        session, self._session = self._session, None
        if session is not None:
            session.close()

    def _send(self, signal: _Signal, records: Sequence[Record]) -> list[tuple[Record | None, str]]:
        body = gzip.compress(signal.encode(records).SerializeToString(), compresslevel=1)
        # Whatever instruments this client must not make spans of our sending spans.
        token = attach(set_value(_SUPPRESS_INSTRUMENTATION_KEY, True))
        try:
            if self._session is None:
                self._session = requests.Session()
            answer = self._session.post(signal.endpoint, body, headers=self._headers, timeout=_TIMEOUT)
        except requests.RequestException as error:
            raise StoreUnavailable(f"no collector at {signal.endpoint}: {type(error).__name__}") from None
        finally:
            detach(token)
        if answer.status_code in _RETRYABLE:
            raise StoreUnavailable(f"the collector at {signal.endpoint} answers HTTP {answer.status_code}")
        if answer.status_code >= 300:
            return self._refused(signal, records, answer.status_code)
        return _partial(signal, records, answer.content)

    def _refused(self, signal: _Signal, records: Sequence[Record], status: int) -> list[tuple[Record | None, str]]:
        """The collector will never take this request: find out which record it is about, as far as that goes."""
        if status in {401, 403, 404, 405}:
            # About who we are or where we send to, not about what: an operator can mend that.
            raise StoreUnavailable(
                f"the collector at {signal.endpoint} answers HTTP {status}: check OTEL_EXPORTER_OTLP_*"
            )
        if len(records) == 1:
            return [(records[0], f"the collector answers HTTP {status}")]
        middle = len(records) // 2
        return self._send(signal, records[:middle]) + self._send(signal, records[middle:])


def _rejected_spans(body: bytes) -> int:
    return int(ExportTraceServiceResponse.FromString(body).partial_success.rejected_spans)


def _partial(signal: _Signal, records: Sequence[Record], body: bytes) -> list[tuple[Record | None, str]]:
    try:
        said = signal.rejected(body)
    except Exception:  # a success is one, whatever is wrong with its body
        return []
    number = min(max(said, 0), len(records))
    reason = f"the collector rejected {number} of {len(records)} {signal.kind}s"
    if number == len(records):
        return [(record, reason) for record in records]
    return [(None, reason)] * number  # which ones it does not say


def endpoint(environ: Mapping[str, str] = os.environ) -> str:
    """Where traces go over OTLP/HTTP, as OpenTelemetry's variables say."""
    traces = environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    return traces or f"{environ.get('OTEL_EXPORTER_OTLP_ENDPOINT', _DEFAULT_ENDPOINT).rstrip('/')}/v1/traces"


def logs_endpoint(environ: Mapping[str, str] = os.environ) -> str:
    """Where logs go over OTLP/HTTP, as OpenTelemetry's variables say."""
    logs = environ.get("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT")
    return logs or f"{environ.get('OTEL_EXPORTER_OTLP_ENDPOINT', _DEFAULT_ENDPOINT).rstrip('/')}/v1/logs"


def headers(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Headers to send, as OpenTelemetry's variables say (`name=value`, separated by commas, URL-encoded)."""
    given = environ.get("OTEL_EXPORTER_OTLP_TRACES_HEADERS") or environ.get("OTEL_EXPORTER_OTLP_HEADERS") or ""
    pairs = [part.partition("=") for part in given.split(",") if "=" in part]
    return {unquote(name).strip().lower(): unquote(value).strip() for name, _, value in pairs}


def encode(records: Sequence[Record]) -> ExportTraceServiceRequest:
    """The records as OTLP spans, by the service they come from."""
    by_service: dict[str, ScopeSpans] = {}
    request = ExportTraceServiceRequest()
    for record in records:
        scope = by_service.get(record.service_name)
        if scope is None:
            resource = ResourceSpans()
            resource.resource.attributes.append(pair("service.name", record.service_name))
            scope = resource.scope_spans.add()
            scope.scope.name = SCOPE
            scope.scope.attributes.append(pair(COPY, RECORD_COPY))
            request.resource_spans.append(resource)
            scope = by_service[record.service_name] = request.resource_spans[-1].scope_spans[0]
        scope.spans.append(_span(record))
    return request


def _span(record: Record) -> Span:
    attributes = record.attributes
    operation, model = attributes.get(f"{PREFIX}operation", "chat"), attributes.get(f"{PREFIX}model", "")
    failed = attributes.get(f"{PREFIX}status") == "failure"
    return Span(
        trace_id=bytes.fromhex(record.trace_id),
        span_id=bytes.fromhex(record.span_id),
        parent_span_id=bytes.fromhex(record.parent_span_id or ""),
        name=f"{operation} {model}".rstrip(),
        kind=Span.SPAN_KIND_CLIENT,
        start_time_unix_nano=record.start_ns,
        end_time_unix_nano=record.end_ns,
        attributes=[pair(name, value) for name, value in attributes.items()],
        status=Status(code=Status.STATUS_CODE_ERROR) if failed else None,
    )

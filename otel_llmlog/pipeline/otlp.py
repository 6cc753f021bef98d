"""OTLPExporter: records as spans to an OpenTelemetry Collector, for apps that must hold no database credentials.

Always true: records count as delivered only after the collector's success; what it says it rejected is told, never
sent again (the protocol forbids that); an answer that asks for patience, and no answer, mean "try again".

Source of the rules: the OTLP specification, "OTLP/HTTP": 429, 502, 503 and 504 are retryable, other errors are not, and
`partial_success` in a 200 says how many spans were rejected.
"""

from __future__ import annotations

import gzip
import netrc  # noqa: F401 - requests imports it with its first request: on our thread, where a fork may meet it
import os
from collections.abc import Mapping, Sequence
from typing import Any, cast
from urllib.parse import unquote

import requests
from opentelemetry.context import _SUPPRESS_INSTRUMENTATION_KEY, attach, detach, set_value
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import ResourceSpans, ScopeSpans, Span, Status

from otel_llmlog.dialects.llmlog import PREFIX
from otel_llmlog.emit import SCOPE
from otel_llmlog.errors import ConfigError, StoreUnavailable
from otel_llmlog.pipeline.record import Delivery, Record

# Seconds a collector may take to answer: it answers after its queue has the spans, not after they are stored.
_TIMEOUT = 10.0
_RETRYABLE = {408, 429, 502, 503, 504}
_DEFAULT_ENDPOINT = "http://localhost:4318"
# Spans per request: a collector refuses bodies above a limit, in its default 20 MiB.
_AT_ONCE = 512


class OTLPExporter:
    """An `Exporter` that sends to `endpoint`, the full URL of OTLP/HTTP's traces. One thread uses it at a time."""

    def __init__(self, endpoint: str, headers: Mapping[str, str]) -> None:
        """Raises ConfigError when the endpoint is no URL."""
        if not endpoint.startswith(("http://", "https://")):
            raise ConfigError("OTEL_EXPORTER_OTLP_ENDPOINT must start with http:// or https://")
        self._endpoint = endpoint
        self._headers = {**headers, "content-type": "application/x-protobuf", "content-encoding": "gzip"}
        self._session: requests.Session | None = None

    def open(self) -> None:
        """Nothing to get ready: connections are made when there is something to send."""

    def export(self, records: Sequence[Record]) -> Delivery:
        """Send the records; returns after the collector took them. Raises StoreUnavailable."""
        written = 0
        rejected: list[tuple[Record | None, str]] = []
        for start in range(0, len(records), _AT_ONCE):
            part = records[start : start + _AT_ONCE]
            refused = self._send(part)
            rejected += refused
            written += len(part) - len(refused)
        return Delivery(written, 0, rejected)

    def close(self) -> None:
        """Close the connection."""
        session, self._session = self._session, None
        if session is not None:
            session.close()

    def _send(self, records: Sequence[Record]) -> list[tuple[Record | None, str]]:
        body = gzip.compress(encode(records).SerializeToString(), compresslevel=1)
        # Whatever instruments this client must not make spans of our sending spans.
        token = attach(set_value(_SUPPRESS_INSTRUMENTATION_KEY, True))
        try:
            if self._session is None:
                self._session = requests.Session()
            answer = self._session.post(self._endpoint, body, headers=self._headers, timeout=_TIMEOUT)
        except requests.RequestException as error:
            raise StoreUnavailable(f"no collector at {self._endpoint}: {type(error).__name__}") from None
        finally:
            detach(token)
        if answer.status_code in _RETRYABLE:
            raise StoreUnavailable(f"the collector at {self._endpoint} answers HTTP {answer.status_code}")
        if answer.status_code >= 300:
            return self._refused(records, answer.status_code)
        return _partial(records, answer.content)

    def _refused(self, records: Sequence[Record], status: int) -> list[tuple[Record | None, str]]:
        """The collector will never take this request: find out which record it is about, as far as that goes."""
        if status in {401, 403, 404, 405}:
            # About who we are or where we send to, not about what: an operator can mend that.
            raise StoreUnavailable(
                f"the collector at {self._endpoint} answers HTTP {status}: check OTEL_EXPORTER_OTLP_*"
            )
        if len(records) == 1:
            return [(records[0], f"the collector answers HTTP {status}")]
        middle = len(records) // 2
        return self._send(records[:middle]) + self._send(records[middle:])


def _partial(records: Sequence[Record], body: bytes) -> list[tuple[Record | None, str]]:
    try:
        partial = ExportTraceServiceResponse.FromString(body).partial_success
    except Exception:  # a success is one, whatever is wrong with its body
        return []
    number = min(max(partial.rejected_spans, 0), len(records))
    reason = f"the collector rejected {number} of {len(records)} spans"
    if number == len(records):
        return [(record, reason) for record in records]
    return [(None, reason)] * number  # which ones it does not say


def endpoint(environ: Mapping[str, str] = os.environ) -> str:
    """Where traces go over OTLP/HTTP, as OpenTelemetry's variables say."""
    traces = environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
    return traces or f"{environ.get('OTEL_EXPORTER_OTLP_ENDPOINT', _DEFAULT_ENDPOINT).rstrip('/')}/v1/traces"


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
            resource.resource.attributes.append(_pair("service.name", record.service_name))
            resource.scope_spans.add().scope.name = SCOPE
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
        attributes=[_pair(name, value) for name, value in attributes.items()],
        status=Status(code=Status.STATUS_CODE_ERROR) if failed else None,
    )


def _pair(name: str, value: Any) -> KeyValue:
    return KeyValue(key=name, value=_value(value))


def _value(value: Any) -> AnyValue:
    if isinstance(value, str):
        return AnyValue(string_value=value)
    if isinstance(value, bool):
        return AnyValue(bool_value=value)
    if isinstance(value, int):
        return AnyValue(int_value=value) if -(1 << 63) <= value < 1 << 63 else AnyValue(double_value=float(value))
    if isinstance(value, float):
        return AnyValue(double_value=value)
    return AnyValue(array_value=ArrayValue(values=[_value(item) for item in cast("Sequence[Any]", value)]))

"""OTLP as protobuf -> plain spans and log records.

Always true: a span that cannot be a call costs a look at the names of its attributes, no more; one that is broken
harms no other; nesting is bounded by the parser (100 levels of messages).
"""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from struct import Struct
from typing import Any

from google.protobuf.message import DecodeError

from otel_llmlog.dialects.log import Log
from otel_llmlog.dialects.span import Event, Span
from otel_llmlog.sink import wire
from otel_llmlog.sink.received import UNKNOWN_SERVICE, Received, Unreadable

# First bytes of a value that is one string, one integer, one double, one truth value: field number and wire type.
_STRING, _BOOLEAN, _INTEGER, _DOUBLE = 0x0A, 0x10, 0x18, 0x21
_double = Struct("<d").unpack_from
_TRACE_BYTES, _SPAN_BYTES = 16, 8
_BROKEN = "it is no readable protobuf"

MayBeCall = Callable[[str, Container[str]], bool]


def traces(body: bytes, may_be_call: MayBeCall) -> Received[Span]:
    """The spans that may be calls. Raises Unreadable when the request as a whole is none."""
    received: Received[Span] = Received()
    parse = wire.Span.FromString
    for of_resource in _resources(wire.Traces, body):
        resource: Mapping[str, Any] | None = None
        for of_scope in of_resource.scopes:
            scope, version = text(of_scope.scope.name), text(of_scope.scope.version)
            raws = of_scope.spans
            received.count += len(raws)
            for raw in raws:
                try:
                    span = parse(raw)
                    if not may_be_call(scope, span.attributes):
                        continue
                    if resource is None:
                        resource = attributes(of_resource.resource.attributes)
                    received.found.append(_span(span, scope, version, resource))
                except DecodeError:
                    received.unreadable.append((_service(of_resource), _BROKEN))
    return received


def logs(body: bytes) -> Received[Log]:
    """The log records. Raises Unreadable when the request as a whole is none."""
    received: Received[Log] = Received()
    for of_resource in _resources(wire.Logs, body):
        resource: Mapping[str, Any] | None = None
        for of_scope in of_resource.scopes:
            scope = text(of_scope.scope.name)
            received.count += len(of_scope.records)
            for raw in of_scope.records:
                try:
                    record = wire.LogRecord.FromString(raw)
                    if resource is None:
                        resource = attributes(of_resource.resource.attributes)
                    received.found.append(_log(record, scope, resource))
                except DecodeError:
                    received.unreadable.append((_service(of_resource), _BROKEN))
    return received


def _resources(kind: Any, body: bytes) -> Any:
    try:
        return kind.FromString(body).resources
    except DecodeError:
        raise Unreadable("the body is no readable protobuf of OTLP") from None


def _service(of_resource: Any) -> str:
    raw = of_resource.resource.attributes.get("service.name")
    try:
        named = value(raw) if raw is not None else None
    except DecodeError:
        named = None
    return named if isinstance(named, str) and named else UNKNOWN_SERVICE


def _span(span: Any, scope: str, version: str, resource: Mapping[str, Any]) -> Span:
    status = span.status
    return Span(
        _id(span.trace_id, _TRACE_BYTES),
        _id(span.span_id, _SPAN_BYTES),
        _id(span.parent_span_id, _SPAN_BYTES) or None,
        text(span.name),
        span.kind,
        span.start,
        span.end,
        attributes(span.attributes),
        [_event(raw) for raw in span.events] if span.events else (),
        status.code,
        text(status.message),
        scope,
        version,
        resource,
    )


def _event(raw: bytes) -> Event:
    event = wire.Event.FromString(raw)
    return Event(text(event.name), event.time, attributes(event.attributes))


def _log(record: Any, scope: str, resource: Mapping[str, Any]) -> Log:
    return Log(
        _id(record.trace_id, _TRACE_BYTES),
        _id(record.span_id, _SPAN_BYTES),
        text(record.event_name),
        record.time or record.observed,
        value(record.body),
        attributes(record.attributes),
        scope,
        resource,
    )


def _id(given: bytes, length: int) -> str:
    """An id as hex digits; empty where it is none (all zero, or of another length)."""
    return given.hex() if len(given) == length and any(given) else ""


def text(given: str | bytes) -> str:
    """Text that may be no UTF-8."""
    return given if given.__class__ is str else given.decode("utf-8", "replace")  # type: ignore[union-attr]


def attributes(given: Any) -> dict[str, Any]:
    """All attributes, by name. Raises DecodeError."""
    try:
        # Nearly all are short strings: a tag, one byte of length, the text.
        return {
            name: raw[2:].decode() if raw[0] == _STRING and raw[1] == len(raw) - 2 else value(raw)
            for name, raw in given.items()
        }
    except (UnicodeDecodeError, IndexError):
        return {text(name): value(raw) for name, raw in given.items()}


def value(raw: bytes) -> Any:
    """One value as it stands on the wire. Raises DecodeError."""
    size = len(raw)
    if size > 1:
        kind, first = raw[0], raw[1]
        if kind == _INTEGER and size == 2 and first < 0x80:
            return first
        if kind == _INTEGER and size == 3 and first >= 0x80 > raw[2]:
            return first - 0x80 | raw[2] << 7
        if kind == _DOUBLE and size == 9:
            return _double(raw, 1)[0]
        if kind == _BOOLEAN and size == 2 and first < 2:
            return first == 1
    return _value(wire.Value.FromString(raw))


def _value(of: Any) -> Any:
    which = of.WhichOneof("of")
    if which is None:
        return None
    given = getattr(of, which)
    if which == "string":
        return text(given)
    if which == "array":
        return [_value(item) for item in given.values]
    if which == "pairs":
        return {text(pair.key): _value(pair.value) for pair in given.values}
    return given

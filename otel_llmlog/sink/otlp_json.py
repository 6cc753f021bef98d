"""OTLP as JSON -> plain spans and log records.

Always true: a span that is broken harms no other; time and memory are linear in the bytes, whatever they hold: what is
not of OTLP's shape is never built; unknown fields are passed over; 64-bit integers may be strings or
numbers, enums names or numbers, ids hex or base64 (told by their length, since some senders write them as protobuf's
own JSON mapping does). Source of the rules: the OTLP specification, "JSON Protobuf Encoding".
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from otel_llmlog.dialects.log import Log
from otel_llmlog.dialects.span import Event, Span
from otel_llmlog.sink import json_shapes as shapes
from otel_llmlog.sink.protobuf import MOST_EVENTS, MayBeCall
from otel_llmlog.sink.received import (
    ATTRIBUTE,
    CONTAINER,
    MAX_DEPTH,
    MOST,
    TOO_MANY_VALUES,
    UNKNOWN_SERVICE,
    Received,
    Room,
    TooLarge,
    TooManyValues,
    Unreadable,
    is_trace_copy,
)

_TRACE_BYTES, _SPAN_BYTES = 16, 8
_BROKEN = "it is no readable JSON of OTLP"
# Bytes that a value has at least, with its name and what stands around it, on average.
_LEAST_BYTES = 12
_KINDS = {
    f"SPAN_KIND_{name}": number
    for number, name in enumerate(("UNSPECIFIED", "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER"))
}
_CODES = {f"STATUS_CODE_{name}": number for number, name in enumerate(("UNSET", "OK", "ERROR"))}
_UINT64 = 1 << 64
_INT64 = 1 << 63
# Characters of a double that is written as text.
_LONGEST_DOUBLE = 400
_ALL_BUT_QUOTES_AND_COMMAS = bytes(set(range(256)) - set(b'",'))
# Bytes that are looked through at a time, so that what they are split into is small.
_PIECE = 65_536


class _Odd(Exception):  # noqa: N818 - it says what is odd
    """A span or log record is not as OTLP writes it."""


_request = msgspec.json.Decoder(shapes.Request)
_span_of = msgspec.json.Decoder(shapes.Span)
_log_of = msgspec.json.Decoder(shapes.LogRecord)
_event_of = msgspec.json.Decoder(shapes.Event)
_resource_of = msgspec.json.Decoder(shapes.Resource)
_scope_of = msgspec.json.Decoder(shapes.Scope)
_UNREADABLE = (msgspec.MsgspecError, _Odd, UnicodeDecodeError, RecursionError, TooManyValues)


def traces(body: bytes, may_be_call: MayBeCall) -> Received[Span]:
    """The spans that may be calls. Raises Unreadable when the request as a whole is none, TooLarge."""
    received: Received[Span] = Received()
    room = Room(len(body))
    for of_resource in _few(_read(body).resourceSpans):
        resource = _resource(of_resource.resource, room)
        for of_scope in _few(of_resource.scopeSpans):
            by = _scope(of_scope.scope)
            name, version = by.name or "", by.version or ""
            received.saw(len(of_scope.spans or ()))
            if _is_passed_over(by, room):
                continue
            for raw in of_scope.spans or ():
                left = room.left
                try:
                    given = _span_of.decode(raw)
                    pairs = _pairs(given.attributes)
                    if may_be_call(name, pairs):
                        received.add(_span(given, pairs, name, version, resource, room))
                except _UNREADABLE as error:
                    room.left = left
                    received.refuse(_service(resource), _why(error))
    return received


def logs(body: bytes) -> Received[Log]:
    """The log records. Raises Unreadable when the request as a whole is none, TooLarge."""
    received: Received[Log] = Received()
    room = Room(len(body))
    for of_resource in _few(_read(body).resourceLogs):
        resource = _resource(of_resource.resource, room)
        for of_scope in _few(of_resource.scopeLogs):
            name = _scope(of_scope.scope).name or ""
            received.saw(len(of_scope.logRecords or ()))
            for raw in of_scope.logRecords or ():
                left = room.left
                try:
                    received.add(_log(_log_of.decode(raw), name, resource, room))
                except _UNREADABLE as error:
                    room.left = left
                    received.refuse(_service(resource), _why(error))
    return received


def metrics(body: bytes) -> int:
    """How many metrics there are; nothing of them is read. Raises Unreadable, TooLarge."""
    return sum(
        len(of_scope.metrics or ())
        for of_resource in _read(body).resourceMetrics or ()
        for of_scope in of_resource.scopeMetrics or ()
    )


def _read(body: bytes) -> shapes.Request:
    # Values of a byte or two would take thirty times their size in memory. What stands in texts is none.
    most = max(len(body) // _LEAST_BYTES, MOST)
    if body.count(b",") > most and _commas(body) > most:
        raise TooLarge
    try:
        return _request.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise Unreadable("the body is no readable JSON of OTLP") from None


def _commas(body: bytes) -> int:
    """Commas that part values, without those in texts."""
    bare = body.replace(b"\\\\", b"").replace(b'\\"', b"").translate(None, _ALL_BUT_QUOTES_AND_COMMAS)
    number = in_text = 0
    for at in range(0, len(bare), _PIECE):
        parts = bare[at : at + _PIECE].split(b'"')
        number += sum(map(len, parts[in_text::2]))
        in_text = (in_text + len(parts) - 1) % 2
    return number


def _few(parts: Sequence[Any] | None) -> Sequence[Any]:
    if parts is None:
        return ()
    if len(parts) > MOST:
        raise TooLarge
    return parts


def _why(error: Exception) -> str:
    return TOO_MANY_VALUES if isinstance(error, TooManyValues) else _BROKEN


def _resource(raw: msgspec.Raw, room: Room) -> dict[str, Any]:
    try:
        return _values(_pairs((_resource_of.decode(raw) if raw else shapes.Resource()).attributes), room)
    except _UNREADABLE:
        return {}


def _scope(raw: msgspec.Raw) -> shapes.Scope:
    try:
        return _scope_of.decode(raw) if raw else shapes.Scope()
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return shapes.Scope()


def _is_passed_over(scope: shapes.Scope, room: Room) -> bool:
    try:
        return bool(scope.attributes) and is_trace_copy(_values(_pairs(scope.attributes), room))
    except (_Odd, TooManyValues):
        return False


def _service(resource: Mapping[str, Any]) -> str:
    named = resource.get("service.name")
    return named if isinstance(named, str) and named else UNKNOWN_SERVICE


def _span(
    given: shapes.Span,
    pairs: dict[str, shapes.Value | None],
    scope: str,
    version: str,
    resource: dict[str, Any],
    room: Room,
) -> Span:
    status = given.status or shapes.Status()
    return Span(
        _id(given.traceId, _TRACE_BYTES),
        _id(given.spanId, _SPAN_BYTES),
        _id(given.parentSpanId, _SPAN_BYTES) or None,
        given.name or "",
        _enum(given.kind, _KINDS),
        _time(given.startTimeUnixNano),
        _time(given.endTimeUnixNano),
        _values(pairs, room),
        [_event(event, room) for event in (given.events or ())[:MOST_EVENTS]],
        _enum(status.code, _CODES),
        status.message or "",
        scope,
        version,
        resource,
    )


def _event(raw: msgspec.Raw, room: Room) -> Event:
    given = _event_of.decode(raw)
    return Event(given.name or "", _time(given.timeUnixNano), _values(_pairs(given.attributes), room))


def _log(given: shapes.LogRecord, scope: str, resource: dict[str, Any], room: Room) -> Log:
    return Log(
        _id(given.traceId, _TRACE_BYTES),
        _id(given.spanId, _SPAN_BYTES),
        given.eventName or "",
        _time(given.timeUnixNano) or _time(given.observedTimeUnixNano),
        _value(given.body, room, MAX_DEPTH),
        _values(_pairs(given.attributes), room),
        scope,
        resource,
    )


def _pairs(given: list[shapes.Pair] | None) -> dict[str, shapes.Value | None]:
    """Attributes by name, their values as they stand."""
    return {pair.key or "": pair.value for pair in given} if given else {}


def _values(pairs: dict[str, shapes.Value | None], room: Room, depth: int = MAX_DEPTH) -> dict[str, Any]:
    if len(pairs) > MOST:
        raise TooManyValues
    room.take(ATTRIBUTE * len(pairs))
    return {name: _value(given, room, depth) for name, given in pairs.items()}


def _value(given: shapes.Value | None, room: Room, depth: int) -> Any:
    if given is None:
        return None
    if given.stringValue is not None:
        return given.stringValue
    if given.intValue is not None:
        return _integer(given.intValue)
    if given.doubleValue is not None:
        return _double(given.doubleValue)
    if given.boolValue is not None:
        return given.boolValue
    if given.bytesValue is not None:
        return _binary(given.bytesValue)
    if given.arrayValue is None and given.kvlistValue is None:
        return None
    if depth <= 0:
        raise _Odd
    if given.arrayValue is not None:
        items = given.arrayValue.values or ()
        room.take(CONTAINER + len(items))
        return [_value(item, room, depth - 1) for item in items]
    room.take(CONTAINER)
    return _values(_pairs((given.kvlistValue or shapes.Pairs()).values), room, depth - 1)


def _integer(given: float | str) -> int:
    if isinstance(given, str):
        # int() takes more than JSON's integers: underscores, spaces, digits of all scripts, thousands of them.
        if len(given) > 20 or not (given.isascii() and given.removeprefix("-").isdigit()):
            raise _Odd
        given = int(given)
    elif isinstance(given, float) and given.is_integer():
        given = int(given)
    if given.__class__ is not int or not -_INT64 <= given < _UINT64:
        raise _Odd
    return int(given)


def _double(given: float | str) -> float:
    # NaN, Infinity and -Infinity are texts.
    if isinstance(given, str) and len(given) > _LONGEST_DOUBLE:
        raise _Odd
    try:
        return float(given)
    except (ValueError, OverflowError):
        raise _Odd from None


def _binary(given: str) -> bytes:
    try:
        return base64.b64decode(given, validate=True)
    except (binascii.Error, ValueError):
        raise _Odd from None


def _time(given: shapes.Number) -> int:
    if given is None:
        return 0
    found = _integer(given)
    if found < 0:
        raise _Odd
    return found


def _enum(given: shapes.Number, names: dict[str, int]) -> int:
    if given is None:
        return 0
    if isinstance(given, str) and given in names:
        return names[given]
    return _integer(given)


def _id(given: str | None, length: int) -> str:
    """An id as hex digits; empty where it is none (all zero, or of another length)."""
    text = given or ""
    try:
        found = bytes.fromhex(text) if len(text) == 2 * length else base64.b64decode(text[: 4 * length], validate=True)
    except (binascii.Error, ValueError):
        return ""
    return found.hex() if len(found) == length and any(found) else ""

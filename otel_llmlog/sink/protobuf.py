"""OTLP as protobuf -> plain spans and log records.

Always true: a span that cannot be a call costs a look at the names of its attributes, no more; one that is broken
harms no other; time and memory are linear in the bytes, whatever they hold.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from struct import Struct
from typing import Any

from google.protobuf.message import DecodeError

from otel_llmlog.dialects.log import Log
from otel_llmlog.dialects.span import Event, Span
from otel_llmlog.sink import wire
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

# First bytes of a value that is one string, one integer, one double, one truth value: field number and wire type.
_STRING, _BOOLEAN, _INTEGER, _DOUBLE, _ARRAY, _PAIRS = 0x0A, 0x10, 0x18, 0x21, 0x2A, 0x32
_CONTAINERS = {_ARRAY, _PAIRS}
_double = Struct("<d").unpack_from
# The same of an attribute: its name, and then its value.
_NAME, _VALUE = 0x0A, 0x12
# Characters of a name that are kept: those of all dialects are shorter.
MAX_NAME = 512
# Attributes that were seen more than once, as they stand on the wire, with what they say: two in three are the same in
# every span of an app. Forgotten all at once when there are too many, which costs the next span what it costs without.
_known: dict[bytes, tuple[str, Any]] = {}
_seen_once: set[bytes] = set()
# Names, as they stand on the wire.
_names: dict[bytes, str] = {}
_MOST_KNOWN = 4096
_SHORT = 128
# Events of a span that are read. Those of a call have one for each exception, or for each message at most.
MOST_EVENTS = 1000
_TRACE_BYTES, _SPAN_BYTES = 16, 8
_BROKEN = "it is no readable protobuf"

MayBeCall = Callable[[str, Container[str]], bool]


def traces(body: bytes, may_be_call: MayBeCall) -> Received[Span]:
    """The spans that may be calls. Raises Unreadable when the request as a whole is none, TooLarge."""
    received: Received[Span] = Received()
    room = Room(len(body))
    parse = wire.parser(wire.Span, len(body))
    for of_resource in _parts(wire.ResourceSpans, _parsed(wire.Traces, body).resources):
        resource: Mapping[str, Any] | None = None
        for of_scope in _parts(wire.ScopeSpans, of_resource.scopes):
            by = _parsed(wire.Scope, of_scope.scope)
            scope, version = text(by.name), text(by.version)
            raws = of_scope.spans
            received.saw(len(raws))
            if by.attributes and _is_passed_over(by.attributes, room):
                continue
            for raw in raws:
                left = room.left
                try:
                    span = parse(raw)
                    if not may_be_call(scope, span.attributes):
                        continue
                    if resource is None:
                        resource = _resource(of_resource, room)
                    received.add(_span(raw, span, scope, version, resource, room))
                except (DecodeError, TooManyValues) as error:
                    room.left = left
                    received.refuse(_service(of_resource), _why(error))
    return received


def logs(body: bytes) -> Received[Log]:
    """The log records. Raises Unreadable when the request as a whole is none, TooLarge."""
    received: Received[Log] = Received()
    room = Room(len(body))
    for of_resource in _parts(wire.ResourceLogs, _parsed(wire.Logs, body).resources):
        resource: Mapping[str, Any] | None = None
        for of_scope in _parts(wire.ScopeLogs, of_resource.scopes):
            scope = text(_parsed(wire.Scope, of_scope.scope).name)
            received.saw(len(of_scope.records))
            for raw in of_scope.records:
                left = room.left
                try:
                    record = wire.parsed(wire.LogRecord, raw)
                    if resource is None:
                        resource = _resource(of_resource, room)
                    received.add(_log(record, scope, resource, room))
                except (DecodeError, TooManyValues) as error:
                    room.left = left
                    received.refuse(_service(of_resource), _why(error))
    return received


def metrics(body: bytes) -> int:
    """How many metrics there are; nothing of them is read. Raises Unreadable, TooLarge.

    Their messages are nested as those of spans are, under the same numbers.
    """
    return sum(
        len(of_scope.spans)
        for of_resource in _parts(wire.ResourceSpans, _parsed(wire.Traces, body).resources)
        for of_scope in _parts(wire.ScopeSpans, of_resource.scopes)
    )


def _parts(kind: Any, raws: Sequence[bytes]) -> Iterator[Any]:
    if len(raws) > MOST:
        raise TooLarge
    for raw in raws:
        yield _parsed(kind, raw)


def _parsed(kind: Any, body: bytes) -> Any:
    try:
        return wire.parsed(kind, body)
    except wire.TooManyFields:
        raise TooLarge from None
    except DecodeError:
        raise Unreadable("the body is no readable protobuf of OTLP") from None


def _why(error: DecodeError | TooManyValues) -> str:
    return TOO_MANY_VALUES if isinstance(error, TooManyValues | wire.TooManyFields) else _BROKEN


def _resource(of_resource: Any, room: Room) -> Mapping[str, Any]:
    return attributes(wire.parsed(wire.Resource, of_resource.resource).attributes, room)


def _service(of_resource: Any) -> str:
    try:
        named = _resource(of_resource, Room(0)).get("service.name")
    except (DecodeError, TooManyValues):
        named = None
    return named if isinstance(named, str) and named else UNKNOWN_SERVICE


def _is_passed_over(pairs: Sequence[bytes], room: Room) -> bool:
    try:
        return is_trace_copy(attributes(pairs, room))
    except (DecodeError, TooManyValues):
        return False


def _span(raw: bytes, span: Any, scope: str, version: str, resource: Mapping[str, Any], room: Room) -> Span:
    status = span.status
    return Span(
        _id(span.trace_id, _TRACE_BYTES),
        _id(span.span_id, _SPAN_BYTES),
        _id(span.parent_span_id, _SPAN_BYTES) or None,
        text(span.name),
        span.kind,
        span.start,
        span.end,
        attributes(wire.SpanAttributes.FromString(raw).attributes, room),
        [_event(event, room) for event in span.events[:MOST_EVENTS]] if span.events else (),
        status.code,
        text(status.message),
        scope,
        version,
        resource,
    )


def _event(raw: bytes, room: Room) -> Event:
    event = wire.parsed(wire.Event, raw)
    return Event(text(event.name), event.time, attributes(event.attributes, room))


def _log(record: Any, scope: str, resource: Mapping[str, Any], room: Room) -> Log:
    return Log(
        _id(record.trace_id, _TRACE_BYTES),
        _id(record.span_id, _SPAN_BYTES),
        text(record.event_name),
        record.time or record.observed,
        value(record.body, room),
        attributes(record.attributes, room),
        scope,
        resource,
    )


def _id(given: bytes, length: int) -> str:
    """An id as hex digits; empty where it is none (all zero, or of another length)."""
    return given.hex() if len(given) == length and given != bytes(length) else ""


def text(given: str | bytes) -> str:
    """Text that may be no UTF-8."""
    return given if given.__class__ is str else given.decode("utf-8", "replace")  # type: ignore[union-attr] # its class tells, hot


def attributes(pairs: Sequence[bytes], room: Room) -> dict[str, Any]:
    """Attributes by name, the last of each name. Raises DecodeError, TooManyValues. The hot path."""
    if len(pairs) > MOST:
        raise TooManyValues
    room.take(ATTRIBUTE * len(pairs))
    found: dict[str, Any] = {}
    known, named = _known.get, _names.get
    for raw in pairs:
        if (pair := known(raw)) is not None:
            found[pair[0]] = pair[1]
            continue
        try:
            # Nearly all have a name and a value of less than 128 bytes, whose length is one byte then.
            end = raw[1] + 2
            if (name := named(raw[:end])) is not None and raw[end] == _VALUE and raw[end + 1] == len(raw) - end - 2:
                kind = raw[end + 2]
                if kind == _STRING and raw[end + 3] == len(raw) - end - 4:
                    found[name] = worth = raw[end + 4 :].decode()
                    _remember(raw, name, worth)
                elif kind == _DOUBLE and len(raw) == end + 11:
                    found[name] = _double(raw, end + 3)[0]
                elif kind == _INTEGER and len(raw) == end + 5 and raw[end + 3] >= 0x80 > raw[end + 4]:
                    found[name] = raw[end + 3] - 0x80 | raw[end + 4] << 7
                else:
                    found[name] = worth = value(raw[end + 2 :], room)
                    _remember(raw, name, worth)
                continue
        except (IndexError, UnicodeDecodeError):
            pass
        name, found_value = _pair(raw, room)
        found[name] = found_value
    return found


def _pair(raw: bytes, room: Room) -> tuple[str, Any]:
    """One attribute, read by the book. Its name is known from then on."""
    pair = wire.Pair.FromString(raw)
    name = text(pair.key)[:MAX_NAME]
    size = len(name)
    if size < _SHORT and name.isascii():
        if len(_names) >= _MOST_KNOWN:
            _names.clear()
        _names[bytes((_NAME, size)) + name.encode()] = name
    return name, value(pair.value, room)


def _remember(raw: bytes, name: str, worth: Any) -> None:
    if raw not in _seen_once:
        if len(_seen_once) >= _MOST_KNOWN:
            _seen_once.clear()
        _seen_once.add(raw)
    else:
        if len(_known) >= _MOST_KNOWN:
            _known.clear()
        _known[raw] = name, worth


def value(raw: bytes, room: Room, depth: int = MAX_DEPTH) -> Any:
    """One value as it stands on the wire. Raises DecodeError, TooManyValues."""
    size = len(raw)
    if not size:
        return None
    if size > 1:
        kind, first = raw[0], raw[1]
        if kind == _STRING and first == size - 2 and first < 0x80:
            return raw[2:].decode("utf-8", "replace")
        if kind == _DOUBLE and size == 9:
            return _double(raw, 1)[0]
        if kind == _INTEGER and size == 2 and first < 0x80:
            return first
        if kind == _INTEGER and size == 3 and first >= 0x80 > raw[2]:
            return first - 0x80 | raw[2] << 7
        if kind == _BOOLEAN and size == 2 and first < 2:
            return first == 1
        if kind in _CONTAINERS and first == size - 2 and first < 0x80:
            return _array(raw[2:], room, depth) if kind == _ARRAY else _pairs(raw[2:], room, depth)
    of = wire.parsed(wire.Value, raw)
    which = of.WhichOneof("of")
    if which is None:
        return None
    given = getattr(of, which)
    if which == "string":
        return text(given)
    if which == "array":
        return _array(given, room, depth)
    return _pairs(given, room, depth) if which == "pairs" else given


def _array(raw: bytes, room: Room, depth: int) -> list[Any]:
    inner = _inner(raw, depth)
    room.take(CONTAINER + len(inner))
    return [value(one, room, depth - 1) for one in inner]


def _pairs(raw: bytes, room: Room, depth: int) -> dict[str, Any]:
    inner = _inner(raw, depth)
    room.take(CONTAINER + ATTRIBUTE * len(inner))
    pairs = map(wire.Pair.FromString, inner)
    return {text(pair.key): value(pair.value, room, depth - 1) for pair in pairs}


def _inner(raw: bytes, depth: int) -> Sequence[bytes]:
    """What is in an array or a map. Raises DecodeError."""
    if depth <= 0:
        raise DecodeError
    inner: Sequence[bytes] = wire.parsed(wire.Values, raw).values
    return inner

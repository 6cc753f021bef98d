"""OTLP as protobuf -> plain spans and log records.

Always true: a span that cannot be a call costs a look at the names of its attributes, no more; one that is broken
harms no other; nesting is bounded by the parser (100 levels of messages).
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from struct import Struct
from typing import Any

from google.protobuf.message import DecodeError

from otel_llmlog.dialects.log import Log
from otel_llmlog.dialects.span import Event, Span
from otel_llmlog.sink import wire
from otel_llmlog.sink.received import MOST, UNKNOWN_SERVICE, Received, TooLarge, Unreadable, is_trace_copy

# First bytes of a value that is one string, one integer, one double, one truth value: field number and wire type.
_STRING, _BOOLEAN, _INTEGER, _DOUBLE = 0x0A, 0x10, 0x18, 0x21
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
_MOST_EVENTS = 1000
_TRACE_BYTES, _SPAN_BYTES = 16, 8
_BROKEN = "it is no readable protobuf"

MayBeCall = Callable[[str, Container[str]], bool]


def traces(body: bytes, may_be_call: MayBeCall) -> Received[Span]:
    """The spans that may be calls. Raises Unreadable when the request as a whole is none, TooLarge."""
    received: Received[Span] = Received()
    parse = wire.Span.FromString
    for of_resource in _parts(wire.ResourceSpans, _parsed(wire.Traces, body).resources):
        resource: Mapping[str, Any] | None = None
        for of_scope in _parts(wire.ScopeSpans, of_resource.scopes):
            scope, version = text(of_scope.scope.name), text(of_scope.scope.version)
            raws = of_scope.spans
            received.saw(len(raws))
            if of_scope.scope.attributes and _is_passed_over(of_scope.scope.attributes):
                continue
            for raw in raws:
                try:
                    span = parse(raw)
                    if not may_be_call(scope, span.attributes):
                        continue
                    if resource is None:
                        resource = attributes(of_resource.resource.attributes)
                    received.add(_span(raw, span, scope, version, resource))
                except DecodeError:
                    received.refuse(_service(of_resource), _BROKEN)
    return received


def logs(body: bytes) -> Received[Log]:
    """The log records. Raises Unreadable when the request as a whole is none, TooLarge."""
    received: Received[Log] = Received()
    for of_resource in _parts(wire.ResourceLogs, _parsed(wire.Logs, body).resources):
        resource: Mapping[str, Any] | None = None
        for of_scope in _parts(wire.ScopeLogs, of_resource.scopes):
            scope = text(of_scope.scope.name)
            received.saw(len(of_scope.records))
            for raw in of_scope.records:
                try:
                    record = wire.LogRecord.FromString(raw)
                    if resource is None:
                        resource = attributes(of_resource.resource.attributes)
                    received.add(_log(record, scope, resource))
                except DecodeError:
                    received.refuse(_service(of_resource), _BROKEN)
    return received


def _parts(kind: Any, raws: Sequence[bytes]) -> Iterator[Any]:
    if len(raws) > MOST:
        raise TooLarge
    for raw in raws:
        yield _parsed(kind, raw)


def _parsed(kind: Any, body: bytes) -> Any:
    try:
        return kind.FromString(body)
    except DecodeError:
        raise Unreadable("the body is no readable protobuf of OTLP") from None


def _service(of_resource: Any) -> str:
    try:
        named = attributes(of_resource.resource.attributes).get("service.name")
    except DecodeError:
        named = None
    return named if isinstance(named, str) and named else UNKNOWN_SERVICE


def _is_passed_over(pairs: Sequence[bytes]) -> bool:
    try:
        return is_trace_copy(attributes(pairs))
    except DecodeError:
        return False


def _span(raw: bytes, span: Any, scope: str, version: str, resource: Mapping[str, Any]) -> Span:
    status = span.status
    return Span(
        _id(span.trace_id, _TRACE_BYTES),
        _id(span.span_id, _SPAN_BYTES),
        _id(span.parent_span_id, _SPAN_BYTES) or None,
        text(span.name),
        span.kind,
        span.start,
        span.end,
        attributes(wire.SpanAttributes.FromString(raw).attributes),
        [_event(event) for event in span.events[:_MOST_EVENTS]] if span.events else (),
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
    return given.hex() if len(given) == length and given != bytes(length) else ""


def text(given: str | bytes) -> str:
    """Text that may be no UTF-8."""
    return given if given.__class__ is str else given.decode("utf-8", "replace")  # type: ignore[union-attr] # its class tells, hot


def attributes(pairs: Sequence[bytes]) -> dict[str, Any]:
    """Attributes by name, the last of each name. Raises DecodeError, also when there are too many. The hot path."""
    if len(pairs) > MOST:
        raise DecodeError
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
                    found[name] = worth = value(raw[end + 2 :])
                    _remember(raw, name, worth)
                continue
        except (IndexError, UnicodeDecodeError):
            pass
        name, found_value = _pair(raw)
        found[name] = found_value
    return found


def _pair(raw: bytes) -> tuple[str, Any]:
    """One attribute, read by the book. Its name is known from then on."""
    pair = wire.Pair.FromString(raw)
    name = text(pair.key)[:MAX_NAME]
    size = len(name)
    if size < _SHORT and name.isascii():
        if len(_names) >= _MOST_KNOWN:
            _names.clear()
        _names[bytes((_NAME, size)) + name.encode()] = name
    return name, _value(pair.value)


def _remember(raw: bytes, name: str, worth: Any) -> None:
    if raw not in _seen_once:
        if len(_seen_once) >= _MOST_KNOWN:
            _seen_once.clear()
        _seen_once.add(raw)
    else:
        if len(_known) >= _MOST_KNOWN:
            _known.clear()
        _known[raw] = name, worth


def value(raw: bytes) -> Any:
    """One value as it stands on the wire. Raises DecodeError."""
    size = len(raw)
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

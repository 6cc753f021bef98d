"""OTLP as JSON -> plain spans and log records.

Always true: a span that is broken harms no other; unknown fields are passed over; 64-bit integers may be strings or
numbers, enums names or numbers, ids hex or base64 (told by their length, since some senders write them as protobuf's
own JSON mapping does). Source of the rules: the OTLP specification, "JSON Protobuf Encoding".
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from otel_llmlog.dialects.log import Log
from otel_llmlog.dialects.span import Event, Span
from otel_llmlog.sink.protobuf import MayBeCall
from otel_llmlog.sink.received import MOST, UNKNOWN_SERVICE, Received, TooLarge, Unreadable, is_trace_copy

_TRACE_BYTES, _SPAN_BYTES = 16, 8
_BROKEN = "it is no readable JSON of OTLP"
# Bytes that a value has at least, with its name and what stands around it, on average.
_LEAST_BYTES = 8
# Levels of values in values that are read, as many as in protobuf.
_MAX_DEPTH = 32
_KINDS = {
    f"SPAN_KIND_{name}": number
    for number, name in enumerate(("UNSPECIFIED", "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER"))
}
_CODES = {f"STATUS_CODE_{name}": number for number, name in enumerate(("UNSET", "OK", "ERROR"))}
_UINT64 = 1 << 64
_INT64 = 1 << 63


class _Odd(Exception):  # noqa: N818 - it says what is odd
    """A span or log record is not as OTLP writes it."""


class _Scoped(msgspec.Struct):
    scope: Any = None
    spans: list[msgspec.Raw] | None = None
    logRecords: list[msgspec.Raw] | None = None  # noqa: N815 - OTLP's name


class _OfResource(msgspec.Struct):
    resource: Any = None
    scopeSpans: list[_Scoped] | None = None  # noqa: N815 - OTLP's name
    scopeLogs: list[_Scoped] | None = None  # noqa: N815 - OTLP's name


class _Request(msgspec.Struct):
    resourceSpans: list[_OfResource] | None = None  # noqa: N815 - OTLP's name
    resourceLogs: list[_OfResource] | None = None  # noqa: N815 - OTLP's name


_request = msgspec.json.Decoder(_Request)
_one = msgspec.json.Decoder(dict[str, Any])


def traces(body: bytes, may_be_call: MayBeCall) -> Received[Span]:
    """The spans that may be calls. Raises Unreadable when the request as a whole is none, TooLarge."""
    received: Received[Span] = Received()
    for of_resource in _read(body).resourceSpans or ():
        resource = _resource(of_resource.resource)
        for of_scope in of_resource.scopeSpans or ():
            name, version = _scope(of_scope.scope, "name"), _scope(of_scope.scope, "version")
            received.saw(len(of_scope.spans or ()))
            if _is_passed_over(of_scope.scope):
                continue
            for raw in of_scope.spans or ():
                try:
                    given = _one.decode(raw)
                    pairs = _pairs(given.get("attributes"))
                    if may_be_call(name, pairs):
                        received.add(_span(given, pairs, name, version, resource))
                except (msgspec.MsgspecError, _Odd, UnicodeDecodeError, RecursionError):
                    received.refuse(_service(resource), _BROKEN)
    return received


def logs(body: bytes) -> Received[Log]:
    """The log records. Raises Unreadable when the request as a whole is none, TooLarge."""
    received: Received[Log] = Received()
    for of_resource in _read(body).resourceLogs or ():
        resource = _resource(of_resource.resource)
        for of_scope in of_resource.scopeLogs or ():
            name = _scope(of_scope.scope, "name")
            received.saw(len(of_scope.logRecords or ()))
            for raw in of_scope.logRecords or ():
                try:
                    given = _one.decode(raw)
                    received.add(_log(given, name, resource))
                except (msgspec.MsgspecError, _Odd, UnicodeDecodeError, RecursionError):
                    received.refuse(_service(resource), _BROKEN)
    return received


def _read(body: bytes) -> _Request:
    # Values of a byte or two would take thirty times their size in memory. Honest ones have names.
    if body.count(b",") > max(len(body) // _LEAST_BYTES, MOST):
        raise TooLarge
    try:
        return _request.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise Unreadable("the body is no readable JSON of OTLP") from None


def _resource(given: Any) -> dict[str, Any]:
    try:
        return _values(_pairs(given.get("attributes"))) if isinstance(given, dict) else {}
    except _Odd:
        return {}


def _scope(scope: Any, field: str) -> str:
    found = scope.get(field) if isinstance(scope, dict) else None
    return found if isinstance(found, str) else ""


def _is_passed_over(scope: Any) -> bool:
    try:
        return isinstance(scope, dict) and is_trace_copy(_values(_pairs(scope.get("attributes"))))
    except _Odd:
        return False


def _service(resource: Mapping[str, Any]) -> str:
    named = resource.get("service.name")
    return named if isinstance(named, str) and named else UNKNOWN_SERVICE


def _span(given: dict[str, Any], pairs: dict[str, Any], scope: str, version: str, resource: dict[str, Any]) -> Span:
    status = given.get("status")
    status = status if isinstance(status, dict) else {}
    return Span(
        _id(given.get("traceId"), _TRACE_BYTES),
        _id(given.get("spanId"), _SPAN_BYTES),
        _id(given.get("parentSpanId"), _SPAN_BYTES) or None,
        _text(given.get("name")),
        _enum(given.get("kind"), _KINDS),
        _time(given.get("startTimeUnixNano")),
        _time(given.get("endTimeUnixNano")),
        _values(pairs),
        [_event(event) for event in _list(given.get("events"))],
        _enum(status.get("code"), _CODES),
        _text(status.get("message")),
        scope,
        version,
        resource,
    )


def _event(given: Any) -> Event:
    if not isinstance(given, dict):
        raise _Odd
    attributes = _values(_pairs(given.get("attributes")))
    return Event(_text(given.get("name")), _time(given.get("timeUnixNano")), attributes)


def _log(given: dict[str, Any], scope: str, resource: dict[str, Any]) -> Log:
    return Log(
        _id(given.get("traceId"), _TRACE_BYTES),
        _id(given.get("spanId"), _SPAN_BYTES),
        _text(given.get("eventName")),
        _time(given.get("timeUnixNano")) or _time(given.get("observedTimeUnixNano")),
        _value(given.get("body"), _MAX_DEPTH),
        _values(_pairs(given.get("attributes"))),
        scope,
        resource,
    )


def _list(given: Any) -> list[Any]:
    if given is None:
        return []
    if not isinstance(given, list):
        raise _Odd
    return given


def _pairs(given: Any) -> dict[str, Any]:
    """Attributes by name, their values as they stand."""
    found = {}
    for pair in _list(given):
        if not isinstance(pair, dict):
            raise _Odd
        found[_text(pair.get("key"))] = pair.get("value")
    return found


def _values(pairs: dict[str, Any]) -> dict[str, Any]:
    return {name: _value(given, _MAX_DEPTH) for name, given in pairs.items()}


def _value(given: Any, depth: int) -> Any:
    if given is None:
        return None
    if not isinstance(given, dict) or depth <= 0:
        raise _Odd
    for name, read in _READERS.items():
        if (found := given.get(name)) is not None:
            return read(found, depth - 1)
    return None


def _array(given: Any, depth: int) -> list[Any]:
    if not isinstance(given, dict):
        raise _Odd
    return [_value(item, depth) for item in _list(given.get("values"))]


def _object(given: Any, depth: int) -> dict[str, Any]:
    if not isinstance(given, dict):
        raise _Odd
    return {name: _value(item, depth) for name, item in _pairs(given.get("values")).items()}


def _text(given: Any) -> str:
    if given is None:
        return ""
    if not isinstance(given, str):
        raise _Odd
    return given


def _boolean(given: Any, _depth: int) -> bool:
    if given.__class__ is not bool:
        raise _Odd
    return bool(given)


def _integer(given: Any, _depth: int = 0) -> int:
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


def _double(given: Any, _depth: int) -> float:
    if isinstance(given, str):
        try:
            return float(given)  # NaN, Infinity and -Infinity, too
        except ValueError:
            raise _Odd from None
    if given.__class__ is not int and given.__class__ is not float:
        raise _Odd
    try:
        return float(given)
    except OverflowError:
        raise _Odd from None


def _binary(given: Any, _depth: int) -> bytes:
    try:
        return base64.b64decode(_text(given), validate=True)
    except (binascii.Error, ValueError):
        raise _Odd from None


_READERS: dict[str, Callable[[Any, int], Any]] = {
    "stringValue": lambda given, _depth: _text(given),
    "intValue": _integer,
    "doubleValue": _double,
    "boolValue": _boolean,
    "arrayValue": _array,
    "kvlistValue": _object,
    "bytesValue": _binary,
}


def _time(given: Any) -> int:
    if given is None:
        return 0
    found = _integer(given)
    if found < 0:
        raise _Odd
    return found


def _enum(given: Any, names: dict[str, int]) -> int:
    if given is None:
        return 0
    if isinstance(given, str) and given in names:
        return names[given]
    return _integer(given)


def _id(given: Any, length: int) -> str:
    """An id as hex digits; empty where it is none (all zero, or of another length)."""
    text = _text(given)
    try:
        found = bytes.fromhex(text) if len(text) == 2 * length else base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return ""
    return found.hex() if len(found) == length and any(found) else ""

"""OTLP's messages in the shape in which they are read here; the bytes are the same.

Two things differ from OpenTelemetry's own classes, and both are for speed and for safety. The attributes of a span are
a map of name to undecoded value at first, so that one look tells whether it has an attribute, and nothing is built for
the others (a map entry is, on the wire, a message of a key and a value); where all are wanted they are undecoded pairs.
Spans, events and log records are undecoded bytes, so that a broken one is refused alone; so is all that there may be
many of or that may hold such, since a message of two bytes takes fifty in memory. Field numbers are those of
opentelemetry-proto 1.x (`trace.proto`, `logs.proto`, `common.proto`), which are stable. Syntax is proto2's: text that
is no UTF-8 comes as bytes then, instead of making the whole unreadable.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

_PACKAGE = "otel_llmlog.sink"
_F = descriptor_pb2.FieldDescriptorProto
_SCALARS = {
    "string": _F.TYPE_STRING,
    "bytes": _F.TYPE_BYTES,
    "bool": _F.TYPE_BOOL,
    "int64": _F.TYPE_INT64,
    "uint32": _F.TYPE_UINT32,
    "double": _F.TYPE_DOUBLE,
    "fixed64": _F.TYPE_FIXED64,
    "int32": _F.TYPE_INT32,
}
# message -> field -> (type, number). A `*` is repeated, `map` is of string to bytes, a capital letter a message.
_MESSAGES = {
    "Traces": {"resources": ("*bytes", 1)},
    "ResourceSpans": {"resource": ("bytes", 1), "scopes": ("*bytes", 2)},
    "ScopeSpans": {"scope": ("bytes", 1), "spans": ("*bytes", 2)},
    "Logs": {"resources": ("*bytes", 1)},
    "ResourceLogs": {"resource": ("bytes", 1), "scopes": ("*bytes", 2)},
    "ScopeLogs": {"scope": ("bytes", 1), "records": ("*bytes", 2)},
    "Resource": {"attributes": ("*bytes", 1)},
    "Scope": {"name": ("string", 1), "version": ("string", 2), "attributes": ("*bytes", 3)},
    "Span": {
        "trace_id": ("bytes", 1),
        "span_id": ("bytes", 2),
        "parent_span_id": ("bytes", 4),
        "name": ("string", 5),
        "kind": ("int32", 6),
        "start": ("fixed64", 7),
        "end": ("fixed64", 8),
        "attributes": ("map", 9),
        "events": ("*bytes", 11),
        "status": ("Status", 15),
    },
    "SpanAttributes": {"attributes": ("*bytes", 9)},
    "Event": {"time": ("fixed64", 1), "name": ("string", 2), "attributes": ("*bytes", 3)},
    "Status": {"message": ("string", 2), "code": ("int32", 3)},
    "LogRecord": {
        "time": ("fixed64", 1),
        "body": ("bytes", 5),
        "attributes": ("*bytes", 6),
        "trace_id": ("bytes", 9),
        "span_id": ("bytes", 10),
        "observed": ("fixed64", 11),
        "event_name": ("string", 12),
    },
    "Value": {
        "string": ("string", 1),
        "boolean": ("bool", 2),
        "integer": ("int64", 3),
        "double": ("double", 4),
        "array": ("bytes", 5),
        "pairs": ("bytes", 6),
        "binary": ("bytes", 7),
    },
    "Values": {"values": ("*bytes", 1)},
    "Pair": {"key": ("string", 1), "value": ("bytes", 2)},
}
# Values of which one has one: the last on the wire counts.
_ONE_OF = {"Value"}


def _classes() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(name="otel_llmlog/sink.proto", package=_PACKAGE, syntax="proto2")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        if name in _ONE_OF:
            message.oneof_decl.add(name="of")
        for field, (kind, number) in fields.items():
            if kind == "map":
                _add_map(message, field, number)
                continue
            added = message.field.add(name=field, number=number)
            added.label = _F.LABEL_REPEATED if kind.startswith("*") else _F.LABEL_OPTIONAL
            one = kind.removeprefix("*")
            added.type = _SCALARS.get(one, _F.TYPE_MESSAGE)
            if one not in _SCALARS:
                added.type_name = f".{_PACKAGE}.{one}"
            if name in _ONE_OF:
                added.oneof_index = 0
    # A pool of our own: nothing of this is to be seen by others in the process.
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    find, make = pool.FindMessageTypeByName, message_factory.GetMessageClass
    return {name: make(find(f"{_PACKAGE}.{name}")) for name in _MESSAGES}


def _add_map(message: descriptor_pb2.DescriptorProto, field: str, number: int) -> None:
    entry = message.nested_type.add(name=f"{field.capitalize()}Entry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, type=_F.TYPE_STRING, label=_F.LABEL_OPTIONAL)
    entry.field.add(name="value", number=2, type=_F.TYPE_BYTES, label=_F.LABEL_OPTIONAL)
    message.field.add(
        name=field,
        number=number,
        type=_F.TYPE_MESSAGE,
        label=_F.LABEL_REPEATED,
        type_name=f".{_PACKAGE}.{message.name}.{entry.name}",
    )


_made = _classes()
Traces: Any = _made["Traces"]
ResourceSpans: Any = _made["ResourceSpans"]
ScopeSpans: Any = _made["ScopeSpans"]
Logs: Any = _made["Logs"]
ResourceLogs: Any = _made["ResourceLogs"]
ScopeLogs: Any = _made["ScopeLogs"]
Span: Any = _made["Span"]
SpanAttributes: Any = _made["SpanAttributes"]
Event: Any = _made["Event"]
LogRecord: Any = _made["LogRecord"]
Resource: Any = _made["Resource"]
Scope: Any = _made["Scope"]
Pair: Any = _made["Pair"]
Value: Any = _made["Value"]
Values: Any = _made["Values"]


# Bytes of a message below which the parser's own lists are small, whatever it holds.
_SMALL = 1 << 20
# Fields that a larger one may have: more than any request may hold spans.
_MOST_FIELDS = 400_000
# Bits of a length beyond which there is none: a number that grows without end costs quadratic time.
_LONGEST = 63
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5


class TooManyFields(DecodeError):  # type: ignore[misc] # noqa: N818 - untyped in the library; it says what is wrong
    """A message has so many fields that the parser would fill memory with them."""


def parsed(kind: Any, raw: bytes) -> Any:
    """The message. Raises DecodeError, TooManyFields."""
    if len(raw) > _SMALL and not _has_few_fields(raw):
        raise TooManyFields
    return kind.FromString(raw)


def parser(kind: Any, size: int) -> Callable[[bytes], Any]:
    """As `parsed`, for messages within one of so many bytes: where that is small there is nothing to look at."""
    return kind.FromString if size <= _SMALL else partial(parsed, kind)


def _has_few_fields(raw: bytes) -> bool:
    at, end = 0, len(raw)
    try:
        for _ in range(_MOST_FIELDS):
            if at >= end:
                return True
            kind = raw[at] & 7
            while raw[at] & 0x80:
                at += 1
            at += 1
            if kind == _LENGTH:
                size, shift = raw[at], 7
                if size & 0x80:
                    size &= 0x7F
                    while raw[at] & 0x80 and shift < _LONGEST:
                        at += 1
                        size |= (raw[at] & 0x7F) << shift
                        shift += 7
                at += size + 1
            elif kind == _VARINT:
                while raw[at] & 0x80:
                    at += 1
                at += 1
            else:
                at += {_FIXED64: 8, _FIXED32: 4}.get(kind, 0)
    except IndexError:
        return True  # it ends in the middle, which the parser says
    return at >= end

"""OTLP's messages as JSON, in the shape in which they are read.

Always true: the shapes are closed: what has another type is refused while it is read, unknown fields are passed over,
and so nothing takes more memory than these do. Spans, events and log records are undecoded, so that a broken one is
refused alone. Names are OTLP's.
"""

from __future__ import annotations

import msgspec

Number = int | float | str | None


class Array(msgspec.Struct, gc=False):
    values: list[Value | None] | None = None


class Pairs(msgspec.Struct, gc=False):
    values: list[Pair] | None = None


class Value(msgspec.Struct, gc=False):
    stringValue: str | None = None  # noqa: N815
    intValue: Number = None  # noqa: N815
    doubleValue: Number = None  # noqa: N815
    boolValue: bool | None = None  # noqa: N815
    arrayValue: Array | None = None  # noqa: N815
    kvlistValue: Pairs | None = None  # noqa: N815
    bytesValue: str | None = None  # noqa: N815


class Pair(msgspec.Struct, gc=False):
    key: str | None = None
    value: Value | None = None


class Resource(msgspec.Struct):
    attributes: list[Pair] | None = None


class Scope(msgspec.Struct):
    name: str | None = None
    version: str | None = None
    attributes: list[Pair] | None = None


class Event(msgspec.Struct):
    name: str | None = None
    timeUnixNano: Number = None  # noqa: N815
    attributes: list[Pair] | None = None


class Status(msgspec.Struct):
    code: Number = None
    message: str | None = None


class Span(msgspec.Struct):
    traceId: str | None = None  # noqa: N815
    spanId: str | None = None  # noqa: N815
    parentSpanId: str | None = None  # noqa: N815
    name: str | None = None
    kind: Number = None
    startTimeUnixNano: Number = None  # noqa: N815
    endTimeUnixNano: Number = None  # noqa: N815
    attributes: list[Pair] | None = None
    events: list[msgspec.Raw] | None = None
    status: Status | None = None


class LogRecord(msgspec.Struct):
    traceId: str | None = None  # noqa: N815
    spanId: str | None = None  # noqa: N815
    eventName: str | None = None  # noqa: N815
    timeUnixNano: Number = None  # noqa: N815
    observedTimeUnixNano: Number = None  # noqa: N815
    body: Value | None = None
    attributes: list[Pair] | None = None


class Scoped(msgspec.Struct):
    scope: msgspec.Raw = msgspec.Raw()
    spans: list[msgspec.Raw] | None = None
    logRecords: list[msgspec.Raw] | None = None  # noqa: N815
    metrics: list[msgspec.Raw] | None = None


class OfResource(msgspec.Struct):
    resource: msgspec.Raw = msgspec.Raw()
    scopeSpans: list[Scoped] | None = None  # noqa: N815
    scopeLogs: list[Scoped] | None = None  # noqa: N815
    scopeMetrics: list[Scoped] | None = None  # noqa: N815


class Request(msgspec.Struct):
    resourceSpans: list[OfResource] | None = None  # noqa: N815
    resourceLogs: list[OfResource] | None = None  # noqa: N815
    resourceMetrics: list[OfResource] | None = None  # noqa: N815

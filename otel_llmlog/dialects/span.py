"""A span as it was received, as plain data: what every dialect reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# OTLP's numbers of a span's kind and status.
CLIENT = 3
ERROR = 2


@dataclass(frozen=True, slots=True)
class Event:
    """One event of a span."""

    name: str
    time_ns: int
    """Epoch nanoseconds."""
    attributes: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Span:
    """One span, whoever sent it. Nothing in it can be trusted but its Python types.

    Values of attributes are str, bool, int, float, bytes, lists of values, dicts of values, or None.
    """

    trace_id: str
    """32 hex digits."""
    span_id: str
    """16 hex digits."""
    parent_span_id: str | None
    name: str
    kind: int
    """OTLP's number: 1 internal, 2 server, 3 client, 4 producer, 5 consumer; 0 unspecified."""
    start_ns: int
    """Epoch nanoseconds."""
    end_ns: int
    attributes: Mapping[str, Any]
    events: Sequence[Event]
    status: int
    """OTLP's number: 0 unset, 1 ok, 2 error."""
    status_message: str
    scope: str
    """Name of the instrumentation scope."""
    scope_version: str
    resource: Mapping[str, Any]
    """Attributes of the resource: one mapping for all spans of one sender, not a copy each."""

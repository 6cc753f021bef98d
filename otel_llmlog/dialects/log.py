"""A log record as it was received, as plain data: an audit event, or what was said in a call (content events)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Log:
    """One log record, whoever sent it. Nothing in it can be trusted but its Python types.

    Values are str, bool, int, float, bytes, lists of values, dicts of values, or None.
    """

    trace_id: str
    """32 hex digits; empty in a log record without a trace."""
    span_id: str
    """16 hex digits; empty in a log record without a span."""
    event_name: str
    time_ns: int
    """Epoch nanoseconds; when it was observed where it does not say when it happened."""
    body: Any
    attributes: Mapping[str, Any]
    scope: str
    """Name of the instrumentation scope."""
    resource: Mapping[str, Any]
    """Attributes of the resource: one mapping for all log records of one sender, not a copy each."""

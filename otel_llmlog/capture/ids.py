"""Where a call stands in its trace: by its span, or where nothing makes real spans by ids of its own."""

from __future__ import annotations

import os
from typing import Any, NamedTuple

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanContext

# The spans of an SDK tell their parent, None being one, too.
_UNTOLD: Any = object()


class Ids(NamedTuple):
    """Where a call stands in its trace. Numbers: their digits are made off the app's thread."""

    trace_id: int
    span_id: int
    parent_span_id: int | None


def ids_of(span: Span, outer: Context) -> Ids:
    """Where a span stands in its trace. Without an SDK, or under a foreign one, the call gets ids of its own."""
    own, parent = span.get_span_context(), getattr(span, "parent", _UNTOLD)
    trace_id, span_id = own.trace_id, own.span_id
    if not own.is_valid or (parent is not None and not isinstance(parent, SpanContext)):
        parent = trace.get_current_span(outer).get_span_context()
        if not own.is_valid or span_id == parent.span_id:
            trace_id = parent.trace_id if parent.is_valid else int.from_bytes(os.urandom(16))
            span_id = int.from_bytes(os.urandom(8)) or 1
    return Ids(trace_id, span_id, parent.span_id if parent is not None and parent.is_valid else None)

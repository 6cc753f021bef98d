"""Span dialects: how a call is written into span attributes and read back. One file a dialect, all pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from otel_llmlog.dialects.llmlog import CALL_ID
from otel_llmlog.dialects.span import Span


def call_of(span: Span) -> Mapping[str, Any] | None:
    """The call that a received span describes, as attributes of our own dialect; None when it is no LLM call."""
    if CALL_ID in span.attributes:
        return span.attributes
    return None

"""Span dialects: how a call is written into span attributes and read back. One file a dialect, all pure."""

from __future__ import annotations

from collections.abc import Container, Mapping
from typing import Any

from otel_llmlog.dialects.llmlog import CALL_ID
from otel_llmlog.dialects.span import Span


def may_be_call(scope: str, names: Container[str]) -> bool:  # noqa: ARG001 - some dialects are told by their scope
    """Whether a span of this scope with attributes of these names can be a call.

    Asked of every span that is received, before any value is decoded: False for nearly all, in a microsecond.
    """
    return CALL_ID in names


def call_of(span: Span) -> Mapping[str, Any] | None:
    """The call that a received span describes, as attributes of our own dialect; None when it is no LLM call."""
    if CALL_ID in span.attributes:
        return span.attributes
    return None

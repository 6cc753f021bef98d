"""Span dialects: how a call is written into span attributes and read back. One file a dialect, all pure."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping
from typing import Any

from otel_llmlog.dialects import (
    anthropic,
    genai,
    langfuse,
    litellm,
    logfire,
    openinference,
    openlit,
    openllmetry,
    pydantic_ai,
    vercel,
)
from otel_llmlog.dialects.call import Reading, attributes
from otel_llmlog.dialects.facts import Read
from otel_llmlog.dialects.llmlog import CALL_ID
from otel_llmlog.dialects.span import Span

# What is understood beside our own, the best informed first: of several descriptions of one request that have its
# tokens, this order says which becomes the row. Who billed comes first, then who saw the wire, then who wraps an SDK.
DIALECTS = (litellm, anthropic, genai, openllmetry, openlit, openinference, logfire, pydantic_ai, vercel, langfuse)

# Attributes that every call of a dialect has one of; nothing else is looked at further.
_TELLS = (
    genai.OPERATION,
    openinference.KIND,
    langfuse.TYPE,
    vercel.OPERATION,
    openllmetry.LEGACY,
    litellm.CALL_ID,
)
# Told by one attribute alone, whoever wrote the span.
_BY_KEY: tuple[tuple[str, Read], ...] = (
    (langfuse.TYPE, langfuse.read),
    (openinference.KIND, openinference.read),
    (vercel.OPERATION, vercel.read),
)
# Told by who wrote it, among spans in the words of the GenAI conventions.
_BY_SCOPE: tuple[tuple[Callable[[Span], bool], Read], ...] = (
    (litellm.is_theirs, litellm.read),
    (openllmetry.is_theirs, openllmetry.read),
    (openlit.is_theirs, openlit.read),
    (pydantic_ai.is_theirs, pydantic_ai.read),
    (logfire.is_theirs, logfire.read),
    (anthropic.is_theirs, anthropic.read),
)


def may_be_call(scope: str, names: Container[str]) -> bool:  # noqa: ARG001 - attributes tell all of them
    """Whether a span of this scope with attributes of these names can be a call.

    Asked of every span that is received, before any value is decoded: False for nearly all, in a microsecond.
    """
    return CALL_ID in names or any(tell in names for tell in _TELLS)


def call_of(span: Span, reading: Reading | None = None) -> Mapping[str, Any] | None:
    """The call that a received span describes, as attributes of our own dialect; None when it is no LLM call.

    Without `reading`, spans of other dialects are no calls.
    """
    given = span.attributes
    if CALL_ID in given:
        return given
    if reading is None or not any(tell in given for tell in _TELLS):
        return None
    facts = _reader(span)(span, reading.content)
    return None if facts is None else attributes(span, facts, reading)


def _reader(span: Span) -> Read:
    for key, read in _BY_KEY:
        if key in span.attributes:
            return read
    for is_theirs, read in _BY_SCOPE:
        if is_theirs(span):
            return read
    # Older than the convention's operation names: OpenLLMetry's, whatever the scope is called.
    if genai.OPERATION not in span.attributes:
        return openllmetry.read
    return vercel.read if span.scope == "ai" else genai.read

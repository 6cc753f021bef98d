"""The Anthropic SDK's own spans: the GenAI conventions, and what it bills by.

Seen with anthropic 2.12, which makes them by default wherever a tracer provider is set.
"""

from __future__ import annotations

from otel_llmlog.dialects import genai
from otel_llmlog.dialects.facts import Facts
from otel_llmlog.dialects.span import Span
from otel_llmlog.dialects.values import count, word

NAME = "anthropic"
GAPS = (
    "messages and answers are not there",
    "web searches are not there, and what they cost",
    "its span stands for all tries of one request",
)


def is_theirs(span: Span) -> bool:
    """Whether the SDK wrote it."""
    return span.scope.startswith("com.anthropic.")


def read(span: Span, content: bool) -> Facts | None:
    """The call; None for other requests of the SDK."""
    found = genai.call(NAME, span, content)
    if found is None:
        return None
    get = span.attributes.get
    found.cache_write_1h_tokens = count(get("anthropic.usage.cache_creation.ephemeral_1h_input_tokens"))
    found.service_tier = get("anthropic.response.service_tier")
    if not found.finish_reasons and (reason := word(get("anthropic.message.stop_reason"))):
        found.finish_reasons = [reason]
    if (url := get("url.full")).__class__ is str:
        found.api_base = url.removesuffix("/v1/messages")
    return found

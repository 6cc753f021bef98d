"""Logfire's own instrumentation of the OpenAI and Anthropic SDKs: the GenAI conventions, nearly.

Seen with logfire 5.4. A stream makes two spans: one of kind client that ends before anything is known, and when the
stream has ended one with `logfire.span_type` `log`, that has all of it and no duration. The first is no call.
"""

from __future__ import annotations

from otel_llmlog.dialects import genai
from otel_llmlog.dialects.facts import Facts
from otel_llmlog.dialects.span import Span
from otel_llmlog.dialects.values import cost, count, mapping

NAME = "logfire"
GAPS = (
    "a stream's row begins when the stream has ended",
    "a stream that is not read to its end has no row",
    "an hour's cache writes are not told from those of five minutes",
)


def is_theirs(span: Span) -> bool:
    """Whether logfire wrote it."""
    return span.scope.startswith("logfire")


def read(span: Span, content: bool) -> Facts | None:
    """The call; None for the half of a stream that knows nothing, and for everything else."""
    found = genai.call(NAME, span, content)
    if found is None:
        return None
    get = span.attributes.get
    is_log = get("logfire.span_type") == "log"
    if not (is_log or found.failed or found.input_tokens is not None or found.response_id is not None):
        return None
    found.stream = is_log
    found.estimated_cost = cost(get("operation.cost"))
    raw = mapping(get("gen_ai.usage.raw"))
    wrote = mapping(raw.get("completion_tokens_details") or raw.get("output_tokens_details"))
    found.reasoning_tokens = found.reasoning_tokens or count(wrote.get("reasoning_tokens"))
    found.total_tokens = count(raw.get("total_tokens"))
    read_ = mapping(raw.get("prompt_tokens_details") or raw.get("input_tokens_details"))
    found.cache_read_tokens = found.cache_read_tokens or count(
        read_.get("cached_tokens") or raw.get("cache_read_input_tokens")
    )
    found.cache_write_tokens = found.cache_write_tokens or count(raw.get("cache_creation_input_tokens"))
    found.responses_api = found.responses_api or "input_tokens_details" in raw
    return found

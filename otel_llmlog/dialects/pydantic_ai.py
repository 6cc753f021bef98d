"""pydantic-ai: the GenAI conventions. Each request to a model is a `chat` span; the agent's span repeats their sums.

Seen with pydantic-ai 2.31. Its `gen_ai.conversation.id` is made up where the app names none, and nothing tells the two
apart: it is no session here.
"""

from __future__ import annotations

from otel_llmlog.dialects import genai
from otel_llmlog.dialects.facts import Facts
from otel_llmlog.dialects.span import Span
from otel_llmlog.dialects.values import cost, count, seconds

NAME = "pydantic_ai"
GAPS = (
    "the conversation's id is no session: it is made up where the app names none",
    "an hour's cache writes are not told from those of five minutes",
    "a stream is not told from a plain call but by its first token's time",
    "no total of tokens: xAI's chat counts reasoning on top of its output, and nothing tells that",
)


def is_theirs(span: Span) -> bool:
    """Whether pydantic-ai wrote it."""
    return span.scope == "pydantic-ai"


def read(span: Span, content: bool) -> Facts | None:
    """The call; None for agents and tools."""
    found = genai.call(NAME, span, content)
    if found is None:
        return None
    get = span.attributes.get
    found.session_id = get("session.id")
    found.reasoning_tokens = found.reasoning_tokens or count(get("gen_ai.usage.details.reasoning_tokens"))
    found.estimated_cost = cost(get("operation.cost"))
    first = seconds(get("gen_ai.client.operation.time_to_first_chunk"))
    if first is not None:
        found.stream, found.first_token_seconds = True, first
    return found

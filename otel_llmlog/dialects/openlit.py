"""openlit: the GenAI conventions, a cost from a price list it fetches, and contents as log records.

Seen with openlit 1.45.
"""

from __future__ import annotations

from otel_llmlog.dialects import genai
from otel_llmlog.dialects.facts import Facts
from otel_llmlog.dialects.span import Span
from otel_llmlog.dialects.values import cost, seconds

NAME = "openlit"
GAPS = (
    "reasoning tokens of OpenAI's chat API are not there",
    "an hour's cache writes are not told from those of five minutes",
    "its cost is 0 where it knows no price: it counts only where it is more and we know none",
)


def is_theirs(span: Span) -> bool:
    """Whether openlit wrote it."""
    return span.scope.startswith("openlit")


def read(span: Span, content: bool) -> Facts | None:
    """The call; None for its agents, tools, databases and frameworks."""
    found = genai.call(NAME, span, content)
    if found is None:
        return None
    get = span.attributes.get
    found.estimated_cost = cost(get("gen_ai.usage.cost"))
    found.end_user = found.end_user or get("gen_ai.request.user")
    if found.stream and found.first_token_seconds is None:
        found.first_token_seconds = seconds(get("gen_ai.server.time_to_first_token"))
    return found

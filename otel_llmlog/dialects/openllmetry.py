"""OpenLLMetry (Traceloop): the GenAI conventions, with names of its own beside them.

Seen with opentelemetry-instrumentation-openai and -anthropic 0.62.
"""

from __future__ import annotations

from otel_llmlog.dialects import genai
from otel_llmlog.dialects.facts import Facts
from otel_llmlog.dialects.span import Span

NAME = "openllmetry"
GAPS = (
    "streams of OpenAI's chat API have no reasoning tokens",
    "streams of Anthropic count a token or so of output too many",
    "an hour's cache writes are not told from those of five minutes",
    "spans of Anthropic calls are no parents of what is inside them",
)
LEGACY = "llm.request.type"
_SCOPE = "opentelemetry.instrumentation."
# Scopes of the same beginning that are OpenTelemetry's own instrumentations.
_OFFICIAL = ("genai.", "openai_v2", "google_genai")
_OPERATIONS = {"chat": "chat", "completion": "text_completion", "embedding": "embeddings", "rerank": "rerank"}


def is_theirs(span: Span) -> bool:
    """Whether OpenLLMetry wrote it."""
    scope = span.scope
    return scope.startswith(_SCOPE) and not scope.startswith(_OFFICIAL, len(_SCOPE))


def read(span: Span, content: bool) -> Facts | None:
    """The call; None for workflows, tasks, agents and tools."""
    get = span.attributes.get
    legacy = get(LEGACY)
    found = genai.call(NAME, span, content, _OPERATIONS.get(legacy) if legacy.__class__ is str else None)
    if found is None:
        return None
    found.api_base = get("gen_ai.openai.api_base")
    properties = "traceloop.association.properties."
    found.session_id = found.session_id or get(f"{properties}session_id") or get(f"{properties}chat_id")
    found.user_id = found.user_id or get(f"{properties}user_id")
    found.end_user = found.end_user or get("gen_ai.user") or get("llm.user")
    kept = {key[len(properties) :]: value for key, value in span.attributes.items() if key.startswith(properties)}
    found.metadata = kept or None
    return found

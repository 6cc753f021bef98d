"""The Vercel AI SDK: `ai.*` beside some of the GenAI conventions. Requests are the spans `….doGenerate` and the like.

Seen with ai 5.0 and @ai-sdk/openai 2.0.
https://ai-sdk.dev/docs/ai-sdk-core/telemetry
"""

from __future__ import annotations

from typing import Any

from otel_llmlog.dialects import genai
from otel_llmlog.dialects.facts import Facts
from otel_llmlog.dialects.span import CLIENT, Span
from otel_llmlog.dialects.values import count, mapping, names, seconds, word

NAME = "vercel"
GAPS = (
    "generateText of version 5 has neither cache nor reasoning tokens: what was cached is priced as if it was not",
    "the server's name is not there: a provider behind another base URL is the one the SDK was told",
    "an hour's cache writes are not told from those of five minutes",
)
OPERATION = "ai.operationId"
_OPERATIONS = {"doGenerate": "chat", "doStream": "chat", "doEmbed": "embeddings"}
_METADATA = "ai.telemetry.metadata."


def read(span: Span, content: bool) -> Facts | None:
    """The call; None for the spans around it, which repeat its counts, and for tools."""
    get = span.attributes.get
    named = get(OPERATION)
    operation = _OPERATIONS.get(named.rpartition(".")[2]) if named.__class__ is str else None
    if operation is None:
        # The SDK's newer spans are the conventions' own.
        if get(genai.OPERATION) not in ("chat", "embeddings") or span.kind != CLIENT:
            return None
        operation = str(get(genai.OPERATION))
    found = genai.facts(NAME, span, operation, content)
    # Its own counts are whole, whatever the provider's rule; the conventions' ones beside them may be older.
    given = count(_first(get, "ai.usage.inputTokens", "ai.usage.promptTokens", "ai.usage.tokens"))
    output = count(_first(get, "ai.usage.outputTokens", "ai.usage.completionTokens"))
    found.input_tokens = found.input_tokens if given is None else given
    found.output_tokens = found.output_tokens if output is None else output
    read_tokens = _first(get, "ai.usage.inputTokenDetails.cacheReadTokens", "ai.usage.cachedInputTokens")
    found.cache_read_tokens = found.cache_read_tokens or count(read_tokens)
    written = get("ai.usage.inputTokenDetails.cacheWriteTokens")
    found.cache_write_tokens = found.cache_write_tokens or count(written)
    reasoned = _first(get, "ai.usage.outputTokenDetails.reasoningTokens", "ai.usage.reasoningTokens")
    found.reasoning_tokens = found.reasoning_tokens or count(reasoned)
    found.total_tokens = found.total_tokens or count(get("ai.usage.totalTokens"))
    found.provider = get("ai.model.provider") or found.provider
    found.request_model = found.request_model or get("ai.model.id")
    found.response_model = found.response_model or get("ai.response.model")
    found.response_id = found.response_id or get("ai.response.id")
    if not found.finish_reasons and (reason := word(get("ai.response.finishReason"))):
        found.finish_reasons = [reason]
    first = seconds(get("ai.response.msToFirstChunk"))
    found.stream = str(named).endswith(".doStream") or found.stream
    if first is not None:
        found.stream, found.first_token_seconds = True, first / 1000
    _caller(found, span)
    if content:
        found.messages = found.messages or get("ai.prompt.messages") or get("ai.prompt")
        tools, text = get("ai.response.toolCalls"), get("ai.response.text")
        found.response = found.response or ({"text": text, "toolCalls": tools} if tools else text)
    return found


def _caller(found: Facts, span: Span) -> None:
    said = {k[len(_METADATA) :]: v for k, v in span.attributes.items() if k.startswith(_METADATA)}
    if not said:
        return
    found.session_id = found.session_id or said.pop("sessionId", None)
    found.user_id = found.user_id or said.pop("userId", None)
    found.tags = names(said.pop("tags", None)) or None
    found.metadata = mapping(said) or None


def _first(get: Any, *keys: str) -> Any:
    return next((value for key in keys if (value := get(key)) is not None), None)

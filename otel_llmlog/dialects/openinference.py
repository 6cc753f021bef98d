"""OpenInference (Arize Phoenix): `openinference.span.kind` and `llm.*`.

Seen with openinference-instrumentation-openai 0.1.66 and -anthropic 3.1.
https://github.com/Arize-ai/openinference/blob/main/spec/semantic_conventions.md
"""

from __future__ import annotations

import re
from typing import Any

from otel_llmlog.dialects import genai
from otel_llmlog.dialects.facts import Facts
from otel_llmlog.dialects.span import Span
from otel_llmlog.dialects.values import cost, count, mapping, names, word

NAME = "openinference"
GAPS = (
    "the response id of a streamed chat is not there",
    "the server's name is not there: a provider behind another base URL is the SDK's vendor",
    "an hour's cache writes are not told from those of five minutes",
    "a failed call of OpenAI has its model among the invocation parameters alone",
)
KIND = "openinference.span.kind"
_OPERATIONS = {"LLM": "chat", "EMBEDDING": "embeddings", "RERANKER": "rerank"}
# The id that a reply begins with. Nothing else of the reply is looked at without content.
_ID = re.compile(r'\{\s*"id"\s*:\s*"([A-Za-z0-9_.:-]{1,128})"')


def read(span: Span, content: bool) -> Facts | None:
    """The call; None for chains, agents, tools, retrievers and guardrails."""
    get = span.attributes.get
    kind = get(KIND)
    operation = _OPERATIONS.get(kind.upper()) if kind.__class__ is str else None
    if operation is None:
        return None
    parameters = mapping(get("llm.invocation_parameters") or get("embedding.invocation_parameters"))
    found = Facts(
        NAME,
        operation,
        provider=get("llm.provider") or get("llm.system"),
        request_model=get("llm.request.model_name") or parameters.get("model") or _model(get),
        response_model=get("llm.response.model_name") or _model(get),
        input_tokens=count(get("llm.token_count.prompt")),
        output_tokens=count(get("llm.token_count.completion")),
        cache_read_tokens=count(get("llm.token_count.prompt_details.cache_read")),
        cache_write_tokens=count(get("llm.token_count.prompt_details.cache_write")),
        input_audio_tokens=count(get("llm.token_count.prompt_details.audio")),
        output_audio_tokens=count(get("llm.token_count.completion_details.audio")),
        reasoning_tokens=count(get("llm.token_count.completion_details.reasoning")),
        total_tokens=count(get("llm.token_count.total")),
        estimated_cost=cost(get("llm.cost.total")),
        session_id=get("session.id"),
        user_id=get("user.id"),
        end_user=parameters.get("user"),
        tags=names(get("tag.tags")),
        metadata=mapping(get("metadata")),
        stream=parameters.get("stream") is True,
        finish_reasons=[reason for reason in [word(get("llm.finish_reason"))] if reason],
        parameters={name: value for name, value in parameters.items() if value.__class__ in _NUMBERS},
    )
    if (answer := get("output.value")).__class__ is str and (began := _ID.match(answer)):
        found.response_id = began[1]
    for event in span.events:
        if event.name == "First Token Stream Event":
            found.stream, found.first_token_seconds = True, (event.time_ns - span.start_ns) / 1e9
            break
    genai.fail(found, span, content)
    if content:
        given = span.attributes
        found.messages = genai.indexed(given, "llm.input_messages.") or get("input.value")
        found.response = genai.indexed(given, "llm.output_messages.") or get("output.value")
        if operation == "embeddings":
            found.response = None
    return found


_NUMBERS = frozenset({int, float, bool})


def _model(get: Any) -> Any:
    return get("llm.model_name") or get("embedding.model_name") or get("reranker.model_name")

"""OpenAI's wire format: chat completions, completions, responses, embeddings; and every host that speaks it.

Sources of the field mappings, as the SDK's types have them:
- chat, completions, embeddings: openai.types.{chat.ChatCompletion, Completion, CompletionUsage},
  openai.types.CreateEmbeddingResponse
- responses: openai.types.responses.{Response, ResponseUsage, ResponseStreamEvent}
- Groq's `x_groq`, OpenRouter's `usage.cost`, Perplexity's `usage.cost.total_cost`, xAI's `usage.cost_in_usd_ticks`:
  the vendors' API references.
- Perplexity's `reasoning_tokens` and `num_search_queries`, xAI's reasoning on top of its completion tokens: their
  extractors in genai-prices' provider data.
- built-in tools of responses: openai.types.responses.{ResponseFunctionWebSearch, ResponseFileSearchToolCall,
  ResponseCodeInterpreterToolCall}
- Mistral: mistralai.client.models.{UsageInfo, CompletionChunk, HTTPValidationError}
- Together: together.types.chat.ChatCompletionUsage
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from otel_llmlog import redact
from otel_llmlog.providers import brief, lenient
from otel_llmlog.providers.facts import Endpoint, ErrorFacts, RequestFacts, ResponseFacts, has
from otel_llmlog.providers.lenient import items, mapping, text, word
from otel_llmlog.providers.openai_streams import read_chat_stream, read_responses_stream
from otel_llmlog.providers.openai_usage import ended_badly, error_of, failed, tier_of, usage_of, with_tools

# Parameters that cannot hold content: kept also when content is off.
_SWITCHES = frozenset({
    "temperature", "top_p", "top_k", "n", "best_of", "max_tokens", "max_completion_tokens", "max_output_tokens",
    "presence_penalty", "frequency_penalty", "repetition_penalty", "min_p", "seed", "logprobs", "top_logprobs", "echo",
    "stream", "store", "background", "parallel_tool_calls", "max_tool_calls", "dimensions", "encoding_format",
    "service_tier", "reasoning_effort", "verbosity", "truncation", "tool_choice", "modalities",
})  # fmt: skip
# Fields that are not parameters of the model: the conversation, and who is talking.
_NOT_PARAMETERS = frozenset({
    "model", "messages", "prompt", "input", "instructions", "suffix", "user", "metadata", "previous_response_id",
    "conversation", "litellm_session_id", "litellm_trace_id", "safety_identifier", "extra_headers",
})  # fmt: skip
_IDENTITY = ("metadata", "litellm_session_id", "litellm_trace_id", "litellm_metadata")
_DEPLOYMENT = re.compile(r"/openai/deployments/([^/]+)/")
_ID = re.compile(r"[A-Za-z0-9_.:-]{1,512}")


def read_request(body: bytes, path: str, content: bool) -> RequestFacts:
    """Read the body of a request to any of the four APIs."""
    reading = lenient.read_object(body)
    model = redact.model(reading.get("model")) or deployment(path)
    stream = reading.get("stream") is True
    options = mapping(reading.get("stream_options")) if stream else {}
    return RequestFacts(
        model=model,
        stream=stream,
        messages=_messages(reading) if content else None,
        parameters=_parameters(reading, content),
        end_user=redact.name(reading.get("user")) or redact.name(reading.get("safety_identifier")),
        identity={name: value for name in _IDENTITY if (value := reading.get(name)) is not None},
        previous_response_id=redact.name(reading.get("previous_response_id")),
        conversation_id=_conversation(reading.get("conversation")) if path.rstrip("/").endswith("/responses") else None,
        # The Responses API always sends usage; its requests have `input`, never `messages` or `prompt` text.
        usage_asked=not stream or options.get("include_usage") is True or path.rstrip("/").endswith("/responses"),
        notes=(f"request: {reading.note}",) if reading.note else (),
    )


def deployment(path: str) -> str | None:
    """What Azure's URL names where the body names no model."""
    found = _DEPLOYMENT.search(path)
    return redact.model(found[1]) if found else None


def _conversation(given: Any) -> str | None:
    """Its id, which requests give as text or as `{"id": …}`. Whatever else stands there could be content."""
    named = given.get("id") if isinstance(given, dict) else given
    return named if isinstance(named, str) and _ID.fullmatch(named) else None


def _parameters(reading: lenient.Reading, content: bool) -> dict[str, Any]:
    if content:
        return {name: reading.get(name) for name in reading.fields if name not in _NOT_PARAMETERS}
    kept = {
        name: value
        for name in reading.fields
        if name in _SWITCHES and (value := _switch(reading.get(name))) is not None
    }
    if effort := word(mapping(reading.get("reasoning")).get("effort")):
        kept["reasoning_effort"] = effort
    if kind := word(mapping(reading.get("response_format")).get("type")):
        kept["response_format"] = kind
    if tools := items(reading.get("tools")):
        kept["tool_count"] = len(tools)
    return kept


def _switch(value: Any) -> Any:
    """The value if it is a number, a switch or an enum value, so that it cannot hold content."""
    if isinstance(value, bool | int | float):
        return redact.storable(value)
    if isinstance(value, list):
        return [w for item in value if (w := word(item))] or None
    return word(value)


def _messages(reading: lenient.Reading) -> Any:
    for name in ("messages", "prompt"):
        if (found := reading.get(name)) is not None:
            return found
    given, instructions = reading.get("input"), reading.get("instructions")
    if instructions is None:
        return given
    turns = given if isinstance(given, list) else [{"role": "user", "content": given}]
    return [{"role": "system", "content": instructions}, *turns]


def read_response(body: bytes, content: bool) -> ResponseFacts:
    """Read the body of a 2xx reply to any of the four APIs."""
    reading = lenient.read_object(body)
    usage = reading.get("usage")
    output = items(reading.get("choices"))
    reasons = tuple(r for c in output if (r := word(mapping(c).get("finish_reason"))))
    status = reading.get("status")
    if not reasons and (reason := _responses_reason(reading)):
        reasons = (reason,)
    # The API field `status` exists in Responses only; a background call has no usage yet.
    notes = [reading.note] if reading.note else []
    if status in ("queued", "in_progress"):
        notes.append("the response runs in the background: its usage comes with a later retrieval")
    return ResponseFacts(
        id=redact.name(reading.get("id")),
        model=redact.model(reading.get("model")),
        usage=tier_of(
            with_tools(usage_of(usage), reading.get("output"), reading.get("tools")), reading.get("service_tier")
        ),
        finish_reasons=reasons,
        complete=reading.note is None,
        response=reading.whole() if content else None,
        error=error_of(reading.get("error")) or failed(status) or ended_badly(reasons),
        notes=(*notes, *(lenient.odd_counts(usage) if isinstance(usage, dict) else ())),
    )


def _responses_reason(reading: lenient.Reading) -> str | None:
    details = mapping(reading.get("incomplete_details"))
    return word(details.get("reason")) or word(reading.get("status"))


def read_error(body: bytes) -> ErrorFacts:
    """Read an error body: `{"error": {…}}`, or the same fields at the top as some hosts send them.

    Google's hosts put it into an array of one; Mistral's tell what is wrong with a request in a list, `detail`.
    """
    reading = lenient.read_object(lenient.unwrapped(body))
    found = error_of(reading.get("error"))
    if found is None and (wrong := mapping(next(iter(items(reading.get("detail"))), None))):
        return ErrorFacts(word(wrong.get("type")), redact.clean(text(wrong.get("msg"))) or None)
    return found or error_of(reading.whole()) or ErrorFacts()


def refine_served(facts: ResponseFacts, headers: Mapping[str, str]) -> ResponseFacts:
    """The model behind a deployment: Azure's Responses API says it in a header, and repeats the deployment's name."""
    served = redact.model(headers.get("x-ms-served-model"))
    return replace(facts, model=served) if served else facts


def read_embeddings(body: bytes, content: bool) -> ResponseFacts:
    """Read an embeddings reply. The vectors are never kept: they are no text, and they are large."""
    facts = read_response(body, content=False)
    if not content:
        return facts
    reading = lenient.read_object(body)
    kept = {name: reading.get(name) for name in reading.fields if name != "data"}
    return replace(facts, response=kept)


def _endpoint(
    api: str, operation: str, call_type: str, accepts: Any, read_body: Any, read_stream: Any, briefly: brief.Brief
) -> Endpoint:
    return Endpoint(
        "openai",
        api,
        operation,
        (call_type, "a" + call_type),
        accepts,
        read_request,
        read_body,
        read_stream,
        read_error,
        brief=briefly,
    )


# By the last segment of the path. The body must have the shape, too: /messages, /responses and the like are
# common names, and a request that is no LLM call passes untouched.
CHAT = _endpoint("chat", "chat", "completion", has(b'"messages"'), read_response, read_chat_stream, brief.of_chat)
COMPLETIONS = _endpoint(
    "completions",
    "text_completion",
    "text_completion",
    has(b'"prompt"'),
    read_response,
    read_chat_stream,
    brief.of_chat,
)
RESPONSES = replace(
    _endpoint(
        "responses",
        "chat",
        "responses",
        has(b'"model"', b'"input"'),
        read_response,
        read_responses_stream,
        brief.of_response,
    ),
    refine=refine_served,
)
EMBEDDINGS = _endpoint(
    "embeddings", "embeddings", "embedding", has(b'"input"'), read_embeddings, read_chat_stream, brief.of_embeddings
)

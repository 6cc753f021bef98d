"""OpenTelemetry's GenAI conventions, the current and the older names, as the official instrumentations write them.

The names moved to open-telemetry/semantic-conventions-genai, and the published constants are older: they are written
out here. Other dialects that build on these conventions read them with `call` and put their own on top.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from otel_llmlog.dialects.call import OPERATIONS
from otel_llmlog.dialects.facts import Facts
from otel_llmlog.dialects.span import ERROR, Span
from otel_llmlog.dialects.values import class_name, count, flag, items, json_of, seconds, word, words

NAME = "genai"
GAPS: tuple[str, ...] = (
    "a stream that was not asked for its usage has no tokens",
    "an hour's cache writes are not told from those of five minutes",
    "no total of tokens: xAI's chat counts reasoning on top of its output, and nothing tells that",
)

OPERATION = "gen_ai.operation.name"
_PARAMETERS = (
    ("gen_ai.request.temperature", "temperature"),
    ("gen_ai.request.top_p", "top_p"),
    ("gen_ai.request.top_k", "top_k"),
    ("gen_ai.request.max_tokens", "max_tokens"),
    ("gen_ai.request.frequency_penalty", "frequency_penalty"),
    ("gen_ai.request.presence_penalty", "presence_penalty"),
    ("gen_ai.request.seed", "seed"),
    ("gen_ai.request.choice.count", "n"),
    ("gen_ai.openai.request.seed", "seed"),
    ("gen_ai.request.reasoning.level", "reasoning_effort"),
)


def read(span: Span, content: bool) -> Facts | None:
    """The call; None for agents, tools, workflows and everything else."""
    return call(NAME, span, content)


def call(dialect: str, span: Span, content: bool, legacy: str | None = None) -> Facts | None:
    """What a span says in the words of the conventions; None when its operation is none of ours.

    `legacy`: its operation by an older name that only the dialect knows, for spans that have no other.
    """
    operation = span.attributes.get(OPERATION)
    if operation is None:
        operation = legacy
    if operation.__class__ is not str or operation not in OPERATIONS:
        return None
    return facts(dialect, span, operation, content)


def facts(dialect: str, span: Span, operation: str, content: bool) -> Facts:
    """The same of a span that is known to be a call."""
    get = span.attributes.get
    read = _first(get, "gen_ai.usage.cache_read.input_tokens", "gen_ai.usage.cache_read_input_tokens")
    write = _first(
        get,
        "gen_ai.usage.cache_write.input_tokens",
        "gen_ai.usage.cache_creation.input_tokens",
        "gen_ai.usage.cache_creation_input_tokens",
    )
    found = Facts(
        dialect,
        operation,
        provider=_first(get, "gen_ai.provider.name", "gen_ai.system"),
        host=get("server.address"),
        port=get("server.port"),
        request_model=get("gen_ai.request.model"),
        response_model=get("gen_ai.response.model"),
        input_tokens=count(_first(get, "gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens")),
        output_tokens=count(_first(get, "gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens")),
        cache_read_tokens=count(read),
        cache_write_tokens=count(write),
        reasoning_tokens=count(_first(get, "gen_ai.usage.reasoning.output_tokens", "gen_ai.usage.reasoning_tokens")),
        total_tokens=count(_first(get, "gen_ai.usage.total_tokens", "llm.usage.total_tokens")),
        service_tier=_first(get, "openai.response.service_tier", "gen_ai.openai.response.service_tier"),
        response_id=get("gen_ai.response.id"),
        previous_response_id=get("gen_ai.request.previous_response.id"),
        session_id=_first(get, "gen_ai.conversation.id", "session.id"),
        user_id=get("user.id"),
        end_user=_first(get, "enduser.id", "enduser.pseudo.id", "gen_ai.openai.request.user"),
        stream=flag(_first(get, "gen_ai.request.stream", "llm.is_streaming", "gen_ai.is_streaming")),
        first_token_seconds=seconds(get("gen_ai.response.time_to_first_chunk")),
        finish_reasons=words(get("gen_ai.response.finish_reasons")),
    )
    found.responses_api = get("openai.api.type") == "responses" or found.previous_response_id is not None
    for key, name in _PARAMETERS:
        value = get(key)
        if value.__class__ is float or value.__class__ is int or value.__class__ is bool:
            found.parameters[name] = value
        elif value is not None and (said := word(value)) is not None:
            found.parameters[name] = said
    fail(found, span, content)
    if content:
        found.messages = _messages(span.attributes)
        found.response = _answer(span.attributes)
    return found


def fail(found: Facts, span: Span, content: bool) -> None:
    """Note how the call failed, if it did: `error.type`, the span's status, its exception event."""
    kind = span.attributes.get("error.type")
    if span.status != ERROR and kind is None:
        return
    found.failed = True
    said = class_name(kind)
    if said is not None and said.isdigit():
        found.error_code, said = said, None
    for event in span.events:
        if event.name != "exception":
            continue
        given = event.attributes
        said = class_name(given.get("exception.type")) or said
        if content:
            found.error_message = given.get("exception.message")
            found.traceback = given.get("exception.stacktrace")
    found.error_class = None if said == "_OTHER" else said
    if found.error_code is None:
        status = count(_first(span.attributes.get, "http.response.status_code", "http.status_code"))
        found.error_code = str(status) if status and 100 <= status < 600 else None
    if content and found.error_message is None:
        found.error_message = span.status_message or None


def _first(get: Any, *names: str) -> Any:
    for name in names:
        if (value := get(name)) is not None:
            return value
    return None


def _messages(given: Mapping[str, Any]) -> Any:
    messages, system = given.get("gen_ai.input.messages"), given.get("gen_ai.system_instructions")
    if messages is None:
        return indexed(given, "gen_ai.prompt.")
    return messages if system is None else with_system(messages, system)


def _answer(given: Mapping[str, Any]) -> Any:
    answer = given.get("gen_ai.output.messages")
    return indexed(given, "gen_ai.completion.") if answer is None else answer


def with_system(messages: Any, system: Any) -> Any:
    """The messages with the system's instructions, which the conventions keep apart, as the first of them."""
    found = json_of(system)
    first = {"role": "system", "parts": system if found is None else found}
    return [first, *items(messages)]


def indexed(given: Mapping[str, Any], prefix: str, most: int = 1000) -> list[dict[str, Any]] | None:
    """Messages spread over attributes, `gen_ai.prompt.0.role`, put together again; None when there are none."""
    found: dict[int, dict[str, Any]] = {}
    for key, value in given.items():
        if not key.startswith(prefix):
            continue
        number, _, name = key[len(prefix) :].partition(".")
        if name and number.isascii() and number.isdigit() and len(number) < 6 and value is not None:
            found.setdefault(int(number), {})[name] = value
    return [found[number] for number in sorted(found)[:most]] or None

"""Langfuse's SDK: `langfuse.observation.*`. Counts and costs are JSON objects in the shape of whoever filled them in.

Seen with langfuse 5.0. Its span is no parent of what is inside it: the store joins the two by time.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from otel_llmlog.dialects import genai
from otel_llmlog.dialects.facts import Facts
from otel_llmlog.dialects.span import Span
from otel_llmlog.dialects.values import cost, count, items, json_of, mapping, names, word

NAME = "langfuse"
GAPS = (
    "the response id is not there, but for streams of the Responses API",
    "the provider is not there: it is the vendor that the model's name begins like",
    "an hour's cache writes are not told from those of five minutes",
    "the class of an error is not there",
    "spans are no parents of what is inside them",
)
TYPE = "langfuse.observation.type"
_OPERATIONS = {"generation": "chat", "embedding": "embeddings"}
_SAYS = "langfuse.observation."
_METADATA = "langfuse.observation.metadata."


def read(span: Span, content: bool) -> Facts | None:
    """The call; None for spans, agents, tools, chains, retrievers, evaluators and events."""
    get = span.attributes.get
    kind = get(TYPE)
    operation = _OPERATIONS.get(kind) if kind.__class__ is str else None
    if operation is None:
        return None
    model = get(f"{_SAYS}model.name")
    parameters = mapping(get(f"{_SAYS}model.parameters"))
    found = Facts(
        NAME,
        operation,
        request_model=model,
        response_model=model,
        session_id=get("session.id") or get("langfuse.session.id"),
        user_id=get("user.id") or get("langfuse.user.id"),
        tags=names(get("langfuse.trace.tags")),
        parameters={name: value for name, value in parameters.items() if value.__class__ in {int, float, bool}},
        stated_cost=cost(mapping(get(f"{_SAYS}cost_details")).get("total")),
    )
    _count(found, mapping(get(f"{_SAYS}usage_details")))
    response_id = json_of(f"[{said}]") if (said := get(f"{_METADATA}id")).__class__ is str else None
    if response_id and str(response_id[0]).startswith("resp_"):
        found.response_id = response_id[0]
    if reason := word(items(get(f"{_METADATA}finish_reason"))[:1] and items(get(f"{_METADATA}finish_reason"))[0]):
        found.finish_reasons = [reason]
    first = _seconds_from(span.start_ns, get(f"{_SAYS}completion_start_time"))
    if first is not None:
        found.stream, found.first_token_seconds = True, first
    genai.fail(found, span, content)
    if get(f"{_SAYS}level") == "ERROR":
        found.failed = True
        if content:
            found.error_message = found.error_message or get(f"{_SAYS}status_message")
    if content:
        found.messages, found.response = get(f"{_SAYS}input"), get(f"{_SAYS}output")
    return found


def _count(found: Facts, usage: Mapping[str, Any]) -> None:
    read = mapping(usage.get("prompt_tokens_details") or usage.get("input_tokens_details"))
    wrote = mapping(usage.get("completion_tokens_details") or usage.get("output_tokens_details"))

    def first(*keys: str) -> int | None:
        return next((number for key in keys if (number := count(usage.get(key))) is not None), None)

    found.input_tokens = first("prompt_tokens", "input_tokens", "input")
    found.output_tokens = first("completion_tokens", "output_tokens", "output")
    cached = first("cache_read_input_tokens", "input_cached_tokens", "input_cache_read")
    found.cache_read_tokens = cached if cached is not None else count(read.get("cached_tokens"))
    found.cache_write_tokens = first("cache_creation_input_tokens", "input_cache_creation") or count(
        read.get("cache_write_tokens")
    )
    # Langfuse's own shape, and Anthropic's, count what was cached beside the input.
    found.input_excludes_cache = cached is not None and "prompt_tokens" not in usage
    found.reasoning_tokens = first("output_reasoning_tokens") or count(wrote.get("reasoning_tokens"))
    if "output" in usage and found.reasoning_tokens and "output_reasoning_tokens" in usage:
        found.output_tokens = (found.output_tokens or 0) + found.reasoning_tokens
    found.total_tokens = first("total_tokens", "total")
    found.input_audio_tokens, found.output_audio_tokens = (
        count(read.get("audio_tokens")),
        count(wrote.get("audio_tokens")),
    )


def _seconds_from(start_ns: int, said: Any) -> float | None:
    if said.__class__ is not str or len(said) > 64:
        return None
    try:
        at = datetime.fromisoformat(said.strip('"')).timestamp()
    except (ValueError, OverflowError, OSError):
        return None
    after = at - start_ns / 1e9
    return after if 0 <= after < 1e6 else None

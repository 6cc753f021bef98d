"""What replies of OpenAI's format say in all its APIs: usage, tools that are billed, costs, errors. Pure.

Sources: see `openai`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from otel_llmlog import redact
from otel_llmlog.payload import Usage, addable, milliseconds, total
from otel_llmlog.providers.facts import ErrorFacts
from otel_llmlog.providers.lenient import enum, integer, items, mapping, text, word

# xAI states its price in ticks of this size (US dollars).
_XAI_TICK = Decimal("1e-10")
# Fields of ours, and those of the details of input and output that they are read from.
_OF_INPUT = (
    ("cache_write_tokens", "cache_write_tokens"),
    ("input_audio_tokens", "audio_tokens"),
    ("input_image_tokens", "image_tokens"),
)
_OF_OUTPUT = (
    ("output_audio_tokens", "audio_tokens"),
    ("output_image_tokens", "image_tokens"),
    ("accepted_prediction_tokens", "accepted_prediction_tokens"),
    ("rejected_prediction_tokens", "rejected_prediction_tokens"),
)


def usage_of(found: Any) -> Usage | None:
    """A usage object of any of the four APIs; None when there is none.

    `prompt_tokens` / `input_tokens` include cached ones already, as the GenAI conventions count.
    """
    if not isinstance(found, dict) or not found:
        return None
    read = mapping(found.get("prompt_tokens_details") or found.get("input_tokens_details"))
    wrote = mapping(found.get("completion_tokens_details") or found.get("output_tokens_details"))
    asked = integer(found.get("prompt_tokens", found.get("input_tokens")))
    said = integer(found.get("completion_tokens", found.get("output_tokens")))
    reasoning = integer(wrote.get("reasoning_tokens"))
    # xAI's chat API counts reasoning on top of completion tokens, unlike everybody else: its total tells.
    if reasoning > 0 and integer(found.get("total_tokens")) == asked + said + reasoning:
        said = total(said, reasoning)
    if "reasoning_tokens" in found and isinstance(found.get("cost"), dict):
        # So does Perplexity, whose total has no room for it.
        reasoning = addable(found["reasoning_tokens"])
        said = total(said, reasoning)
    cached = read.get("cached_tokens") or found.get("prompt_cache_hit_tokens") or found.get("cached_tokens")
    return Usage(
        input_tokens=asked,
        output_tokens=said,
        cache_read_tokens=integer(cached),
        reasoning_tokens=reasoning,
        web_search_requests=integer(found.get("num_search_queries")),
        web_search_context_size=word(found.get("search_context_size")),
        # Mistral, of audio in a chat.
        input_audio_ms=milliseconds(found.get("prompt_audio_seconds")),
        service_tier=word(found.get("service_tier")),
        source="provider",
        stated_cost=_stated_cost(found),
        # Nearly all of them are 0, which is what is not said.
        **{name: integer(value) for name, detail in _OF_INPUT if (value := read.get(detail))},
        **{name: integer(value) for name, detail in _OF_OUTPUT if (value := wrote.get(detail))},
    )


def with_tools(usage: Usage | None, output: Any, tools: Any) -> Usage | None:
    """The usage, and how often the response called built-in tools that are billed by the call.

    A response repeats the tools of its request: a container that is named there was not made for this call.
    """
    if usage is None or not (calls := [mapping(item) for item in items(output)]):
        return usage
    given = [mapping(tool) for tool in items(tools)]
    named = {name for tool in given if isinstance(name := tool.get("container"), str)}
    made = {
        name
        for call in calls
        if call.get("type") == "code_interpreter_call" and isinstance(name := call.get("container_id"), str)
    }
    sizes = [size for tool in given if (size := word(tool.get("search_context_size")))]
    found = {
        "web_search_requests": sum(
            # Opening a page that was found costs nothing.
            call.get("type") == "web_search_call" and mapping(call.get("action")).get("type", "search") == "search"
            for call in calls
        ),
        "file_search_requests": sum(call.get("type") == "file_search_call" for call in calls),
        "code_interpreter_sessions": len(made - named),
    }
    if not any(found.values()):
        return usage
    size = sizes[0] if sizes and found["web_search_requests"] else usage.web_search_context_size
    return usage.model_copy(update={**found, "web_search_context_size": size})


def _stated_cost(usage: Mapping[str, Any]) -> Decimal | None:
    """US dollars that OpenRouter, Perplexity or xAI state. A zero often means "not priced", so it says nothing."""
    cost = usage.get("cost")
    stated = cost.get("total_cost") if isinstance(cost, dict) else cost
    if _positive(stated):
        return Decimal(repr(stated))
    ticks = usage.get("cost_in_usd_ticks")
    return Decimal(repr(ticks)) * _XAI_TICK if _positive(ticks) else None


def _positive(value: Any) -> bool:
    # Above a million dollars a call it is a broken or hostile number.
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1e16


def tier_of(usage: Usage | None, tier: Any) -> Usage | None:
    name = word(tier)
    return usage.model_copy(update={"service_tier": name}) if usage is not None and name else usage


def error_of(found: Any) -> ErrorFacts | None:
    """`{message, type, code}`, as in an error body or inside a stream."""
    if found is None:
        return None
    if isinstance(found, str):
        return ErrorFacts(None, redact.clean(found) or None)
    fields = mapping(found)
    status = fields.get("status")
    # Google has a number for a code, and the word in `status`.
    named = enum(status) if isinstance(status, str) else None
    kind = named or word(fields.get("code")) or word(fields.get("type")) or word(status)
    return ErrorFacts(kind, redact.clean(text(fields.get("message"))) or None)


def ended_badly(reasons: Sequence[str]) -> ErrorFacts | None:
    """Mistral and OpenRouter end a choice with `error` when its model failed."""
    return ErrorFacts("error") if "error" in reasons else None


def failed(status: Any) -> ErrorFacts | None:
    """A response may say that it failed, and not why."""
    return ErrorFacts() if status == "failed" else None

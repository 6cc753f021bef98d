"""Facts that a dialect read -> attributes of our own dialect, priced. The one way of every foreign call to its row.

Always true: `llmlog.decode` reads what is returned; tokens follow the GenAI convention's rule (input includes cache
reads and writes, output includes reasoning); a cost is exact and says where it is from, or is absent with a reason;
without content no text of a message, an answer or an error is kept. This is the hot path of the sink: attributes are
written as text at once, and what repeats (names, price entries) is looked up once.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from functools import lru_cache
from typing import Any

import msgspec

from otel_llmlog import redact
from otel_llmlog.dialects.facts import Facts
from otel_llmlog.dialects.llmlog import Attributes
from otel_llmlog.dialects.span import Span
from otel_llmlog.dialects.values import json_of, word
from otel_llmlog.payload import MAX_COUNT, StandardLoggingModelInformation, Usage
from otel_llmlog.pricing import Cost, Pricer
from otel_llmlog.providers import hosts

# LiteLLM's names of calls, by `gen_ai.operation.name`; whether a call was async no span tells.
_CALL_TYPES = {
    "chat": "completion",
    "text_completion": "text_completion",
    "embeddings": "embedding",
    "rerank": "rerank",
    "generate_content": "generate_content",
}
OPERATIONS = frozenset(_CALL_TYPES)
# What others call the providers, where LiteLLM's slug is another word: the conventions' names, the AI SDK's, titles.
_PROVIDERS = {
    "amazon-bedrock": "bedrock",
    "aws": "bedrock",
    "aws.bedrock": "bedrock",
    "aws_bedrock": "bedrock",
    "az.ai.inference": "azure_ai",
    "az.ai.openai": "azure",
    "azure-openai": "azure",
    "azure.ai.inference": "azure_ai",
    "azure.ai.openai": "azure",
    "azure_openai": "azure",
    "fireworks": "fireworks_ai",
    "gcp.gemini": "gemini",
    "gcp.gen_ai": "gemini",
    "gcp.vertex_ai": "vertex_ai",
    "google": "gemini",
    "google-gla": "gemini",
    "google-vertex": "vertex_ai",
    "google.generative-ai": "gemini",
    "google.vertex": "vertex_ai",
    "google_genai": "gemini",
    "mistral_ai": "mistral",
    "mistralai": "mistral",
    "togetherai": "together_ai",
    "vertexai": "vertex_ai",
    "x-ai": "xai",
    "x_ai": "xai",
}
# The vendor of a model, by how its name begins: for spans that name no provider.
_VENDORS = (
    (("gpt-", "o1", "o3", "o4", "chatgpt-", "text-embedding-", "davinci", "babbage", "ft:gpt-"), "openai"),
    (("claude",), "anthropic"),
    (("gemini",), "gemini"),
    (("mistral-", "codestral", "ministral", "magistral", "pixtral"), "mistral"),
    (("grok-",), "xai"),
    (("command-",), "cohere"),
    (("deepseek-",), "deepseek"),
)
# Providers whose SDKs people point at other servers: there the server's name says more.
_WIRES = frozenset({"openai", "anthropic"})
# Scheme, user info, host, port, path.
_URL = re.compile(r"(https?)://(?:[^/?#@]*@)?(\[[0-9A-Fa-f:.]+\]|[^/?#@:\s]+)(?::(\d{1,5}))?((?:/[^?#\s]*)?)(?=[?#]|$)")
_NOTHING = StandardLoggingModelInformation()
_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Reading:
    """How foreign spans are read. Made once: it remembers prices."""

    content: bool = False
    """Keep messages, answers and what errors say."""
    max_string_length: int = 2048
    """Characters of one string of content that are kept."""
    provider_hosts: Mapping[str, str] = field(default_factory=dict)
    """Which provider stands behind a host."""
    pricer: Pricer = field(default_factory=Pricer)


def attributes(span: Span, facts: Facts, reading: Reading) -> Attributes:
    """The call as `llmlog.*` attributes."""
    name = redact.name
    model, response_model = name(facts.request_model), name(facts.response_model)
    api_base, host, port = _base(facts.api_base) if facts.api_base.__class__ is str else (None, None, None)
    if facts.host is not None:
        host, port = facts.host, facts.port
    provider = _provider(facts.provider, host, port, response_model or model, reading.provider_hosts)
    if model and (prefix := provider or facts.provider) and model.startswith(f"{prefix}/"):
        model = model[len(prefix) + 1 :] or model
    if facts.failed and not facts.input_tokens and not facts.output_tokens:
        # Some write a 0 for what nobody counted.
        facts.input_tokens = facts.output_tokens = None
    usage = _usage(facts)
    call_id = name(facts.call_id) or f"{span.trace_id}-{span.span_id}"
    # The ids of OpenAI's Responses API begin so, and no others.
    is_response = facts.responses_api or (facts.response_id.__class__ is str and facts.response_id.startswith("resp_"))
    call_type = "responses" if is_response else _CALL_TYPES.get(facts.operation, facts.operation)
    if provider == "anthropic" and call_type == "completion":
        call_type = "anthropic_messages"
    start, end = span.start_ns / 1e9, max(span.end_ns, span.start_ns) / 1e9
    first = None
    if facts.first_token_seconds is not None and start + facts.first_token_seconds <= end:
        first = start + facts.first_token_seconds
    cost, source = _cost(facts, usage, reading.pricer, provider, response_model, model, call_type, start)

    made: Attributes = {
        "llmlog.id": name(facts.response_id) or call_id,
        "llmlog.trace_id": span.trace_id,
        "llmlog.call_type": call_type,
        "llmlog.status": "failure" if facts.failed else "success",
        "llmlog.total_tokens": usage.input_tokens + usage.output_tokens,
        "llmlog.prompt_tokens": usage.input_tokens,
        "llmlog.completion_tokens": usage.output_tokens,
        "llmlog.startTime": start,
        "llmlog.endTime": end,
        "llmlog.response_time": (first or end) - start,
        "llmlog.model": model or response_model or "",
        "llmlog.call_id": call_id,
        "llmlog.operation": facts.operation,
        "llmlog.described_by": facts.dialect,
    }
    for key, value in (
        ("llmlog.session_id", facts.session_id),
        ("llmlog.previous_response_id", facts.previous_response_id),
        ("llmlog.conversation_id", facts.conversation_id),
        ("llmlog.custom_llm_provider", provider),
        ("llmlog.model_group", model),
        ("llmlog.response_model", response_model),
        ("llmlog.api_base", api_base),
        ("llmlog.end_user", facts.end_user),
        ("llmlog.metadata.user_api_key_user_id", facts.user_id),
        ("llmlog.metadata.user_api_key_team_id", facts.team_id),
        ("llmlog.metadata.user_api_key_team_alias", facts.team_alias),
        ("llmlog.metadata.user_api_key_org_id", facts.organization_id),
        ("llmlog.metadata.user_api_key_alias", facts.api_key_alias),
    ):
        if value is not None and (said := name(value)) is not None:
            made[key] = said
    _write_usage(made, usage)
    _write_cost(made, facts, cost, source)
    if facts.api_key is not None and (api_key := name(facts.api_key)):
        made["llmlog.metadata.user_api_key_hash"] = redact.key_id(api_key)
    for key, known in (
        ("llmlog.completionStartTime", first),
        ("llmlog.stream", facts.stream),
        ("llmlog.cache_hit", facts.cache_hit),
        ("llmlog.saved_cache_cost", facts.saved_cache_cost),
    ):
        if known is not None:
            made[key] = known
    if facts.finish_reasons:
        made["llmlog.finish_reasons"] = tuple(facts.finish_reasons)
    if facts.tags:
        made["llmlog.request_tags"] = tuple(facts.tags)
    if facts.parameters:
        made["llmlog.model_parameters"] = _document(facts.parameters)
    if facts.metadata:
        kept = redact.masked(redact.storable(dict(facts.metadata), redact.MAX_NAME, 8))
        made["llmlog.metadata.spend_logs_metadata"] = _document(kept)
    if facts.failed:
        _write_error(made, facts, provider, reading)
    if reading.content:
        for key, content in (("llmlog.messages", facts.messages), ("llmlog.response", facts.response)):
            if (text := content_text(content, reading.max_string_length)) is not None:
                made[key] = text
    return made


def content_text(content: Any, limit: int) -> str | None:
    """Messages or an answer as JSON text, long strings cut; None when there are none. Other text is a string."""
    if content is None or content in ("", [], {}):
        return None
    found = json_of(content)
    kept = redact.storable(content if found is None else found, limit)
    return _document(kept if isinstance(kept, str | list | dict) else str(kept))


def _document(value: Any) -> str:
    try:
        return _encode(value).decode()
    except (UnicodeEncodeError, TypeError, OverflowError, RecursionError, ValueError):
        return _encode(redact.storable(value)).decode()


@lru_cache(maxsize=256)
def _base(url: str) -> tuple[str | None, str | None, int | None]:
    """A base URL without user info and query, and its host and port."""
    found = _URL.match(url[: redact.MAX_NAME])
    if found is None:
        return None, None, None
    scheme, host, port, path = found.groups()
    base = f"{scheme}://{host}{f':{port}' if port else ''}{path.rstrip('/')}"
    return redact.base_url(base), host.strip("[]"), int(port) if port else None


def _provider(given: Any, host: Any, port: Any, model: str | None, known: Mapping[str, str]) -> str | None:
    hashable = (given, host) if given.__class__ is str or given is None else (None, host)
    if host is not None and host.__class__ is not str:
        hashable = (hashable[0], None)
    found = _named(*hashable, port if port.__class__ is int else None, tuple(known.items()) if known else ())
    return found if found is not None or model is None else _vendor(model)


# Names come again and again; so do servers.
@lru_cache(maxsize=1024)
def _named(given: str | None, host: str | None, port: int | None, known: tuple[tuple[str, str], ...]) -> str | None:
    slug = redact.name(given.strip().lower()) if given else None
    if slug is not None and slug not in _PROVIDERS:
        # The AI SDK's `openai.chat`, `anthropic.messages`, `google.vertex.chat`.
        for cut in (slug, *(slug.rsplit(".", times)[0] for times in (1, 2))):
            if cut in _PROVIDERS or cut in _WIRES:
                slug = cut
                break
    slug = _PROVIDERS.get(slug, slug) if slug else None
    if host and (slug is None or slug in _WIRES):
        found = hosts.provider(slug or "", host, port, "", "", dict(known))
        return found or None
    return slug


@lru_cache(maxsize=1024)
def _vendor(model: str) -> str | None:
    prefix, slash, rest = model.partition("/")
    if slash and rest:
        return _named(prefix, None, None, ())
    lower = model.lower()
    return next((vendor for beginnings, vendor in _VENDORS if lower.startswith(beginnings)), None)


def _usage(facts: Facts) -> Usage:
    """By one rule, whatever the dialect's own is."""
    given, output = facts.input_tokens or 0, facts.output_tokens or 0
    read, write = facts.cache_read_tokens or 0, facts.cache_write_tokens or 0
    write = max(write, facts.cache_write_1h_tokens or 0)
    # Cache reads and writes that do not fit into the input are beside it.
    if (read or write) and (facts.input_excludes_cache or read + write > given):
        given += read + write
    # So xAI counts, and the total tells: reasoning on top of the output.
    if (reasoning := facts.reasoning_tokens) and facts.total_tokens == given + output + reasoning:
        output += reasoning
    given, output = min(given, MAX_COUNT), min(output, MAX_COUNT)
    kept: dict[str, Any] = {}
    # Every part at most its total, as `Usage.bounded` has it: a copy of the whole would cost more than the rest here.
    if given:
        kept["input_tokens"] = given
        if read:
            kept["cache_read_tokens"] = read = min(read, given)
        if write and (write := min(write, given - read)):
            kept["cache_write_tokens"] = write
            if hour := min(facts.cache_write_1h_tokens or 0, write):
                kept["cache_write_1h_tokens"] = hour
        if facts.input_audio_tokens:
            kept["input_audio_tokens"] = min(facts.input_audio_tokens, given)
    if output:
        kept["output_tokens"] = output
        if facts.reasoning_tokens:
            kept["reasoning_tokens"] = min(facts.reasoning_tokens, output)
        if facts.output_audio_tokens:
            kept["output_audio_tokens"] = min(facts.output_audio_tokens, output)
    if facts.web_search_requests:
        kept["web_search_requests"] = min(facts.web_search_requests, MAX_COUNT)
    if facts.input_tokens is not None or facts.output_tokens is not None:
        kept["source"] = "provider"
    if facts.service_tier is not None and (tier := word(facts.service_tier)):
        kept["service_tier"] = tier
    return Usage(**kept)


def _cost(
    facts: Facts,
    usage: Usage,
    pricer: Pricer,
    provider: str | None,
    response_model: str | None,
    model: str | None,
    call_type: str,
    at: float,
) -> tuple[Cost, str | None]:
    """The cost, and where it is from."""
    if facts.stated_cost is not None:
        return _stated(facts.stated_cost), facts.dialect
    cost = pricer.price(
        usage,
        provider=provider,
        response_model=response_model,
        request_model=model,
        call_type=call_type,
        at=at,
        cache_hit=facts.cache_hit,
    )
    if cost.total is None and facts.estimated_cost is not None:
        return _stated(facts.estimated_cost), facts.dialect
    return cost, cost.source


def _stated(amount: Decimal) -> Cost:
    return Cost(amount, None, None, {"total": f"{amount:f}"}, _NOTHING, None)


_USAGE = (
    ("llmlog.usage.input_tokens", "input_tokens"),
    ("llmlog.usage.output_tokens", "output_tokens"),
    ("llmlog.usage.cache_read_tokens", "cache_read_tokens"),
    ("llmlog.usage.cache_write_tokens", "cache_write_tokens"),
    ("llmlog.usage.cache_write_1h_tokens", "cache_write_1h_tokens"),
    ("llmlog.usage.input_audio_tokens", "input_audio_tokens"),
    ("llmlog.usage.output_audio_tokens", "output_audio_tokens"),
    ("llmlog.usage.reasoning_tokens", "reasoning_tokens"),
    ("llmlog.usage.web_search_requests", "web_search_requests"),
    ("llmlog.usage.service_tier", "service_tier"),
    ("llmlog.usage.source", "source"),
)


def _write_usage(made: Attributes, usage: Usage) -> None:
    counted = usage.__dict__
    for key, field_name in _USAGE:
        if value := counted[field_name]:
            made[key] = value


def _write_cost(made: Attributes, facts: Facts, cost: Cost, source: str | None) -> None:
    if cost.total is not None:
        text = f"{cost.total:f}"
        made["llmlog.spend"] = text
        made["llmlog.response_cost"] = float(cost.total)
        made["llmlog.hidden_params.response_cost"] = text
        made["llmlog.cost_breakdown"] = _encode(cost.breakdown).decode()
        if source is not None:
            made["llmlog.cost_source"] = source
        if cost.version is not None:
            made["llmlog.price_version"] = cost.version
        if cost.model_information is not _NOTHING:
            made["llmlog.model_map_information.model_map_key"] = cost.model_information.model_map_key
            made["llmlog.model_map_information.model_map_value"] = _entry(cost.model_information)
        return
    failure = cost.failure
    if failure is None:
        return
    prefix = "llmlog.response_cost_failure_debug_info."
    why = failure.error_str
    if not facts.input_tokens and not facts.output_tokens:
        why = "the call failed" if facts.failed else "the span carries no usage"
    made[f"{prefix}error_str"] = why
    made[f"{prefix}model"] = failure.model
    made[f"{prefix}call_type"] = failure.call_type
    if failure.custom_llm_provider is not None:
        made[f"{prefix}custom_llm_provider"] = failure.custom_llm_provider


# Price entries as JSON text, by the entry's place in memory; the entry is held, so that the place stays its own.
_entries: dict[int, tuple[StandardLoggingModelInformation, str]] = {}


def _entry(information: StandardLoggingModelInformation) -> str:
    kept = _entries.get(id(information))
    if kept is None or kept[0] is not information:
        if len(_entries) >= 1024:
            _entries.clear()
        kept = _entries[id(information)] = information, _encode(information.model_map_value).decode()
    return kept[1]


def _write_error(made: Attributes, facts: Facts, provider: str | None, reading: Reading) -> None:
    kind = facts.error_class or "APIError"
    made["llmlog.error_str"] = f"{kind} {facts.error_code or ''}".rstrip()
    made["llmlog.error_information.error_class"] = kind
    if facts.error_code is not None:
        made["llmlog.error_information.error_code"] = facts.error_code
    if provider is not None:
        made["llmlog.error_information.llm_provider"] = provider
    if not reading.content:
        return
    for key, said in (("error_message", facts.error_message), ("traceback", facts.traceback)):
        if said.__class__ is str and said:
            made[f"llmlog.error_information.{key}"] = redact.text(said, reading.max_string_length)

"""Anthropic's wire format: messages.

Sources of the field mappings: anthropic.types.{Message, Usage, CacheCreation, RawMessageStreamEvent} of the installed
SDK. `input_tokens` excludes cache reads and writes, so they are added; in a stream the usage of `message_delta` is
cumulative, so its last value counts and nothing is summed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from otel_llmlog import redact
from otel_llmlog.payload import Usage, addable, total
from otel_llmlog.providers import brief, lenient, sse
from otel_llmlog.providers.facts import Endpoint, ErrorFacts, RequestFacts, ResponseFacts
from otel_llmlog.providers.lenient import integer, items, mapping, text, word
from otel_llmlog.providers.parts import Parts, joined

_SWITCHES = ("max_tokens", "temperature", "top_p", "top_k", "stream", "service_tier")
_NOT_PARAMETERS = frozenset({"model", "messages", "system", "metadata", "litellm_session_id", "litellm_trace_id"})
_IDENTITY = ("metadata", "litellm_session_id", "litellm_trace_id", "litellm_metadata")


def accepts(body: bytes | None, headers: Mapping[str, str]) -> bool:
    """`/messages` is a common name: the API's own version header, which it requires, tells."""
    return body is not None and b'"messages"' in body and "anthropic-version" in headers


def read_request(body: bytes, path: str, content: bool) -> RequestFacts:  # noqa: ARG001 - one signature for all
    """Read the body of a messages request."""
    reading = lenient.read_object(body)
    identity = {name: value for name in _IDENTITY if (value := reading.get(name)) is not None}
    return RequestFacts(
        model=redact.model(reading.get("model")),
        stream=reading.get("stream") is True,
        messages=_messages(reading) if content else None,
        parameters=_parameters(reading, content),
        end_user=redact.name(mapping(identity.get("metadata")).get("user_id")),
        identity=identity,
        notes=(f"request: {reading.note}",) if reading.note else (),
    )


def _parameters(reading: lenient.Reading, content: bool) -> dict[str, Any]:
    if content:
        return {name: reading.get(name) for name in reading.fields if name not in _NOT_PARAMETERS}
    kept: dict[str, Any] = {}
    for name in _SWITCHES:
        value = reading.get(name)
        if isinstance(value, bool | int | float):
            kept[name] = redact.storable(value)
        elif (enum := word(value)) is not None:
            kept[name] = enum
    thinking = mapping(reading.get("thinking"))
    if budget := integer(thinking.get("budget_tokens")):
        kept["thinking_budget_tokens"] = budget
    if choice := word(mapping(reading.get("tool_choice")).get("type")):
        kept["tool_choice"] = choice
    if tools := items(reading.get("tools")):
        kept["tool_count"] = len(tools)
    return kept


def _messages(reading: lenient.Reading) -> Any:
    messages, system = reading.get("messages"), reading.get("system")
    if system is None or not isinstance(messages, list):
        return messages
    return [{"role": "system", "content": system}, *messages]


def usage_of(found: Any) -> Usage | None:
    """A usage object, counted as the GenAI conventions do: input with its cache reads and writes."""
    if not isinstance(found, dict) or not found:
        return None
    read, written = addable(found.get("cache_read_input_tokens")), addable(found.get("cache_creation_input_tokens"))
    lifetimes = mapping(found.get("cache_creation"))
    hour = addable(lifetimes.get("ephemeral_1h_input_tokens"))
    written = max(written, total(hour, lifetimes.get("ephemeral_5m_input_tokens")))
    tools = mapping(found.get("server_tool_use"))
    details = mapping(found.get("output_tokens_details"))
    return Usage(
        input_tokens=total(found.get("input_tokens"), read, written),
        output_tokens=integer(found.get("output_tokens")),
        cache_read_tokens=read,
        cache_write_tokens=written,
        cache_write_1h_tokens=hour,
        reasoning_tokens=integer(details.get("thinking_tokens")),
        web_search_requests=integer(tools.get("web_search_requests")),
        web_fetch_requests=integer(tools.get("web_fetch_requests")),
        # Fast mode has prices of its own, whatever the tier.
        service_tier="fast" if found.get("speed") == "fast" else word(found.get("service_tier")),
        inference_geo=word(found.get("inference_geo")),
        source="provider",
    )


def read_response(body: bytes, content: bool) -> ResponseFacts:
    """Read the body of a 2xx reply."""
    reading = lenient.read_object(body)
    usage, reason = reading.get("usage"), word(reading.get("stop_reason"))
    return ResponseFacts(
        id=redact.name(reading.get("id")),
        model=redact.model(reading.get("model")),
        usage=usage_of(usage),
        finish_reasons=(reason,) if reason else (),
        complete=reading.note is None,
        response=reading.whole() if content else None,
        error=_error(reading.get("error")) if reading.get("type") == "error" else None,
        notes=((reading.note,) if reading.note else ()) + lenient.odd_counts(mapping(usage)),
    )


def _error(found: Any) -> ErrorFacts | None:
    fields = mapping(found)
    return ErrorFacts(word(fields.get("type")), redact.clean(text(fields.get("message"))) or None) if fields else None


def read_error(body: bytes) -> ErrorFacts:
    """Read an error body: `{"type": "error", "error": {"type": …, "message": …}}`."""
    return _error(lenient.read_object(body).get("error")) or ErrorFacts()


def read_stream(pieces: Sequence[bytes], content: bool) -> ResponseFacts:
    """Read the events of a message: input tokens in its first event, all output tokens in its last but one."""
    message: Mapping[str, Any] = {}
    usage: dict[str, Any] = {}
    blocks: dict[int, dict[str, Any]] = {}
    reason = error = first = None
    stopped, notes = False, []
    for name, data, end in sse.events(b"".join(pieces)):
        if first is not None and not content and name == b"content_block_delta":
            continue
        event = lenient.value_of(data)
        if not isinstance(event, dict):
            notes.append("an event of the stream could not be read")
            continue
        kind = event.get("type") or name.decode("ascii", "replace")
        if kind == "content_block_delta":
            if first is None:
                first = sse.piece_at(pieces, end)
            if content:
                _extend(blocks.setdefault(integer(event.get("index")), {}), mapping(event.get("delta")))
        elif kind == "message_start":
            message = mapping(event.get("message"))
            usage.update(mapping(message.get("usage")))
        elif kind == "content_block_start" and content:
            blocks[integer(event.get("index"))] = dict(mapping(event.get("content_block")))
        elif kind == "message_delta":
            # Cumulative: a field that is named again replaces its value, one that is left out or null keeps it.
            usage.update({k: v for k, v in mapping(event.get("usage")).items() if v is not None})
            reason = word(mapping(event.get("delta")).get("stop_reason")) or reason
        elif kind == "message_stop":
            stopped = True
        elif kind == "error":
            error = _error(event.get("error")) or ErrorFacts()
    whole = None
    if content:
        whole = {**message, "content": [_joined(b) for _, b in sorted(blocks.items())], "stop_reason": reason}
        whole["usage"] = usage
    return ResponseFacts(
        id=redact.name(message.get("id")),
        model=redact.model(message.get("model")),
        usage=usage_of(usage),
        finish_reasons=(reason,) if reason else (),
        complete=stopped or reason is not None,
        is_stream=True,
        first_token=first,
        response=whole,
        error=error,
        notes=(*dict.fromkeys(notes), *lenient.odd_counts(usage)),
    )


# What a delta of a content block adds to which of its fields.
_DELTAS = {"text": "text", "thinking": "thinking", "partial_json": "input", "signature": "signature"}


def _extend(block: dict[str, Any], delta: Mapping[str, Any]) -> None:
    for name, target in _DELTAS.items():
        if isinstance(value := delta.get(name), str):
            parts = block.get(target)
            if not isinstance(parts, Parts):
                parts = block[target] = Parts([parts] if isinstance(parts, str) else [])
            parts.append(value)
    if citation := delta.get("citation"):
        if not isinstance(block.get("citations"), list):
            block["citations"] = []
        block["citations"].append(citation)


def _joined(block: Mapping[str, Any]) -> dict[str, Any]:
    whole = joined(block)
    if isinstance(given := whole.get("input"), str):
        # A tool without arguments gets one empty delta.
        parsed = lenient.value_of(given.encode("utf-8", "replace")) if given else {}
        whole["input"] = parsed if parsed is not None else given
    return whole


MESSAGES = Endpoint(
    "anthropic",
    "messages",
    "chat",
    ("anthropic_messages", "anthropic_messages"),
    accepts,
    read_request,
    read_response,
    read_stream,
    read_error,
    brief=brief.of_message,
)

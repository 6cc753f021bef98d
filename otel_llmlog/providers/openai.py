"""OpenAI's wire format: chat completions, completions, responses, embeddings; and every host that speaks it.

Sources of the field mappings, as the SDK's types have them:
- chat, completions, embeddings: openai.types.{chat.ChatCompletion, Completion, CompletionUsage},
  openai.types.CreateEmbeddingResponse
- responses: openai.types.responses.{Response, ResponseUsage, ResponseStreamEvent}
- Groq's `x_groq`, OpenRouter's `usage.cost`, Perplexity's `usage.cost.total_cost`, xAI's `usage.cost_in_usd_ticks`:
  the vendors' API references.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

from otel_llmlog import redact
from otel_llmlog.payload import Usage
from otel_llmlog.providers import lenient, sse
from otel_llmlog.providers.facts import Endpoint, ErrorFacts, RequestFacts, ResponseFacts
from otel_llmlog.providers.lenient import integer, items, mapping, text, word

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
_DONE = b"[DONE]"
# xAI states its price in ticks of this size (US dollars).
_XAI_TICK = Decimal("1e-10")


def _has(*needles: bytes) -> Any:
    def accepts(body: bytes | None, headers: Mapping[str, str]) -> bool:  # noqa: ARG001 - one signature for all
        return body is not None and all(needle in body for needle in needles)

    return accepts


def read_request(body: bytes, path: str, content: bool) -> RequestFacts:
    """Read the body of a request to any of the four APIs."""
    reading = lenient.read_object(body)
    model = redact.name(reading.get("model"))
    if model is None and (deployment := _DEPLOYMENT.search(path)):
        model = redact.name(deployment[1])
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


def usage_of(found: Any) -> Usage | None:
    """A usage object of any of the four APIs; None when there is none.

    `prompt_tokens` / `input_tokens` include cached ones already, as the GenAI conventions count.
    """
    if not isinstance(found, dict) or not found:
        return None
    read = mapping(found.get("prompt_tokens_details") or found.get("input_tokens_details"))
    wrote = mapping(found.get("completion_tokens_details") or found.get("output_tokens_details"))
    return Usage(
        input_tokens=integer(found.get("prompt_tokens", found.get("input_tokens"))),
        output_tokens=integer(found.get("completion_tokens", found.get("output_tokens"))),
        cache_read_tokens=integer(read.get("cached_tokens") or found.get("prompt_cache_hit_tokens")),
        cache_write_tokens=integer(read.get("cache_write_tokens")),
        input_audio_tokens=integer(read.get("audio_tokens")),
        output_audio_tokens=integer(wrote.get("audio_tokens")),
        reasoning_tokens=integer(wrote.get("reasoning_tokens")),
        accepted_prediction_tokens=integer(wrote.get("accepted_prediction_tokens")),
        rejected_prediction_tokens=integer(wrote.get("rejected_prediction_tokens")),
        source="provider",
        stated_cost=_stated_cost(found),
    )


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


def _tier(usage: Usage | None, tier: Any) -> Usage | None:
    name = word(tier)
    return usage.model_copy(update={"service_tier": name}) if usage is not None and name else usage


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
        model=redact.name(reading.get("model")),
        usage=_tier(usage_of(usage), reading.get("service_tier")),
        finish_reasons=reasons,
        complete=reading.note is None,
        response=reading.whole() if content else None,
        error=_error(reading.get("error")) or (ErrorFacts() if status == "failed" else None),
        notes=(*notes, *(lenient.odd_counts(usage) if isinstance(usage, dict) else ())),
    )


def _responses_reason(reading: lenient.Reading) -> str | None:
    details = mapping(reading.get("incomplete_details"))
    return word(details.get("reason")) or word(reading.get("status"))


def _error(found: Any) -> ErrorFacts | None:
    """`{message, type, code}`, as in an error body or inside a stream."""
    if found is None:
        return None
    if isinstance(found, str):
        return ErrorFacts(None, redact.clean(found) or None)
    fields = mapping(found)
    kind = word(fields.get("code")) or word(fields.get("type")) or word(fields.get("status"))
    return ErrorFacts(kind, redact.clean(text(fields.get("message"))) or None)


def read_error(body: bytes) -> ErrorFacts:
    """Read an error body: `{"error": {…}}`, or the same fields at the top as some hosts send them."""
    reading = lenient.read_object(body)
    found = _error(reading.get("error"))
    return found or _error(reading.whole()) or ErrorFacts()


class _Parts(list[str]):
    """Pieces of a text that deltas make longer; any other list is content as it came."""


# Fields of a delta that are objects and arrive in pieces themselves.
_NESTED = ("audio", "function_call")
# Texts that are said once, or again; no delta makes them longer.
_SAID_ONCE = frozenset({"role", "id", "type"})


def _grow(fields: dict[str, Any], name: str, value: Any) -> None:
    """Add what a delta says of a field: a text gets longer, and so does a list (of content parts)."""
    known = fields.get(name)
    if isinstance(value, str) and name not in _SAID_ONCE:
        if isinstance(known, _Parts):
            known.append(value)
        else:
            fields[name] = _Parts([value])
    elif isinstance(value, list) and type(known) is list:
        known.extend(value)
    elif value is not None:
        fields[name] = value


def _joined(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {name: "".join(value) if isinstance(value, _Parts) else value for name, value in fields.items()}


class _Choice:
    """One choice of a stream, put together again."""

    __slots__ = ("finish_reason", "message", "nested", "tools")

    def __init__(self) -> None:
        self.message: dict[str, Any] = {}
        self.nested: dict[str, dict[str, Any]] = {}
        self.tools: dict[int, dict[str, Any]] = {}
        self.finish_reason: str | None = None

    def add(self, delta: Mapping[str, Any]) -> None:
        for name, value in delta.items():
            if name == "tool_calls":
                for call in items(value):
                    self._add_call(mapping(call))
            elif name in _NESTED:
                for field, part in mapping(value).items():
                    _grow(self.nested.setdefault(name, {}), field, part)
            else:
                _grow(self.message, name, value)

    def _add_call(self, call: Mapping[str, Any]) -> None:
        tool = self.tools.setdefault(integer(call.get("index")), {"type": "function", "name": [], "arguments": []})
        function = mapping(call.get("function"))
        tool["id"] = call.get("id") or tool.get("id")
        tool["name"].append(text(function.get("name")))
        tool["arguments"].append(text(function.get("arguments")))

    def texts(self) -> list[str]:
        """All the model wrote: text, reasoning, refusals, transcripts, function and tool arguments."""
        grown = [item for fields in (self.message, *self.nested.values()) for item in fields.items()]
        # The `data` of an audio is no text.
        texts = [part for name, value in grown if isinstance(value, _Parts) and name != "data" for part in value]
        return texts + [part for tool in self.tools.values() for part in (*tool["name"], *tool["arguments"])]

    def whole(self) -> dict[str, Any]:
        message = _joined(self.message) | {name: _joined(fields) for name, fields in self.nested.items()}
        if self.tools:
            message["tool_calls"] = [
                {
                    "id": tool.get("id"),
                    "type": tool["type"],
                    "function": {"name": "".join(tool["name"]), "arguments": "".join(tool["arguments"])},
                }
                for _, tool in sorted(self.tools.items())
            ]
        return message


def _dull_chunk(stream: bytes) -> Callable[[bytes], bool]:
    """Tells whether a chunk only carries on the text: nothing in it but a delta.

    A key's quotes are escaped inside text. What the whole stream does not hold need not be looked for in each chunk.
    """
    odd = b'"error"' in stream or b'"x_groq"' in stream
    used = b'"usage"' in stream

    def dull(data: bytes) -> bool:
        return (
            b'"finish_reason":null' in data
            and data.count(b'"finish_reason":') == 1
            and not (used and b'"usage":null' not in data and b'"usage"' in data)
            and not (odd and (b'"error"' in data or b'"x_groq"' in data))
        )

    return dull


def read_chat_stream(pieces: Sequence[bytes], content: bool) -> ResponseFacts:
    """Read the chunks of a chat or text completion: usage in the last one, if anywhere."""
    if not content:
        # Most chunks are text alone, and text is needed only for counting where the stream brings no usage.
        facts = _read_chat_stream(pieces, content, skip=True)
        if facts.usage is not None and facts.complete:
            return facts
    return _read_chat_stream(pieces, content, skip=False)


def _read_chat_stream(pieces: Sequence[bytes], content: bool, *, skip: bool) -> ResponseFacts:
    id_ = model = usage = error = first = tier = None
    choices: dict[int, _Choice] = {}
    done, notes = False, []
    whole = b"".join(pieces)
    dull = _dull_chunk(whole)
    begun = lambda: first is not None  # noqa: E731 - looked at while the loop runs
    for _, data, end in sse.telling(whole, begun, dull) if skip else sse.events(whole):
        if data == _DONE:
            done = True
            continue
        chunk = lenient.value_of(data)
        if not isinstance(chunk, dict):
            notes.append("an event of the stream could not be read")
            continue
        id_, model = id_ or redact.name(chunk.get("id")), redact.name(chunk.get("model")) or model
        tier = chunk.get("service_tier") or tier
        groq = mapping(chunk.get("x_groq"))
        usage = chunk.get("usage") or groq.get("usage") or usage
        error = error or _error(chunk.get("error")) or _error(groq.get("error"))
        for found in items(chunk.get("choices")):
            fields = mapping(found)
            choice = choices.setdefault(integer(fields.get("index")), _Choice())
            choice.finish_reason = word(fields.get("finish_reason")) or choice.finish_reason
            delta = {"text": fields["text"]} if isinstance(fields.get("text"), str) else mapping(fields.get("delta"))
            choice.add(delta)
            if first is None and any(value for name, value in delta.items() if name != "role"):
                first = sse.piece_at(pieces, end)
    reasons = tuple(c.finish_reason for _, c in sorted(choices.items()) if c.finish_reason)
    read = usage_of(usage)
    return ResponseFacts(
        id=id_,
        model=model,
        usage=_tier(read, tier),
        finish_reasons=reasons,
        # A skipped chunk may have opened another choice: then the terminator alone tells.
        complete=done or (not skip and bool(reasons) and len(reasons) == len(choices)),
        is_stream=True,
        first_token=first,
        response=_chat_whole(id_, model, choices, usage) if content else None,
        output=() if read else [t for c in choices.values() for t in c.texts()],
        error=error,
        notes=(*dict.fromkeys(notes), *(lenient.odd_counts(usage) if isinstance(usage, dict) else ())),
    )


def _chat_whole(id_: str | None, model: str | None, choices: Mapping[int, _Choice], usage: Any) -> dict[str, Any]:
    whole = []
    for index, choice in sorted(choices.items()):
        message = choice.whole()
        said = {"text": message["text"]} if set(message) == {"text"} else {"message": message}
        whole.append({"index": index, "finish_reason": choice.finish_reason, **said})
    return {"id": id_, "model": model, "choices": whole, "usage": usage}


def read_responses_stream(pieces: Sequence[bytes], content: bool) -> ResponseFacts:
    """Read the events of a response: its last one holds the whole response and its usage."""
    if not content:
        facts = _read_responses_stream(pieces, content, skip=True)
        if facts.usage is not None:
            return facts
    return _read_responses_stream(pieces, content, skip=False)


def _read_responses_stream(pieces: Sequence[bytes], content: bool, *, skip: bool) -> ResponseFacts:
    final: Mapping[str, Any] = {}
    begun: Mapping[str, Any] = {}
    error, first = None, None
    texts: list[str] = []
    notes = []
    for name, data, end in sse.events(b"".join(pieces)):
        if data == _DONE or (skip and first is not None and name.endswith(b".delta")):
            continue
        event = lenient.value_of(data)
        if not isinstance(event, dict):
            notes.append("an event of the stream could not be read")
            continue
        kind = text(event.get("type")).encode("utf-8", "replace") or name
        if kind.endswith(b".delta"):
            texts.append(text(event.get("delta")))
            if first is None:
                first = sse.piece_at(pieces, end)
        elif kind in {b"response.completed", b"response.incomplete", b"response.failed"}:
            final = mapping(event.get("response"))
        elif kind == b"error":
            error = _error(event.get("error")) or _error(event)
        elif not begun:
            begun = mapping(event.get("response"))
    source = final or begun
    usage = usage_of(final.get("usage"))
    reason = word(mapping(final.get("incomplete_details")).get("reason")) or word(final.get("status"))
    return ResponseFacts(
        id=redact.name(source.get("id")),
        model=redact.name(source.get("model")),
        usage=_tier(usage, final.get("service_tier")),
        finish_reasons=(reason,) if reason else (),
        complete=bool(final),
        is_stream=True,
        first_token=first,
        response=(dict(final) or {**begun, "output_text": "".join(texts)}) if content else None,
        output=() if usage else texts,
        error=error or _error(final.get("error")) or (ErrorFacts() if final.get("status") == "failed" else None),
        notes=(*dict.fromkeys(notes), *lenient.odd_counts(mapping(final.get("usage")))),
    )


def read_embeddings(body: bytes, content: bool) -> ResponseFacts:
    """Read an embeddings reply. The vectors are never kept: they are no text, and they are large."""
    facts = read_response(body, content=False)
    if not content:
        return facts
    reading = lenient.read_object(body)
    kept = {name: reading.get(name) for name in reading.fields if name != "data"}
    return replace(facts, response=kept)


def _endpoint(api: str, operation: str, call_type: str, accepts: Any, read_body: Any, read_stream: Any) -> Endpoint:
    names = (call_type, "a" + call_type)
    return Endpoint("openai", api, operation, names, accepts, read_request, read_body, read_stream, read_error)


# By the last segment of the path. The body must have the shape, too: /messages, /responses and the like are
# common names, and a request that is no LLM call passes untouched.
CHAT = _endpoint("chat", "chat", "completion", _has(b'"messages"'), read_response, read_chat_stream)
COMPLETIONS = _endpoint(
    "completions", "text_completion", "text_completion", _has(b'"prompt"'), read_response, read_chat_stream
)
RESPONSES = _endpoint(
    "responses", "chat", "responses", _has(b'"model"', b'"input"'), read_response, read_responses_stream
)
EMBEDDINGS = _endpoint("embeddings", "embeddings", "embedding", _has(b'"input"'), read_embeddings, read_chat_stream)

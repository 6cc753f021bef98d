"""Cohere's wire format, version 2: chat, embed, rerank.

Sources of the field mappings: cohere.types.{Usage, UsageBilledUnits, ApiMeta, ApiMetaBilledUnits, ChatFinishReason},
cohere.v2.types.{V2ChatResponse, V2ChatStreamResponse, V2RerankResponse} of the installed SDK; for the fields of other
vendors' rerank replies together.types.RerankCreateResponse. `billed_units` is what costs money, `tokens` is what the
model saw. No reply names its model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from otel_llmlog import redact
from otel_llmlog.payload import Usage
from otel_llmlog.providers import lenient, sse
from otel_llmlog.providers.facts import Endpoint, ErrorFacts, RequestFacts, ResponseFacts
from otel_llmlog.providers.lenient import enum, integer, items, mapping, text, word
from otel_llmlog.providers.parts import Parts, joined

_SWITCHES = frozenset({
    "temperature", "p", "k", "seed", "max_tokens", "frequency_penalty", "presence_penalty", "logprobs", "stream",
    "safety_mode", "tool_choice", "strict_tools", "input_type", "output_dimension", "truncate", "top_n",
    "max_tokens_per_doc", "return_documents", "priority",
})  # fmt: skip
_NOT_PARAMETERS = frozenset({
    "model", "messages", "documents", "query", "texts", "images", "inputs", "litellm_session_id", "litellm_trace_id",
    "metadata",
})  # fmt: skip
_IDENTITY = ("metadata", "litellm_session_id", "litellm_trace_id")
# A generation that ended so is no answer.
_FAILED = frozenset({"error", "timeout"})
_DONE = b"[DONE]"
_UNREADABLE = "an event of the stream could not be read"


def _accepts_chat(body: bytes | None, headers: Mapping[str, str]) -> bool:  # noqa: ARG001 - one signature for all
    return body is not None and b'"messages"' in body and b'"model"' in body


def _accepts_embed(body: bytes | None, headers: Mapping[str, str]) -> bool:  # noqa: ARG001 - all of them are asked alike
    return body is not None and b'"model"' in body and any(n in body for n in (b'"texts"', b'"inputs"', b'"images"'))


def _accepts_rerank(body: bytes | None, headers: Mapping[str, str]) -> bool:  # noqa: ARG001 - the same
    return body is not None and b'"query"' in body and b'"documents"' in body


def read_request(body: bytes, path: str, content: bool) -> RequestFacts:  # noqa: ARG001 - one signature for all
    """Read the body of a request to any of the three APIs."""
    reading = lenient.read_object(body)
    if content:
        kept = {name: reading.get(name) for name in reading.fields if name not in _NOT_PARAMETERS}
    else:
        kept = {n: v for n in reading.fields if n in _SWITCHES and (v := _switch(reading.get(n))) is not None}
        if tools := items(reading.get("tools")):
            kept["tool_count"] = len(tools)
    return RequestFacts(
        model=redact.model(reading.get("model")),
        stream=reading.get("stream") is True,
        messages=_messages(reading) if content else None,
        parameters=kept,
        identity={name: value for name in _IDENTITY if (value := reading.get(name)) is not None},
        notes=(f"request: {reading.note}",) if reading.note else (),
    )


def _switch(value: Any) -> Any:
    return redact.storable(value) if isinstance(value, bool | int | float) else enum(value)


def _messages(reading: lenient.Reading) -> Any:
    if (query := reading.get("query")) is not None:
        return {"query": query, "documents": reading.get("documents")}
    return next(
        (found for n in ("messages", "texts", "inputs", "images") if (found := reading.get(n)) is not None), None
    )


def usage_of(found: Any) -> Usage | None:
    """A `usage` or a `meta`; None when it counts nothing. What is not billed apart is counted as what the model saw."""
    fields = mapping(found)
    billed, seen = mapping(fields.get("billed_units")), mapping(fields.get("tokens"))
    counted = {**seen, **{name: value for name, value in billed.items() if value is not None}}
    if not counted:
        return None
    return Usage(
        input_tokens=integer(counted.get("input_tokens")),
        output_tokens=integer(counted.get("output_tokens")),
        cache_read_tokens=integer(fields.get("cached_tokens")),
        input_image_tokens=integer(billed.get("image_tokens")),
        search_units=integer(billed.get("search_units")),
        input_images=integer(billed.get("images")),
        pages=integer(billed.get("pages")),
        source="provider",
    )


def _odd(found: Any) -> tuple[str, ...]:
    return lenient.odd_counts(mapping(mapping(found).get("billed_units") or mapping(found).get("tokens")))


def _ended_badly(reason: str | None, message: Any) -> ErrorFacts | None:
    if reason in _FAILED or message:
        return ErrorFacts(reason if reason in _FAILED else None, redact.clean(text(message)) or None)
    return None


def read_response(body: bytes, content: bool) -> ResponseFacts:
    """Read the body of a 2xx reply to chat."""
    reading = lenient.read_object(body)
    usage, reason = reading.get("usage"), enum(reading.get("finish_reason"))
    return ResponseFacts(
        id=redact.name(reading.get("id")),
        model=redact.model(reading.get("model")),
        usage=usage_of(usage),
        finish_reasons=(reason,) if reason else (),
        complete=reading.note is None,
        response=reading.whole() if content else None,
        error=_ended_badly(reason, None),
        notes=((reading.note,) if reading.note else ()) + _odd(usage),
    )


def read_units(body: bytes, content: bool) -> ResponseFacts:
    """Read a reply to embed or rerank: neither vectors nor documents are kept, they are the caller's own or no text.

    Others who offer rerank count tokens in an OpenAI-like `usage`.
    """
    reading = lenient.read_object(body)
    meta, tokens = reading.get("meta"), mapping(reading.get("usage"))
    usage = usage_of(meta)
    if usage is None and tokens:
        usage = Usage(
            input_tokens=integer(tokens.get("prompt_tokens") or tokens.get("total_tokens")),
            output_tokens=integer(tokens.get("completion_tokens")),
            source="provider",
        )
    dropped = {"embeddings", "texts", "images"}
    return ResponseFacts(
        id=redact.name(reading.get("id")),
        model=redact.model(reading.get("model")),
        usage=usage,
        complete=reading.note is None,
        response={name: reading.get(name) for name in reading.fields if name not in dropped} if content else None,
        notes=((reading.note,) if reading.note else ()) + _odd(meta) + lenient.odd_counts(tokens),
    )


def read_error(body: bytes) -> ErrorFacts:
    """Read an error body: `{"message": …}`, sometimes with an id."""
    reading = lenient.read_object(body)
    said = reading.get("message") or mapping(reading.get("error")).get("message")
    return ErrorFacts(word(reading.get("type")), redact.clean(text(said)) or None)


class _Message:
    """The message of a stream, put together again."""

    def __init__(self) -> None:
        self.content: dict[int, dict[str, Any]] = {}
        self.calls: dict[int, dict[str, Any]] = {}
        self.plan: list[str] = []
        self.citations: list[Any] = []

    def add(self, kind: str, index: int, said: Mapping[str, Any]) -> None:
        if kind in {"content-start", "content-delta"}:
            block = self.content.setdefault(index, {})
            for name, value in mapping(said.get("content")).items():
                _grow(block, name, value, ("text", "thinking"))
        elif kind in {"tool-call-start", "tool-call-delta"}:
            fields = mapping(said.get("tool_calls"))
            call = self.calls.setdefault(index, {})
            for name, value in fields.items():
                if name == "function":
                    function = call.setdefault("function", {})
                    for part, given in mapping(value).items():
                        if isinstance(function, dict):
                            _grow(function, part, given, ("name", "arguments"))
                else:
                    call[name] = value
        elif kind == "tool-plan-delta":
            self.plan.append(text(said.get("tool_plan")))
        elif kind == "citation-start" and said.get("citations"):
            self.citations.append(said["citations"])

    def whole(self) -> dict[str, Any]:
        made: dict[str, Any] = {"role": "assistant"}
        if self.content:
            made["content"] = [joined(block) for _, block in sorted(self.content.items())]
        if self.plan:
            made["tool_plan"] = "".join(self.plan)
        if self.calls:
            calls = [call for _, call in sorted(self.calls.items())]
            made["tool_calls"] = [
                {n: joined(v) if n == "function" and isinstance(v, dict) else v for n, v in call.items()}
                for call in calls
            ]
        if self.citations:
            made["citations"] = self.citations
        return made


def _grow(fields: dict[str, Any], name: str, value: Any, growing: Sequence[str]) -> None:
    if name in growing and isinstance(value, str):
        known = fields.get(name)
        if not isinstance(known, Parts):
            known = fields[name] = Parts()
        known.append(value)
    elif value is not None:
        fields[name] = value


_DELTAS = frozenset({"content-delta", "tool-call-delta", "tool-plan-delta"})


def read_stream(pieces: Sequence[bytes], content: bool) -> ResponseFacts:
    """Read the events of a chat: id in its first event, finish reason and usage in its last."""
    id_ = reason = error = first = None
    usage: Any = None
    message = _Message()
    ended, notes = False, []
    for name, data, end in sse.events(b"".join(pieces)):
        if data == _DONE or (first is not None and not content and name.endswith(b"-delta")):
            continue
        event = lenient.value_of(data)
        if not isinstance(event, dict):
            notes.append(_UNREADABLE)
            continue
        kind = text(event.get("type")) or name.decode("ascii", "replace")
        delta = mapping(event.get("delta"))
        if kind == "message-start":
            id_ = redact.name(event.get("id")) or id_
        elif kind == "message-end":
            ended = True
            usage = delta.get("usage") or usage
            reason = enum(delta.get("finish_reason")) or reason
            error = _ended_badly(reason, delta.get("error")) or error
        else:
            if first is None and kind in _DELTAS:
                first = sse.piece_at(pieces, end)
            if content:
                message.add(kind, integer(event.get("index")), mapping(delta.get("message")))
    whole = None
    if content:
        whole = {"id": id_, "finish_reason": None if reason is None else reason.upper(), "message": message.whole()}
        whole["usage"] = usage
    return ResponseFacts(
        id=id_,
        usage=usage_of(usage),
        finish_reasons=(reason,) if reason else (),
        complete=ended,
        is_stream=True,
        first_token=first,
        response=whole,
        error=error,
        notes=(*dict.fromkeys(notes), *_odd(usage)),
    )


def _endpoint(api: str, operation: str, call_type: str, accepts: Any, read_body: Any) -> Endpoint:
    names = (call_type, "a" + call_type)
    return Endpoint("cohere", api, operation, names, accepts, read_request, read_body, read_stream, read_error)


CHAT = _endpoint("chat", "chat", "completion", _accepts_chat, read_response)
EMBED = _endpoint("embeddings", "embeddings", "embedding", _accepts_embed, read_units)
RERANK = _endpoint("rerank", "rerank", "rerank", _accepts_rerank, read_units)

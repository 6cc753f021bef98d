"""Streams of OpenAI's format: chunks of chat and text completions, events of the Responses API. Pure.

Always true: where the bytes were split makes no difference; a stream that was cut says no more than it said.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from otel_llmlog import redact
from otel_llmlog.providers import lenient, openai_usage, sse
from otel_llmlog.providers.facts import ResponseFacts
from otel_llmlog.providers.lenient import integer, items, mapping, text, word
from otel_llmlog.providers.parts import Parts, joined

_DONE = b"[DONE]"

# Fields of a delta that are objects and arrive in pieces themselves.
_NESTED = ("audio", "function_call")
# Texts that are said once, or again; no delta makes them longer.
_SAID_ONCE = frozenset({"role", "id", "type"})


def _grow(fields: dict[str, Any], name: str, value: Any) -> None:
    """Add what a delta says of a field: a text gets longer, and so does a list (of content parts)."""
    known = fields.get(name)
    if isinstance(value, str) and name not in _SAID_ONCE:
        if isinstance(known, Parts):
            known.append(value)
        elif type(known) is list:
            # Mistral's models think in content parts, and go on in plain text.
            known.extend([{"type": "text", "text": value}] if value else [])
        else:
            fields[name] = Parts([value])
    elif isinstance(value, list) and type(known) is list:
        known.extend(value)
    elif isinstance(value, list) and isinstance(known, Parts):
        said = "".join(known)
        fields[name] = [*([{"type": "text", "text": said}] if said else []), *value]
    elif value is not None:
        fields[name] = value


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
        texts = [part for name, value in grown if isinstance(value, Parts) and name != "data" for part in value]
        return texts + [part for tool in self.tools.values() for part in (*tool["name"], *tool["arguments"])]

    def whole(self) -> dict[str, Any]:
        message = joined(self.message) | {name: joined(fields) for name, fields in self.nested.items()}
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
        id_, model = id_ or redact.name(chunk.get("id")), redact.model(chunk.get("model")) or model
        tier = chunk.get("service_tier") or tier
        groq = mapping(chunk.get("x_groq"))
        usage = chunk.get("usage") or groq.get("usage") or usage
        error = error or openai_usage.error_of(chunk.get("error")) or openai_usage.error_of(groq.get("error"))
        if error is None and chunk.get("object") == "error":
            # Mistral's errors have no wrapping.
            error = openai_usage.error_of(chunk)
        for found in items(chunk.get("choices")):
            fields = mapping(found)
            choice = choices.setdefault(integer(fields.get("index")), _Choice())
            choice.finish_reason = word(fields.get("finish_reason")) or choice.finish_reason
            delta = {"text": fields["text"]} if isinstance(fields.get("text"), str) else mapping(fields.get("delta"))
            choice.add(delta)
            if first is None and any(value for name, value in delta.items() if name != "role"):
                first = sse.piece_at(pieces, end)
    reasons = tuple(c.finish_reason for _, c in sorted(choices.items()) if c.finish_reason)
    read = openai_usage.usage_of(usage)
    return ResponseFacts(
        id=id_,
        model=model,
        usage=openai_usage.tier_of(read, tier),
        finish_reasons=reasons,
        # A skipped chunk may have opened another choice: then the terminator alone tells.
        complete=done or (not skip and bool(reasons) and len(reasons) == len(choices)),
        is_stream=True,
        first_token=first,
        response=_chat_whole(id_, model, choices, usage) if content else None,
        output=() if read else [t for c in choices.values() for t in c.texts()],
        error=error or openai_usage.ended_badly(reasons),
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
            error = openai_usage.error_of(event.get("error")) or openai_usage.error_of(event)
        elif not begun:
            begun = mapping(event.get("response"))
    source = final or begun
    usage = openai_usage.with_tools(openai_usage.usage_of(final.get("usage")), final.get("output"), final.get("tools"))
    reason = word(mapping(final.get("incomplete_details")).get("reason")) or word(final.get("status"))
    return ResponseFacts(
        id=redact.name(source.get("id")),
        model=redact.model(source.get("model")),
        usage=openai_usage.tier_of(usage, final.get("service_tier")),
        finish_reasons=(reason,) if reason else (),
        complete=bool(final),
        is_stream=True,
        first_token=first,
        response=(dict(final) or {**begun, "output_text": "".join(texts)}) if content else None,
        output=() if usage else texts,
        error=error or openai_usage.error_of(final.get("error")) or openai_usage.failed(final.get("status")),
        notes=(*dict.fromkeys(notes), *lenient.odd_counts(mapping(final.get("usage")))),
    )

"""Bedrock's own shapes: usage, errors, events of a stream; and the replies of Converse, which are made of them. Pure.

Sources: see `bedrock`. `inputTokens` excludes cache reads and writes, as Anthropic's `input_tokens` does: they are
added.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from otel_llmlog import redact
from otel_llmlog.payload import Usage, addable, total
from otel_llmlog.providers import eventstream, lenient, sse
from otel_llmlog.providers.facts import ErrorFacts, ResponseFacts
from otel_llmlog.providers.lenient import enum, integer, items, mapping, text
from otel_llmlog.providers.parts import Parts, joined

# Name of an event (one that reports an error begins with "!"), its fields, and the offset in the stream where it ended.
Event = tuple[str, Any, int]


def usage_of(found: Any) -> Usage | None:
    """A TokenUsage: input without its cache reads and writes."""
    if not isinstance(found, dict) or not found:
        return None
    read, written = addable(found.get("cacheReadInputTokens")), addable(found.get("cacheWriteInputTokens"))
    hour = sum(
        addable(detail.get("inputTokens"))
        for detail in map(mapping, items(found.get("cacheDetails")))
        if detail.get("ttl") == "1h"
    )
    return Usage(
        input_tokens=total(found.get("inputTokens"), read, written),
        output_tokens=integer(found.get("outputTokens")),
        cache_read_tokens=read,
        cache_write_tokens=written,
        cache_write_1h_tokens=min(hour, written),
        source="provider",
    )


def tiered(usage: Usage | None, tier: Any) -> Usage | None:
    """The usage with its service tier: a name, or an object that holds it."""
    name = enum(mapping(tier).get("type")) if isinstance(tier, dict) else enum(tier)
    return usage.model_copy(update={"service_tier": name}) if usage is not None and name else usage


def _odd(usage: Any) -> tuple[str, ...]:
    return lenient.odd_counts({_snake(name): value for name, value in mapping(usage).items()})


def _snake(name: str) -> str:
    """`inputTokens` as `input_tokens`: the form in which notes name counts."""
    return re.sub("(?<=[a-z])(?=[A-Z])", "_", name).lower() if len(name) <= 64 else name


def read_response(body: bytes, content: bool) -> ResponseFacts:
    """Read the body of a 2xx reply of Converse."""
    reading = lenient.read_object(body)
    usage, reason = reading.get("usage"), enum(reading.get("stopReason"))
    return ResponseFacts(
        usage=tiered(usage_of(usage), reading.get("serviceTier")),
        finish_reasons=(reason,) if reason else (),
        complete=reading.note is None,
        response=reading.whole() if content else None,
        notes=((reading.note,) if reading.note else ()) + _odd(usage),
    )


def read_error(body: bytes) -> ErrorFacts:
    """Read an error body: `{"message": …}`; its kind is in a header."""
    reading = lenient.read_object(body)
    message = text(reading.get("message")) or text(reading.get("Message"))
    return ErrorFacts(error_kind(reading.get("__type")), redact.clean(message) or None)


def error_kind(name: Any) -> str | None:
    """`ThrottlingException`, or the same with a namespace or a URL, as `throttling_exception`."""
    bare = text(name)[:512].rpartition("#")[2].partition(":")[0]
    return lenient.word(re.sub("(?<=[a-z])(?=[A-Z])", "_", bare).lower())


class _Blocks:
    """The message of a stream of Converse, put together again."""

    def __init__(self) -> None:
        self.role = "assistant"
        self._blocks: dict[int, dict[str, Any]] = {}

    def start(self, event: Mapping[str, Any]) -> None:
        self._blocks[integer(event.get("contentBlockIndex"))] = {
            name: dict(value) for name, value in mapping(event.get("start")).items() if isinstance(value, dict)
        }

    def add(self, event: Mapping[str, Any]) -> None:
        block = self._blocks.setdefault(integer(event.get("contentBlockIndex")), {})
        for name, value in mapping(event.get("delta")).items():
            if isinstance(value, str):
                _append(block, name, value)
            elif isinstance(value, dict):
                inner = block.setdefault(name, {})
                for field, part in value.items():
                    if isinstance(inner, dict) and isinstance(part, str):
                        _append(inner, field, part)

    def message(self) -> dict[str, Any]:
        content = [
            {name: joined(value) if isinstance(value, dict) else value for name, value in joined(block).items()}
            for _, block in sorted(self._blocks.items())
        ]
        return {"role": self.role, "content": content}


def _append(fields: dict[str, Any], name: str, part: str) -> None:
    known = fields.get(name)
    if not isinstance(known, Parts):
        known = fields[name] = Parts([known] if isinstance(known, str) else [])
    known.append(part)


def read_stream(pieces: Sequence[bytes], content: bool) -> ResponseFacts:
    """Read the frames of a message: its last one holds the usage."""
    return read_events(events_of(pieces), pieces, content)


def events_of(pieces: Sequence[bytes]) -> list[Event]:
    """The events in a stream's frames; one that cannot be read has no object."""
    found: list[Event] = []
    for frame in eventstream.frames(b"".join(pieces)):
        headers = frame.headers
        kind = headers.get(b":exception-type") or headers.get(b":error-code") or headers.get(b":event-type", b"")
        failed = headers.get(b":message-type") in {b"exception", b"error"}
        event = lenient.value_of(frame.payload) if frame.payload else {}
        if failed:
            message = text(mapping(event).get("message")) or headers.get(b":error-message", b"").decode(
                "utf-8", "replace"
            )
            event = {"message": message}
        found.append((("!" if failed else "") + kind.decode("utf-8", "replace"), event, frame.end))
    return found


def error_of(kind: str, event: Any) -> ErrorFacts:
    """What an event reports whose name begins with "!"."""
    return ErrorFacts(error_kind(kind[1:]), redact.clean(text(mapping(event).get("message"))) or None)


def read_events(events: Sequence[Event], pieces: Sequence[bytes], content: bool) -> ResponseFacts:
    """Read the events of Converse, wherever they came from; `pieces` is the stream that they ended in."""
    blocks, usage, tier = _Blocks(), None, None
    reason = error = first = None
    ended, notes = False, []
    for kind, event, end in events:
        if not isinstance(event, dict):
            notes.append("an event of the stream could not be read")
        elif kind.startswith("!"):
            error = error_of(kind, event)
        elif kind == "contentBlockDelta":
            if first is None:
                first = sse.piece_at(pieces, end)
            if content:
                blocks.add(event)
        elif kind == "contentBlockStart" and content:
            blocks.start(event)
        elif kind == "messageStart":
            blocks.role = redact.name(event.get("role")) or blocks.role
        elif kind == "messageStop":
            reason = enum(event.get("stopReason")) or reason
        elif kind == "metadata":
            usage, tier, ended = event.get("usage") or usage, event.get("serviceTier"), True
    whole = None
    if content:
        whole = {"output": {"message": blocks.message()}, "stopReason": reason, "usage": usage}
    return ResponseFacts(
        usage=tiered(usage_of(usage), tier),
        finish_reasons=(reason,) if reason else (),
        complete=ended or reason is not None,
        is_stream=True,
        first_token=first,
        response=whole,
        error=error,
        notes=(*dict.fromkeys(notes), *_odd(usage)),
    )

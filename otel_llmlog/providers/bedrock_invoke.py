"""InvokeModel: bodies and streams that are the vendor's own, read by the vendor's reader where there is one. Pure.

Sources: see `bedrock`. Of all vendors' bodies Bedrock counts itself: in headers (`bedrock.refine`) and, in a stream, in
the last chunk.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from otel_llmlog.payload import Usage, total
from otel_llmlog.providers import anthropic, bedrock_converse, lenient, openai, openai_streams, sse
from otel_llmlog.providers.bedrock_converse import error_of, events_of, read_events, usage_of
from otel_llmlog.providers.facts import ResponseFacts
from otel_llmlog.providers.lenient import enum, integer, items, mapping, text

_METRICS = "amazon-bedrock-invocationMetrics"
# Fields of a TokenUsage, and what those metrics call them.
_COUNTED = {
    "inputTokens": "inputTokenCount", "outputTokens": "outputTokenCount",
    "cacheReadInputTokens": "cacheReadInputTokenCount", "cacheWriteInputTokens": "cacheWriteInputTokenCount",
}  # fmt: skip
# Where the vendors' bodies and chunks say why they ended, and where their text is.
_REASONS = ("stop_reason", "stopReason", "finish_reason", "finishReason", "completionReason")
_TEXTS = ("generation", "outputText", "text", "completion")


def read_response(body: bytes, content: bool) -> ResponseFacts:
    """Read the body of a 2xx reply of InvokeModel, whosever model it was."""
    reading = lenient.read_object(body)
    facts = _vendor(reading)(body, content)
    reason = next((r for fields in _places(reading) if (r := _reason(fields))), None)
    response = facts.response
    if content and isinstance(response, dict):
        # Vectors are no text, and they are large.
        response = {name: value for name, value in response.items() if not name.startswith("embedding")}
    usage = facts.usage or _vendors_own(reading)
    # The model is the one in the URL: the vendor's own name for it has the vendor's own prices.
    return replace(
        facts,
        model=None,
        usage=usage,
        finish_reasons=facts.finish_reasons or ((reason,) if reason else ()),
        complete=reading.note is None,
        response=response,
    )


def _vendor(reading: lenient.Reading) -> Callable[[bytes, bool], ResponseFacts]:
    usage = mapping(reading.get("usage"))
    if "inputTokens" in usage:  # Amazon's Nova
        return bedrock_converse.read_response
    return openai.read_response if "prompt_tokens" in usage or "choices" in reading.fields else anthropic.read_response


def _places(reading: lenient.Reading) -> list[Mapping[str, Any]]:
    """The objects of a body in which a vendor may say why it ended."""
    lists = [mapping(item) for name in ("results", "outputs", "generations") for item in items(reading.get(name))]
    return [reading.whole(), *lists]


def _reason(fields: Mapping[str, Any]) -> str | None:
    return next((reason for name in _REASONS if (reason := enum(fields.get(name)))), None)


def _vendors_own(reading: lenient.Reading) -> Usage | None:
    """Counts as Meta's and Amazon's older models state them."""
    if "prompt_token_count" in reading.fields:
        counts = (reading.get("prompt_token_count"), reading.get("generation_token_count"))
    elif "inputTextTokenCount" in reading.fields:
        made = [mapping(result).get("tokenCount") for result in items(reading.get("results"))]
        counts = (reading.get("inputTextTokenCount"), total(*made))
    else:
        return None
    return Usage(input_tokens=integer(counts[0]), output_tokens=integer(counts[1]), source="provider")


def read_stream(pieces: Sequence[bytes], content: bool) -> ResponseFacts:
    """Read the chunks of an invocation: each holds an event of the vendor's, the last one Bedrock's own counts, too."""
    chunks: list[dict[str, Any]] = []
    ends: list[int] = []
    metrics: Any = None
    error, notes = None, []
    for kind, event, end in events_of(pieces):
        if kind.startswith("!"):
            error = error_of(kind, event)
            continue
        chunk = _chunk(event)
        if chunk is None:
            notes.append("an event of the stream could not be read")
            continue
        metrics = chunk.pop(_METRICS, None) or metrics
        chunks.append(chunk)
        ends.append(end)
    facts = _vendor_stream(chunks, ends, pieces, content)
    counted = mapping(metrics)
    usage = facts.usage
    if usage is None and counted:
        usage = usage_of({name: counted.get(theirs) for name, theirs in _COUNTED.items()})
    return replace(
        facts,
        model=None,
        usage=usage,
        complete=facts.complete or bool(counted),
        output=() if usage else facts.output,
        error=error or facts.error,
        notes=(*dict.fromkeys(notes), *facts.notes),
    )


def _chunk(event: Any) -> dict[str, Any] | None:
    try:
        inner = lenient.value_of(base64.b64decode(text(mapping(event).get("bytes"))))
    except (binascii.Error, ValueError):
        return None
    return dict(inner) if isinstance(inner, dict) else None


def _vendor_stream(
    chunks: Sequence[dict[str, Any]], ends: Sequence[int], pieces: Sequence[bytes], content: bool
) -> ResponseFacts:
    """The vendor's events, read by the vendor's reader where there is one."""
    named = [str(chunk.get("type", "")) for chunk in chunks]
    if any(name.startswith(("message_", "content_block_")) or name == "error" for name in named):
        made = [_as_sse(chunk, name) for chunk, name in zip(chunks, named, strict=True)]
        return _at_pieces(anthropic.read_stream(made, content), ends, pieces)
    if any("choices" in chunk for chunk in chunks):
        return _at_pieces(openai_streams.read_chat_stream([_as_sse(chunk) for chunk in chunks], content), ends, pieces)
    if any("contentBlockDelta" in chunk or "messageStart" in chunk for chunk in chunks):
        events = [(name, value, end) for chunk, end in zip(chunks, ends, strict=True) for name, value in chunk.items()]
        return read_events(events, pieces, content)
    return _read_texts(chunks, ends, pieces, content)


def _read_texts(
    chunks: Sequence[dict[str, Any]], ends: Sequence[int], pieces: Sequence[bytes], content: bool
) -> ResponseFacts:
    """Chunks that are little more than a piece of text each, as Meta's, Mistral's and Amazon's older models send."""
    places = [
        (fields, end)
        for chunk, end in zip(chunks, ends, strict=True)
        for fields in (chunk, *map(mapping, items(chunk.get("outputs"))))
    ]
    said = [(said, end) for fields, end in places for name in _TEXTS if (said := text(fields.get(name)))]
    reason = next((reason for fields, _ in reversed(places) if (reason := _reason(fields))), None)
    return ResponseFacts(
        finish_reasons=(reason,) if reason else (),
        complete=reason is not None,
        is_stream=True,
        first_token=sse.piece_at(pieces, said[0][1]) if said else None,
        response={"text": "".join(piece for piece, _ in said)} if content else None,
    )


def _as_sse(chunk: Mapping[str, Any], name: str = "") -> bytes:
    return b"event: " + name.encode("utf-8", "replace")[:64] + b"\ndata: " + lenient.encoded(chunk) + b"\n\n"


def _at_pieces(facts: ResponseFacts, ends: Sequence[int], pieces: Sequence[bytes]) -> ResponseFacts:
    """Facts of the vendor's events, one made of each frame, with the first token at the stream's own piece."""
    at = facts.first_token
    return replace(facts, first_token=None if at is None or at >= len(ends) else sse.piece_at(pieces, ends[at]))

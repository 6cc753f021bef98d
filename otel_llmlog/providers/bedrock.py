"""Amazon Bedrock's wire formats: Converse, InvokeModel, and the streams of both.

Sources of the field mappings: the service model of bedrock-runtime in the installed botocore (ConverseResponse,
TokenUsage, CacheDetail, ConverseStreamOutput, ResponseStream, InvokeModelResponse); the model is in the URL. A body of
InvokeModel is the vendor's own: the vendor's reader reads it where we have one. For all of them Bedrock counts itself,
in the headers `x-amzn-bedrock-*-token-count` and, in a stream, in `amazon-bedrock-invocationMetrics` of the last chunk:
https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters.html

`inputTokens` excludes cache reads and writes, as Anthropic's `input_tokens` does: they are added.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from otel_llmlog import redact
from otel_llmlog.payload import Usage, addable
from otel_llmlog.providers import anthropic, eventstream, lenient, openai, openai_streams, sse
from otel_llmlog.providers.facts import Endpoint, ErrorFacts, RequestFacts, ResponseFacts
from otel_llmlog.providers.lenient import enum, integer, items, mapping, text

_MODEL = re.compile(r"/model/(.+)/[^/]+/*$")
# Names of numbers and switches in a request of either API, and what other APIs call them.
_SWITCHES = {
    "maxTokens": "max_tokens", "max_tokens": "max_tokens", "max_gen_len": "max_tokens", "maxTokenCount": "max_tokens",
    "max_new_tokens": "max_tokens", "temperature": "temperature", "topP": "top_p", "top_p": "top_p", "p": "top_p",
    "topK": "top_k", "top_k": "top_k", "k": "top_k", "dimensions": "dimensions",
}  # fmt: skip
_NOT_PARAMETERS = frozenset({
    "messages", "system", "prompt", "inputText", "texts", "message", "chat_history", "documents", "query", "inputImage",
    "metadata", "requestMetadata", "preamble",
})  # fmt: skip
# What the vendors call what is asked; a body of InvokeModel has one of them.
_ASKED = (
    b'"messages"', b'"prompt"', b'"inputText"', b'"message"', b'"texts"', b'"input"', b'"inputImage"', b'"images"',
    b'"query"', b'"taskType"', b'"text_prompts"', b'"schemaVersion"',
)  # fmt: skip
_METRICS = "amazon-bedrock-invocationMetrics"
_COUNTS = "x-amzn-bedrock-%s-token-count"
# Where the vendors' bodies and chunks say why they ended, and where their text is.
_REASONS = ("stop_reason", "stopReason", "finish_reason", "finishReason", "completionReason")
_TEXTS = ("generation", "outputText", "text", "completion")


def model_of(path: str) -> str | None:
    """The model, inference profile or ARN in a URL's path."""
    found = _MODEL.search(path)
    return redact.name(found[1]) if found else None


def endpoint_of(path: str) -> Endpoint | None:
    """The API that a request to this path calls."""
    before, _, verb = path.rstrip("/").rpartition("/")
    if "/model/" not in before + "/":
        return None
    if verb in {"invoke", "invoke-with-response-stream"}:
        return EMBED if "embed" in before else INVOKE
    return CONVERSE if verb in {"converse", "converse-stream"} else None


def _streams(path: str) -> bool:
    return path.rstrip("/").endswith("-stream")


def _accepts_converse(body: bytes | None, headers: Mapping[str, str]) -> bool:  # noqa: ARG001 - one signature for all
    return body is not None and b'"messages"' in body


def _accepts_invoke(body: bytes | None, headers: Mapping[str, str]) -> bool:  # noqa: ARG001 - all are asked alike
    return body is not None and any(field in body for field in _ASKED)


def read_request(body: bytes, path: str, content: bool) -> RequestFacts:
    """Read the body of a request to any of the APIs."""
    reading = lenient.read_object(body)
    given = reading.get("requestMetadata")
    identity = {"metadata": given} if isinstance(given, dict) else {}
    if isinstance(metadata := reading.get("metadata"), dict):
        identity = {"metadata": metadata}
    return RequestFacts(
        model=model_of(path),
        stream=_streams(path),
        messages=_messages(reading) if content else None,
        parameters=_parameters(reading, content),
        end_user=redact.name(mapping(reading.get("metadata")).get("user_id")),
        identity=identity,
        notes=(f"request: {reading.note}",) if reading.note else (),
    )


def _messages(reading: lenient.Reading) -> Any:
    for name in ("prompt", "inputText", "texts", "message"):
        if (found := reading.get(name)) is not None:
            return found
    messages, system = reading.get("messages"), reading.get("system")
    if system is None or not isinstance(messages, list):
        return messages
    return [{"role": "system", "content": system}, *messages]


def _parameters(reading: lenient.Reading, content: bool) -> dict[str, Any]:
    if content:
        return {name: reading.get(name) for name in reading.fields if name not in _NOT_PARAMETERS}
    inner = [mapping(reading.get(name)) for name in ("inferenceConfig", "textGenerationConfig")]
    top = {name: reading.get(name) for name in reading.fields if name in _SWITCHES}
    kept: dict[str, Any] = {}
    for fields in (*inner, top):
        for name, value in fields.items():
            if name in _SWITCHES and isinstance(value, bool | int | float):
                kept[_SWITCHES[name]] = redact.storable(value)
    if tools := items(mapping(reading.get("toolConfig")).get("tools")) or items(reading.get("tools")):
        kept["tool_count"] = len(tools)
    return kept


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
        input_tokens=addable(found.get("inputTokens")) + read + written,
        output_tokens=integer(found.get("outputTokens")),
        cache_read_tokens=read,
        cache_write_tokens=written,
        cache_write_1h_tokens=min(hour, written),
        source="provider",
    )


def _tiered(usage: Usage | None, tier: Any) -> Usage | None:
    name = enum(mapping(tier).get("type")) if isinstance(tier, dict) else enum(tier)
    return usage.model_copy(update={"service_tier": name}) if usage is not None and name else usage


def _odd(usage: Any) -> tuple[str, ...]:
    return lenient.odd_counts({_snake(name): value for name, value in mapping(usage).items()})


def _snake(name: str) -> str:
    """`inputTokens` as `input_tokens`: the form in which notes name counts."""
    return re.sub("(?<=[a-z])(?=[A-Z])", "_", name).lower() if len(name) <= 64 else name


def read_converse(body: bytes, content: bool) -> ResponseFacts:
    """Read the body of a 2xx reply of Converse."""
    reading = lenient.read_object(body)
    usage, reason = reading.get("usage"), enum(reading.get("stopReason"))
    return ResponseFacts(
        usage=_tiered(usage_of(usage), reading.get("serviceTier")),
        finish_reasons=(reason,) if reason else (),
        complete=reading.note is None,
        response=reading.whole() if content else None,
        notes=((reading.note,) if reading.note else ()) + _odd(usage),
    )


def read_error(body: bytes) -> ErrorFacts:
    """Read an error body: `{"message": …}`; its kind is in a header."""
    reading = lenient.read_object(body)
    message = text(reading.get("message")) or text(reading.get("Message"))
    return ErrorFacts(_kind(reading.get("__type")), redact.clean(message) or None)


def _kind(name: Any) -> str | None:
    """`ThrottlingException`, or the same with a namespace or a URL, as `throttling_exception`."""
    bare = text(name)[:512].rpartition("#")[2].partition(":")[0]
    return lenient.word(re.sub("(?<=[a-z])(?=[A-Z])", "_", bare).lower())


def refine(facts: ResponseFacts, headers: Mapping[str, str]) -> ResponseFacts:
    """What the headers of a reply add: its id, the kind of an error, and counts where the body has none."""
    usage = facts.usage
    if usage is None and facts.error is None:
        names = {"inputTokens": "input", "outputTokens": "output", "cacheReadInputTokens": "cache-read-input",
                 "cacheWriteInputTokens": "cache-write-input"}  # fmt: skip
        usage = usage_of(
            {
                field: int(value)
                for field, name in names.items()
                if (value := headers.get(_COUNTS % name, "")).isascii() and value.isdigit() and len(value) < 16
            }
        )
    usage = _tiered(usage, headers.get("x-amzn-bedrock-service-tier"))
    error = facts.error
    if error is not None and (kind := _kind(headers.get("x-amzn-errortype"))):
        error = ErrorFacts(kind, error.message)
    return replace(facts, id=facts.id or redact.name(headers.get("x-amzn-requestid")), usage=usage, error=error)


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
            {
                name: "".join(value)
                if isinstance(value, _Parts)
                else {n: "".join(v) if isinstance(v, _Parts) else v for n, v in value.items()}
                for name, value in block.items()
            }
            for _, block in sorted(self._blocks.items())
        ]
        return {"role": self.role, "content": content}


class _Parts(list[str]):
    """Pieces of a text that deltas make longer."""


def _append(fields: dict[str, Any], name: str, part: str) -> None:
    known = fields.get(name)
    if not isinstance(known, _Parts):
        known = fields[name] = _Parts([known] if isinstance(known, str) else [])
    known.append(part)


def read_converse_stream(pieces: Sequence[bytes], content: bool) -> ResponseFacts:
    """Read the frames of a message: its last one holds the usage."""
    return _converse(_events(pieces), pieces, content)


# Name of an event, its fields, and the offset in the stream where it ended.
Event = tuple[str, Any, int]


def _events(pieces: Sequence[bytes]) -> list[Event]:
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


def _converse(events: Sequence[Event], pieces: Sequence[bytes], content: bool) -> ResponseFacts:
    blocks, usage, tier = _Blocks(), None, None
    reason = error = first = None
    ended, notes = False, []
    for kind, event, end in events:
        if not isinstance(event, dict):
            notes.append("an event of the stream could not be read")
        elif kind.startswith("!"):
            error = ErrorFacts(_kind(kind[1:]), redact.clean(text(event.get("message"))) or None)
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
        usage=_tiered(usage_of(usage), tier),
        finish_reasons=(reason,) if reason else (),
        complete=ended or reason is not None,
        is_stream=True,
        first_token=first,
        response=whole,
        error=error,
        notes=(*dict.fromkeys(notes), *_odd(usage)),
    )


def read_invoke(body: bytes, content: bool) -> ResponseFacts:
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
        return read_converse
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
        made = [addable(mapping(result).get("tokenCount")) for result in items(reading.get("results"))]
        counts = (reading.get("inputTextTokenCount"), sum(made))
    else:
        return None
    return Usage(input_tokens=integer(counts[0]), output_tokens=integer(counts[1]), source="provider")


def read_invoke_stream(pieces: Sequence[bytes], content: bool) -> ResponseFacts:
    """Read the chunks of an invocation: each holds an event of the vendor's, the last one Bedrock's own counts, too."""
    chunks: list[dict[str, Any]] = []
    ends: list[int] = []
    metrics: Any = None
    error, notes = None, []
    for kind, event, end in _events(pieces):
        if kind.startswith("!"):
            error = ErrorFacts(_kind(kind[1:]), redact.clean(text(mapping(event).get("message"))) or None)
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
    read, written = (
        addable(counted.get("cacheReadInputTokenCount")),
        addable(counted.get("cacheWriteInputTokenCount")),
    )
    usage = facts.usage or (
        usage_of(
            {
                "inputTokens": counted.get("inputTokenCount"),
                "outputTokens": counted.get("outputTokenCount"),
                "cacheReadInputTokens": read,
                "cacheWriteInputTokens": written,
            }
        )
        if counted
        else None
    )
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
        return _converse(events, pieces, content)
    places = [fields for chunk in chunks for fields in (chunk, *map(mapping, items(chunk.get("outputs"))))]
    said = [said for fields in places for name in _TEXTS if (said := text(fields.get(name)))]
    reason = next((reason for fields in reversed(places) if (reason := _reason(fields))), None)
    first = next(
        (
            end
            for chunk, end in zip(chunks, ends, strict=True)
            if any(text(f.get(n)) for f in (chunk, *map(mapping, items(chunk.get("outputs")))) for n in _TEXTS)
        ),
        None,
    )
    return ResponseFacts(
        finish_reasons=(reason,) if reason else (),
        complete=reason is not None,
        is_stream=True,
        first_token=None if first is None else sse.piece_at(pieces, first),
        response={"text": "".join(said)} if content else None,
    )


def _as_sse(chunk: Mapping[str, Any], name: str = "") -> bytes:
    return b"event: " + name.encode("utf-8", "replace")[:64] + b"\ndata: " + lenient.encoded(chunk) + b"\n\n"


def _at_pieces(facts: ResponseFacts, ends: Sequence[int], pieces: Sequence[bytes]) -> ResponseFacts:
    """Facts of the vendor's events, one made of each frame, with the first token at the stream's own piece."""
    at = facts.first_token
    return replace(facts, first_token=None if at is None or at >= len(ends) else sse.piece_at(pieces, ends[at]))


def _endpoint(api: str, operation: str, call_type: str, accepts: Any, read_body: Any, read_frames: Any) -> Endpoint:
    return Endpoint(
        "bedrock",
        api,
        operation,
        (call_type, "a" + call_type),
        accepts,
        read_request,
        read_body,
        read_frames,
        read_error,
        framed=True,
        refine=refine,
    )


CONVERSE = _endpoint("converse", "chat", "completion", _accepts_converse, read_converse, read_converse_stream)
INVOKE = _endpoint("invoke", "chat", "completion", _accepts_invoke, read_invoke, read_invoke_stream)
EMBED = _endpoint("invoke", "embeddings", "embedding", _accepts_invoke, read_invoke, read_invoke_stream)

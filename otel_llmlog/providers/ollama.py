"""Ollama's own wire format: /api/chat, /api/generate, /api/embed.

Sources of the field mappings: ollama._types.{ChatResponse, GenerateResponse, EmbedResponse, BaseGenerateResponse} and
ollama._client (an `error` line within a stream) of the installed SDK. It streams unless `stream` is false: one JSON
object a line, the counts on the line with `done: true`. No reply has an id.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from otel_llmlog import redact
from otel_llmlog.payload import Usage
from otel_llmlog.providers import lenient, sse
from otel_llmlog.providers.facts import Endpoint, ErrorFacts, RequestFacts, ResponseFacts, has
from otel_llmlog.providers.lenient import integer, items, mapping, text, word

# Of `options`, the numbers and switches that say how tokens are chosen; the rest is about the machine.
_SWITCHES = frozenset({
    "temperature", "top_p", "top_k", "min_p", "seed", "num_predict", "num_ctx", "repeat_penalty", "presence_penalty",
    "frequency_penalty",
})  # fmt: skip
_NOT_PARAMETERS = frozenset(
    {"model", "messages", "prompt", "input", "system", "suffix", "images", "context", "template"}
)
_COUNTS = ("prompt_eval_count", "eval_count")
# What a line adds to, for chat within `message`, for generate at the top.
_TEXTS = ("content", "thinking", "response")


def read_request(body: bytes, path: str, content: bool) -> RequestFacts:
    """Read the body of a request to any of the three APIs."""
    reading = lenient.read_object(body)
    return RequestFacts(
        model=redact.model(reading.get("model")),
        # Embeddings alone are never a stream.
        stream=reading.get("stream") is not False and not path.rstrip("/").endswith("/embed"),
        messages=_messages(reading) if content else None,
        parameters=_parameters(reading, content),
        notes=(f"request: {reading.note}",) if reading.note else (),
    )


def _parameters(reading: lenient.Reading, content: bool) -> dict[str, Any]:
    kept = {name: reading.get(name) for name in reading.fields if name not in _NOT_PARAMETERS} if content else {}
    options = mapping(reading.get("options"))
    for name, value in options.items():
        if name in _SWITCHES and isinstance(value, bool | int | float):
            kept[name] = redact.storable(value)
    if not content:
        for name in ("stream", "think", "raw", "truncate", "dimensions"):
            if isinstance(value := reading.get(name), bool | int | float):
                kept[name] = redact.storable(value)
        if tools := items(reading.get("tools")):
            kept["tool_count"] = len(tools)
    return kept


def _messages(reading: lenient.Reading) -> Any:
    found = next((f for n in ("messages", "prompt", "input") if (f := reading.get(n)) is not None), None)
    system = reading.get("system")
    if system is None or found is None:
        return found
    return [{"role": "system", "content": system}, {"role": "user", "content": found}]


def usage_of(fields: Mapping[str, Any]) -> Usage | None:
    """The counts of a reply; None when it has none."""
    if all(fields.get(name) is None for name in _COUNTS):
        return None
    return Usage(
        input_tokens=integer(fields.get("prompt_eval_count")),
        output_tokens=integer(fields.get("eval_count")),
        source="provider",
    )


def _odd(fields: Mapping[str, Any]) -> tuple[str, ...]:
    return lenient.odd_counts({name: fields[name] for name in _COUNTS if name in fields})


def _error(found: Any) -> ErrorFacts | None:
    return None if found is None else ErrorFacts(None, redact.clean(text(found)) or None)


def read_response(body: bytes, content: bool) -> ResponseFacts:
    """Read the body of a 2xx reply to a call that was no stream. The vectors of embeddings are never kept."""
    reading = lenient.read_object(body)
    counts = {name: reading.get(name) for name in _COUNTS if name in reading.fields}
    reason = word(reading.get("done_reason"))
    kept = {name: reading.get(name) for name in reading.fields if name != "embeddings"} if content else None
    return ResponseFacts(
        model=redact.model(reading.get("model")),
        usage=usage_of(counts),
        finish_reasons=(reason,) if reason else (),
        complete=reading.note is None,
        response=kept,
        error=_error(reading.get("error")),
        notes=((reading.note,) if reading.note else ()) + _odd(counts),
    )


def read_error(body: bytes) -> ErrorFacts:
    """Read an error body: `{"error": "…"}`."""
    return _error(lenient.read_object(body).get("error")) or ErrorFacts()


class _Message:
    """What the lines of a stream say, put together again: fields as they stand, texts that grow, lists that do."""

    def __init__(self) -> None:
        self.texts: dict[str, list[str]] = {}
        self.others: dict[str, Any] = {}

    def add(self, fields: Mapping[str, Any]) -> bool:
        """Take in the fields of one line; whether the model wrote anything."""
        wrote = False
        for name, value in fields.items():
            if name in _TEXTS and isinstance(value, str):
                self.texts.setdefault(name, []).append(value)
                wrote |= bool(value)
            elif name == "tool_calls" and isinstance(value, list):
                self.others.setdefault(name, []).extend(value)
                wrote |= bool(value)
            elif value is not None:
                self.others[name] = value
        return wrote

    def whole(self) -> dict[str, Any]:
        return {**self.others, **{name: "".join(parts) for name, parts in self.texts.items()}}


def read_stream(pieces: Sequence[bytes], content: bool) -> ResponseFacts:
    """Read the lines of a stream: its last one has the counts."""
    model = error = first = None
    last: Mapping[str, Any] = {}
    top, message = _Message(), _Message()
    at, notes = 0, []
    stream = b"".join(pieces)
    for ended in stream.split(b"\n"):
        at = min(at + len(ended) + 1, len(stream))
        if not ended.strip():
            continue
        line = lenient.value_of(ended)
        if not isinstance(line, dict):
            notes.append("a line of the stream could not be read")
            continue
        model = redact.model(line.get("model")) or model
        error = error or _error(line.get("error"))
        if line.get("done") is True:
            last = line
        said = line.pop("message", None)
        wrote = message.add(mapping(said)) | top.add(line)
        if wrote and first is None:
            first = sse.piece_at(pieces, at)
    reason = word(last.get("done_reason"))
    whole = None
    if content:
        whole = top.whole()
        if said := message.whole():
            whole["message"] = said
    return ResponseFacts(
        model=model,
        usage=usage_of(last),
        finish_reasons=(reason,) if reason else (),
        complete=bool(last),
        is_stream=True,
        first_token=first,
        response=whole,
        error=error,
        notes=(*dict.fromkeys(notes), *_odd(last)),
    )


def _endpoint(api: str, operation: str, call_type: str, accepts: Any) -> Endpoint:
    names = (call_type, "a" + call_type)
    return Endpoint(
        "ollama", api, operation, names, accepts, read_request, read_response, read_stream, read_error, framed=True
    )


CHAT = _endpoint("chat", "chat", "completion", has(b'"model"', b'"messages"'))
GENERATE = _endpoint("completions", "text_completion", "text_completion", has(b'"model"', b'"prompt"'))
EMBED = _endpoint("embeddings", "embeddings", "embedding", has(b'"model"', b'"input"'))

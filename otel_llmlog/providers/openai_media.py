"""OpenAI's APIs of images, audio and moderation: JSON or forms in, JSON, text or binary out. No picture and no sound is
ever decoded or kept.

Sources of the field mappings, as the SDK's types have them: openai.types.{ImagesResponse, ImageGenCompletedEvent,
ImageEditCompletedEvent, ModerationCreateResponse}, openai.types.audio.{Transcription, TranscriptionVerbose,
TranscriptionTextDoneEvent, SpeechCreateParams}. Moderation is free of charge:
https://developers.openai.com/api/docs/guides/moderation

Where a reply states no usage, what the request asks for is what is billed: characters to speak, pictures of a size.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

from otel_llmlog import redact
from otel_llmlog.payload import Usage, milliseconds
from otel_llmlog.providers import forms, lenient, openai, openai_usage, sse
from otel_llmlog.providers.facts import Endpoint, ErrorFacts, RequestFacts, ResponseFacts, has
from otel_llmlog.providers.lenient import integer, items, mapping, text, word

# Parameters that cannot hold content, as numbers or words.
_SWITCHES = (
    "n", "size", "quality", "style", "background", "output_format", "output_compression", "response_format",
    "partial_images", "input_fidelity", "moderation", "stream", "temperature", "voice", "speed", "stream_format",
)  # fmt: skip
_CONTENT = frozenset({"model", "prompt", "input", "instructions", "user", "image", "mask", "file"})
# Sizes such as 1024x1792, which are no words.
_LONGEST_SIZE = 16
_MAX_IMAGES = 10
_NUMBER = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,9})?")
# The default of an API where the request names no model.
_DEFAULT_MODELS = {"images": "dall-e-2", "moderations": "omni-moderation-latest"}


def _accepts_form(body: bytes | None, headers: Mapping[str, str]) -> bool:
    """A form, whose fields may be out of sight; or the same as JSON."""
    if body is None or forms.is_form(body):
        return "multipart/form-data" in (headers.get("content-type") or "")
    return b'"model"' in body or b'"prompt"' in body


def _fields(body: bytes) -> lenient.Reading:
    return lenient.Reading(forms.fields(body)) if forms.is_form(body) else lenient.read_object(body)


def read_request(body: bytes, path: str, content: bool) -> RequestFacts:
    """Read the body of a request to any of these APIs, JSON or form."""
    reading = _fields(body)
    api = path.rstrip("/").rpartition("/")[0].rpartition("/")[2]
    given = reading.get("input") if "input" in reading.fields else reading.get("prompt")
    # Azure names the model in the URL.
    model = redact.model(reading.get("model")) or openai.deployment(path)
    return RequestFacts(
        model=model or (_DEFAULT_MODELS.get(api) or _DEFAULT_MODELS.get(path.rstrip("/").rpartition("/")[2])),
        stream=str(reading.get("stream")).lower() == "true" or reading.get("stream_format") == "sse",
        messages=given if content and isinstance(given, str | list) else None,
        parameters=_parameters(reading, content),
        end_user=redact.name(reading.get("user")),
        usage=_asked(reading, api, path),
        notes=(f"request: {reading.note}",) if reading.note else (),
    )


def _parameters(reading: lenient.Reading, content: bool) -> dict[str, Any]:
    if content:
        return {name: reading.get(name) for name in reading.fields if name not in _CONTENT}
    kept: dict[str, Any] = {}
    for name in _SWITCHES:
        value = _number(reading.get(name))
        if isinstance(value, bool | int | float):
            kept[name] = redact.storable(value)
        elif (enum := word(value) or _size(value)) is not None:
            kept[name] = enum
    return kept


def _number(value: Any) -> Any:
    """A number that a form holds as text; anything else as it is."""
    return float(value) if isinstance(value, str) and _NUMBER.fullmatch(value) else value


def _size(value: Any) -> str | None:
    width, _, height = text(value)[: _LONGEST_SIZE + 1].partition("x")
    return (
        f"{width}x{height}" if width.isascii() and width.isdigit() and height.isascii() and height.isdigit() else None
    )


def _asked(reading: lenient.Reading, api: str, path: str) -> Usage | None:
    """What the request itself makes countable."""
    if path.rstrip("/").endswith("/speech"):
        spoken = reading.get("input")
        return Usage(input_characters=len(spoken), source="request") if isinstance(spoken, str) else None
    if api != "images":
        return None
    count = reading.get("n")
    images = int(count) if isinstance(count, str) and count.isascii() and count.isdigit() else integer(count)
    size, quality = reading.get("size"), reading.get("quality")
    return Usage(
        output_images=min(max(images, 1), _MAX_IMAGES),
        image_size=_size(size) or word(size),
        image_quality=word(quality),
        source="request",
    )


def image_usage_of(found: Any, size: Any = None, quality: Any = None) -> Usage | None:
    """Usage of a picture's making. Its output is pictures, but for what the details name as text."""
    usage = openai_usage.usage_of(found)
    if usage is None:
        return None
    if not mapping(mapping(found).get("output_tokens_details")):
        usage = usage.model_copy(update={"output_image_tokens": usage.output_tokens})
    return usage.model_copy(update={"image_size": _size(size) or word(size), "image_quality": word(quality)})


def _without_pictures(fields: Mapping[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in fields.items() if name != "data"}
    kept["data"] = [
        {name: value for name, value in mapping(picture).items() if name != "b64_json"}
        for picture in items(fields.get("data"))
    ]
    return kept


def read_images(body: bytes, content: bool) -> ResponseFacts:
    """Read the reply to a request for pictures."""
    reading = lenient.read_object(body)
    usage = reading.get("usage")
    return ResponseFacts(
        usage=image_usage_of(usage, reading.get("size"), reading.get("quality")),
        complete=reading.note is None,
        response=_without_pictures(reading.whole()) if content else None,
        error=openai_usage.error_of(reading.get("error")),
        notes=((reading.note,) if reading.note else ()) + lenient.odd_counts(mapping(usage)),
    )


def audio_usage_of(found: Any) -> Usage | None:
    """Usage of a transcription or of speech: tokens, or seconds."""
    if not isinstance(found, dict) or not found:
        return None
    if found.get("type") == "duration" or "seconds" in found:
        return Usage(input_audio_ms=milliseconds(found.get("seconds")), source="provider")
    heard = mapping(found.get("input_token_details") or found.get("input_tokens_details"))
    return Usage(
        input_tokens=integer(found.get("input_tokens")),
        output_tokens=integer(found.get("output_tokens")),
        input_audio_tokens=integer(heard.get("audio_tokens")),
        source="provider",
    )


def read_transcription(body: bytes, content: bool) -> ResponseFacts:
    """Read what was heard: JSON, or the bare text, subtitles or captions, which state no usage."""
    if body.lstrip()[:1] != b"{":
        # A bare text ends where it ends: that it was read to there is all that can be said.
        said = body.decode("utf-8", "replace") if content else None
        note = "the reply is text alone: it states no usage" if body.strip() else "the body is empty"
        return ResponseFacts(opaque=bool(body.strip()), response=said, notes=(note,))
    reading = lenient.read_object(body)
    found = reading.get("usage")
    usage = audio_usage_of(found)
    if usage is None and (length := milliseconds(reading.get("duration"))):
        usage = Usage(input_audio_ms=length, source="provider")
    return ResponseFacts(
        usage=usage,
        complete=reading.note is None,
        response=reading.whole() if content else None,
        error=openai_usage.error_of(reading.get("error")),
        notes=((reading.note,) if reading.note else ()) + lenient.odd_counts(mapping(found)),
    )


def read_speech(body: bytes, content: bool) -> ResponseFacts:  # noqa: ARG001 - sound is never kept
    """Read nothing: it is sound. What it costs follows from the text that was to be spoken."""
    return ResponseFacts(opaque=bool(body), notes=() if body else ("the body is empty",))


def read_moderation(body: bytes, content: bool) -> ResponseFacts:
    """Read a verdict. OpenAI's own are free; other hosts of this API state what they used."""
    reading = lenient.read_object(body)
    given, found = redact.name(reading.get("id")), reading.get("usage")
    free = Usage(stated_cost=Decimal(0), source="provider") if given and given.startswith("modr-") else None
    return ResponseFacts(
        id=given,
        model=redact.model(reading.get("model")),
        usage=openai_usage.usage_of(found) or free,
        complete=reading.note is None,
        response=reading.whole() if content else None,
        notes=((reading.note,) if reading.note else ()) + lenient.odd_counts(mapping(found)),
    )


def read_stream(pieces: Sequence[bytes], content: bool) -> ResponseFacts:
    """Read the events of pictures, of a transcription or of speech: the last one holds the usage."""
    usage: Usage | None = None
    error: ErrorFacts | None = None
    first, ended = None, False
    whole: dict[str, Any] = {}
    odd: tuple[str, ...] = ()
    notes = []
    for name, data, end in sse.events(b"".join(pieces)):
        if first is not None and (name.endswith((b".delta", b".partial_image")) or b".delta" in data[:64]):
            continue
        if data == b"[DONE]":
            continue
        event = lenient.value_of(data)
        if not isinstance(event, dict):
            notes.append("an event of the stream could not be read")
            continue
        kind = text(event.get("type")) or name.decode("utf-8", "replace")
        if first is None and kind.endswith((".delta", ".partial_image", ".completed", ".done")):
            first = sse.piece_at(pieces, end)
        if kind.startswith("image_") and kind.endswith(".completed"):
            made = image_usage_of(event.get("usage"), event.get("size"), event.get("quality"))
            usage, ended = made or usage, True
        elif kind in {"transcript.text.done", "speech.audio.done"}:
            usage, ended = audio_usage_of(event.get("usage")) or usage, True
            if usage is not None and kind == "speech.audio.done":
                usage = usage.model_copy(update={"output_audio_tokens": usage.output_tokens})
        elif kind == "error":
            error = openai_usage.error_of(event.get("error")) or openai_usage.error_of(event)
        else:
            continue
        odd = lenient.odd_counts(mapping(event.get("usage")))
        whole = {name: value for name, value in event.items() if name not in {"b64_json", "audio"}}
    return ResponseFacts(
        usage=usage,
        complete=ended,
        is_stream=True,
        first_token=first,
        response=whole if content else None,
        error=error,
        notes=(*dict.fromkeys(notes), *odd),
    )


def _endpoint(api: str, call_type: str, accepts: Any, read_body: Any) -> Endpoint:
    names = (call_type, "a" + call_type)
    return Endpoint("openai", api, call_type, names, accepts, read_request, read_body, read_stream, openai.read_error)


GENERATIONS = _endpoint("images", "image_generation", has(b'"prompt"'), read_images)
EDITS = _endpoint("images", "image_edit", _accepts_form, read_images)
VARIATIONS = replace(EDITS, operation="image_variation", call_types=("image_variation", "aimage_variation"))
TRANSCRIPTIONS = _endpoint("audio", "transcription", _accepts_form, read_transcription)
# LiteLLM knows both by one name.
TRANSLATIONS = replace(TRANSCRIPTIONS, operation="translation")
SPEECH = _endpoint("speech", "speech", has(b'"input"', b'"voice"'), read_speech)
MODERATIONS = _endpoint("moderations", "moderation", has(b'"input"'), read_moderation)

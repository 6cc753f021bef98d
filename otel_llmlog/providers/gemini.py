"""Google's wire format: generateContent, its stream, and embeddings; on the Gemini API and on Vertex AI.

Sources of the field mappings: google.genai.types.{GenerateContentResponse, GenerateContentResponseUsageMetadata,
ModalityTokenCount, TrafficType, FinishReason, BlockedReason, EmbedContentResponse, ContentEmbeddingStatistics} of the
installed SDK, under the camel-case names of the REST API; google.genai.errors.APIError for error bodies.

- `promptTokenCount` includes cached content. `thoughtsTokenCount` comes on top of `candidatesTokenCount`, and
  `toolUsePromptTokenCount` on top of the prompt: `totalTokenCount` is the sum of all four.
- What a search brought back is not billed as input, the search is (Google's price page); tokens of other tools are.
- Grounding is billed by the prompt up to Gemini 2, by the query from Gemini 3 on (Google's price page).
- A page of a document is billed as an image (as genai-prices reads `DOCUMENT`).
- Each chunk of a stream holds the usage so far, so the last one counts and nothing is summed.
- The stream is server-sent events with `alt=sse`, else one JSON array; an error may come as bare JSON lines.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from otel_llmlog import redact
from otel_llmlog.payload import Usage, addable, total
from otel_llmlog.providers import lenient, sse
from otel_llmlog.providers.facts import Endpoint, ErrorFacts, RequestFacts, ResponseFacts, has
from otel_llmlog.providers.lenient import enum, integer, items, mapping, text
from otel_llmlog.providers.parts import Parts, joined

_GENERATION = re.compile(r"gemini-(\d+)")
# From this generation on Google bills each search query; before it, each prompt that was grounded.
_BILLED_BY_QUERY = 3
# Fields of `generationConfig` that cannot hold content, by their name in the GenAI conventions.
_SWITCHES = {
    "temperature": "temperature",
    "topP": "top_p",
    "topK": "top_k",
    "candidateCount": "n",
    "maxOutputTokens": "max_output_tokens",
    "presencePenalty": "presence_penalty",
    "frequencyPenalty": "frequency_penalty",
    "seed": "seed",
    "responseLogprobs": "logprobs",
    "logprobs": "top_logprobs",
    "outputDimensionality": "dimensions",
}
_NOT_PARAMETERS = frozenset({"contents", "content", "requests", "instances", "systemInstruction", "model"})
# How Vertex names what an API call was billed as.
_TRAFFIC = {"on_demand_priority": "priority", "on_demand_flex": "flex"}
# A candidate that ended so is no answer. What a filter stopped (`safety`, `recitation`, …) is one.
_FAILED = frozenset({
    "malformed_function_call", "malformed_response", "unexpected_tool_call", "too_many_tool_calls",
    "missing_thought_signature", "pup_limited_disabled", "other", "image_other", "no_image",
})  # fmt: skip
_AUDIO, _IMAGES, _VIDEO = ("audio",), ("image", "document"), ("video",)
_UNREADABLE = "an event of the stream could not be read"


def model_of(path: str) -> str | None:
    """What the last segment of a path names in front of its verb: `…/models/gemini-2.5-flash:generateContent`."""
    return redact.model(path.rstrip("/").rpartition("/")[2].rpartition(":")[0])


def read_request(body: bytes, path: str, content: bool) -> RequestFacts:
    """Read the body of a request to any of the APIs. The URL alone tells the model, and whether it is a stream."""
    reading = lenient.read_object(body)
    return RequestFacts(
        model=model_of(path),
        stream=path.rstrip("/").endswith(":streamGenerateContent"),
        messages=_messages(reading) if content else None,
        parameters=_parameters(reading, content),
        notes=(f"request: {reading.note}",) if reading.note else (),
    )


def _parameters(reading: lenient.Reading, content: bool) -> dict[str, Any]:
    kept = {name: reading.get(name) for name in reading.fields if name not in _NOT_PARAMETERS} if content else {}
    config = mapping(reading.get("generationConfig"))
    for name, ours in _SWITCHES.items():
        value = config.get(name, reading.get(name) if name == "outputDimensionality" else None)
        if isinstance(value, bool | int | float):
            kept[ours] = redact.storable(value)
    thinking = mapping(config.get("thinkingConfig"))
    if budget := integer(thinking.get("thinkingBudget")):
        kept["thinking_budget_tokens"] = budget
    if level := enum(thinking.get("thinkingLevel")):
        kept["reasoning_effort"] = level
    if tier := enum(reading.get("serviceTier")):
        kept["service_tier"] = tier
    if tools := items(reading.get("tools")):
        kept["tool_count"] = len(tools)
    return kept


def _messages(reading: lenient.Reading) -> Any:
    for name in ("contents", "content", "requests", "instances"):
        if (found := reading.get(name)) is not None:
            break
    system = mapping(reading.get("systemInstruction"))
    return [{"role": "system", **system}, *found] if system and isinstance(found, list) else found


def _by_modality(modalities: Container[str], *found: Any) -> int:
    """Tokens of some modalities in lists of `ModalityTokenCount`."""
    counts = [mapping(item) for one in found for item in items(one)]
    return total(*(count.get("tokenCount") for count in counts if enum(count.get("modality")) in modalities))


class _Grounding:
    """What the candidates of a reply were grounded on."""

    def __init__(self) -> None:
        self.queries: set[str] = set()
        self.maps = False

    def add(self, candidate: Mapping[str, Any]) -> None:
        found = mapping(candidate.get("groundingMetadata"))
        if not found:
            return
        on_maps = any("maps" in mapping(chunk) for chunk in items(found.get("groundingChunks")))
        self.maps |= on_maps
        asked = {query for query in items(found.get("webSearchQueries")) if isinstance(query, str) and query}
        # Maps reports its queries in the same field.
        if not on_maps or any("web" in mapping(chunk) for chunk in items(found.get("groundingChunks"))):
            self.queries |= asked

    def searches(self, model: str | None) -> int:
        generation = _GENERATION.search(model or "")
        by_query = generation is not None and len(generation[1]) < 4 and int(generation[1]) >= _BILLED_BY_QUERY
        return len(self.queries) if by_query else min(len(self.queries), 1)


def usage_of(found: Any, grounding: _Grounding, model: str | None, *, complete: bool) -> Usage | None:
    """A `usageMetadata`, counted as the GenAI conventions do; None when there is none."""
    if not isinstance(found, dict) or not found:
        return None
    prompt, said = addable(found.get("promptTokenCount")), addable(found.get("candidatesTokenCount"))
    thoughts, tools = addable(found.get("thoughtsTokenCount")), addable(found.get("toolUsePromptTokenCount"))
    # Some models count thoughts within their candidates: then the total has no room for them.
    within = thoughts > 0 and integer(found.get("totalTokenCount")) == prompt + said + tools
    # Of a stream that ended early nobody knows what its tools were.
    billed_tools = tools if complete and not grounding.queries and not grounding.maps else 0
    of_tools = found.get("toolUsePromptTokensDetails") if billed_tools else None
    cached, asked = found.get("cacheTokensDetails"), found.get("promptTokensDetails")
    made = found.get("candidatesTokensDetails")
    tier = enum(found.get("serviceTier")) or enum(found.get("trafficType"))
    return Usage(
        input_tokens=total(prompt, billed_tools),
        output_tokens=said if within else total(said, thoughts),
        cache_read_tokens=integer(found.get("cachedContentTokenCount")),
        cache_read_audio_tokens=_by_modality(_AUDIO, cached),
        cache_read_image_tokens=_by_modality(_IMAGES, cached),
        input_audio_tokens=_by_modality(_AUDIO, asked, of_tools),
        input_image_tokens=_by_modality(_IMAGES, asked, of_tools),
        input_video_tokens=_by_modality(_VIDEO, asked, of_tools),
        output_audio_tokens=_by_modality(_AUDIO, made),
        output_image_tokens=_by_modality(_IMAGES, made),
        output_video_tokens=_by_modality(_VIDEO, made),
        reasoning_tokens=thoughts,
        web_search_requests=grounding.searches(model),
        service_tier=_TRAFFIC.get(tier, tier) if tier else None,
        source="provider",
    )


def _blocked(found: Any) -> ErrorFacts | None:
    """Why the prompt was refused, if it was: there is no candidate then."""
    reason = mapping(found).get("blockReason")
    return (
        ErrorFacts(enum(reason), redact.clean(text(mapping(found).get("blockReasonMessage"))) or None)
        if reason
        else None
    )


def _error(found: Any) -> ErrorFacts | None:
    """`{code, message, status}`."""
    if found is None:
        return None
    fields = mapping(found)
    kind = enum(fields.get("status")) or enum(fields.get("code"))
    return ErrorFacts(kind, redact.clean(text(fields.get("message"))) or None)


def _ended_badly(reasons: Iterable[str]) -> ErrorFacts | None:
    return next((ErrorFacts(reason) for reason in reasons if reason in _FAILED), None)


def read_response(body: bytes, content: bool) -> ResponseFacts:
    """Read the body of a 2xx reply to generateContent."""
    reading = lenient.read_object(body)
    usage, model = reading.get("usageMetadata"), redact.model(reading.get("modelVersion"))
    grounding = _Grounding()
    reasons = []
    for found in items(reading.get("candidates")):
        candidate = mapping(found)
        grounding.add(candidate)
        if reason := enum(candidate.get("finishReason")):
            reasons.append(reason)
    return ResponseFacts(
        id=redact.name(reading.get("responseId")),
        model=model,
        usage=usage_of(usage, grounding, model, complete=reading.note is None),
        finish_reasons=tuple(reasons),
        complete=reading.note is None,
        response=reading.whole() if content else None,
        error=_error(reading.get("error")) or _blocked(reading.get("promptFeedback")) or _ended_badly(reasons),
        notes=((reading.note,) if reading.note else ()) + lenient.odd_counts(mapping(usage)),
    )


def read_error(body: bytes) -> ErrorFacts:
    """Read an error body: `{"error": {…}}`, in an array of one where a stream was asked for."""
    return _error(lenient.read_object(lenient.unwrapped(body)).get("error")) or ErrorFacts()


class _Candidate:
    """One candidate of a stream, put together again."""

    __slots__ = ("fields", "parts", "role")

    def __init__(self) -> None:
        self.fields: dict[str, Any] = {}
        self.parts: list[dict[str, Any]] = []
        self.role: Any = None

    def add(self, candidate: Mapping[str, Any]) -> bool:
        """Take in what a chunk says of it; whether the model wrote anything."""
        spoken = mapping(candidate.get("content"))
        self.role = spoken.get("role") or self.role
        self.fields.update({name: value for name, value in candidate.items() if name != "content"})
        parts = [mapping(part) for part in items(spoken.get("parts"))]
        for part in parts:
            known, said = self.parts[-1] if self.parts else {}, part.get("text")
            # A text goes on where only the text differs.
            if isinstance(said, str) and isinstance(known.get("text"), Parts) and _kind(part) == _kind(known):
                known["text"].append(said)
            else:
                self.parts.append({**part, "text": Parts([said])} if isinstance(said, str) else {**part})
        return any(part.get("text") != "" for part in parts)

    def whole(self) -> dict[str, Any]:
        parts = [joined(part) for part in self.parts]
        return {"content": {"parts": parts, **({"role": self.role} if self.role else {})}, **self.fields}


def _kind(part: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in part.items() if name != "text"}


def read_stream(pieces: Sequence[bytes], content: bool) -> ResponseFacts:
    """Read the chunks of a streamed generateContent, as events or as an array."""
    stream = b"".join(pieces)
    is_array = stream.lstrip()[:1] in {b"[", b"{"}
    frames = lenient.elements(stream) if is_array else ((data, end) for _, data, end in sse.events(stream))
    id_ = model = error = blocked = first = None
    usage: Any = None
    candidates: dict[int, _Candidate] = {}
    reasons: dict[int, str] = {}
    grounding, notes = _Grounding(), []
    for data, end in frames:
        chunk = lenient.value_of(data)
        if not isinstance(chunk, dict):
            notes.append(_UNREADABLE)
            continue
        id_, model = id_ or redact.name(chunk.get("responseId")), redact.model(chunk.get("modelVersion")) or model
        usage = chunk.get("usageMetadata") or usage
        error = error or _error(chunk.get("error"))
        blocked = blocked or _blocked(chunk.get("promptFeedback"))
        for found in items(chunk.get("candidates")):
            fields = mapping(found)
            index = integer(fields.get("index"))
            grounding.add(fields)
            if reason := enum(fields.get("finishReason")):
                reasons[index] = reason
            wrote = candidates.setdefault(index, _Candidate()).add(fields)
            if wrote and first is None:
                first = sse.piece_at(pieces, end)
    if error is None and not is_array and b'"error"' in stream:
        error = _error(lenient.read_object(lenient.unwrapped(_bare_lines(stream))).get("error"))
    complete = blocked is not None or (bool(reasons) and len(reasons) == len(candidates))
    ended = tuple(reason for _, reason in sorted(reasons.items()))
    whole = None
    if content:
        whole = {"candidates": [candidate.whole() for _, candidate in sorted(candidates.items())]}
        known = {"usageMetadata": usage, "modelVersion": model, "responseId": id_}
        whole.update({name: value for name, value in known.items() if value is not None})
    return ResponseFacts(
        id=id_,
        model=model,
        usage=usage_of(usage, grounding, model, complete=complete),
        finish_reasons=ended,
        complete=complete,
        is_stream=True,
        first_token=first,
        response=whole,
        error=error or blocked or _ended_badly(ended),
        notes=(*dict.fromkeys(notes), *lenient.odd_counts(mapping(usage))),
    )


def _bare_lines(stream: bytes) -> bytes:
    """Lines of an event stream that belong to no event: Google sends an error that way."""
    return b"\n".join(line for line in stream.splitlines() if line[:1] in {b"{", b"}", b"[", b"]", b" ", b","})


def _embedded(reading: lenient.Reading) -> Usage | None:
    """What an embeddings reply counts: nothing for some models of the Gemini API, and then there is no price."""
    usage = mapping(reading.get("usageMetadata"))
    details, count = usage.get("promptTokensDetails"), usage.get("promptTokenCount")
    if count is None:
        made = [mapping(mapping(one).get("embeddings")) for one in items(reading.get("predictions"))]
        counts = [found for one in made if (found := mapping(one.get("statistics")).get("token_count")) is not None]
        count = total(*counts) if counts else None
    if count is None:
        # Older models are billed by the character, and count nothing else.
        characters = integer(mapping(reading.get("metadata")).get("billableCharacterCount"))
        return Usage(input_characters=characters, source="provider") if characters else None
    return Usage(
        input_tokens=integer(count),
        input_audio_tokens=_by_modality(_AUDIO, details),
        input_image_tokens=_by_modality(_IMAGES, details),
        input_video_tokens=_by_modality(_VIDEO, details),
        source="provider",
    )


_VECTORS = frozenset({"embedding", "embeddings", "predictions"})


def read_embeddings(body: bytes, content: bool) -> ResponseFacts:
    """Read a reply to embedContent, batchEmbedContents or Vertex' predict. The vectors are never kept."""
    reading = lenient.read_object(body)
    return ResponseFacts(
        usage=_embedded(reading),
        complete=reading.note is None,
        response={name: reading.get(name) for name in reading.fields if name not in _VECTORS} if content else None,
        error=_error(reading.get("error")),
        notes=((reading.note,) if reading.note else ()) + lenient.odd_counts(mapping(reading.get("usageMetadata"))),
    )


def refine(facts: ResponseFacts, headers: Mapping[str, str]) -> ResponseFacts:
    """The tier that served the call, which the Gemini API says in a header alone."""
    tier = enum(headers.get("x-gemini-service-tier"))
    if facts.usage is None or facts.usage.service_tier is not None or tier is None:
        return facts
    return replace(facts, usage=facts.usage.model_copy(update={"service_tier": tier}))


_GENERATE_CALLS = ("generate_content", "agenerate_content")
_STREAM_CALLS = ("generate_content_stream", "agenerate_content_stream")


def _endpoint(api: str, operation: str, call_types: tuple[str, str], accepts: Any, read_body: Any) -> Endpoint:
    return Endpoint(
        "gemini",
        api,
        operation,
        call_types,
        accepts,
        read_request,
        read_body,
        read_stream,
        read_error,
        framed=True,
        refine=refine,
    )


GENERATE = _endpoint("generate_content", "generate_content", _GENERATE_CALLS, has(b'"contents"'), read_response)
STREAM = _endpoint("generate_content", "generate_content", _STREAM_CALLS, has(b'"contents"'), read_response)
_EMBEDDING = ("embedding", "aembedding")
EMBED = _endpoint("embeddings", "embeddings", _EMBEDDING, has(b'"content"'), read_embeddings)
BATCH_EMBED = _endpoint("embeddings", "embeddings", _EMBEDDING, has(b'"requests"'), read_embeddings)
# Vertex' older form: other models of `predict` have a prompt, an image or fields of their own in their instances.
PREDICT = _endpoint("embeddings", "embeddings", _EMBEDDING, has(b'"instances"', b'"content"'), read_embeddings)

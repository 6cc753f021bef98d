"""Batches of OpenAI and Anthropic: what they cost is in the file of their results, one line a request.

Sources of the shapes: https://platform.openai.com/docs/guides/batch (lines of the output and the error file), and
openai.types.Batch; anthropic.types.messages.{MessageBatch, MessageBatchIndividualResponse} of the installed SDK.

Everything in a line is priced as batch. A line names its request for ever, so that a file that is read twice gives the
same calls twice, under the same names. Pure: bytes in, data out; no input raises.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, NamedTuple

from otel_llmlog import redact
from otel_llmlog.providers import anthropic, lenient, openai, openai_media
from otel_llmlog.providers.facts import Endpoint, ResponseFacts
from otel_llmlog.providers.lenient import integer, items, mapping, text

_RESULTS = re.compile(r"/files/([A-Za-z0-9_-]{1,128})/content$|/messages/batches/([A-Za-z0-9_-]{1,128})/results$")
_OBJECT = re.compile(r"/batches(?:/[A-Za-z0-9_-]{1,128})?$")
# Seconds since 1970: a time outside of these is none.
_EARLIEST, _LATEST = 1_500_000_000, 4_000_000_000


class Known(NamedTuple):
    """What a batch says of itself: the names that its results have in URLs, and when it was made (epoch seconds)."""

    results: tuple[str, ...]
    created: int


class Line(NamedTuple):
    """One request of a batch and its reply."""

    name: str
    """Names it among all requests: the provider's own id, or else that of its results and the app's `custom_id`."""
    custom_id: str | None
    endpoint: Endpoint
    status: int
    """HTTP status of the reply."""
    body: bytes
    created: int | None
    """Epoch seconds, where the reply says when it was made."""


def recognise(path: str) -> bool:
    """Whether a GET of this path reads a batch, or the results of one."""
    path = path.rstrip("/")
    return _OBJECT.search(path) is not None or _RESULTS.search(path) is not None


def results_of(path: str) -> str | None:
    """The name of the results that a GET of this path reads."""
    found = _RESULTS.search(path.rstrip("/"))
    return (found[1] or found[2]) if found else None


def known_of(path: str, body: bytes) -> list[Known]:
    """What the reply to a GET of this path says of batches: of one, or of a list of them."""
    if _OBJECT.search(path.rstrip("/")) is None:
        return []
    whole = lenient.value_of(body)
    found = []
    for batch in (whole, *items(mapping(whole).get("data"))):
        fields = mapping(batch)
        created = _time(fields.get("created_at"))
        names = [fields.get(name) for name in ("output_file_id", "error_file_id")]
        if fields.get("type") == "message_batch":
            names = [fields.get("id")]
        if created is not None and (given := tuple(name for name in names if isinstance(name, str))):
            found.append(Known(given, created))
    return found


def _time(given: Any) -> int | None:
    if isinstance(given, str):
        try:
            moment = datetime.fromisoformat(given[:64])
        except ValueError:
            return None
        # Neither provider leaves the zone out.
        given = round(moment.replace(tzinfo=moment.tzinfo or UTC).timestamp())
    seconds = integer(given)
    return seconds if _EARLIEST < seconds < _LATEST else None


def lines(results: str, body: bytes) -> Iterator[Line]:
    """The requests in a file of results; nothing of a file that is none."""
    for raw in body.splitlines():
        if not raw.strip():
            continue
        fields = lenient.value_of(raw) if b'"custom_id"' in raw else None
        line = _line(results, fields) if isinstance(fields, dict) else None
        if line is not None:
            yield line


def _line(results: str, fields: Mapping[str, Any]) -> Line | None:
    custom_id = redact.name(fields.get("custom_id"))
    name = f"{results}/{custom_id}"
    if "result" in fields:
        result = mapping(fields.get("result"))
        kind = text(result.get("type"))
        if kind == "succeeded":
            reply = mapping(result.get("message"))
        elif kind == "errored":
            reply = mapping(result.get("error"))
        else:  # canceled, expired: never run
            reply = {"type": "error", "error": {"type": kind}}
        return Line(name, custom_id, CLAUDE, 200, json.dumps(reply).encode(), None)
    if "response" not in fields:
        return None
    response = fields.get("response")
    if isinstance(response, dict):
        reply, status = mapping(response.get("body")), integer(response.get("status_code"))
    else:
        reply, status = {"error": fields.get("error")}, 200
    created = _time(reply.get("created")) or _time(reply.get("created_at"))
    endpoint = _BY_OBJECT.get(text(reply.get("object")), CHAT)
    if text(reply.get("id")).startswith("modr-"):
        endpoint = MODERATIONS
    name = redact.name(fields.get("id")) or name
    return Line(name, custom_id, endpoint, status or 200, json.dumps(reply).encode(), created)


def _priced_as_batch(facts: ResponseFacts, headers: Mapping[str, str]) -> ResponseFacts:  # noqa: ARG001 - as `refine`
    usage = facts.usage
    if usage is None or usage.stated_cost is not None:
        return facts
    return replace(facts, usage=usage.model_copy(update={"service_tier": "batch"}))


CHAT = replace(openai.CHAT, refine=_priced_as_batch)
MODERATIONS = replace(openai_media.MODERATIONS, refine=_priced_as_batch)
CLAUDE = replace(anthropic.MESSAGES, refine=_priced_as_batch)
_BY_OBJECT = {
    "text_completion": replace(openai.COMPLETIONS, refine=_priced_as_batch),
    "response": replace(openai.RESPONSES, refine=_priced_as_batch),
    "list": replace(openai.EMBEDDINGS, refine=_priced_as_batch),
}
# What a GET of a batch or of its results is to capture: it is read for what it says, and is no call itself.
READING = replace(openai.CHAT, api="batches", operation="batches", brief=None)

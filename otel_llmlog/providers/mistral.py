"""What is Mistral's own: fill-in-the-middle, agents and OCR. Its chat and embeddings are OpenAI's format.

Sources of the field mappings: mistralai.client.models.{FIMCompletionResponse, CompletionChunk, UsageInfo, OCRResponse,
OCRUsageInfo} of the installed SDK. A stream always ends with its usage, asked for or not.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from otel_llmlog import redact
from otel_llmlog.payload import Usage
from otel_llmlog.providers import brief, lenient, openai, openai_streams
from otel_llmlog.providers.facts import Endpoint, RequestFacts, ResponseFacts, has
from otel_llmlog.providers.lenient import integer, items, mapping

_NOT_PARAMETERS = frozenset({"model", "document", "document_annotation_prompt"})


def read_request(body: bytes, path: str, content: bool) -> RequestFacts:
    """Read the body of a FIM or agents request."""
    return replace(openai.read_request(body, path, content), usage_asked=True)


def read_ocr_request(body: bytes, path: str, content: bool) -> RequestFacts:  # noqa: ARG001 - one signature for all
    """Read the body of an OCR request. The document is content."""
    reading = lenient.read_object(body)
    if content:
        kept = {name: reading.get(name) for name in reading.fields if name not in _NOT_PARAMETERS}
    else:
        kept = {n: v for n in reading.fields if isinstance(v := reading.get(n), bool | int | float)}
        if pages := items(reading.get("pages")):
            kept["page_count"] = len(pages)
    return RequestFacts(
        model=redact.model(reading.get("model")),
        messages=reading.get("document") if content else None,
        parameters=kept,
        notes=(f"request: {reading.note}",) if reading.note else (),
    )


def read_ocr(body: bytes, content: bool) -> ResponseFacts:
    """Read an OCR reply: pages are what is billed."""
    reading = lenient.read_object(body)
    info = mapping(reading.get("usage_info"))
    pages = integer(info.get("pages_processed"))
    annotated = reading.get("document_annotation") is not None or any(
        mapping(image).get("image_annotation") is not None
        for page in items(reading.get("pages"))
        for image in items(mapping(page).get("images"))
    )
    return ResponseFacts(
        model=redact.model(reading.get("model")),
        usage=Usage(pages=pages, annotated_pages=pages if annotated else 0, source="provider") if info else None,
        complete=reading.note is None,
        response=reading.whole() if content else None,
        notes=((reading.note,) if reading.note else ()) + lenient.odd_counts(info),
    )


def _endpoint(api: str, operation: str, call_type: str, accepts: Any, read_asked: Any, read_body: Any) -> Endpoint:
    names = (call_type, "a" + call_type)
    return Endpoint(
        "mistral",
        api,
        operation,
        names,
        accepts,
        read_asked,
        read_body,
        openai_streams.read_chat_stream,
        openai.read_error,
        brief=None if api == "ocr" else brief.of_chat,
    )


FIM = _endpoint("fim", "text_completion", "text_completion", has(b'"prompt"'), read_request, openai.read_response)
# The agent has its model; the reply names it.
AGENTS = _endpoint("chat", "chat", "completion", has(b'"agent_id"', b'"messages"'), read_request, openai.read_response)
OCR = _endpoint("ocr", "ocr", "ocr", has(b'"model"', b'"document"'), read_ocr_request, read_ocr)

"""Mistral's wire format where it is not OpenAI's: usage in every stream, errors, OCR.

Shapes: mistralai.client.models.{CompletionChunk, ChatCompletionResponse, OCRResponse, HTTPValidationError}.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from otel_llmlog.demo import openai_wire
from otel_llmlog.demo.replies import Call, Failure, Reply, data_event, dump


def text(body: Mapping[str, Any]) -> str:
    return ""


def headers(call: Call) -> str:
    return f"mistral-correlation-id: {call.number:032x}\r\n"


def error(call: Call, failure: Failure) -> bytes:
    if failure.status == 422:
        wrong = {"type": failure.type or "missing", "loc": ["body", "model"], "msg": failure.message, "input": {}}
        return dump({"detail": [wrong]}, call.ask)
    kind = failure.type or "invalid_request_error"
    return dump({"object": "error", "message": failure.message, "type": kind, "param": None, "code": "3000"}, call.ask)


def stream_error(call: Call, failure: Failure) -> list[bytes]:
    return [data_event({"object": "error", "message": failure.message, "type": failure.type, "code": 3000}, call.ask)]


def chat(call: Call) -> Reply:
    """OpenAI's reply; a stream brings its usage unasked, with the finish reason."""
    call.body["stream_options"] = {"include_usage": True}
    return openai_wire.chat(call)


def embeddings(call: Call) -> Reply:
    """OpenAI's reply, with the id that Mistral's has."""
    reply = openai_wire.embeddings(call)
    reply.body = json.dumps({"id": call.id, **json.loads(reply.body)}).encode()
    return reply


def ocr(call: Call) -> Reply:
    page = {
        "index": 0,
        "markdown": "# Page",
        "images": [],
        "dimensions": {"dpi": 200, "height": 2200, "width": 1700},
    }
    pages = [{**page, "index": number} for number in range(3)]
    info = {"pages_processed": len(pages), "doc_size_bytes": 12345}
    made = {"pages": pages, "model": call.model, "usage_info": info, "document_annotation": None}
    return Reply(headers(call), dump(made, call.ask))

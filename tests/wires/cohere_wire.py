"""Cohere's wire format, version 2: chat, embed, rerank.

Shapes: cohere.v2.types.{V2ChatResponse, V2ChatStreamResponse, V2RerankResponse}, cohere.types.EmbedByTypeResponse.
What the model saw is one token more than what is billed, so that a reader of the wrong one is found out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from otel_llmlog.demo.replies import (
    Call,
    Failure,
    Reply,
    dump,
    named_event,
    reply_deltas,
    reply_text,
    spoil,
    tool_calls,
)
from otel_llmlog.demo.scenarios import last_text


def text(body: Mapping[str, Any]) -> str:
    """The text of an embed or rerank request."""
    return str(body.get("query") or last_text({"input": body.get("texts", "")}))


def headers(call: Call) -> str:
    return f"x-debug-trace-id: {call.number:032x}\r\nx-endpoint-monthly-call-limit: 1000\r\n"


def error(call: Call, failure: Failure) -> bytes:
    return dump({"id": f"err-{call.number}", "message": failure.message}, call.ask)


def stream_error(call: Call, failure: Failure) -> list[bytes]:
    delta = {"error": failure.message, "finish_reason": "ERROR"}
    return [named_event("message-end", {"type": "message-end", "delta": delta}, call.ask)]


def _usage(call: Call) -> dict[str, Any]:
    asked = call.ask.usage
    billed = spoil(
        {"input_tokens": asked.input, "output_tokens": asked.output},
        call.ask,
        {"input": "input_tokens", "output": "output_tokens"},
    )
    usage = {"billed_units": billed, "tokens": {"input_tokens": asked.input + 1, "output_tokens": asked.output + 1}}
    return {**usage, "cached_tokens": asked.cached} if asked.cached else usage


def _message(call: Call) -> dict[str, Any]:
    if tools := tool_calls(call):
        made = [
            {"id": f"call_{i}", "type": "function", "function": {"name": tool.name, "arguments": tool.arguments}}
            for i, tool in enumerate(tools)
        ]
        return {"role": "assistant", "tool_plan": "I will look.", "tool_calls": made}
    return {"role": "assistant", "content": [{"type": "text", "text": reply_text(call.ask)}]}


def _reason(call: Call) -> str:
    if call.ask.scenario == "incomplete":
        return "MAX_TOKENS"
    return "TOOL_CALL" if tool_calls(call) else "COMPLETE"


def chat(call: Call) -> Reply:
    if not call.stream:
        made = {"id": call.id, "message": _message(call), "finish_reason": _reason(call), "usage": _usage(call)}
        return Reply(headers(call), dump(made, call.ask))
    events: list[bytes] = []

    def add(kind: str, message: Any = None, **fields: Any) -> None:
        delta = {} if message is None else {"delta": {"message": message}}
        events.append(named_event(kind, {"type": kind, **fields, **delta}, call.ask))

    add("message-start", {"role": "assistant", "content": [], "tool_plan": "", "tool_calls": []}, id=call.id)
    add("content-start", {"content": {"type": "text", "text": ""}}, index=0)
    for piece in reply_deltas(call.ask):
        add("content-delta", {"content": {"text": piece}}, index=0)
    add("content-end", index=0)
    end = {"type": "message-end", "delta": {"finish_reason": _reason(call), "usage": _usage(call)}}
    events.append(named_event("message-end", end, call.ask))
    return Reply(headers(call), events=events)


def embed(call: Call) -> Reply:
    made = {
        "id": call.id,
        "embeddings": {"float": [[0.25, -0.5]] * len(call.body.get("texts", [1]))},
        "texts": call.body.get("texts", []),
        "meta": {"api_version": {"version": "2"}, "billed_units": {"input_tokens": call.ask.usage.input}},
        "response_type": "embeddings_by_type",
    }
    return Reply(headers(call), dump(made, call.ask))


def rerank(call: Call) -> Reply:
    results = [{"index": i, "relevance_score": 1 / (i + 1)} for i in range(len(call.body["documents"]))]
    meta = {"api_version": {"version": "2"}, "billed_units": {"search_units": 1}}
    return Reply(headers(call), json.dumps({"id": call.id, "results": results, "meta": meta}).encode())

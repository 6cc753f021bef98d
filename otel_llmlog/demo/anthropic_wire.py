"""Anthropic's wire format: messages and count_tokens.

Usage: `Usage.input` is everything sent, so the reply's `input_tokens` is input - cached - cache_write,
never below 0. A stream reports input and cache in `message_start` and the cumulative output in
`message_delta`.
"""

from __future__ import annotations

import json
from typing import Any

from otel_llmlog.demo.replies import (
    Call,
    Failure,
    Reply,
    dump,
    extras,
    named_event,
    reply_deltas,
    reply_text,
    spoil,
    tool_calls,
)

_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    529: "overloaded_error",
}
_RESET = "2030-01-01T00:00:00Z"


def headers(call: Call) -> str:
    return (
        f"request-id: req_{call.number:012d}\r\n"
        "anthropic-organization-id: 00000000-0000-0000-0000-000000000000\r\n"
        "anthropic-ratelimit-requests-limit: 4000\r\n"
        "anthropic-ratelimit-requests-remaining: 3999\r\n"
        f"anthropic-ratelimit-requests-reset: {_RESET}\r\n"
        "anthropic-ratelimit-tokens-limit: 400000\r\n"
        "anthropic-ratelimit-tokens-remaining: 399000\r\n"
        f"anthropic-ratelimit-tokens-reset: {_RESET}\r\n"
    )


def error_body(call: Call, failure: Failure) -> dict[str, Any]:
    kind = failure.type or _TYPES.get(failure.status, "api_error")
    return {
        "type": "error",
        "error": {"type": kind, "message": failure.message},
        "request_id": f"req_{call.number:012d}",
    }


def error(call: Call, failure: Failure) -> bytes:
    return dump(error_body(call, failure), call.ask)


def stream_error(call: Call, failure: Failure) -> list[bytes]:
    return [named_event("error", error_body(call, failure), call.ask)]


def _usage(call: Call) -> dict[str, Any]:
    """https://docs.anthropic.com/en/api/messages#response-usage"""
    asked = call.ask.usage
    usage: dict[str, Any] = {
        "input_tokens": max(0, asked.input - asked.cached - asked.cache_write),
        "cache_creation_input_tokens": asked.cache_write,
        "cache_read_input_tokens": asked.cached,
        "cache_creation": {
            "ephemeral_5m_input_tokens": asked.cache_write - asked.cache_write_1h,
            "ephemeral_1h_input_tokens": asked.cache_write_1h,
        },
        "output_tokens": asked.output,
        "service_tier": call.ask.option("service-tier", "tier") or "standard",
    }
    if asked.reasoning:
        usage["output_tokens_details"] = {"thinking_tokens": asked.reasoning}
    if asked.web_search:
        usage["server_tool_use"] = {"web_search_requests": asked.web_search, "web_fetch_requests": 0}
    return spoil(usage, call.ask, {"input": "input_tokens", "output": "output_tokens"})


def _stop_reason(call: Call) -> str:
    if call.ask.scenario == "incomplete":
        return "max_tokens"
    return "tool_use" if tool_calls(call) else "end_turn"


def _message(call: Call) -> dict[str, Any]:
    return {"id": call.id, "type": "message", "role": "assistant", "model": call.model}


def messages(call: Call) -> Reply:
    if call.stream:
        return Reply(headers(call), events=_events(call))
    content: list[dict[str, Any]] = [
        {
            "type": "tool_use",
            "id": f"toolu_{call.number:08d}{i:02d}",
            "name": tool.name,
            "input": json.loads(tool.arguments),
        }
        for i, tool in enumerate(tool_calls(call))
    ] or [{"type": "text", "text": reply_text(call.ask)}]
    value = {
        **_message(call),
        "content": content,
        "stop_reason": _stop_reason(call),
        "stop_sequence": None,
        **extras(call.ask),
        "usage": _usage(call),
    }
    return Reply(headers(call), dump(value, call.ask))


def _events(call: Call) -> list[bytes]:
    """https://docs.anthropic.com/en/docs/build-with-claude/streaming"""
    ask = call.ask
    events: list[bytes] = []

    def add(name: str, **fields: Any) -> None:
        events.append(named_event(name, {"type": name, **fields}, ask))

    usage = _usage(call)
    at_end = {"output_tokens"} | ({"output_tokens_details", "server_tool_use"} & usage.keys())
    if ask.params.get("delta") == "full":
        # Newer models repeat the input and cache counts at the end.
        at_end |= {"input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens"}
    start_usage = {k: v for k, v in usage.items() if k not in ("output_tokens_details", "server_tool_use")}
    start = {**_message(call), "content": [], "stop_reason": None, "stop_sequence": None, **extras(ask)}
    # What the model has written so far: one token.
    add("message_start", message={**start, "usage": {**start_usage, "output_tokens": 1}})
    tools = tool_calls(call)
    for i, tool in enumerate(tools):
        block = {"type": "tool_use", "id": f"toolu_{call.number:08d}{i:02d}", "name": tool.name, "input": {}}
        add("content_block_start", index=i, content_block=block)
        for piece in tool.pieces:
            add("content_block_delta", index=i, delta={"type": "input_json_delta", "partial_json": piece})
        add("content_block_stop", index=i)
    if not tools:
        add("content_block_start", index=0, content_block={"type": "text", "text": ""})
        add("ping")
        for piece in reply_deltas(ask):
            add("content_block_delta", index=0, delta={"type": "text_delta", "text": piece})
        add("content_block_stop", index=0)
    delta = {"stop_reason": _stop_reason(call), "stop_sequence": None}
    add("message_delta", delta=delta, usage={k: v for k, v in usage.items() if k in at_end})
    add("message_stop")
    return events


def count_tokens(call: Call) -> Reply:
    return Reply(headers(call), dump({"input_tokens": call.ask.usage.input}, call.ask))

"""OpenAI's Responses API: the response object, and the events that build it.

Usage: `input_tokens` is `Usage.input` (cached tokens inside), `output_tokens` is `Usage.output` (reasoning inside).
"""

from __future__ import annotations

from typing import Any

from otel_llmlog.demo import openai_wire
from otel_llmlog.demo.openai_wire import tier
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

# As all of OpenAI's APIs have them.
headers, error = openai_wire.headers, openai_wire.error


def stream_error(call: Call, failure: Failure) -> list[bytes]:
    """The events that end a stream with an error. `style=failed`: see `provider`."""
    number = len(_events(call))
    if call.ask.params.get("style") == "failed":
        response = _response(call, "failed")
        response["error"] = {"code": failure.code or "server_error", "message": failure.message}
        value = {"type": "response.failed", "sequence_number": number, "response": response}
        return [named_event("response.failed", value, call.ask)]
    fields = {"code": failure.code or "server_error", "message": failure.message, "param": None}
    value = {"type": "error", **fields, "sequence_number": number}
    return [named_event("error", value, call.ask)]


def _usage(call: Call) -> dict[str, Any]:
    """https://platform.openai.com/docs/api-reference/responses/object#responses/object-usage"""
    asked = call.ask.usage
    usage: dict[str, Any] = {
        "input_tokens": asked.input,
        "input_tokens_details": {"cached_tokens": asked.cached, "cache_write_tokens": asked.cache_write},
        "output_tokens": asked.output,
        "output_tokens_details": {"reasoning_tokens": asked.reasoning},
        "total_tokens": asked.input + asked.output,
    }
    if asked.cost is not None:
        usage["cost"] = asked.cost
    return spoil(usage, call.ask, {"input": "input_tokens", "output": "output_tokens", "total": "total_tokens"})


def _items(call: Call) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    if call.ask.usage.reasoning:
        items.append({"id": f"rs_{call.number:012d}", "type": "reasoning", "summary": []})
    calls = tool_calls(call)
    for i, made in enumerate(calls):
        items.append(
            {
                "id": f"fc_{call.number:08d}{i:02d}",
                "type": "function_call",
                "status": "completed",
                "arguments": made.arguments,
                "call_id": f"call_{call.number:08d}{i:02d}",
                "name": made.name,
            }
        )
    if not calls:
        part = {"type": "output_text", "annotations": [], "logprobs": [], "text": reply_text(call.ask)}
        items.append(
            {
                "id": f"msg_{call.number:012d}",
                "type": "message",
                "status": "incomplete" if call.ask.scenario == "incomplete" else "completed",
                "content": [part],
                "role": "assistant",
            }
        )
    return items


def _response(call: Call, status: str) -> dict[str, Any]:
    """The response object; with no output and no usage before the end."""
    body = call.body
    ended = status != "in_progress"
    metadata = body.get("metadata")
    return {
        "id": call.id,
        "object": "response",
        "created_at": call.created,
        "status": status,
        "background": False,
        "error": None,
        "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
        "instructions": body.get("instructions"),
        "max_output_tokens": body.get("max_output_tokens"),
        "model": call.model,
        "output": _items(call) if status in ("completed", "incomplete") else [],
        "parallel_tool_calls": body.get("parallel_tool_calls", True),
        "previous_response_id": body.get("previous_response_id"),
        "prompt_cache_key": body.get("prompt_cache_key"),
        "reasoning": {"effort": None, "summary": None},
        "safety_identifier": body.get("safety_identifier"),
        "service_tier": tier(call) if ended else "auto",
        "store": body.get("store") is not False,
        "temperature": body.get("temperature", 1.0),
        "text": {"format": {"type": "text"}},
        "tool_choice": body.get("tool_choice", "auto"),
        "tools": body.get("tools", []),
        "top_p": body.get("top_p", 1.0),
        "truncation": "disabled",
        **extras(call.ask),
        "usage": _usage(call) if ended else None,
        "user": body.get("user"),
        "metadata": metadata if isinstance(metadata, dict) else {},
    }


def finished_response(call: Call) -> dict[str, Any]:
    return _response(call, "incomplete" if call.ask.scenario == "incomplete" else "completed")


def responses(call: Call) -> Reply:
    if call.stream:
        return Reply(headers(call), events=_events(call))
    return Reply(headers(call), dump(finished_response(call), call.ask))


def _events(call: Call) -> list[bytes]:
    """https://platform.openai.com/docs/api-reference/responses-streaming"""
    ask = call.ask
    events: list[bytes] = []

    def add(name: str, **fields: Any) -> None:
        value = {"type": f"response.{name}", "sequence_number": len(events), **fields}
        events.append(named_event(f"response.{name}", value, ask))

    add("created", response=_response(call, "in_progress"))
    add("in_progress", response=_response(call, "in_progress"))
    made = {f"fc_{call.number:08d}{i:02d}": tool for i, tool in enumerate(tool_calls(call))}
    for index, item in enumerate(_items(call)):
        at: dict[str, Any] = {"item_id": item["id"], "output_index": index}
        if item["type"] == "reasoning":
            add("output_item.added", output_index=index, item=item)
        elif item["type"] == "function_call":
            add("output_item.added", output_index=index, item={**item, "status": "in_progress", "arguments": ""})
            for piece in made[item["id"]].pieces:
                add("function_call_arguments.delta", **at, delta=piece)
            add("function_call_arguments.done", **at, arguments=item["arguments"])
        else:
            at["content_index"] = 0
            part = item["content"][0]
            add("output_item.added", output_index=index, item={**item, "status": "in_progress", "content": []})
            add("content_part.added", **at, part={**part, "text": ""})
            for piece in reply_deltas(ask):
                add("output_text.delta", **at, delta=piece, logprobs=[])
            add("output_text.done", **at, text=part["text"], logprobs=[])
            add("content_part.done", **at, part=part)
        add("output_item.done", output_index=index, item=item)
    last = finished_response(call)
    add(str(last["status"]), response=last)
    return events

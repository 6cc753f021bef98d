"""Bedrock's wire format: Converse, InvokeModel and the streams of both, in the shapes of botocore's service model.

An invoked model's name tells whose body is wanted: `anthropic.`, `amazon.titan`, `meta.`, `mistral.`, `openai.`,
`amazon.nova`, `cohere.`; `cohere.` is one whose counts are in headers alone.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

from otel_llmlog.demo import anthropic_wire, openai_wire
from otel_llmlog.demo.replies import Call, Failure, Reply, dump, extras, reply_deltas, reply_text, spoil, tool_calls
from otel_llmlog.demo.scenarios import last_text
from otel_llmlog.providers.eventstream import CONTENT_TYPE, frame

_ERRORS = {
    400: "ValidationException",
    403: "AccessDeniedException",
    408: "ModelTimeoutException",
    424: "ModelErrorException",
    429: "ThrottlingException",
    503: "ServiceUnavailableException",
}


def text(body: Mapping[str, Any]) -> str:
    for name in ("inputText", "prompt", "message"):
        if isinstance(body.get(name), str):
            return str(body[name])
    messages = body.get("messages") or [{}]
    parts = messages[-1].get("content")
    if isinstance(parts, list) and parts and "text" in parts[0] and "type" not in parts[0]:
        return str(parts[0]["text"])
    return last_text(dict(body))


def headers(call: Call) -> str:
    kind = ""
    if call.ask.scenario == "error":
        status = call.ask.whole("status", 500)
        kind = f"x-amzn-ErrorType: {call.ask.params.get('type') or _ERRORS.get(status, 'InternalServerException')}\r\n"
    return f"x-amzn-RequestId: 00000000-0000-4000-8000-{call.number:012d}\r\n{kind}"


def _failed(failure: Failure) -> str:
    return failure.type or _ERRORS.get(failure.status, "InternalServerException")


def error(call: Call, failure: Failure) -> bytes:
    return json.dumps({"message": failure.message}).encode()


def stream_error(call: Call, failure: Failure) -> list[bytes]:
    name = _failed(failure)
    kind = name[0].lower() + name[1:]
    said = {":exception-type": kind, ":content-type": "application/json", ":message-type": "exception"}
    return [frame(said, json.dumps({"message": failure.message}).encode())]


def event(kind: str, value: Any, call: Call) -> bytes:
    return frame(
        {":event-type": kind, ":content-type": "application/json", ":message-type": "event"}, dump(value, call.ask)
    )


def _usage(call: Call) -> dict[str, Any]:
    asked = call.ask.usage
    fresh = max(asked.input - asked.cached - asked.cache_write, 0)
    usage: dict[str, Any] = {
        "inputTokens": fresh,
        "outputTokens": asked.output,
        "totalTokens": asked.input + asked.output,
    }
    if asked.cached or asked.cache_write:
        usage |= {"cacheReadInputTokens": asked.cached, "cacheWriteInputTokens": asked.cache_write}
    if asked.cache_write_1h:
        usage["cacheDetails"] = [{"ttl": "1h", "inputTokens": asked.cache_write_1h}]
    return spoil(usage, call.ask, {"input": "inputTokens", "output": "outputTokens", "total": "totalTokens"})


def _tools(call: Call) -> list[dict[str, Any]]:
    return [
        {"toolUse": {"toolUseId": f"tooluse_{i}", "name": tool.name, "input": json.loads(tool.arguments)}}
        for i, tool in enumerate(tool_calls(call))
    ]


def _reason(call: Call) -> str:
    return "max_tokens" if call.ask.scenario == "incomplete" else "tool_use" if tool_calls(call) else "end_turn"


def converse(call: Call) -> Reply:
    if not call.stream:
        content = _tools(call) or [{"text": reply_text(call.ask)}]
        body = {
            "output": {"message": {"role": "assistant", "content": content}},
            **extras(call.ask),
            "stopReason": _reason(call),
            "usage": _usage(call),
            "metrics": {"latencyMs": 12},
        }
        return Reply(headers(call), dump(body, call.ask))
    events = [event("messageStart", {"role": "assistant"}, call)]
    for at, tool in enumerate(_tools(call)):
        start = {"toolUse": {"toolUseId": tool["toolUse"]["toolUseId"], "name": tool["toolUse"]["name"]}}
        events.append(event("contentBlockStart", {"contentBlockIndex": at, "start": start}, call))
        given = {"toolUse": {"input": json.dumps(tool["toolUse"]["input"])}}
        events.append(event("contentBlockDelta", {"contentBlockIndex": at, "delta": given}, call))
    if not tool_calls(call):
        for piece in reply_deltas(call.ask):
            events.append(event("contentBlockDelta", {"contentBlockIndex": 0, "delta": {"text": piece}}, call))
    events.append(event("contentBlockStop", {"contentBlockIndex": 0}, call))
    events.append(event("messageStop", {"stopReason": _reason(call)}, call))
    events.append(event("metadata", {"usage": _usage(call), "metrics": {"latencyMs": 12}, **extras(call.ask)}, call))
    return Reply(headers(call), events=events, content_type=CONTENT_TYPE)


def _plain(call: Call, vendor: str) -> bytes:
    asked, said = call.ask.usage, reply_text(call.ask)
    body: dict[str, Any]
    if vendor == "anthropic":
        return anthropic_wire.messages(call).body
    if vendor in {"openai", "mistral"}:
        return openai_wire.chat(call).body
    if vendor == "amazon.nova":
        return converse(call).body
    if vendor == "amazon.titan":
        result = {"tokenCount": asked.output, "outputText": said, "completionReason": "FINISH"}
        body = {"inputTextTokenCount": asked.input, "results": [result]}
        if "embed" in call.path:
            body = {"embedding": [0.25, -0.5], "inputTextTokenCount": asked.input}
    elif vendor == "meta":
        body = {
            "generation": said,
            "prompt_token_count": asked.input,
            "generation_token_count": asked.output,
            "stop_reason": "stop",
        }
    else:
        body = {"text": said, "generation_id": "g", "finish_reason": "COMPLETE"}
    return dump(body, call.ask)


def _chunks(call: Call, vendor: str) -> list[dict[str, Any]]:
    pieces = reply_deltas(call.ask)
    if vendor in {"anthropic", "openai", "mistral"}:
        made = (anthropic_wire.messages if vendor == "anthropic" else openai_wire.chat)(call).events or []
        lines = [line for one in made for line in one.split(b"\n") if line.startswith(b"data: {")]
        return [json.loads(line[6:]) for line in lines]
    if vendor == "amazon.nova":
        texts: list[dict[str, Any]] = [
            {"contentBlockDelta": {"contentBlockIndex": 0, "delta": {"text": p}}} for p in pieces
        ]
        return [{"messageStart": {"role": "assistant"}}, *texts, {"messageStop": {"stopReason": "end_turn"}}, {"metadata": {"usage": _usage(call)}}]  # fmt: skip
    if vendor == "amazon.titan":
        return [{"outputText": p, "index": 0, "completionReason": None} for p in pieces[:-1]] + [
            {"outputText": pieces[-1], "index": 0, "completionReason": "FINISH"}
        ]
    last = {"stop_reason": "stop"} if vendor == "meta" else {"finish_reason": "COMPLETE", "is_finished": True}
    name = "generation" if vendor == "meta" else "text"
    return [*({name: p} for p in pieces[:-1]), {name: pieces[-1], **last}]


def invoke(call: Call) -> Reply:
    found = call.path.partition("/model/")[2]
    vendors = ("anthropic", "amazon.titan", "amazon.nova", "meta", "mistral", "openai")
    vendor = next((name for name in vendors if name + "." in found or name + "-" in found), "cohere")
    asked = call.ask.usage
    if not call.stream:
        made = 0 if "embed" in found else asked.output
        counts = f"X-Amzn-Bedrock-Input-Token-Count: {asked.input}\r\nX-Amzn-Bedrock-Output-Token-Count: {made}\r\n"
        return Reply(headers(call) + counts, _plain(call, vendor))
    chunks = _chunks(call, vendor)
    chunks[-1]["amazon-bedrock-invocationMetrics"] = {
        "inputTokenCount": asked.input - asked.cached - asked.cache_write,
        "outputTokenCount": asked.output,
        "cacheReadInputTokenCount": asked.cached,
        "cacheWriteInputTokenCount": asked.cache_write,
        "invocationLatency": 20,
        "firstByteLatency": 10,
    }
    events = [event("chunk", {"bytes": base64.b64encode(dump(c, call.ask)).decode(), "p": "abc"}, call) for c in chunks]
    return Reply(headers(call), events=events, content_type=CONTENT_TYPE)

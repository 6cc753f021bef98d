"""Google's wire format: generateContent, its stream as events or as an array, embeddings, countTokens.

Shapes: the REST names of google.genai.types.{GenerateContentResponse, EmbedContentResponse, CountTokensResponse}.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from otel_llmlog.demo.replies import Call, Failure, Reply, dump, extras, reply_deltas, reply_text, spoil, tool_calls

_STATUS = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


def text(body: Mapping[str, Any]) -> str:
    """The text of the last content, whichever API the body belongs to."""
    turns = body.get("contents") or [r.get("content") for r in body.get("requests", ())] or [body.get("content")]
    if "instances" in body:
        return str(body["instances"][-1].get("content"))
    last = turns[-1] if isinstance(turns, list) else turns
    return "\n".join(str(part.get("text", "")) for part in (last or {}).get("parts", ()))


def headers(call: Call) -> str:
    tier = call.ask.option("service-tier", "tier")
    return "server: scaffolding on HTTPServer2\r\n" + (f"x-gemini-service-tier: {tier}\r\n" if tier else "")


def _error(failure: Failure) -> dict[str, Any]:
    status = failure.type or _STATUS.get(failure.status, "INTERNAL")
    return {"error": {"code": failure.status, "message": failure.message, "status": status}}


def _is_array(call: Call) -> bool:
    # The query has left the path by now; SDKs that want events say so in it, and raw callers here with a header.
    return call.ask.headers.get("x-framing") == "array"


def error(call: Call, failure: Failure) -> bytes:
    body = json.dumps(_error(failure), indent=2)
    return (f"[{body}\n]\n" if call.stream and _is_array(call) else body).encode()


def stream_error(call: Call, failure: Failure) -> list[bytes]:
    return [b",\r\n" + dump(_error(failure), call.ask) + b"]"] if _is_array(call) else [error(call, failure)]


def _usage(call: Call) -> dict[str, Any]:
    asked = call.ask.usage
    said = max(asked.output - asked.reasoning, 0)
    usage: dict[str, Any] = {
        "promptTokenCount": asked.input,
        "candidatesTokenCount": said,
        "totalTokenCount": asked.input + said + asked.reasoning,
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": asked.input - asked.audio}],
    }
    if asked.audio:
        usage["promptTokensDetails"].append({"modality": "AUDIO", "tokenCount": asked.audio})
    if asked.cached:
        usage["cachedContentTokenCount"] = asked.cached
        usage["cacheTokensDetails"] = [{"modality": "TEXT", "tokenCount": asked.cached}]
    if asked.reasoning:
        usage["thoughtsTokenCount"] = asked.reasoning
    names = {"input": "promptTokenCount", "output": "candidatesTokenCount", "total": "totalTokenCount"}
    return spoil(usage, call.ask, names)


def _reply(call: Call, parts: list[dict[str, Any]], usage: Mapping[str, Any], *, last: bool) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"parts": parts, "role": "model"}, "index": 0}
    if last:
        candidate["finishReason"] = "MAX_TOKENS" if call.ask.scenario == "incomplete" else "STOP"
        if call.ask.usage.web_search:
            queries = [f"query {number}" for number in range(call.ask.usage.web_search)]
            candidate["groundingMetadata"] = {"webSearchQueries": queries}
    return {
        "candidates": [candidate],
        **extras(call.ask),
        "usageMetadata": usage,
        "modelVersion": call.model,
        "responseId": call.id or f"resp{call.number:012d}",
    }


def _parts(call: Call) -> list[dict[str, Any]]:
    tools = tool_calls(call)
    calls = [{"functionCall": {"name": tool.name, "args": json.loads(tool.arguments)}} for tool in tools]
    return calls or [{"text": reply_text(call.ask)}]


def generate(call: Call) -> Reply:
    usage = _usage(call)
    if not call.stream:
        return Reply(headers(call), dump(_reply(call, _parts(call), usage, last=True), call.ask))
    parts = [[{"text": piece}] for piece in reply_deltas(call.ask)]
    early = {"promptTokenCount": usage["promptTokenCount"], "totalTokenCount": usage["promptTokenCount"]}
    chunks = [_reply(call, part, early, last=False) for part in parts[:-1]]
    chunks.append(_reply(call, parts[-1], usage, last=True))
    if not _is_array(call):
        return Reply(headers(call), events=[b"data: " + dump(chunk, call.ask) + b"\r\n\r\n" for chunk in chunks])
    shown = [json.dumps(chunk, indent=2).encode() for chunk in chunks]
    events = [b"[" + shown[0], *(b"\n,\r\n" + chunk for chunk in shown[1:])]
    events[-1] += b"\n]"
    return Reply(headers(call), events=events, content_type="application/json; charset=UTF-8")


def embed(call: Call) -> Reply:
    made = {"values": [0.25, -0.5, 0.125]}
    found = {"embeddings": [made] * len(call.body["requests"])} if "requests" in call.body else {"embedding": made}
    usage = {"promptTokenCount": call.ask.usage.input, "totalTokenCount": call.ask.usage.input}
    return Reply(headers(call), dump({**found, "usageMetadata": usage}, call.ask))


def predict(call: Call) -> Reply:
    each = {"embeddings": {"statistics": {"truncated": False, "token_count": call.ask.usage.input}, "values": [0.5]}}
    made = [each] * len(call.body["instances"])
    return Reply(headers(call), dump({"predictions": made, "metadata": {"billableCharacterCount": 40}}, call.ask))


def count_tokens(call: Call) -> Reply:
    return Reply(headers(call), dump({"totalTokens": call.ask.usage.input}, call.ask))

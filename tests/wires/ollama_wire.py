"""Ollama's own wire format: chat, generate, embed.

Shapes: ollama._types.{ChatResponse, GenerateResponse, EmbedResponse}. One JSON object a line; no ids.
"""

from __future__ import annotations

import json
from typing import Any

from otel_llmlog.demo.replies import Call, Failure, Reply, dump, reply_deltas, reply_text, spoil, tool_calls

_LINES = "application/x-ndjson"


def headers(call: Call) -> str:
    return "date: Mon, 23 Nov 2026 10:00:00 GMT\r\n"


def error(call: Call, failure: Failure) -> bytes:
    return dump({"error": failure.message}, call.ask)


def stream_error(call: Call, failure: Failure) -> list[bytes]:
    return [error(call, failure) + b"\n"]


def _head(call: Call) -> dict[str, Any]:
    return {"model": call.model, "created_at": "2026-11-23T10:00:00.000000Z"}


def _end(call: Call) -> dict[str, Any]:
    asked = call.ask.usage
    counts = {"prompt_eval_count": asked.input, "eval_count": asked.output}
    return {
        "done": True,
        "done_reason": "length" if call.ask.scenario == "incomplete" else "stop",
        "total_duration": 5_000_000,
        "load_duration": 1_000_000,
        **spoil(counts, call.ask, {"input": "prompt_eval_count", "output": "eval_count"}),
        "eval_duration": 3_000_000,
    }


def _made(call: Call, said: Any) -> Reply:
    """`said(text)` is the part of a line in which the model speaks."""
    if call.body.get("stream") is False:
        return Reply(headers(call), dump({**_head(call), **said(reply_text(call.ask)), **_end(call)}, call.ask))
    lines = [{**_head(call), **said(piece), "done": False} for piece in reply_deltas(call.ask)]
    lines.append({**_head(call), **said(""), **_end(call)})
    return Reply(headers(call), events=[dump(line, call.ask) + b"\n" for line in lines], content_type=_LINES)


def chat(call: Call) -> Reply:
    calls = [{"function": {"name": t.name, "arguments": json.loads(t.arguments)}} for t in tool_calls(call)]
    more = {"tool_calls": calls} if calls else {}
    return _made(call, lambda text: {"message": {"role": "assistant", "content": text, **more}})


def generate(call: Call) -> Reply:
    return _made(call, lambda text: {"response": text})


def embed(call: Call) -> Reply:
    given = call.body["input"]
    made = [[0.25, -0.5]] * (len(given) if isinstance(given, list) else 1)
    counts = {"total_duration": 5_000_000, "load_duration": 1_000_000, "prompt_eval_count": call.ask.usage.input}
    return Reply(headers(call), dump({"model": call.model, "embeddings": made, **counts}, call.ask))

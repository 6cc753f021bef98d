"""Hosts that speak OpenAI's chat completions with a usage of their own.

Shapes: the usage extractors of genai-prices' provider data, and the vendors' API references: xAI counts reasoning on
top of its completion tokens and states its price in ticks; Perplexity states it in `cost`; DeepSeek names its cache.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from otel_llmlog.demo import openai_wire
from otel_llmlog.demo.replies import Call, Reply


def _with(call: Call, change: Callable[[dict[str, Any]], None]) -> Reply:
    """OpenAI's reply, with its usage changed, in the body or in the last chunk."""
    call.body["stream_options"] = {"include_usage": True}
    reply = openai_wire.chat(call)
    if reply.events is None:
        made = json.loads(reply.body)
        change(made["usage"])
        reply.body = json.dumps(made).encode()
        return reply
    changed = []
    for event in reply.events:
        chunk = json.loads(event[6:]) if event.startswith(b"data: {") else {}
        if isinstance(chunk, dict) and chunk.get("usage"):
            change(chunk["usage"])
            event = b"data: " + json.dumps(chunk).encode() + b"\n\n"  # noqa: PLW2901 - it is sent in its place
        changed.append(event)
    reply.events = changed
    return reply


def xai(call: Call) -> Reply:
    def change(usage: dict[str, Any]) -> None:
        usage["completion_tokens"] -= call.ask.usage.reasoning
        if call.ask.usage.cost is not None:
            usage["cost_in_usd_ticks"] = round(call.ask.usage.cost * 10**10)
            usage.pop("cost", None)

    return _with(call, change)


def perplexity(call: Call) -> Reply:
    def change(usage: dict[str, Any]) -> None:
        usage.update(completion_tokens=usage["completion_tokens"] - call.ask.usage.reasoning)
        usage["total_tokens"] = usage["prompt_tokens"] + usage["completion_tokens"]
        usage.pop("completion_tokens_details", None)
        usage["reasoning_tokens"] = call.ask.usage.reasoning
        usage["cost"] = {"request_cost": 0.005, "total_cost": call.ask.usage.cost}

    return _with(call, change)


def deepseek(call: Call) -> Reply:
    def change(usage: dict[str, Any]) -> None:
        usage["prompt_cache_hit_tokens"] = call.ask.usage.cached
        usage["prompt_cache_miss_tokens"] = call.ask.usage.input - call.ask.usage.cached

    return _with(call, change)

"""OpenAI's wire formats: chat completions, completions, embeddings; with the additions of Azure, Groq and
OpenRouter, told apart by the path they are called on. Responses: `openai_responses`.

Usage: `prompt_tokens` is `Usage.input` (cached tokens inside), `completion_tokens` is `Usage.output`
(reasoning inside), whatever the number of choices.
"""

from __future__ import annotations

import base64
import struct
from functools import lru_cache
from typing import Any

from otel_llmlog.demo.replies import (
    Call,
    Failure,
    Reply,
    data_event,
    dump,
    extras,
    named_event,
    reply_deltas,
    reply_text,
    spoil,
    tool_calls,
)

FINGERPRINT = "fp_local000001"
DONE = b"data: [DONE]\n\n"
OPENROUTER_COMMENT = b": OPENROUTER PROCESSING\n\n"

_TYPES = {
    400: ("invalid_request_error", None),
    401: ("invalid_request_error", "invalid_api_key"),
    403: ("invalid_request_error", "unsupported_country_region_territory"),
    404: ("invalid_request_error", "model_not_found"),
    408: ("timeout_error", None),
    413: ("invalid_request_error", "request_too_large"),
    429: ("rate_limit_error", "rate_limit_exceeded"),
    500: ("server_error", "internal_error"),
    503: ("server_error", "overloaded"),
}
_FILTERS = {name: {"filtered": False, "severity": "safe"} for name in ("hate", "self_harm", "sexual", "violence")}


def is_azure(path: str) -> bool:
    return "/openai/deployments/" in path


def is_groq(path: str) -> bool:
    return path.startswith("/openai/v1/")


def is_openrouter(path: str) -> bool:
    return path.startswith("/api/v1/")


def headers(call: Call) -> str:
    lines = (
        f"x-request-id: req_{call.number:012d}\r\n"
        "openai-processing-ms: 12\r\n"
        "openai-organization: org-local\r\n"
        "openai-version: 2020-10-01\r\n"
        "x-ratelimit-limit-requests: 10000\r\n"
        "x-ratelimit-limit-tokens: 2000000\r\n"
        "x-ratelimit-remaining-requests: 9999\r\n"
        "x-ratelimit-remaining-tokens: 1999982\r\n"
        "x-ratelimit-reset-requests: 6ms\r\n"
        "x-ratelimit-reset-tokens: 1ms\r\n"
    )
    if is_azure(call.path):
        lines += f"apim-request-id: {call.number:032x}\r\nx-ms-region: Nowhere\r\n"
    return lines


def error_body(failure: Failure) -> dict[str, Any]:
    kind, code = _TYPES.get(
        failure.status, ("server_error" if failure.status >= 500 else "invalid_request_error", None)
    )
    return {
        "error": {
            "message": failure.message,
            "type": failure.type or kind,
            "param": failure.param,
            "code": failure.code or code,
        }
    }


def error(call: Call, failure: Failure) -> bytes:
    return dump(error_body(failure), call.ask)


def stream_error(call: Call, failure: Failure) -> list[bytes]:
    """The events that end a stream with an error. `style=x_groq`: see `provider`."""
    if call.ask.params.get("style") == "x_groq":
        chunk = {**_chunk(call), "choices": [], "x_groq": {"id": f"req_{call.number:012d}", "error": failure.message}}
        return [data_event(chunk, call.ask), DONE]
    if is_groq(call.path):
        return [named_event("error", error_body(failure), call.ask)]
    return [data_event(error_body(failure), call.ask)]


# --- usage


def _usage(call: Call) -> dict[str, Any]:
    """https://platform.openai.com/docs/api-reference/chat/object#chat/object-usage"""
    asked = call.ask.usage
    usage: dict[str, Any] = {
        "prompt_tokens": asked.input,
        "completion_tokens": asked.output,
        "total_tokens": asked.input + asked.output,
        "prompt_tokens_details": {"cached_tokens": asked.cached, "audio_tokens": asked.audio},
        "completion_tokens_details": {
            "reasoning_tokens": asked.reasoning,
            "audio_tokens": asked.audio_output,
            "accepted_prediction_tokens": asked.accepted,
            "rejected_prediction_tokens": asked.rejected,
        },
    }
    if asked.cache_write:
        usage["prompt_tokens_details"]["cache_write_tokens"] = asked.cache_write
    if is_groq(call.path):
        times = {"queue_time": 0.01, "prompt_time": 0.001, "completion_time": 0.02, "total_time": 0.021}
        usage.update(times)
    if asked.cost is not None:
        usage["cost"] = asked.cost
    return spoil(usage, call.ask, {"input": "prompt_tokens", "output": "completion_tokens", "total": "total_tokens"})


def tier(call: Call) -> str:
    """The service tier that the reply says it had."""
    asked = call.ask.option("service-tier", "tier") or call.body.get("service_tier")
    return str(asked) if asked and asked != "auto" else "default"


def _wants_usage(call: Call) -> bool:
    options = call.body.get("stream_options")
    asked = isinstance(options, dict) and options.get("include_usage") is True
    return asked or is_openrouter(call.path)


def _count(call: Call) -> int:
    n = call.body.get("n")
    return n if type(n) is int and 1 <= n <= 128 else 1


def _finish(call: Call) -> str:
    return "length" if call.ask.scenario == "incomplete" else "stop"


# --- chat completions


def chat(call: Call) -> Reply:
    if call.stream:
        return Reply(headers(call), events=_between(call, _chat_events(call)))
    calls = tool_calls(call)
    message: dict[str, Any] = {"role": "assistant", "content": None if calls else reply_text(call.ask)}
    if calls:
        message["tool_calls"] = [
            {
                "id": f"call_{call.number:08d}{i:02d}",
                "type": "function",
                "function": {"name": made.name, "arguments": made.arguments},
            }
            for i, made in enumerate(calls)
        ]
    message["refusal"] = None
    message["annotations"] = []
    finish = "tool_calls" if calls else _finish(call)
    choices = [{"index": i, "message": message, "logprobs": None, "finish_reason": finish} for i in range(_count(call))]
    if is_azure(call.path):
        choices = [{**choice, "content_filter_results": _FILTERS} for choice in choices]
    value: dict[str, Any] = {
        "id": call.id,
        "object": "chat.completion",
        "created": call.created,
        "model": call.model,
        "choices": choices,
        **extras(call.ask),
        "usage": _usage(call),
        "service_tier": tier(call),
        "system_fingerprint": FINGERPRINT,
    }
    if is_groq(call.path):
        value["x_groq"] = {"id": f"req_{call.number:012d}"}
    if is_openrouter(call.path):
        value["provider"] = "Local"
    return Reply(headers(call), dump(value, call.ask))


def _chunk(call: Call) -> dict[str, Any]:
    value = {
        "id": call.id,
        "object": "chat.completion.chunk",
        "created": call.created,
        "model": call.model,
        "service_tier": tier(call),
        "system_fingerprint": FINGERPRINT,
    }
    if is_openrouter(call.path):
        value["provider"] = "Local"
    return value


def _chat_events(call: Call) -> list[bytes]:
    ask = call.ask
    base = _chunk(call)
    # OpenAI sends `usage: null` in every chunk once the usage is asked for.
    tail: dict[str, Any] = {"usage": None} if _wants_usage(call) else {}
    tail = {**extras(ask), **tail}
    groq_id = f"req_{call.number:012d}"
    events: list[bytes] = []

    def add(index: int, delta: dict[str, Any], *, finish: str | None = None, more: Any = ()) -> None:
        choice = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}
        events.append(data_event({**base, "choices": [choice], **tail, **dict(more)}, ask))

    if is_azure(call.path):
        filters = [{"prompt_index": 0, "content_filter_results": _FILTERS}]
        first = {"choices": [], "created": 0, "id": "", "model": "", "object": "", "prompt_filter_results": filters}
        events.append(data_event(first, ask))
    calls = tool_calls(call)
    groq_first = {"x_groq": {"id": groq_id}} if is_groq(call.path) else {}
    for index in range(_count(call)):
        add(index, {"role": "assistant", "content": None if calls else "", "refusal": None}, more=groq_first)
    for i, made in enumerate(calls):
        function = {"name": made.name, "arguments": ""}
        start = {"index": i, "id": f"call_{call.number:08d}{i:02d}", "type": "function", "function": function}
        add(0, {"tool_calls": [start]})
        for piece in made.pieces:
            add(0, {"tool_calls": [{"index": i, "function": {"arguments": piece}}]})
    if not calls:
        for piece in reply_deltas(ask):
            for index in range(_count(call)):
                add(index, {"content": piece})
    groq_last = {"x_groq": {"id": groq_id, "usage": _usage(call)}} if is_groq(call.path) else {}
    for index in range(_count(call)):
        add(index, {}, finish="tool_calls" if calls else _finish(call), more=groq_last)
    if _wants_usage(call):
        events.append(data_event({**base, "choices": [], **extras(ask), "usage": _usage(call)}, ask))
    events.append(DONE)
    return events


def _between(call: Call, events: list[bytes]) -> list[bytes]:
    if not is_openrouter(call.path):
        return events
    return [OPENROUTER_COMMENT + event for event in events]


# --- completions


def completions(call: Call) -> Reply:
    prompt = call.body.get("prompt")
    prompts = len(prompt) if isinstance(prompt, list) and prompt and not isinstance(prompt[0], int) else 1
    count = _count(call) * prompts
    value: dict[str, Any] = {
        "id": call.id,
        "object": "text_completion",
        "created": call.created,
        "model": call.model,
    }
    if not call.stream:
        choice: dict[str, Any] = {"text": reply_text(call.ask), "logprobs": None, "finish_reason": _finish(call)}
        value["choices"] = [{"index": i, **choice} for i in range(count)]
        value |= {**extras(call.ask), "usage": _usage(call), "system_fingerprint": FINGERPRINT}
        return Reply(headers(call), dump(value, call.ask))
    events = []
    pieces: list[tuple[str, str | None]] = [(piece, None) for piece in reply_deltas(call.ask)]
    for text, finish in [*pieces, ("", _finish(call))]:
        for i in range(count):
            choice = {"index": i, "text": text, "logprobs": None, "finish_reason": finish}
            events.append(data_event({**value, "choices": [choice], **extras(call.ask)}, call.ask))
    if _wants_usage(call):
        events.append(data_event({**value, "choices": [], **extras(call.ask), "usage": _usage(call)}, call.ask))
    return Reply(headers(call), events=_between(call, [*events, DONE]))


# --- embeddings


@lru_cache(maxsize=16)
def _vector(dimensions: int) -> tuple[list[float], str]:
    """Values a float32 holds exactly, so both encodings say the same."""
    values = [((i * 37) % 256 - 128) / 1024 for i in range(dimensions)]
    return values, base64.b64encode(struct.pack(f"<{dimensions}f", *values)).decode()


def embeddings(call: Call) -> Reply:
    asked = call.body.get("input")
    count = len(asked) if isinstance(asked, list) and asked and not isinstance(asked[0], int) else 1
    size = call.body.get("dimensions")
    natural = 3072 if "large" in call.model else 1536
    floats, packed = _vector(size if type(size) is int and 1 <= size <= 4096 else natural)
    vector = packed if call.body.get("encoding_format") == "base64" else floats
    tokens = call.ask.usage.input
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    value = {
        "object": "list",
        "data": [{"object": "embedding", "index": i, "embedding": vector} for i in range(count)],
        "model": call.model,
        **extras(call.ask),
        "usage": spoil(usage, call.ask, {"input": "prompt_tokens", "output": "total_tokens", "total": "total_tokens"}),
    }
    if call.ask.usage.cost is not None:
        usage["cost"] = call.ask.usage.cost  # type: ignore[assignment]  # OpenRouter's USD among the counts
    return Reply(headers(call), dump(value, call.ask))

"""Replies that go wrong: errors, bodies that are no JSON, streams that break off. `framing` breaks the sending.

Pure: what was asked and a good reply in, the bad one out.
"""

from __future__ import annotations

import base64
import binascii

from otel_llmlog.demo import openai_wire
from otel_llmlog.demo.replies import Call, Failure, Reply
from otel_llmlog.demo.scenarios import Ask, AskError

# Shorter than an SDK's own back-off, so that a retry test takes milliseconds.
DEFAULT_RETRY_AFTER_SECONDS = 0.02

_HTML = b"<!doctype html><html><head><title>Bad gateway</title></head><body><h1>Bad gateway</h1></body></html>"


def failed(call: Call, failure: Failure) -> Reply:
    """The error in the wire format that was called; in OpenAI's where none was."""
    wire = call.wire or openai_wire
    head = wire.headers(call) + "".join(f"{name}: {value}\r\n" for name, value in failure.headers.items())
    return Reply(head, wire.error(call, failure), status=failure.status)


def failure_of(ask: Ask) -> Failure:
    """The error that was asked for."""
    status = ask.whole("status", 500)
    if not 200 <= status <= 599:
        raise AskError(f"status must be from 200 to 599, found {status}")
    headers = {}
    if status == 429 or status >= 500 or "retry_after" in ask.params:
        wait = ask.seconds("retry_after", DEFAULT_RETRY_AFTER_SECONDS)
        headers = {"retry-after": f"{wait:.0f}" if wait >= 1 else "1", "retry-after-ms": f"{wait * 1000:.0f}"}
    return Failure(
        status,
        ask.params.get("message", f"The local provider was asked to answer {status}."),
        ask.params.get("type"),
        ask.params.get("code"),
        ask.params.get("param"),
        headers,
    )


def not_json(call: Call, good: Reply) -> Reply:
    """What a proxy says in front of a provider that is not there."""
    return Reply(good.headers, _HTML, status=call.ask.whole("status", 200), content_type="text/html")


def raw(call: Call) -> Reply:
    """The body that the request brought along."""
    try:
        body = base64.b64decode(call.ask.headers.get("x-raw-body", ""), validate=True)
    except binascii.Error:
        raise AskError("x-raw-body must be base64.") from None
    kind = call.ask.headers.get("x-raw-content-type", "application/json")
    wire = call.wire or openai_wire
    head, status = wire.headers(call), call.ask.whole("status", 200)
    if kind.startswith("text/event-stream"):
        return Reply(head, events=[body], status=status, content_type=kind)
    return Reply(head, body, status=status, content_type=kind)


def damage(call: Call, reply: Reply) -> None:
    """Change the content of a good reply as the scenario says."""
    ask = call.ask
    events = reply.events
    if ask.scenario == "empty":
        reply.body, reply.events = b"", None if events is None else []
    elif ask.scenario == "invalid_json" and events is None:
        reply.body = reply.body[: len(reply.body) * 2 // 3]
    if events is None:
        return
    after = min(max(ask.whole("after", 2), 0), len(events) - 1)
    if ask.scenario == "invalid_json":
        events[after] = events[after][: len(events[after]) * 2 // 3].rstrip() + b"\n\n"
    elif ask.scenario == "no_terminator":
        del events[max(0, ask.whole("keep", len(events) - 1)) :]
    elif ask.scenario == "error_in_stream":
        wire = call.wire or openai_wire
        events[after:] = wire.stream_error(call, failure_of(ask))

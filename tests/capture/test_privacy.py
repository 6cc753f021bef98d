"""With content off, nothing of what was said is kept anywhere, however the call ends; API keys never are."""

from __future__ import annotations

import base64
import json
import logging

import httpx
import pytest

from otel_llmlog.capture import patch
from tests.capture.clients import USAGE, Http

# In no vocabulary and in no name of ours, whatever its case.
CANARY = "Canary7Q9x"
SECRET = "sk-proj-Secret8K2mNopqrstuvwxyz0123"
SCENARIOS = [
    "echo",
    "tools",
    "incomplete",
    "litellm_proxy",
    f'error status=400 message="{CANARY} a" type="{CANARY} b" code="{CANARY} c" param="{CANARY} d"',
    f'error status=401 message="bad key {SECRET}"',
    f'error status=500 message="{CANARY}"',
    f'error_in_stream message="{CANARY} a" type="{CANARY} b" code="{CANARY} c"',
    f'error_in_stream style=failed message="{CANARY}" code="{CANARY}"',
    f'error_in_stream style=x_groq message="{CANARY}"',
    "invalid_json",
    "not_json",
    "no_terminator keep=3",
    "cut after=3",
    "nul",
    "surrogate",
    "nan field=all value=string",
    "nest",
    "empty",
]
TOOL = {"description": CANARY, "parameters": {"type": "object", "properties": {CANARY: {"enum": [CANARY]}}}}


def conversation(asked):
    return [
        {"role": "system", "content": CANARY},
        {"role": "assistant", "content": f"{CANARY} said", "model": CANARY},
        {"role": "user", "content": f"{CANARY} {asked}"},
    ]


def bodies(scenario):
    """A request of each API, with content in every field that may hold some."""
    asked = f"[scenario: {scenario}]"
    common = {"temperature": 0.5, "stop": [CANARY], "prediction": {"content": CANARY}, "made_up": CANARY}
    function = {"type": "function", "function": {"name": CANARY, **TOOL}}
    schema = {"type": "json_schema", "json_schema": {"name": CANARY, "schema": {"title": CANARY}}}
    yield (
        "/v1/chat/completions",
        {"messages": conversation(asked), "tools": [function], "response_format": schema, "tool_choice": function},
    )
    yield "/v1/completions", {"prompt": f"{CANARY} {asked}", "suffix": CANARY, "logit_bias": {CANARY: 1}}
    yield (
        "/v1/responses",
        {"input": conversation(asked), "instructions": CANARY, "tools": [{"type": "function", "name": CANARY}]},
    )
    yield "/v1/embeddings", {"input": [f"{CANARY} {asked}"]}
    yield (
        "/v1/messages",
        {
            "messages": conversation(asked)[1:],
            "system": CANARY,
            "max_tokens": 9,
            "tools": [{"name": CANARY, "description": CANARY, "input_schema": TOOL["parameters"]}],
            "stop_sequences": [CANARY],
            "thinking": {"type": CANARY},
            "tool_choice": {"type": "tool", "name": CANARY},
        },
    )
    # Content where the API has a switch, a number or a name of its own: still content.
    odd = dict.fromkeys(("temperature", "seed", "tool_choice", "service_tier", "stop", "reasoning_effort"), CANARY)
    yield "/v1/chat/completions", {"messages": conversation(asked), **odd, "modalities": [CANARY], **common}


def everything_kept(capture, caplog):
    """All that left the capture, as text."""
    for record in capture.records():
        yield from (repr(record.ids), json.dumps(record.attributes), record.payload.model_dump_json())
    for span in capture.spans():
        yield from (span.to_json(), span.name, repr(span.attributes), repr(span.events), repr(span.status))
    yield repr(capture.recorder._outlet.intended)
    yield repr(capture.stats.snapshot())
    for line in caplog.records:
        if line.name.startswith("otel_llmlog"):
            yield f"{line.getMessage()} {line.args} {line.exc_text} {line.exc_info}"


def assert_nothing_leaked(capture, caplog, *words):
    kept = "\n".join(everything_kept(capture, caplog)).lower()
    assert kept
    for word in words:
        assert word.lower() not in kept


@pytest.fixture
def log(caplog):
    caplog.set_level(logging.DEBUG, "otel_llmlog")
    return caplog


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: " ".join(scenario.split()[:2]))
async def test_content_is_kept_nowhere(capture, provider, log, scenario, stream):
    http = Http(httpx, False, provider.url)
    headers = {"authorization": f"Bearer {SECRET}", "x-api-key": SECRET, "anthropic-version": "2023-06-01"}
    count = 0
    for path, body in bodies(scenario):
        sent = {"model": "gpt-4o-mini", "stream": stream, "stream_options": USAGE, **body}
        request = http.request(sent, path=path, headers=headers)
        try:
            await http.read(await http.send(request, stream=True))
        except httpx.TransportError:
            assert scenario.startswith("cut")
        count += 1
    assert len(capture.payloads()) == count == 6
    assert CANARY.encode() in provider.wait_ended(count)[-1].body
    assert_nothing_leaked(capture, log, CANARY, SECRET)


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize("kind", ["application/json", "text/event-stream"])
@pytest.mark.parametrize(
    "reply",
    [
        {"choices": [{"finish_reason": CANARY, "delta": {CANARY: CANARY}, "message": CANARY, "index": CANARY}]},
        {"usage": {"prompt_tokens": CANARY, "details": CANARY, "service_tier": CANARY}, "service_tier": CANARY},
        {"status": CANARY, "incomplete_details": {"reason": CANARY}, "output": CANARY},
        {"error": CANARY, "type": "error"},
        {"error": {"type": CANARY, "code": CANARY, "message": CANARY, "param": CANARY}},
        {"type": "message_delta", "delta": {"stop_reason": CANARY}, "usage": CANARY},
        {"type": f"{CANARY}.delta", "delta": CANARY},
        [CANARY],
        CANARY,
    ],
    ids=lambda reply: next(iter(reply)) if isinstance(reply, dict) else type(reply).__name__,
)
async def test_content_where_a_reply_has_an_enum_is_kept_nowhere(capture, provider, log, reply, kind, stream):
    http = Http(httpx, False, provider.url)
    text = json.dumps(reply)
    raw = f"data: {text}\n\nevent: {CANARY}\ndata: {CANARY}\n\n" if "stream" in kind else text
    headers = {
        "x-scenario": "raw",
        "x-raw-body": base64.b64encode(raw.encode()).decode(),
        "x-raw-content-type": kind,
        "anthropic-version": "2023-06-01",
    }
    paths = ("/v1/chat/completions", "/v1/responses", "/v1/messages")
    for path in paths:
        sent = {"model": "m", "messages": [], "input": "x", "stream": stream}
        await http.read(await http.send(http.request(sent, path=path, headers=headers), stream=True))
    assert len(capture.payloads()) == len(paths)
    # The header that carries the reply is the caller's own: it is kept, and is no content of the call.
    assert_nothing_leaked(capture, log, CANARY)


async def test_the_message_of_an_exception_is_kept_nowhere(capture, flavour, log):
    library, is_async = flavour

    def fail(request):
        raise library.ConnectError(f"{CANARY} could not be reached with {SECRET}")

    http = Http(library, is_async, "http://in.process", transport=library.MockTransport(fail))
    with pytest.raises(library.ConnectError, match=CANARY):
        await http.post()
    assert capture.one().error_information.error_class == "ConnectError"
    assert_nothing_leaked(capture, log, CANARY, SECRET)


async def test_our_own_failures_are_logged_without_their_message(capture, http, log, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError(f"{CANARY} {SECRET}")

    monkeypatch.setattr(capture.stats, "_logged", {})
    monkeypatch.setattr(capture.reader, "_response", broken)
    monkeypatch.setattr("otel_llmlog.capture.recorder.emit.genai", broken)
    await http.post()
    assert len(capture.payloads()) == 1
    assert "RuntimeError" in log.text
    assert_nothing_leaked(capture, log, CANARY, SECRET)


async def test_a_key_in_the_url_is_kept_nowhere(capture, http, log, provider):
    host = provider.url.removeprefix("http://")
    request = http.client.build_request(
        "POST",
        f"http://user:{SECRET}@{host}/v1/chat/completions?key={SECRET}#{SECRET}",
        json={"model": "m", "messages": []},
    )
    await http.send(request)
    assert capture.one().api_base == f"{provider.url}/v1"
    assert_nothing_leaked(capture, log, SECRET)


async def test_keys_are_kept_nowhere_even_with_content_on(capture_with, provider, log, flavour):
    capture = capture_with(store_prompts_in_spend_logs=True)
    http = Http(*flavour, provider.url)
    for _, body in bodies("error status=401"):
        headers = {
            "authorization": f"Bearer {SECRET}",
            "x-api-key": SECRET,
            "cookie": SECRET,
            "x-note": f"Bearer {SECRET}",
            "user-agent": f"app ({SECRET})",
        }
        sent = {"model": "m", "messages": [], "metadata": {"key": SECRET, "note": SECRET}, **body}
        await http.send(http.request(sent, headers=headers))
    assert len(capture.payloads()) == 6
    assert_nothing_leaked(capture, log, SECRET)


async def test_a_key_that_the_providers_error_quotes_is_masked_even_with_content_on(capture_with, provider, log):
    capture = capture_with(store_prompts_in_spend_logs=True)
    http = Http(httpx, False, provider.url)
    headers = {"x-scenario": f'error status=401 message="Incorrect API key provided: {SECRET}."'}
    await http.post(headers=headers)
    patch.remove()
    message = capture.one().error_information.error_message
    assert message == "Incorrect API key provided: [redacted]."

"""The real SDKs, sync and async, plain and streaming: one payload a wire request, with the right numbers."""

from __future__ import annotations

import asyncio
import contextlib
import socket

import groq
import httpx
import pytest

from tests.capture.clients import USAGE, anthropic_client, openai_client, said

ASKED = "[usage: input=100 output=20 cached=30]"


def groq_client(url, *, is_async=False, **options):
    kind = groq.AsyncGroq if is_async else groq.Groq
    transport = (httpx.AsyncClient if is_async else httpx.Client)(verify=False)
    return kind(base_url=url, api_key="gsk_test", http_client=transport, **options)


def chat(make, model):
    return make, lambda client: client.chat.completions, {"model": model, "messages": None}


# client, API, arguments, provider, call type
APIS = {
    "openai-chat": (*chat(openai_client, "gpt-4o-mini"), "openai", "completion"),
    "openai-completions": (
        openai_client,
        lambda client: client.completions,
        {"model": "gpt-3.5-turbo-instruct", "prompt": None},
        "openai",
        "text_completion",
    ),
    "openai-responses": (
        openai_client,
        lambda client: client.responses,
        {"model": "gpt-4o-mini", "input": None},
        "openai",
        "responses",
    ),
    "anthropic-messages": (
        anthropic_client,
        lambda client: client.messages,
        {"model": "claude-haiku-4-5", "max_tokens": 9, "messages": None},
        "anthropic",
        "anthropic_messages",
    ),
    "groq-chat": (*chat(groq_client, "llama-3.3-70b-versatile"), "groq", "completion"),
}
MODES = [pytest.param(False, id="sync"), pytest.param(True, id="async")]


async def given(value, is_async):
    return await value if is_async else value


def request(name, text, *, stream):
    _, _, arguments, _, _ = APIS[name]
    filled = {key: value or (said(text) if key == "messages" else text) for key, value in arguments.items()}
    if stream:
        filled["stream"] = True
        if name in {"openai-chat", "openai-completions"}:
            filled["stream_options"] = USAGE
    return filled


async def call(url, name, is_async, text, *, stream=False, **options):
    """Make the call and read a stream to its end."""
    make, find, _, _, _ = APIS[name]
    client = make(url, is_async=is_async, max_retries=0, **options)
    try:
        made = await given(find(client).create(**request(name, text, stream=stream)), is_async)
        if stream and is_async:
            async for _ in made:
                pass
        elif stream:
            for _ in made:
                pass
        return made
    finally:
        await given(client.close(), is_async)


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize("is_async", MODES)
@pytest.mark.parametrize("name", APIS)
async def test_a_call_is_one_payload_with_its_numbers(capture, provider, name, is_async, stream):
    _, _, arguments, slug, call_type = APIS[name]
    await call(provider.url, name, is_async, ASKED, stream=stream)
    payload = capture.one()
    (served,) = provider.wait_ended()
    assert (payload.status, payload.id, payload.stream) == ("success", served.id, stream)
    assert (payload.prompt_tokens, payload.completion_tokens, payload.total_tokens) == (100, 20, 120)
    assert payload.usage.cache_read_tokens == 30
    assert (payload.model, payload.custom_llm_provider) == (arguments["model"], slug)
    is_asyncs_own = is_async and slug != "anthropic"
    assert payload.call_type == ("a" if is_asyncs_own else "") + call_type
    assert (payload.completionStartTime is not None) == stream
    assert payload.spend is not None
    assert payload.user_agent.startswith(
        ("OpenAI/", "AsyncOpenAI/", "Anthropic/", "AsyncAnthropic/", "Groq/", "AsyncGroq/")
    )
    assert payload.session_id is None


@pytest.mark.parametrize("is_async", MODES)
async def test_embeddings_are_one_payload_with_their_numbers(capture, provider, is_async):
    client = openai_client(provider.url, is_async=is_async)
    await given(client.embeddings.create(model="text-embedding-3-small", input=f"x {ASKED}"), is_async)
    payload = capture.one()
    assert (payload.operation, payload.prompt_tokens, payload.completion_tokens) == ("embeddings", 100, 0)
    assert payload.call_type == ("aembedding" if is_async else "embedding")
    assert payload.spend is not None


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize("is_async", MODES)
@pytest.mark.parametrize("name", APIS)
async def test_each_failure_is_one_payload_with_its_class(capture, provider, collect, name, is_async, stream):
    expected = {
        "[scenario: error status=401]": "AuthenticationError",
        "[scenario: error status=429]": "RateLimitError",
        "[scenario: error status=529]": "OverloadedError",
        "[scenario: cut after=3]": "RemoteProtocolError",
    }
    if stream:
        expected["[scenario: error_in_stream]"] = "APIError"
        expected["[scenario: no_terminator keep=3]"] = "StreamIncomplete"
    else:
        expected["[scenario: invalid_json]"] = "InvalidResponse"
    for text, error_class in expected.items():
        with contextlib.suppress(Exception):  # what it raises, if it does, is the SDK's own affair
            await call(provider.url, name, is_async, text, stream=stream)
        if not capture.records():
            await collect()  # groq leaves a stream that it raises from to the collector
        payload = capture.one()
        assert (payload.status, payload.error_information.error_class) == ("failure", error_class), text
        assert payload.error_information.llm_provider == APIS[name][3]
        assert payload.spend is None or payload.usage.source is not None
        capture.clear()


@pytest.mark.parametrize("is_async", MODES)
@pytest.mark.parametrize("name", ["openai-chat", "anthropic-messages"])
async def test_a_timeout_and_a_refused_connection_are_failures(capture, provider, name, is_async):
    with contextlib.suppress(Exception):
        await call(provider.url, name, is_async, "[scenario: slow seconds=30]", timeout=0.3)
    with socket.socket() as bound:  # bound but not listening
        bound.bind(("127.0.0.1", 0))
        with contextlib.suppress(Exception):
            await call(f"http://127.0.0.1:{bound.getsockname()[1]}", name, is_async, "hi")
    classes = [payload.error_information.error_class for payload in capture.payloads()]
    assert classes == ["ReadTimeout", "ConnectError"]


@pytest.mark.parametrize("name", APIS)
async def test_a_cancelled_stream_is_a_failure(capture, provider, collect, name):
    make, find, _, _, _ = APIS[name]
    client = make(provider.url, is_async=True, max_retries=0)
    reading = asyncio.Event()

    async def read():
        async for _ in await find(client).create(**request(name, "[scenario: stall after=3 seconds=30]", stream=True)):
            reading.set()

    task = asyncio.create_task(read())
    await reading.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert capture.one().error_information.error_class == "CancelledError"
    await client.close()


@pytest.mark.parametrize("is_async", MODES)
async def test_azure_deployments_are_azures_and_named_by_their_path(capture, provider, is_async):
    import openai

    kind = openai.AsyncAzureOpenAI if is_async else openai.AzureOpenAI
    client = kind(azure_endpoint=provider.url, api_version="2024-10-21", api_key="k")
    await given(client.chat.completions.create(model="my-deployment", messages=said("hi")), is_async)
    payload = capture.one()
    assert (payload.custom_llm_provider, payload.model, payload.prompt_tokens) == ("azure", "my-deployment", 11)


def test_many_calls_at_once_are_as_many_payloads(capture, provider):
    async def everything():
        await asyncio.gather(
            *(call(provider.url, name, True, "hi", stream=stream) for name in APIS for stream in (False, True) * 3)
        )

    asyncio.run(everything())
    served = provider.wait_ended(30)
    payloads = capture.payloads()
    assert sorted(payload.id for payload in payloads) == sorted(request.id for request in served)
    assert {payload.status for payload in payloads} == {"success"}

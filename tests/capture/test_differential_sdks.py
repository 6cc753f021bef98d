"""With us and without us an SDK gives its app the same objects and raises the same exceptions, in each of its styles."""

from __future__ import annotations

import time
from types import SimpleNamespace

import groq
import httpx
import openai
import pytest

from otel_llmlog.capture import patch
from tests.capture.clients import anthropic_client, openai_client, said

ENDINGS = [
    "plain",
    "tools",
    "error status=400",
    "error status=529",
    "error_in_stream",
    "invalid_json",
    "not_json",
    "no_terminator keep=3",
    "cut after=1",
    "empty",
]


def groq_client(url, *, is_async=False, **options):
    kind = groq.AsyncGroq if is_async else groq.Groq
    transport = (httpx.AsyncClient if is_async else httpx.Client)(verify=False)
    return kind(base_url=url, api_key="gsk_test", http_client=transport, **options)


def chat(client):
    return client.chat.completions, {"model": "gpt-4o-mini"}


def responses(client):
    return client.responses, {"model": "gpt-4o-mini"}


def messages(client):
    return client.messages, {"model": "claude-haiku-4-5", "max_tokens": 9}


APIS = {
    "openai-chat": (openai_client, chat, "messages"),
    "openai-responses": (openai_client, responses, "input"),
    "anthropic-messages": (anthropic_client, messages, "messages"),
    "groq-chat": (groq_client, chat, "messages"),
}


@pytest.fixture
def start_over(monkeypatch, provider):
    clock = SimpleNamespace(time=lambda: 1_700_000_000.0, monotonic=time.monotonic)
    monkeypatch.setattr("otel_llmlog.demo.provider.time", clock)

    def start_over():
        provider._number = 0
        provider.clear()

    return start_over


async def given(value, is_async):
    return await value if is_async else value


async def plain(api, arguments, is_async, seen):
    seen.append((await given(api.create(**arguments), is_async)).to_dict())


async def streamed(api, arguments, is_async, seen):
    stream = await given(api.create(**arguments, stream=True), is_async)
    if is_async:
        async for event in stream:
            seen.append(event.to_dict())
    else:
        for event in stream:
            seen.append(event.to_dict())
    seen.append(stream.response.is_closed)


async def closed_early(api, arguments, is_async, seen):
    stream = await given(api.create(**arguments, stream=True), is_async)
    seen.append((await anext(aiter(stream)) if is_async else next(iter(stream))).to_dict())
    await given(stream.close(), is_async)
    seen.append(stream.response.is_closed)


async def raw(api, arguments, is_async, seen):
    reply = await given(api.with_raw_response.create(**arguments), is_async)
    seen.append((reply.status_code, reply.headers.raw, reply.http_response.content, reply.retries_taken))
    parsed = reply.parse()
    seen.append((await parsed if hasattr(parsed, "__await__") else parsed).to_dict())


async def streaming_response(api, arguments, is_async, seen):
    opened = api.with_streaming_response.create(**arguments)
    body = bytearray()  # in one: where the bytes of a plain reply are split is the network's choice
    try:
        if is_async:
            async with opened as reply:
                seen.append((reply.status_code, reply.headers.raw))
                async for piece in reply.iter_bytes():
                    body += piece
        else:
            with opened as reply:
                seen.append((reply.status_code, reply.headers.raw))
                for piece in reply.iter_bytes():
                    body += piece
    finally:
        seen.append(bytes(body))


async def streaming_response_of_a_stream(api, arguments, is_async, seen):
    await streaming_response(api, {**arguments, "stream": True}, is_async, seen)


STYLES = [plain, streamed, closed_early, raw, streaming_response, streaming_response_of_a_stream]
TOOLS = {
    "openai-chat": [{"type": "function", "function": {"name": "w", "parameters": {"type": "object"}}}],
    "openai-responses": [{"type": "function", "name": "w", "parameters": {"type": "object"}, "strict": False}],
    "anthropic-messages": [{"name": "w", "input_schema": {"type": "object"}}],
}


async def watch(provider, name, style, is_async, scenario):
    make, find, content = APIS[name]
    url = provider.url
    client = make(url, is_async=is_async, max_retries=0)
    api, arguments = find(client)
    arguments |= {content: said(f"[scenario: {scenario}]"), "tools": TOOLS.get(name, TOOLS["openai-chat"])}
    seen = []
    try:
        await style(api, arguments, is_async, seen)
    except Exception as error:
        body = getattr(error, "body", None)
        seen.append((f"{type(error).__module__}.{type(error).__name__}", str(error), repr(body)))
    await given(client.close(), is_async)
    return seen


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("style", STYLES, ids=lambda style: style.__name__)
@pytest.mark.parametrize("name", APIS)
async def test_an_app_on_an_sdk_sees_the_same_of_every_ending(
    capture, provider, start_over, collect, name, style, is_async
):
    for scenario in ENDINGS:
        patch.remove()
        start_over()
        without = await watch(provider, name, style, is_async, scenario)
        capture.install()
        start_over()
        with_us = await watch(provider, name, style, is_async, scenario)
        assert with_us == without, scenario
        assert without, scenario
        if not capture.payloads():  # groq leaves a stream that it raises from to the collector
            await collect()
        assert len(capture.payloads()) == 1, scenario
        capture.clear()


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
async def test_the_sdks_stream_helpers_see_the_same(capture, provider, start_over, is_async):
    async def watch_helpers():
        seen = []
        claude = anthropic_client(provider.url, is_async=is_async)
        gpt = openai_client(provider.url, is_async=is_async)
        for opened, final in (
            (claude.messages.stream(model="claude-haiku-4-5", max_tokens=9, messages=said("a")), "get_final_message"),
            (gpt.responses.stream(model="gpt-4o", input="a"), "get_final_response"),
            (gpt.chat.completions.stream(model="gpt-4o", messages=said("a")), "get_final_completion"),
        ):
            if is_async:
                async with opened as stream:
                    seen.extend([event.to_dict() async for event in stream])
                    seen.append((await getattr(stream, final)()).to_dict())
            else:
                with opened as stream:
                    seen.extend([event.to_dict() for event in stream])
                    seen.append(getattr(stream, final)().to_dict())
        await given(claude.close(), is_async)
        await given(gpt.close(), is_async)
        return seen

    patch.remove()
    start_over()
    without = await watch_helpers()
    capture.install()
    start_over()
    assert await watch_helpers() == without
    assert [payload.status for payload in capture.payloads()] == ["success"] * 3


async def test_an_sdk_on_the_other_library_is_captured_too(capture, provider):
    """openai 3 also takes clients of httpx; openai 2 has no others."""
    with httpx.Client(verify=False) as transport:
        client = openai.OpenAI(base_url=f"{provider.url}/v1", api_key="k", http_client=transport)
        client.chat.completions.create(model="gpt-4o", messages=said("hi"))
    assert capture.one().status == "success"

"""OpenAI streams that were not asked for usage: asked for it where the setting says so, else counted, else NULL."""

from __future__ import annotations

import json
import sys
import threading

import pytest
import tiktoken

from otel_llmlog.capture import counting, patch
from otel_llmlog.demo.replies import reply_text
from otel_llmlog.demo.scenarios import Ask
from tests.capture.clients import CHAT, USAGE, anthropic_client, chat_body, openai_client, said
from tests.capture.conftest import BYTES

REPLY_BYTES = len(reply_text(Ask()).encode())
COUNTED = "tokens were counted by tiktoken: the stream carried no usage"
HOW_TO_ASK = "; set stream_options.include_usage in the request, or LLMLOG_INJECT_STREAM_USAGE=true"
PLAIN_STREAM = chat_body(stream=True)

# --- asking for usage


@pytest.fixture
def asking(capture_with, monkeypatch):
    monkeypatch.setenv("LLMLOG_INJECT_STREAM_USAGE", "true")
    return capture_with()


async def sent(http, provider, body, path=CHAT, **options):
    """What the provider got: body and headers."""
    provider.clear()
    request = http.request(body, path=path, headers={"anthropic-version": "2023-06-01"}, **options)
    await http.read(await http.send(request, stream=True))
    (served,) = provider.wait_ended()
    return served.body, served.headers


async def test_asked_for_usage_a_stream_has_it(asking, http, provider):
    body, headers = await sent(http, provider, {**PLAIN_STREAM, "seed": 1})
    payload = asking.one()
    assert (payload.prompt_tokens, payload.completion_tokens, payload.usage.source) == (11, 7, "provider")
    assert (payload.cost_source, payload.notes) == ("genai-prices", [])
    assert json.loads(body) == {**PLAIN_STREAM, "seed": 1, "stream_options": USAGE}
    patch.remove()
    plain_body, plain_headers = await sent(http, provider, {**PLAIN_STREAM, "seed": 1})
    assert headers == {**plain_headers, "content-length": str(len(body))}
    assert len(plain_body) != len(body)


async def test_other_stream_options_and_the_timeout_are_kept(asking, http, provider):
    body, _ = await sent(http, provider, {**PLAIN_STREAM, "stream_options": {"include_obfuscation": False}})
    assert json.loads(body)["stream_options"] == {"include_obfuscation": False, "include_usage": True}
    slow = chat_body("[scenario: slow seconds=30]", stream=True)
    with pytest.raises(http.library.ReadTimeout):
        await http.open(slow, timeout=0.2)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (CHAT, chat_body()),
        (CHAT, chat_body(stream=False)),
        (CHAT, chat_body('"stream"')),
        (CHAT, {**PLAIN_STREAM, "stream_options": USAGE}),
        (CHAT, {**PLAIN_STREAM, "stream_options": {"include_usage": False}}),
        (CHAT, {**PLAIN_STREAM, "stream_options": ["odd"]}),
        ("/v1/responses", {"model": "m", "input": "x", "stream": True}),
        ("/v1/messages", PLAIN_STREAM),
        ("/v1/embeddings", {"model": "m", "input": "x", "stream": True}),
    ],
)
async def test_a_request_that_needs_no_asking_goes_out_byte_for_byte(asking, http, provider, path, body):
    with_us = await sent(http, provider, body, path)
    assert len(asking.payloads()) == 1
    patch.remove()
    assert with_us == await sent(http, provider, body, path)


@pytest.mark.parametrize(
    "content", [b'{"messages": 1, "stream": true', b'["messages", "stream"]', b'"messages" "stream"']
)
async def test_a_body_that_cannot_be_changed_goes_out_byte_for_byte(asking, http, provider, content):
    await http.send(http.client.build_request("POST", CHAT, content=content))
    assert provider.wait_ended()[0].body == content
    assert len(asking.payloads()) == 1


async def test_the_setting_is_off_unless_set(capture, http, provider):
    with_us = await sent(http, provider, PLAIN_STREAM)
    patch.remove()
    assert with_us == await sent(http, provider, PLAIN_STREAM)
    assert b"include_usage" not in with_us[0]


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
async def test_an_sdk_streams_and_retries_as_before_when_asked_for(asking, provider, is_async):
    client = openai_client(provider.url, is_async=is_async)
    asked = f"[scenario: error status=500 times=1 key=inject{is_async}]"
    made = client.chat.completions.create(model="gpt-4o", messages=said(asked), stream=True)
    chunks = [chunk async for chunk in await made] if is_async else list(made)
    assert chunks[-1].usage.total_tokens == 18
    assert [payload.status for payload in asking.payloads()] == ["failure", "success"]
    assert all(b"include_usage" in served.body for served in provider.wait_ended(2))


def test_anthropic_streams_are_left_alone(asking, provider):
    client = anthropic_client(provider.url)
    with client.messages.stream(model="claude-haiku-4-5", max_tokens=9, messages=said("hi")) as stream:
        stream.until_done()
    assert asking.one().prompt_tokens == 11
    assert b"include_usage" not in provider.wait_ended()[0].body


# --- counting


async def test_a_stream_without_usage_is_counted_and_says_so(capture, http):
    await http.read(await http.open(PLAIN_STREAM))
    payload = capture.one()
    # Three for the reply, three for the message, then role and text: every byte is a token here.
    assert payload.prompt_tokens == 3 + 3 + len("user") + len("hello")
    assert payload.completion_tokens == REPLY_BYTES
    assert (payload.usage.source, payload.cost_source) == ("tiktoken", "tiktoken+genai-prices")
    assert payload.notes == [COUNTED]
    assert payload.spend > 0
    assert (payload.messages, payload.response) == (None, None)


def test_names_parts_and_several_messages_are_counted(capture, provider):
    parts = [{"type": "text", "text": "abc"}, {"type": "image_url", "image_url": {"url": "data:"}}]
    messages = [{"role": "system", "content": "be"}, {"role": "user", "name": "Bo", "content": parts}]
    list(openai_client(provider.url).chat.completions.create(model="gpt-4o", messages=messages, stream=True))
    assert capture.one().prompt_tokens == 3 + (3 + len("systembe")) + (3 + 1 + len("userBoabc"))


def test_prompts_of_completions_are_counted(capture, provider):
    client = openai_client(provider.url)
    for prompt in ("abc", ["abc", "de"]):
        list(client.completions.create(model="gpt-3.5-turbo-instruct", prompt=prompt, stream=True))
    assert [payload.prompt_tokens for payload in capture.payloads()] == [3, 5]


def test_tool_calls_that_were_streamed_are_counted(capture, provider):
    tools = [{"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}]
    asked = said("[scenario: tools]")
    list(openai_client(provider.url).chat.completions.create(model="gpt-4o", messages=asked, tools=tools, stream=True))
    assert capture.one().completion_tokens == len('get_weather{"city": "Lisbon", "days": 1}')


async def test_a_plain_reply_without_usage_is_not_counted(capture, http):
    transport = http.library.MockTransport(lambda request: http.library.Response(200, json={"id": "x"}))
    http.client._transport = transport
    await http.post()
    payload = capture.one()
    assert (payload.usage.source, payload.spend) == (None, None)
    assert payload.response_cost_failure_debug_info.error_str == "the response carried no usage"


def refuse(error):
    def encoding_for_model(_model):
        raise error

    return encoding_for_model


class Picky:
    def encode_ordinary(self, text):
        raise ValueError(text)


@pytest.mark.parametrize(
    ("encoding_for_model", "why"),
    [
        (refuse(KeyError("model")), "tiktoken does not know this model"),
        (refuse(OSError("no network")), "tiktoken could not load its vocabulary: OSError"),
        (lambda _model: Picky(), "tiktoken could not count: ValueError"),
    ],
)
async def test_a_stream_that_cannot_be_counted_says_why(
    capture_with, provider, http, monkeypatch, encoding_for_model, why
):
    monkeypatch.setattr(tiktoken, "encoding_for_model", encoding_for_model)
    capture = capture_with()
    await http.read(await http.open(PLAIN_STREAM))
    payload = capture.one()
    assert (payload.prompt_tokens, payload.completion_tokens, payload.spend) == (0, 0, None)
    assert (payload.usage.source, payload.status) == (None, "success")
    said_why = payload.response_cost_failure_debug_info.error_str
    assert said_why == f"the stream carried no usage; {why}{HOW_TO_ASK}"


async def test_without_tiktoken_a_stream_says_how_to_get_it_counted(capture_with, http, monkeypatch):
    monkeypatch.setitem(sys.modules, "tiktoken", None)
    capture = capture_with()
    await http.read(await http.open(PLAIN_STREAM))
    said_why = capture.one().response_cost_failure_debug_info.error_str
    assert "tiktoken is not installed: pip install 'otel-llmlog[tiktoken]'" in said_why


def test_while_the_vocabulary_is_loading_calls_do_not_wait_and_then_they_are_counted(monkeypatch):
    arrive, loaded = threading.Event(), threading.Event()

    def load(_model):
        assert arrive.wait(20)
        loaded.set()
        return BYTES

    monkeypatch.setattr(tiktoken, "encoding_for_model", load)
    monkeypatch.setattr(counting, "_LOAD_SECONDS", 0)
    counter = counting.TokenCounter()
    for _ in range(2):
        assert counter.count("gpt-4o", "abc", ["d"]) == (None, "tiktoken is still loading its vocabulary")
    arrive.set()
    assert loaded.wait(20)
    counter._loading["gpt-4o"].join(20)
    usage, note = counter.count("gpt-4o", "abc", ["d"])
    assert (usage.input_tokens, usage.output_tokens, note) == (3, 1, COUNTED)


def test_a_very_long_text_is_counted_in_part_and_scaled_up(monkeypatch):
    monkeypatch.setattr(counting, "_MAX_CHARACTERS", 10)
    usage, _ = counting.TokenCounter().count("gpt-4o", "é" * 15, ["x" * 25])
    assert (usage.input_tokens, usage.output_tokens) == (30, 25)


@pytest.mark.parametrize("messages", [None, 7, {}, [], [1, None], ["a", 1], [{"role": 1, "content": [{"text": 2}]}]])
def test_odd_messages_are_counted_without_an_error(messages):
    usage, note = counting.TokenCounter().count("gpt-4o", messages, [])
    assert (usage.source, note) == ("tiktoken", COUNTED)

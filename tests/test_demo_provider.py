"""The local provider against the real SDKs: what they read from it, and what they raise when it breaks."""

import asyncio
import base64
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import anthropic
import groq
import httpx
import openai
import pytest
from anthropic import Anthropic, AsyncAnthropic
from openai import AsyncAzureOpenAI, AsyncOpenAI, OpenAI

from otel_llmlog.demo import app
from otel_llmlog.demo.provider import LocalProvider
from otel_llmlog.demo.replies import Call, reply_text
from otel_llmlog.demo.scenarios import Ask, AskError, Usage, read_ask

TEXT = reply_text(Ask())
TOOL = {"name": "get_weather", "description": "w", "parameters": {"type": "object", "properties": {}}}
SECONDS = 10.0
# What a broken stream raises: openai 2 lets the transport's own errors through.
STREAM_BROKEN = (openai.APIConnectionError, httpx.TransportError)


@pytest.fixture
def provider():
    with LocalProvider() as running:
        yield running


@pytest.fixture
def client(provider):
    # No TLS here, and loading the certificates is most of a client's start.
    plain = openai.DefaultHttpxClient(verify=False)
    with OpenAI(base_url=f"{provider.url}/v1", api_key="k", timeout=SECONDS, http_client=plain) as made:
        yield made


@pytest.fixture
def claude(provider):
    plain = anthropic.DefaultHttpxClient(verify=False)
    with Anthropic(base_url=provider.url, api_key="k", timeout=SECONDS, http_client=plain) as made:
        yield made


@pytest.fixture
def http(provider):
    with httpx.Client(base_url=provider.url, timeout=SECONDS, verify=False) as made:
        yield made


def said(text):
    return [{"role": "user", "content": text}]


def chat(client, text="hello", **more):
    return client.chat.completions.create(model="gpt-4o-mini", messages=said(text), **more)


def message(claude, text="hello", **more):
    return claude.messages.create(model="claude-haiku-4-5", max_tokens=50, messages=said(text), **more)


def post(http, text="hello", *, stream=False, headers=None, path="/v1/chat/completions"):
    body = {"model": "gpt-4o", "messages": said(text), "stream": stream}
    return http.post(path, json=body, headers=headers)


# --- OpenAI


def test_a_chat_reply_reports_the_usage_it_was_asked_for(client):
    reply = chat(client, "hi [usage: input=120 output=40 cached=64 reasoning=16 audio=3 accepted=2 rejected=1]")
    assert reply.choices[0].message.content == TEXT
    assert reply.usage.model_dump(exclude_none=True) == {
        "prompt_tokens": 120,
        "completion_tokens": 40,
        "total_tokens": 160,
        "prompt_tokens_details": {"cached_tokens": 64, "audio_tokens": 3},
        "completion_tokens_details": {
            "reasoning_tokens": 16,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 2,
            "rejected_prediction_tokens": 1,
        },
    }


def test_headers_and_ids_of_a_raw_reply_follow_the_request_number(client, provider):
    raw = client.chat.completions.with_raw_response.create(model="gpt-4o", messages=said("x"))
    assert raw.headers["x-request-id"] == "req_000000000001"
    assert raw.headers["x-ratelimit-remaining-tokens"] == "1999982"
    assert raw.parse().id == "chatcmpl-000000000001"
    served = provider.wait_ended()[0]
    assert (served.id, served.status, served.completed, served.outcome) == (raw.parse().id, 200, True, "complete")
    assert served.sent_bytes == len(raw.content)
    assert json.loads(served.body)["model"] == served.model == "gpt-4o"


def test_id_model_and_tier_of_the_reply_can_be_chosen(client):
    headers = {"x-response-id": "same", "x-response-model": "gpt-4o-2024-08-06", "x-service-tier": "priority"}
    reply = chat(client, extra_headers=headers)
    assert (reply.id, reply.model, reply.service_tier) == ("same", "gpt-4o-2024-08-06", "priority")
    assert chat(client, "[scenario: plain id=other]").id == "other"


def test_a_chat_stream_has_usage_only_when_asked(client):
    chunks = list(chat(client, stream=True))
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == TEXT
    assert chunks[-1].choices[0].finish_reason == "stop"
    assert all(chunk.usage is None for chunk in chunks)
    *_, last = chat(client, stream=True, stream_options={"include_usage": True})
    assert (last.choices, last.usage.total_tokens) == ([], 18)


def test_several_choices_come_plain_and_streamed(client):
    assert len(chat(client, n=3).choices) == 3
    seen = {chunk.choices[0].index for chunk in chat(client, n=3, stream=True)}
    assert seen == {0, 1, 2}


def test_tool_calls_come_plain_and_streamed_and_a_tool_result_is_answered_in_text(client):
    tools = [{"type": "function", "function": TOOL}]
    first = chat(client, "[scenario: tools calls=2]", tools=tools).choices[0]
    assert first.finish_reason == "tool_calls"
    assert [call.function.name for call in first.message.tool_calls] == ["get_weather"] * 2
    assert json.loads(first.message.tool_calls[0].function.arguments) == {"city": "Lisbon", "days": 1}

    chunks = list(chat(client, "[scenario: tools]", tools=tools, stream=True))
    parts = [part for chunk in chunks for part in chunk.choices[0].delta.tool_calls or []]
    assert parts[0].id
    assert json.loads("".join(part.function.arguments for part in parts)) == {"city": "Lisbon", "days": 1}

    answers = [{"role": "tool", "tool_call_id": call.id, "content": "dry"} for call in first.message.tool_calls]
    reply = client.chat.completions.create(
        model="gpt-4o", messages=[*said("[scenario: tools]"), first.message, *answers], tools=tools
    )
    assert reply.choices[0].message.content == TEXT


def test_completions_come_plain_and_streamed(client):
    plain = client.completions.create(model="gpt-3.5-turbo-instruct", prompt=["a", "b"])
    assert [choice.text for choice in plain.choices] == [TEXT, TEXT]
    stream = client.completions.create(
        model="gpt-3.5-turbo-instruct", prompt="a", stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    assert "".join(chunk.choices[0].text for chunk in chunks if chunk.choices) == TEXT
    assert chunks[-1].usage.completion_tokens == 7


@pytest.mark.parametrize("encoding", ["float", "base64"])
def test_embeddings_say_the_same_in_both_encodings(client, http, encoding):
    asked = {"model": "text-embedding-3-small", "input": ["a", "b"], "dimensions": 4, "encoding_format": encoding}
    wire = http.post("/v1/embeddings", json=asked).json()["data"][0]["embedding"]
    assert isinstance(wire, str) == (encoding == "base64")
    reply = client.embeddings.create(model="text-embedding-3-small", input=["a", "b [usage: input=9]"], dimensions=4)
    assert [item.embedding for item in reply.data] == [[-0.125, -0.0888671875, -0.052734375, -0.0166015625]] * 2
    assert reply.usage.model_dump() == {"prompt_tokens": 9, "total_tokens": 9}


def test_a_response_is_stored_and_chained(client):
    first = client.responses.create(model="gpt-4.1", input="a [usage: input=20 output=9 cached=5 reasoning=4]")
    assert first.output_text == TEXT
    assert first.output[0].type == "reasoning"
    assert first.usage.model_dump(exclude_none=True) == {
        "input_tokens": 20,
        "input_tokens_details": {"cached_tokens": 5, "cache_write_tokens": 0},
        "output_tokens": 9,
        "output_tokens_details": {"reasoning_tokens": 4},
        "total_tokens": 29,
    }
    second = client.responses.create(model="gpt-4.1", input="b", previous_response_id=first.id, store=False)
    assert second.previous_response_id == first.id
    assert client.responses.retrieve(first.id) == first
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(second.id)


def test_a_response_streams_every_event_in_order(client):
    with client.responses.stream(model="gpt-4.1", input="a [usage: reasoning=2]") as stream:
        events = list(stream)
        final = stream.get_final_response()
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert (events[0].type, events[-1].type) == ("response.created", "response.completed")
    assert final.output_text == TEXT
    assert final.usage.total_tokens == 18


def test_a_response_calls_a_tool_in_a_stream(client):
    with client.responses.stream(
        model="gpt-4.1", input="[scenario: tools]", tools=[{"type": "function", "strict": False, **TOOL}]
    ) as stream:
        final = stream.get_final_response()
    assert json.loads(final.output[0].arguments) == {"city": "Lisbon", "days": 1}


def test_an_incomplete_reply_says_so_in_every_api(client, claude):
    asked = "[scenario: incomplete]"
    assert chat(client, asked).choices[0].finish_reason == "length"
    response = client.responses.create(model="gpt-4.1", input=asked)
    assert (response.status, response.incomplete_details.reason) == ("incomplete", "max_output_tokens")
    *_, last = client.responses.create(model="gpt-4.1", input=asked, stream=True)
    assert last.type == "response.incomplete"
    assert message(claude, asked).stop_reason == "max_tokens"


# --- Anthropic


ASKED = "[usage: input=100 output=30 cached=50 cache_write=20 cache_write_1h=5 reasoning=8 web_search=1]"


def test_a_message_counts_input_without_the_cache(claude):
    usage = message(claude, ASKED).usage
    assert usage.model_dump(exclude_none=True) == {
        "input_tokens": 30,
        "cache_creation_input_tokens": 20,
        "cache_read_input_tokens": 50,
        "cache_creation": {"ephemeral_5m_input_tokens": 15, "ephemeral_1h_input_tokens": 5},
        "output_tokens": 30,
        "output_tokens_details": {"thinking_tokens": 8},
        "server_tool_use": {"web_search_requests": 1, "web_fetch_requests": 0},
        "service_tier": "standard",
    }


def test_a_message_stream_adds_up_to_the_message(claude):
    with claude.messages.stream(model="claude-haiku-4-5", max_tokens=9, messages=said(ASKED)) as stream:
        kinds = {event.type for event in stream}
        final = stream.get_final_message()
    assert {"message_start", "content_block_delta", "message_delta", "message_stop"} <= kinds
    assert final.content[0].text == TEXT
    assert (final.usage.input_tokens, final.usage.cache_read_input_tokens, final.usage.output_tokens) == (30, 50, 30)


def test_the_end_of_a_message_stream_carries_output_only_unless_told(http):
    def delta(text):
        events = post(http, text, stream=True, path="/v1/messages").text.split("\n\n")
        (found,) = [event for event in events if event.startswith("event: message_delta")]
        return json.loads(found.split("data: ")[1])["usage"]

    assert delta("hello") == {"output_tokens": 7}
    assert delta("[scenario: plain delta=full]")["input_tokens"] == 11


def test_a_message_uses_a_tool_plain_and_streamed(claude):
    tools = [{"name": "get_weather", "input_schema": {"type": "object"}}]
    plain = message(claude, "[scenario: tools]", tools=tools)
    assert (plain.stop_reason, plain.content[0].input) == ("tool_use", {"city": "Lisbon", "days": 1})
    with claude.messages.stream(
        model="claude-haiku-4-5", max_tokens=9, messages=said("[scenario: tools calls=2]"), tools=tools
    ) as stream:
        final = stream.get_final_message()
    assert [block.input["city"] for block in final.content] == ["Lisbon", "Oslo"]


def test_tokens_are_counted(claude):
    counted = claude.messages.count_tokens(model="claude-haiku-4-5", messages=said("[usage: input=321]"))
    assert counted.input_tokens == 321


# --- others by path


def test_groq_gets_its_usage_in_the_last_choice(provider):
    with groq.Groq(base_url=provider.url, api_key="k", timeout=SECONDS) as client:
        assert chat(client).choices[0].message.content == TEXT
        chunks = list(chat(client, stream=True))
    assert provider.requests[0].path == "/openai/v1/chat/completions"
    assert chunks[0].x_groq.id
    assert chunks[-1].x_groq.usage.total_tokens == 18


async def test_azure_sends_its_filter_chunk_first(provider):
    client = AsyncAzureOpenAI(
        azure_endpoint=provider.url, api_key="k", api_version="2024-10-21", azure_deployment="prod", timeout=SECONDS
    )
    async with client:
        stream = await chat(client, stream=True)
        chunks = [chunk async for chunk in stream]
    assert "/openai/deployments/prod/chat/completions?api-version=" in provider.requests[0].path
    assert (chunks[0].model, chunks[0].choices) == ("", [])
    assert chunks[1].model == "gpt-4o-mini"


def test_openrouter_sends_comments_and_cost(provider, http):
    with OpenAI(base_url=f"{provider.url}/api/v1", api_key="k", timeout=SECONDS) as client:
        *_, last = chat(client, "[usage: cost=0.0123]", stream=True)
        assert last.usage.cost == 0.0123
        assert chat(client, "[usage: cost=0.0123]").usage.cost == 0.0123
    assert ": OPENROUTER PROCESSING\n\ndata: " in post(http, stream=True, path="/api/v1/chat/completions").text


def test_a_litellm_proxy_adds_its_headers(http):
    reply = post(http, "[scenario: litellm_proxy cost=0.25 model_id=abc]")
    found = {name: value for name, value in reply.headers.items() if name.startswith("x-litellm-")}
    assert found["x-litellm-response-cost"] == "0.25"
    assert found["x-litellm-model-id"] == "abc"
    assert found["x-litellm-model-group"] == "gpt-4o"
    assert found["x-litellm-call-id"]


def test_any_prefix_is_served_and_other_paths_are_not(http):
    for path in ("/chat/completions", "/inference/v1/chat/completions", "/deep/er/v1/chat/completions?x=1"):
        assert post(http, path=path).status_code == 200
    assert http.get("/healthz").text == "ok\n"
    missing = http.get("/v1/files")
    assert (missing.status_code, missing.json()["error"]["code"]) == (404, "unknown_url")


# --- errors


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, openai.BadRequestError),
        (401, openai.AuthenticationError),
        (429, openai.RateLimitError),
        (503, openai.InternalServerError),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_openai_raises_the_error_it_is_sent(client, status, error, stream):
    asked = f'[scenario: error status={status} code=some_code message="so it is"]'
    with pytest.raises(error, match="so it is") as caught:
        chat(client.with_options(max_retries=0), asked, stream=stream)
    assert caught.value.code == "some_code"


@pytest.mark.parametrize(
    ("status", "kind"), [(400, "invalid_request_error"), (429, "rate_limit_error"), (529, "overloaded_error")]
)
def test_anthropic_raises_the_error_it_is_sent(claude, status, kind):
    with pytest.raises(anthropic.APIStatusError) as caught:
        message(claude.with_options(max_retries=0), f"[scenario: error status={status}]")
    assert caught.value.status_code == status
    assert caught.value.body["error"]["type"] == kind
    assert caught.value.body["request_id"] == "req_000000000001"


def test_a_retry_succeeds_after_the_asked_number_of_failures(client, claude, provider):
    assert chat(client, "[scenario: error status=429 times=2 key=a]").choices
    assert message(claude, "[scenario: error status=529 times=1 key=b]").content
    assert [request.status for request in provider.wait_ended(5)] == [429, 429, 200, 529, 200]


def test_an_error_inside_a_stream_reaches_every_sdk(client, claude, provider):
    asked = "[scenario: error_in_stream after=3]"
    seen = []
    with pytest.raises(openai.APIError):
        seen.extend(chat(client, asked, stream=True))
    assert len(seen) == 3
    with pytest.raises(anthropic.APIStatusError):
        list(message(claude, asked, stream=True))
    with groq.Groq(base_url=provider.url, api_key="k") as client_of_groq, pytest.raises(groq.APIError):
        list(chat(client_of_groq, asked, stream=True))


def test_a_failed_response_ends_as_told(client):
    def last(asked):
        *_, event = client.responses.create(model="gpt-4.1", input=asked, stream=True)
        return event

    assert last("[scenario: error_in_stream style=failed code=rate_limit_exceeded]").response.status == "failed"
    assert last("[scenario: error_in_stream]").type == "error"


def test_groq_may_stop_with_an_error_in_its_own_field(provider):
    with groq.Groq(base_url=provider.url, api_key="k", timeout=SECONDS) as client:
        *_, last = chat(client, "[scenario: error_in_stream style=x_groq message=over]", stream=True)
    assert last.x_groq.error == "over"


@pytest.mark.parametrize(
    ("body", "said_back"),
    [
        (b"{", "not JSON"),
        (b"[]", "not a JSON object"),
        (b"[" * 100_000, "too deeply"),
        (b'{"messages": []}', "model"),
        (b'{"model": "m"}', "messages"),
        (b'{"model": "m", "messages": [{"role": "user", "content": "[scenario: nosuch]"}]}', "unknown scenario"),
        (b'{"model": "m", "messages": [{"role": "user", "content": "[usage: inputs=1]"}]}', "unknown usage"),
        (b'{"model": "m", "messages": [{"role": "user", "content": "[usage: input=x]"}]}', "whole number"),
        (b'{"model": "m", "messages": [7, null]}', None),
    ],
)
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages"])
def test_a_request_that_cannot_be_served_is_told_why(http, path, body, said_back):
    reply = http.post(path, content=body)
    if said_back is None:
        assert reply.status_code == 200
    else:
        assert reply.status_code == 400
        assert said_back in reply.json()["error"]["message"]


# --- broken replies


def test_truncated_json_fails_to_parse(http, client):
    with pytest.raises(json.JSONDecodeError):
        post(http, "[scenario: invalid_json]").json()
    with pytest.raises(json.JSONDecodeError):
        list(chat(client, "[scenario: invalid_json]", stream=True))


def test_html_comes_with_200(http):
    reply = post(http, "[scenario: not_json]")
    assert (reply.status_code, reply.headers["content-type"]) == (200, "text/html")
    assert reply.text.startswith("<!doctype html>")


def test_a_stream_may_lack_its_end(http, provider):
    text = post(http, "[scenario: no_terminator]", stream=True).text
    assert "finish_reason" in text
    assert "[DONE]" not in text
    assert "message_stop" not in post(http, "[scenario: no_terminator]", stream=True, path="/v1/messages").text
    assert post(http, "[scenario: no_terminator keep=2]", stream=True).text.count("data: ") == 2
    assert all(request.completed for request in provider.wait_ended(3))


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("more", ["", " chunk_bytes=9", " encoding=gzip"])
def test_a_cut_reply_ends_in_a_protocol_error(http, provider, stream, more):
    with pytest.raises(httpx.RemoteProtocolError):
        post(http, f"[scenario: cut{more}]", stream=stream)
    served = provider.wait_ended()[0]
    assert (served.completed, served.outcome) == (False, "cut")
    assert served.sent_bytes > 0


def test_a_cut_reply_makes_the_sdk_retry_when_plain_and_raise_when_streamed(client, provider):
    with pytest.raises(openai.APIConnectionError):
        chat(client.with_options(max_retries=1), "[scenario: cut]")
    assert len(provider.requests) == 2
    seen = []
    with pytest.raises(STREAM_BROKEN):
        seen.extend(chat(client, "[scenario: cut after=3]", stream=True))
    assert len(seen) == 3


def test_a_cut_can_be_a_reset(http):
    with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):
        post(http, "[scenario: cut how=reset]", stream=True)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("after", [0, 2])
def test_a_stalled_reply_times_out_the_reader_and_frees_the_handler(client, provider, stream, after):
    asked = f"[scenario: stall after={after} seconds=30]"
    with pytest.raises(STREAM_BROKEN):
        reply = chat(client.with_options(max_retries=0, timeout=0.2), asked, stream=stream)
        list(reply)
    served = provider.wait_ended()[0]
    assert (served.completed, served.outcome) == (False, "client_gone")


def test_a_stalled_reply_goes_on_after_the_pause(client):
    assert chat(client, "[scenario: stall seconds=0.05]").choices[0].message.content == TEXT


def test_a_slow_reply_holds_back_its_headers(client, provider):
    with pytest.raises(openai.APITimeoutError):
        chat(client.with_options(max_retries=0, timeout=0.2), "[scenario: slow seconds=30]")
    assert provider.wait_ended()[0].sent_bytes == 0
    assert chat(client, "[scenario: slow seconds=0.05]").choices


def test_nul_and_surrogate_arrive_as_sent(client, http):
    assert chat(client, "[scenario: nul]").choices[0].message.content == "before\x00after"
    assert "\x00" in "".join(c.choices[0].delta.content or "" for c in chat(client, "[scenario: nul]", stream=True))
    for path in ("/v1/chat/completions", "/v1/messages"):
        assert rb"before\ud800after" in post(http, "[scenario: surrogate]", path=path).content


@pytest.mark.parametrize(
    ("value", "wire"),
    [
        ("nan", '"completion_tokens":NaN'),
        ("-inf", '"completion_tokens":-Infinity'),
        ("negative", '"completion_tokens":-5'),
        ("huge", '"completion_tokens":1e+300'),
        ("string", '"completion_tokens":"twelve"'),
        ("null", '"completion_tokens":null'),
    ],
)
def test_a_usage_number_can_go_wrong(http, value, wire):
    assert wire in post(http, f"[scenario: nan value={value}]").text


def test_every_usage_number_can_go_wrong_at_once(http):
    assert post(http, "[scenario: nan field=all]").text.count("NaN") == 3
    assert post(http, "[scenario: nan field=all]", stream=True, path="/v1/messages").text.count("NaN") == 2


@pytest.mark.parametrize("size", [1, 16_384, 1_000_003])
@pytest.mark.parametrize("more", ["", " encoding=gzip", " chunk_bytes=70000"])
def test_a_huge_reply_has_exactly_the_asked_size(client, claude, size, more):
    asked = f"[scenario: huge bytes={size}{more}]"
    assert len(chat(client, asked).choices[0].message.content) == size
    chunks = chat(client, asked, stream=True)
    assert sum(len(chunk.choices[0].delta.content or "") for chunk in chunks) == size
    assert len(client.responses.create(model="gpt-4.1", input=asked).output_text) == size
    with claude.messages.stream(model="m", max_tokens=1, messages=said(asked)) as stream:
        assert len(stream.get_final_text()) == size


def test_a_huge_response_stream_carries_the_text_in_deltas_and_at_the_end(client):
    with client.responses.stream(model="gpt-4.1", input="[scenario: huge bytes=50000]") as stream:
        assert len(stream.get_final_response().output_text) == 50_000


def test_nested_arrays_stand_before_the_usage(http):
    for path in ("/v1/chat/completions", "/v1/messages"):
        text = post(http, "[scenario: nest depth=20000]", path=path).text
        assert text.index("[" * 20_000) < text.index('"usage"')
    assert "[" * 50 in post(http, "[scenario: nest depth=50]", stream=True).text


@pytest.mark.parametrize("stream", [False, True])
def test_an_empty_reply_is_200_and_nothing(http, stream):
    reply = post(http, "[scenario: empty]", stream=stream)
    assert (reply.status_code, reply.content) == (200, b"")


def test_raw_bytes_are_sent_as_given(http):
    body = b"data: \xff\x00\n\n"
    headers = {"x-scenario": "raw status=203", "x-raw-body": base64.b64encode(body).decode()}
    reply = post(http, headers=headers)
    assert (reply.status_code, reply.content) == (203, body)
    headers["x-raw-content-type"] = "text/event-stream"
    reply = post(http, headers=headers)
    assert (reply.headers["transfer-encoding"], reply.content) == ("chunked", body)


# --- framing


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "zstd"])
@pytest.mark.parametrize("split", [None, "1", "7", "100000"])
def test_encoded_and_resplit_replies_read_the_same(provider, client, claude, encoding, split):
    headers = {"x-encoding": encoding} | ({"x-chunk-bytes": split} if split else {})
    with groq.Groq(
        base_url=provider.url, api_key="k", timeout=SECONDS, http_client=groq.DefaultHttpxClient(verify=False)
    ) as through_httpx:
        clients = [through_httpx]
        # httpx2 reads zstd with another package than httpx does; it may be missing.
        if encoding in client._client.headers["accept-encoding"]:
            clients.append(client)
        if encoding in claude._client.headers["accept-encoding"]:
            with claude.messages.stream(model="m", max_tokens=1, messages=said("x"), extra_headers=headers) as stream:
                assert stream.get_final_text() == TEXT
        for each in clients:
            raw = each.chat.completions.with_raw_response.create(model="m", messages=said("x"), extra_headers=headers)
            assert raw.headers["content-encoding"] == encoding
            assert raw.parse().choices[0].message.content == TEXT
            chunks = chat(each, stream=True, extra_headers=headers)
            assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == TEXT


@pytest.mark.parametrize("stream", [False, True])
def test_the_body_comes_in_pieces_of_the_asked_size(http, provider, stream):
    body = {"model": "m", "messages": said("x"), "stream": stream}
    with http.stream("POST", "/v1/chat/completions", json=body, headers={"x-chunk-bytes": "7"}) as reply:
        pieces = list(reply.iter_raw())
    assert {len(piece) for piece in pieces[:-1]} == {7}
    assert provider.wait_ended()[0].sent_bytes == sum(map(len, pieces))


def test_each_event_arrives_before_the_next_is_sent(http):
    """With a stall that outlives the test, the events before it can only have come one by one."""
    body = {"model": "m", "messages": said("[scenario: stall after=4 seconds=30 encoding=gzip]"), "stream": True}
    with http.stream("POST", "/v1/chat/completions", json=body) as reply:
        text = ""
        for piece in reply.iter_text():
            text += piece
            if text.count("\n\n") == 4:
                break
    assert text.count("data: ") == 4


def test_the_number_of_deltas_can_be_chosen(client):
    for count in (1, 9, 400):
        chunks = list(chat(client, stream=True, extra_headers={"x-events": str(count)}))
        assert len([chunk for chunk in chunks if chunk.choices[0].delta.content]) == count


def test_a_delay_lies_between_events(client):
    started = time.monotonic()
    list(chat(client, stream=True, extra_headers={"x-event-delay-ms": "20"}))
    assert time.monotonic() - started >= 7 * 0.02


def test_plain_requests_share_one_connection(http, provider):
    with httpx.Client(base_url=provider.url, limits=httpx.Limits(max_connections=1)) as one:
        addresses = {one.get("/healthz").extensions["network_stream"].get_extra_info("client_addr") for _ in range(3)}
    assert len(addresses) == 1
    assert http.get("/healthz", headers={"connection": "close"}).headers["connection"] == "close"


def test_a_chunked_request_body_is_read(http):
    body = json.dumps({"model": "m", "messages": said("[usage: input=5]")}).encode()
    reply = http.post("/v1/chat/completions", content=iter([body[:10], body[10:]]))
    assert reply.json()["usage"]["prompt_tokens"] == 5


# --- clients that leave, many clients


def test_a_client_that_leaves_a_stream_is_noticed(client, provider):
    stream = chat(client, "[scenario: plain events=500 event_delay_ms=20]", stream=True)
    next(stream)
    stream.close()
    served = provider.wait_ended()[0]
    assert (served.completed, served.outcome) == (False, "client_gone")


async def test_a_cancelled_call_is_noticed(provider):
    async with AsyncAnthropic(base_url=provider.url, api_key="k") as client:
        task = asyncio.create_task(message(client, "[scenario: slow seconds=30]"))
        async with asyncio.timeout(SECONDS):
            while not provider.requests:
                await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert provider.wait_ended()[0].outcome == "client_gone"


async def test_hundreds_of_streams_run_at_once(provider):
    async def one(client):
        stream = await chat(client, stream=True, extra_headers={"x-event-delay-ms": "5"})
        return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    async with AsyncOpenAI(base_url=f"{provider.url}/v1", api_key="k", timeout=60.0, max_retries=0) as client:
        async with asyncio.timeout(60):
            texts = await asyncio.gather(*(one(client) for _ in range(200)))
    assert texts == [TEXT] * 200
    served = provider.wait_ended(200)
    assert len({request.id for request in served}) == 200
    assert all(request.completed for request in served)


def test_stop_ends_what_is_still_running():
    provider = LocalProvider().start()
    with OpenAI(base_url=f"{provider.url}/v1", api_key="k", max_retries=0) as client:
        stream = chat(client, "[scenario: stall after=1 seconds=30]", stream=True)
        next(stream)
        provider.stop()
        with pytest.raises(STREAM_BROKEN):
            next(stream)
    assert provider.requests[0].outcome == "stopped"


def test_a_provider_starts_again_on_its_port_and_refuses_one_that_is_taken():
    provider = LocalProvider().start()
    url = provider.url
    with pytest.raises(OSError):
        LocalProvider(port=int(url.rpartition(":")[2])).start()
    provider.stop()
    with provider:
        assert provider.url == url
        assert httpx.get(f"{url}/healthz").text == "ok\n"


def test_only_loopback_is_served():
    with pytest.raises(ValueError, match="loopback"):
        LocalProvider("0.0.0.0")


def test_the_oldest_requests_are_forgotten_first():
    with LocalProvider(keep_requests=10) as provider, httpx.Client(base_url=provider.url) as http:
        for _ in range(25):
            http.get("/healthz")
        provider.wait_ended(10)
        assert [request.request_id[-2:] for request in provider.requests] == [f"{n:02d}" for n in range(16, 26)]


# --- reading the ask


def test_a_header_wins_over_the_text():
    ask = read_ask({"x-scenario": "slow seconds=2", "x-usage": "input=1"}, "[scenario: nul] [usage: input=2]")
    assert (ask.scenario, ask.params, ask.usage.input) == ("slow", {"seconds": "2"}, 1)


def test_a_quoted_parameter_keeps_its_spaces():
    assert read_ask({}, '[scenario: error message="no luck today" code=x]').params == {
        "message": "no luck today",
        "code": "x",
    }


def test_cache_written_for_an_hour_is_part_of_all_that_is_written():
    assert read_ask({}, "[usage: cache_write_1h=9]").usage == Usage(cache_write=9, cache_write_1h=9)


def test_pauses_have_a_limit():
    assert Ask("stall", {"seconds": "4000"}).seconds("seconds", 1.0) == 30.0
    with pytest.raises(AskError):
        Ask("stall", {"seconds": "soon"}).seconds("seconds", 1.0)


def test_equal_requests_get_equal_replies_but_for_number_and_time():
    call = Call(1, Ask(), {"model": "m"}, "/", 0, "msg_")
    assert (call.id, call.model, call.stream) == ("msg_000000000001", "m", False)


# --- as programs


@pytest.fixture
def served_program(tmp_path):
    log = tmp_path / "served.jsonl"
    command = [sys.executable, "-m", "otel_llmlog.demo.provider", "--log", str(log)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process, process.stdout.readline().strip(), log
        finally:
            process.kill()


def test_the_program_prints_its_url_logs_each_request_and_stops_when_told(served_program):
    process, url, log = served_program
    with httpx.Client(base_url=url, timeout=SECONDS) as http:
        reply = post(http)
        post(http, "[scenario: error status=429]")
    process.send_signal(signal.SIGTERM)
    assert process.wait(SECONDS) == 0
    common = {"path": "/v1/chat/completions", "model": "gpt-4o", "ended": "complete"}
    ok = {"id": reply.json()["id"], "request_id": "req_000000000001", "scenario": "plain", "status": 200}
    bad = {"id": "req_000000000002", "request_id": "req_000000000002", "scenario": "error", "status": 429}
    assert [json.loads(line) for line in log.read_text().splitlines()] == [ok | common, bad | common]


def test_the_sample_app_runs_against_it(provider):
    env = os.environ | {
        "OPENAI_BASE_URL": f"{provider.url}/v1",
        "ANTHROPIC_BASE_URL": provider.url,
        "OPENAI_API_KEY": "sk-demo",
        "ANTHROPIC_API_KEY": "sk-ant-demo",
    }
    done = subprocess.run(
        [sys.executable, app.__file__], env=env, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith("done\n")
    served = provider.wait_ended(27)
    statuses = [request.status for request in served]
    assert (len(served), statuses.count(429), statuses.count(400)) == (27, 1, 1)
    assert [request.outcome for request in served].count("client_gone") == 1


def test_the_sample_app_does_not_know_us():
    assert "otel_llmlog" not in Path(app.__file__).read_text()

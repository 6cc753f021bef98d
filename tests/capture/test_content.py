"""With content on, messages and response are kept whole up to the limit, a stream put together like a plain reply."""

from __future__ import annotations

import pytest

from otel_llmlog.capture.context import context
from tests.capture.clients import USAGE, anthropic_client, openai_client, said

LIMIT = 64
LONG = "".join(f"{number:04d}" for number in range(100))
# 35 % of the limit from the head, the rest from the tail.
CUT = LONG[:22] + "... [336 characters skipped] ..." + LONG[-42:]
NUMBERED = {"id", "call_id", "created", "created_at"}
TOOL = {"name": "get_weather", "description": "w", "parameters": {"type": "object", "properties": {}}}


@pytest.fixture
def keeping(capture_with):
    return capture_with(store_prompts_in_spend_logs=True)


def chat(url, text, stream, **more):
    options = {"stream": True, "stream_options": USAGE} if stream else {}
    tools = [{"type": "function", "function": TOOL}]
    made = openai_client(url).chat.completions.create(
        model="gpt-4o-mini", messages=said(text), tools=tools, **options, **more
    )
    return list(made) if stream else made


def completion(url, text, stream):
    options = {"stream": True, "stream_options": USAGE} if stream else {}
    made = openai_client(url).completions.create(model="gpt-3.5-turbo-instruct", prompt=text, **options)
    return list(made) if stream else made


def response(url, text, stream):
    tools = [{"type": "function", "strict": False, **TOOL}]
    made = openai_client(url).responses.create(model="gpt-4o", input=text, tools=tools, stream=stream)
    return list(made) if stream else made


def message(url, text, stream):
    tools = [{"name": "get_weather", "input_schema": {"type": "object"}}]
    made = anthropic_client(url).messages.create(
        model="claude-haiku-4-5", max_tokens=9, messages=said(text), tools=tools, stream=stream
    )
    return list(made) if stream else made


def without_numbers(value):
    """Ids that number the provider's requests differ between two calls."""
    if isinstance(value, dict):
        return {key: without_numbers(item) for key, item in value.items() if key not in NUMBERED}
    return [without_numbers(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize("call", [chat, completion, response, message], ids=lambda call: call.__name__)
@pytest.mark.parametrize("scenario", ["plain", "plain events=40", "tools calls=2", "incomplete", "echo"])
def test_a_stream_is_put_together_like_the_plain_reply(keeping, provider, call, scenario):
    usage = "[usage: input=20 output=9 cached=5]"
    for stream in (False, True):
        call(provider.url, f"[scenario: {scenario}] {usage}", stream)
    plain, streamed = keeping.payloads()
    kept = without_numbers(streamed.response)
    expected = without_numbers(plain.response)
    # A chat stream names fewer fields than a plain reply; those it names are the same.
    assert {key: project(expected[key], value) for key, value in kept.items()} == kept
    assert kept.get("choices") or kept.get("output") or kept.get("content")
    for name in ("messages", "prompt_tokens", "completion_tokens", "spend", "finish_reasons", "model", "usage"):
        assert getattr(streamed, name) == getattr(plain, name), name


def project(whole, part):
    """`whole` with the fields alone that `part` has."""
    if isinstance(whole, dict) and isinstance(part, dict):
        return {key: project(whole.get(key), value) for key, value in part.items()}
    if isinstance(whole, list) and isinstance(part, list) and len(whole) == len(part):
        return [project(a, b) for a, b in zip(whole, part, strict=True)]
    return whole


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
def test_messages_and_response_are_kept_whole(keeping, provider, stream):
    chat(provider.url, "[scenario: echo] Größe 😀?", stream, temperature=0.5, stop=["end"])
    payload = keeping.one()
    assert payload.messages == said("[scenario: echo] Größe 😀?")
    assert payload.response["choices"][0]["message"]["content"] == "[scenario: echo] Größe 😀?"
    assert payload.model_parameters["stop"] == ["end"]
    assert payload.model_parameters["tools"][0]["function"]["name"] == "get_weather"
    assert not {"messages", "model"} & payload.model_parameters.keys()


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize("call", [chat, message], ids=lambda call: call.__name__)
def test_a_text_over_the_limit_keeps_its_head_and_its_tail(capture_with, provider, call, stream):
    capture = capture_with(store_prompts_in_spend_logs=True, max_string_length_prompt_in_db=LIMIT)
    headers = LONG  # asked and echoed
    call(provider.url, headers, stream)
    payload = capture.one()
    assert payload.messages == [{"role": "user", "content": CUT}]


def test_a_reply_over_the_limit_keeps_its_head_and_its_tail(capture_with, provider):
    capture = capture_with(store_prompts_in_spend_logs=True, max_string_length_prompt_in_db=LIMIT)
    for stream in (False, True):
        chat(provider.url, LONG, stream, extra_headers={"x-scenario": "echo"})
    for payload in capture.payloads():
        assert payload.response["choices"][0]["message"]["content"] == CUT
        assert payload.messages[0]["content"] == CUT


def test_system_prompts_stand_in_front_of_the_messages(keeping, provider):
    anthropic_client(provider.url).messages.create(
        model="claude-haiku-4-5", max_tokens=9, messages=said("hi"), system="be kind"
    )
    openai_client(provider.url).responses.create(model="gpt-4o", input="hi", instructions="be kind")
    for payload in keeping.payloads():
        assert payload.messages == [{"role": "system", "content": "be kind"}, {"role": "user", "content": "hi"}]


def test_vectors_are_never_kept(keeping, provider):
    openai_client(provider.url).embeddings.create(model="text-embedding-3-small", input=["a", "b"])
    payload = keeping.one()
    assert payload.messages == ["a", "b"]
    assert payload.response["usage"]["prompt_tokens"] == 11
    assert "data" not in payload.response


def test_the_text_of_an_error_is_kept_with_content_on_only(keeping, provider, capture):
    client = openai_client(provider.url, max_retries=0)
    for installed, kept in ((capture, None), (keeping, "no such thing as CAKE")):
        installed.install()
        with pytest.raises(Exception, match="CAKE"):
            client.chat.completions.create(
                model="gpt-4o", messages=said('[scenario: error status=404 message="no such thing as CAKE"]')
            )
        assert installed.one().error_information.error_message == kept


def test_content_off_keeps_numbers_and_switches_of_the_request(capture, provider):
    with context(session_id="s"):
        chat(provider.url, "hi", False, temperature=0.5, seed=7, stop=["end"], tool_choice="auto", n=2)
    payload = capture.one()
    assert payload.model_parameters == {"temperature": 0.5, "seed": 7, "tool_choice": "auto", "n": 2, "tool_count": 1}
    assert (payload.messages, payload.response, payload.session_id) == (None, None, "s")

"""What is noted when a call begins, should its process die: names it is sure of, and no content."""

from __future__ import annotations

import hashlib
import json

import httpx
import pytest

from otel_llmlog.capture.context import context
from tests.capture.clients import CHAT, KEY, chat_body


@pytest.fixture
def intended(capture_with):
    """Makes a call with this body and gives back what was noted of it."""
    capture = capture_with()

    def make(body, headers=None):
        transport = httpx.MockTransport(lambda request: httpx.Response(200, json={}))
        with httpx.Client(transport=transport) as client:
            client.post(f"https://user:{KEY}@in.process{CHAT}?key={KEY}", content=body, headers=headers)
        return capture.recorder._outlet.intended[-1]

    return make


def test_a_call_is_noted_with_its_names_and_the_hash_of_its_key(intended):
    with context(session_id="s", user="u", tags=["a", "b"]):
        noted = intended(json.dumps(chat_body()), {"authorization": f"Bearer {KEY}"})
    assert noted == {
        "call_type": "completion",
        "operation": "chat",
        "wire": "openai",
        "url": f"https://in.process{CHAT}",
        "model": "gpt-4o-mini",
        "api_key": hashlib.sha256(KEY.encode()).hexdigest(),
        "session_id": "s",
        "user": "u",
        "tags": "a\nb",
    }


def test_the_session_of_a_header_comes_before_that_of_the_context(intended):
    with context(session_id="context"):
        assert intended(json.dumps(chat_body()), {"x-litellm-session-id": "header"})["session_id"] == "header"


@pytest.mark.parametrize(
    "body",
    [
        {"model": "m", "messages": [{"role": "user", "model": "said"}]},
        {"messages": [{"role": "user", "model": "said"}], "model": "m"},
        {"model": "m", "messages": [], "tools": [{"input": {"model": "said"}}]},
        {"messages": ['"model": "said"'], "model": "m"},
        {"metadata": {"model": "said"}, "messages": [], "model": "m", "x": {"model": "said"}},
    ],
)
def test_a_field_inside_the_conversation_is_not_taken_for_the_model(intended, body):
    assert intended(json.dumps(body))["model"] == "m"


@pytest.mark.parametrize(
    "body",
    [
        '{"messages": 1}',
        '{"messages": 1, "model": 7}',
        '{"messages": 1, "model": "", "a": {"model": []}}',
        '"messages" "model"',
    ],
)
def test_a_call_without_a_readable_model_is_noted_without_it(intended, body):
    assert "model" not in intended(body)


@pytest.mark.parametrize(
    ("path", "model"),
    [
        ("/model/us.amazon.nova-lite-v1:0/converse", "us.amazon.nova-lite-v1:0"),
        ("/v1beta/models/gemini-2.5-flash:generateContent", "gemini-2.5-flash"),
    ],
)
def test_a_model_that_the_url_names_is_noted_and_never_a_field_of_the_content(capture_with, path, model):
    capture = capture_with()
    body = {"messages": [{"content": [{"toolUse": {"input": {"model": "secret"}}}]}], "contents": []}
    with httpx.Client(transport=httpx.MockTransport(lambda _: httpx.Response(200, json={}))) as client:
        client.post(f"https://in.process{path}", json=body)
    assert capture.recorder._outlet.intended[-1]["model"] == model

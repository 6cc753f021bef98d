"""What is noted when a call begins, should its process die: names it is sure of, and no content."""

from __future__ import annotations

import hashlib
import json

import httpx
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from otel_llmlog.capture.context import context
from otel_llmlog.pipeline.spool import Intent, encode_intent
from tests.capture.clients import CHAT, KEY, chat_body
from tests.capture.hostile import BODIES, BOUNDARY, FORM, FORM_WITHOUT, URLS


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


@pytest.fixture
def noted(capture_with):
    """Sends a request and gives back what was noted of it, as facts and as bytes of the spool."""
    capture = capture_with()

    def make(path, body, headers=None):
        with httpx.Client(transport=httpx.MockTransport(lambda _: httpx.Response(200, json={}))) as client:
            client.post(f"https://in.process{path}", content=body, headers=headers)
        [facts] = capture.recorder._outlet.intended
        capture.recorder._outlet.intended.clear()
        return facts, encode_intent(Intent(b"t" * 16, 1, None, 1, "app", facts))

    return make


def test_only_a_name_at_the_top_of_the_body_is_noted_as_the_model(noted):
    for path, body, model in BODIES:
        facts, spooled = noted(path, body, {"anthropic-version": "2023-06-01"})
        assert facts.get("model", "") == model, body
        assert b"canary7" not in spooled, body


def test_what_stands_in_a_url_in_the_place_of_a_model_is_none_unless_it_looks_like_one(noted):
    for path, body in URLS:
        assert "model" not in noted(path, body)[0]


def test_the_model_of_a_form_is_that_of_its_field_and_never_of_its_file(noted):
    form = {"content-type": f"multipart/form-data; boundary={BOUNDARY}"}
    for body, model in ((FORM, "whisper-1"), (FORM_WITHOUT, "")):
        facts, spooled = noted("/v1/audio/transcriptions", body, form)
        assert facts.get("model", "") == model
        assert b"canary7" not in spooled


SAID = st.recursive(
    st.sampled_from(["canary7", "canary7 words", 'canary7"model": "canary7"', 7, None, True]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["model", "x", 'x"model', "messages", "input", "\\"]), inner, max_size=3)
    ),
    max_leaves=12,
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    before=st.dictionaries(st.sampled_from(["a", "messages", "tools", "input", "metadata"]), SAID, max_size=3),
    after=st.dictionaries(st.sampled_from(["b", "tools", "tool_choice", "user_data"]), SAID, max_size=3),
    model=st.sampled_from([None, "gpt-4o", "org/model:free", 7, ["canary7"], {"model": "canary7"}]),
    spacing=st.sampled_from([(",", ":"), (", ", ": "), (" ,\n", " :\t")]),
)
def test_whatever_else_a_body_says_is_not_taken_for_its_model(noted, before, after, model, spacing):
    body = {**before, **({"model": model} if model is not None else {}), **after, "messages": []}
    facts, spooled = noted(CHAT, json.dumps(body, separators=spacing).encode())
    assert facts.get("model") == (model if isinstance(model, str) else None)
    assert b"canary7" not in spooled


def test_no_credential_is_noted_wherever_the_app_puts_it(noted):
    secrets = ("sk-" + "proj-abcdefghij0123456789", "hunter2")
    token = "t0Ken" + "Zq9Xw8Vb7Nm6" * 3
    with context(
        session_id=secrets[0], user=f"password={secrets[1]}", end_user=json.dumps({"api_key": secrets[1]}),
        team=secrets[0], team_alias=f"token: {secrets[1]}", organization=f"https://u:{secrets[1]}@h", tags=[secrets[0]],
    ):  # fmt: skip
        _, spooled = noted(
            f"/gateway/{token}/{secrets[0]}{CHAT}?key={secrets[1]}", json.dumps({**chat_body(), "model": secrets[0]})
        )
    for secret in (*secrets, token):
        assert secret.encode() not in spooled

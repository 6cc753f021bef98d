"""Whatever an app or its client says of a call, wherever it says it, no credential is in the record or on the span."""

from __future__ import annotations

import json

import httpx
import pytest

from otel_llmlog.capture.context import context
from tests.capture.clients import CHAT, chat_body
from tests.redact.credentials import DATA, SHAPED, TEXTS

SECRET = "Zq9-hunter2"
KEY = SHAPED["OpenAI project"]
OPAQUE = "t0Ken" + "Zq9Xw8Vb7Nm6" * 3
PLANTED = [
    KEY, f"use {KEY}", f"password={SECRET}", f"api_key: {SECRET}", json.dumps({"a": {"clientSecret": SECRET}}),
    f"https://ada:{SECRET}@db.example.com/x?sig={SECRET}", TEXTS["base64 of JSON"]("token", SECRET),
    TEXTS["JSON in JSON"]("dsn", SECRET),
]  # fmt: skip


@pytest.fixture
def sent(capture_with):
    """Makes a call and gives back all that is known of it, as text."""

    def make(path=CHAT, *, body=None, headers=None, reply=None, status=200, content=False):
        capture = capture_with(store_prompts_in_spend_logs=content)
        answer = {"id": "x", "model": "gpt-4o", "choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 1}}
        transport = httpx.MockTransport(lambda _: httpx.Response(status, json=answer if reply is None else reply))
        with httpx.Client(transport=transport) as client:
            client.post(f"https://ada:{SECRET}@in.process{path}", json=body or chat_body(), headers=headers)
        payload = capture.one()
        spans = [dict(span.attributes) for span in capture.spans()]
        return payload, payload.model_dump_json() + json.dumps(spans) + json.dumps(capture.recorder._outlet.intended)

    return make


def assert_hidden(told):
    assert SECRET not in told, told
    assert KEY not in told
    assert OPAQUE not in told


@pytest.mark.parametrize("planted", PLANTED)
def test_in_headers_of_any_name(sent, planted):
    headers = {
        "x-note": planted, "X-Tenant-Context": planted, "user-agent": planted, "x-litellm-tags": planted,
        "x-litellm-spend-logs-metadata": json.dumps({"n": planted, "password": SECRET}), "x-litellm-session-id": planted,
        "x-litellm-end-user-id": planted, "x-vault-token": SECRET, "x-signing.key": SECRET, "X-DB-Pass": SECRET,
    }  # fmt: skip
    payload, told = sent(headers=headers)
    assert_hidden(told)
    assert {"x-note", "x-tenant-context", "x-vault-token"} <= payload.metadata.requester_custom_headers.keys()


@pytest.mark.parametrize("content", [False, True])
@pytest.mark.parametrize("planted", PLANTED)
def test_in_the_body_beside_the_conversation(sent, planted, content):
    more = {
        "user": planted, "metadata": {"note": planted, "db": {"passwd": SECRET}, "tags": [planted], "session_id": planted},
        "service_tier": planted, "litellm_session_id": planted, "previous_response_id": planted,
        "tools": [{"type": "mcp", "authorization": SECRET, "headers": {"X-Api-Key": SECRET}, "server_url": planted}],
        "api_key": SECRET, "extra_headers": {"Authorization": SECRET}, "reasoning_effort": planted,
    }  # fmt: skip
    _, told = sent(body={**chat_body(), **more}, content=content)
    assert_hidden(told)
    _, told = sent(body={**chat_body(), "model": planted})
    assert_hidden(told)


@pytest.mark.parametrize("planted", PLANTED)
def test_in_what_the_app_says_of_its_caller(sent, planted):
    metadata = {form: carry("signingKey", SECRET) for form, carry in DATA.items()}
    with context(
        session_id=planted, user=planted, end_user=planted, team=planted, team_alias=planted, organization=planted,
        tags=[planted, "search"], metadata={**metadata, "note": planted},
    ):  # fmt: skip
        payload, told = sent()
    assert_hidden(told)
    assert "search" in payload.request_tags
    assert set(payload.metadata.spend_logs_metadata) == {*DATA, "note"}


@pytest.mark.parametrize("planted", PLANTED)
def test_in_the_reply(sent, planted):
    choice = {"finish_reason": planted, "message": {}}
    reply = {
        "id": planted,
        "model": planted,
        "service_tier": planted,
        "choices": [choice],
        "usage": {"prompt_tokens": 1},
    }
    _, told = sent(reply=reply)
    assert_hidden(told)
    error = {"error": {"message": f"refused: {planted}", "type": planted, "code": planted}}
    for content in (False, True):
        _, told = sent(reply=error, status=401, content=content)
        assert_hidden(told)


@pytest.mark.parametrize(
    "path",
    [
        f"/v1/{OPAQUE}/chat/completions?key={SECRET}&sig={SECRET}&access_token={SECRET}#access_token={SECRET}",
        f"/gateway/{KEY}/openai/deployments/gpt-4o/chat/completions?api-version=1&subscription-key={SECRET}",
        f"/v1beta/models/gemini-2.5-flash:generateContent?key={SECRET}",
        f"/bucket/v1/chat/completions?X-Amz-Signature={SECRET}&X-Amz-Credential={SECRET}&X-Amz-Security-Token={SECRET}",
    ],
)
def test_in_urls(sent, path):
    body = {"contents": []} if "gemini" in path else chat_body()
    payload, told = sent(path, body=body)
    assert_hidden(told)
    assert payload.api_base.startswith("https://in.process/")


def test_text_in_the_place_of_a_word_is_in_no_row(sent):
    said = "canary7 said this"
    reply = {"id": "x", "service_tier": said, "status": said, "choices": [{"finish_reason": said}],
             "usage": {"prompt_tokens": 1, "service_tier": said, "inference_geo": said}}  # fmt: skip
    body = {**chat_body(), "service_tier": said, "reasoning_effort": said, "tool_choice": said, "modalities": [said]}
    _, told = sent(body=body, reply=reply)
    assert "canary7" not in told
    _, told = sent(reply={"error": {"type": said, "code": said, "message": said}}, status=400)
    assert "canary7" not in told

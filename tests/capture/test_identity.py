"""Who called and in which session: body before headers before `context(...)` before baggage before settings."""

from __future__ import annotations

import hashlib
import json

import httpx
import pytest
from opentelemetry import baggage, context as otel_context

from otel_llmlog.capture.context import context
from otel_llmlog.capture.identity import MAX_TAGS
from otel_llmlog.redact import MASK
from tests.capture.clients import CHAT, KEY, anthropic_client, chat_body, openai_client, said


@pytest.fixture
def post(provider):
    with httpx.Client(base_url=provider.url, verify=False) as client:

        def post(headers=None, **body):
            response = client.post(CHAT, json=chat_body(**body), headers=headers)
            assert response.status_code == 200

        yield post


def carrying(**entries):
    made = otel_context.get_current()
    for name, value in entries.items():
        made = baggage.set_baggage(name.replace("__", "."), value, made)
    return otel_context.attach(made)


def who(payload):
    metadata = payload.metadata
    return {
        "session": payload.session_id,
        "user": metadata.user_api_key_user_id,
        "end_user": payload.end_user,
        "team": metadata.user_api_key_team_id,
        "team_alias": metadata.user_api_key_team_alias,
        "organization": metadata.user_api_key_org_id,
        "tags": payload.request_tags,
        "metadata": metadata.spend_logs_metadata,
    }


NOBODY = dict.fromkeys(("session", "user", "end_user", "team", "team_alias", "organization", "metadata")) | {"tags": []}


def test_a_session_is_never_invented(capture, post):
    post()
    assert who(capture.one()) == NOBODY


def test_each_place_fills_what_the_places_before_it_left_open(capture_with, post, monkeypatch):
    """The order of the module's docstring, shown by taking one place after the other away."""
    for name in ("SESSION_ID", "USER_ID", "END_USER", "TEAM_ID", "TEAM_ALIAS", "ORGANIZATION_ID", "TAGS"):
        monkeypatch.setenv(f"LLMLOG_{name}", "settings")
    capture = capture_with()
    body = {
        "litellm_session_id": "body",
        "user": "body",
        "metadata": {"tags": ["body"], "spend_logs_metadata": {"from": "body", "body": 1}},
    }
    headers = {
        "x-litellm-session-id": "headers",
        "x-litellm-end-user-id": "headers",
        "x-litellm-tags": "headers",
        "x-litellm-spend-logs-metadata": json.dumps({"from": "headers", "headers": 1}),
    }
    said_by_app = context(
        session_id="context",
        user="context",
        end_user="context",
        team="context",
        team_alias="context",
        organization="context",
        tags=["context"],
        metadata={"from": "context", "context": 1},
    )
    token = carrying(
        session__id="baggage",
        user__id="baggage",
        enduser__id="baggage",
        llmlog__team="baggage",
        llmlog__organization="baggage",
        llmlog__tags="baggage",
    )
    with said_by_app:
        post(headers, **body)
        post(headers)
        post()
    post()
    otel_context.detach(token)
    post()
    by_body, by_headers, by_context, by_baggage, by_settings = map(who, capture.payloads())

    assert by_body == {
        "session": "body",
        "user": "context",
        "end_user": "body",
        "team": "context",
        "team_alias": "context",
        "organization": "context",
        "tags": ["settings", "baggage", "context", "headers", "body"],
        "metadata": {"from": "body", "body": 1, "headers": 1, "context": 1},
    }
    assert by_headers == by_body | {
        "session": "headers",
        "end_user": "headers",
        "tags": ["settings", "baggage", "context", "headers"],
        "metadata": {"from": "headers", "headers": 1, "context": 1},
    }
    assert by_context == by_headers | {
        "session": "context",
        "end_user": "context",
        "tags": ["settings", "baggage", "context"],
        "metadata": {"from": "context", "context": 1},
    }
    assert by_baggage == {
        "session": "baggage",
        "user": "baggage",
        "end_user": "baggage",
        "team": "baggage",
        "team_alias": "settings",
        "organization": "baggage",
        "tags": ["settings", "baggage"],
        "metadata": None,
    }
    assert by_settings == dict.fromkeys(by_baggage, "settings") | {"tags": ["settings"], "metadata": None}


@pytest.mark.parametrize(
    ("body", "session"),
    [
        ({"litellm_session_id": "a", "metadata": {"session_id": "b"}, "litellm_trace_id": "c"}, "a"),
        ({"metadata": {"session_id": "b"}, "litellm_trace_id": "c"}, "b"),
        ({"litellm_metadata": {"session_id": "b"}}, "b"),
        ({"litellm_trace_id": "c"}, "c"),
        ({"metadata": {"session_id": 42}}, "42"),
        ({"metadata": "no object", "litellm_session_id": ["no text"]}, None),
    ],
)
def test_a_session_may_stand_in_several_fields_of_the_body(capture, post, body, session):
    post(**body)
    assert capture.one().session_id == session


@pytest.mark.parametrize(
    ("headers", "session"),
    [
        ({"x-litellm-session-id": "a", "x-litellm-trace-id": "b"}, "a"),
        ({"x-litellm-trace-id": "b"}, "b"),
    ],
)
def test_a_session_may_stand_in_two_headers(capture, post, headers, session):
    post(headers)
    assert capture.one().session_id == session


def test_the_trace_id_of_the_body_is_a_session_and_never_the_trace(capture, post):
    post(litellm_trace_id="mine")
    payload = capture.one()
    assert payload.trace_id == capture.records()[0].ids.trace_id != "mine"


@pytest.mark.parametrize(
    ("given", "tags"),
    [
        ("a, b ,,c", ["a", "b", "c"]),
        ('["a", "b, c", 3]', ["a", "b, c"]),
        ('["a"', []),
        ('{"a": 1}', ['{"a": 1}']),
        ("[" * 5000, []),
    ],
)
def test_tags_in_a_header_are_a_list_or_separated_by_commas(capture, post, given, tags):
    post({"x-litellm-tags": given})
    assert capture.one().request_tags == tags


def test_tags_are_bounded_in_number_and_in_length(capture, post):
    post(metadata={"tags": [f"{number}-" + "x" * 600 for number in range(200)]})
    tags = capture.one().request_tags
    assert len(tags) == MAX_TAGS
    assert {len(tag) for tag in tags} == {512}


@pytest.mark.parametrize("given", ["no json", "[1]", '"x"', "null", "{", '{"a":' * 5000])
def test_spend_metadata_in_a_header_that_is_no_object_is_passed_over(capture, post, given):
    post({"x-litellm-spend-logs-metadata": given})
    assert capture.one().metadata.spend_logs_metadata is None


def test_metadata_that_json_does_not_know_is_kept_as_text(capture, post):
    class Order:
        def __str__(self):
            return "order 7"

    with context(metadata={"order": Order(), "set": {1}, 5: b"x", "deep": [{"o": Order()}], "none": None}):
        post()
    kept = capture.one().metadata.spend_logs_metadata
    assert kept == {"order": "order 7", "set": "{1}", "5": "b'x'", "deep": [{"o": "order 7"}], "none": None}


def test_metadata_that_cannot_even_be_shown_costs_no_row(capture, post):
    class Broken:
        def __str__(self):
            raise RuntimeError("app's")

    with context(session_id="s", metadata={"broken": Broken(), "n": 1}):
        post()
    payload = capture.one()
    assert (payload.session_id, payload.prompt_tokens) == ("s", 11)
    assert payload.metadata.spend_logs_metadata["n"] == 1


def test_the_end_user_is_what_the_api_itself_calls_the_user(capture, provider):
    claude = anthropic_client(provider.url)
    claude.messages.create(
        model="claude-haiku-4-5", max_tokens=9, messages=said("hi"), metadata={"user_id": "their-user"}
    )
    gpt = openai_client(provider.url)
    gpt.chat.completions.create(model="gpt-4o", messages=said("hi"), user="older name")
    gpt.chat.completions.create(model="gpt-4o", messages=said("hi"), safety_identifier="newer name")
    gpt.responses.create(model="gpt-4o", input="hi", user="in responses")
    found = [payload.end_user for payload in capture.payloads()]
    assert found == ["their-user", "older name", "newer name", "in responses"]


def test_the_metadata_of_the_request_is_kept_with_credentials_masked(capture, post):
    post(metadata={"job": "j-1", "api_key": "plain", "note": "Bearer abcdefgh", "n": {"password": "x", "ok": [1]}})
    assert capture.one().metadata.requester_metadata == {
        "job": "j-1",
        "api_key": MASK,
        "note": MASK,
        "n": {"password": MASK, "ok": [1]},
    }


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": f"Bearer {KEY}"},
        {"authorization": f"bearer  {KEY}"},
        {"authorization": KEY},
        {"x-api-key": KEY},
        {"api-key": KEY},
        {"x-goog-api-key": KEY},
    ],
)
def test_an_api_key_is_kept_as_its_sha256_and_known_by_its_alias(capture_with, post, headers):
    hashed = hashlib.sha256(KEY.encode()).hexdigest()
    for given in (hashed, KEY):  # an alias may be given for the raw key, too
        capture = capture_with(api_key_aliases=f"{given}=team key")
        post(headers)
        payload = capture.one()
        metadata = payload.metadata
        assert (metadata.user_api_key_hash, metadata.user_api_key_alias) == (hashed, "team key")
        assert KEY not in payload.model_dump_json()


def test_a_call_without_a_key_has_no_hash(capture, post):
    post()
    metadata = capture.one().metadata
    assert (metadata.user_api_key_hash, metadata.user_api_key_alias) == (None, None)


def test_custom_headers_are_kept_with_credentials_masked(capture, post):
    post(
        {
            "X-Job": "nightly",
            "x-api-key": "plain",
            "x-auth-token": "plain",
            "x-session-key": "plain",
            "x-note": "uses sk-abcdefghijklmnopqrst today",
            "x-forward": "Basic dXNlcjpwYXNz",
            "x-stainless-os": "Linux",
            "cookie": "plain",
            "other": "plain",
        }
    )
    assert capture.one().metadata.requester_custom_headers == {
        "x-job": "nightly",
        "x-api-key": MASK,
        "x-auth-token": MASK,
        "x-session-key": MASK,
        "x-note": f"uses {MASK} today",
        "x-forward": MASK,
    }


def test_names_are_bounded_and_clean(capture, post):
    with context(session_id="s" * 9999, user="nul\0", team="\ud800", organization=7):
        post(user="e" * 9999)
    payload = capture.one()
    assert (len(payload.session_id), len(payload.end_user)) == (512, 512)
    metadata = payload.metadata
    assert (metadata.user_api_key_user_id, metadata.user_api_key_team_id) == ("nul\ufffd", "\ufffd")
    assert metadata.user_api_key_org_id == "7"

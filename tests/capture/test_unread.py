"""A call that has ended is on disk before the app has its answer: what it cost is known, should nobody read it any more.

What is noted is compared with what is read: of each call both are made here.
"""

from __future__ import annotations

import threading

import anthropic
import httpx
import openai
import pytest

from otel_llmlog.capture import worker as worker_module
from otel_llmlog.dialects import llmlog
from otel_llmlog.pipeline.spool import Ending, Intent
from otel_llmlog.pipeline.terminated import unread
from otel_llmlog.pricing import Pricer
from tests.capture.clients import CHAT, KEY, chat_body

SECONDS = 20
MANY = 64
USAGE = "[usage: input=120 output=40 cached=30] hello"
MESSAGES = [{"role": "user", "content": USAGE}]
ANTHROPIC = {"anthropic-version": "2023-06-01", "x-api-key": KEY}
CALLS = {
    "chat": (CHAT, {"model": "gpt-4o-mini", "messages": MESSAGES}, {}),
    "completions": ("/v1/completions", {"model": "gpt-3.5-turbo-instruct", "prompt": USAGE}, {}),
    "responses": ("/v1/responses", {"model": "gpt-4o-mini", "input": USAGE}, {}),
    "embeddings": ("/v1/embeddings", {"model": "text-embedding-3-small", "input": "hello"}, {}),
    "messages": ("/v1/messages", {"model": "claude-sonnet-4-5", "max_tokens": 9, "messages": MESSAGES}, ANTHROPIC),
}
STREAMED = [name for name in CALLS if name != "embeddings"]
# What only the reply itself says, or only a header.
UNKNOWN = {
    "finish_reasons", "completionStartTime", "response_time", "hidden_params", "model_parameters", "notes",
    "user_agent", "model_id",
}  # fmt: skip


@pytest.fixture
def http(provider):
    with httpx.Client(base_url=provider.url, headers={"authorization": f"Bearer {KEY}"}) as client:
        yield client


@pytest.fixture
def never(monkeypatch):
    """Nothing is read late, but for a number of calls or a flush."""
    monkeypatch.setattr(worker_module, "_LATE", 3600.0)


def known(payload):
    said = payload.model_dump(exclude=UNKNOWN)
    # The route and the client's own headers are not noted.
    said["metadata"] = {name: said["metadata"][name] for name in said["metadata"] if name.startswith("user_api_key")}
    said["metadata"].pop("user_api_key_request_route")
    return said


@pytest.mark.parametrize(("name", "stream"), [*((name, False) for name in CALLS), *((name, True) for name in STREAMED)])
def test_what_is_noted_is_what_is_read(capture_with, http, name, stream):
    capture = capture_with()
    path, body, headers = CALLS[name]
    options = {"stream": True} if stream else {}
    if stream and name in {"chat", "completions"}:
        options["stream_options"] = {"include_usage": True}
    headers = {**headers, "x-litellm-session-id": "s-1"}
    with http.stream("POST", path, json={**body, **options}, headers=headers) as response:
        assert response.status_code == 200
        response.read()
    outlet = capture.recorder._outlet
    (noted,) = outlet.ended
    assert noted[0] == 1
    (record,) = capture.records()
    read = record.payload
    assert noted[1] == record.end_ns
    ids = record.ids
    intent = Intent(
        bytes.fromhex(ids.trace_id), int(ids.span_id, 16), None, record.start_ns, "shop", outlet.intended[0]
    )
    made = unread(intent, Ending(*noted[1:]), Pricer())
    assert known(llmlog.decode(made.attributes)) == known(read)
    assert read.spend > 0
    assert made.end_ns == record.end_ns


def test_a_call_is_noted_before_the_app_has_its_answer(capture_with, http):
    capture = capture_with()
    for number in range(3):
        http.post(CHAT, json=chat_body())
        assert len(capture.recorder._outlet.ended) == number + 1


@pytest.mark.parametrize(
    "headers",
    [
        {"x-scenario": "rate_limit"},
        {"x-scenario": "litellm_proxy cost=0.25"},
        {"x-encoding": "gzip", "x-events": "2"},
        {"x-scenario": "invalid_json"},
        {"x-scenario": "truncated"},
    ],
)
def test_what_takes_more_to_tell_is_read_soon(capture_with, never, http, headers):
    capture = capture_with()
    reached = _reading(capture)
    stream = {"stream": True, "stream_options": {"include_usage": True}} if "x-encoding" in headers else {}
    try:
        with http.stream("POST", CHAT, json={**chat_body(), **stream}, headers=headers) as response:
            for _ in response.iter_raw():
                pass
    except httpx.HTTPError:
        pass
    assert reached.wait(SECONDS)
    assert capture.recorder._outlet.ended == []


def test_what_cannot_be_noted_is_read_soon(capture_with, never, http):
    capture = capture_with()
    capture.recorder._outlet.notes_endings = False
    reached = _reading(capture)
    http.post(CHAT, json=chat_body())
    assert reached.wait(SECONDS)


def test_with_content_on_all_is_on_disk_soon(capture_with, never, http):
    capture = capture_with(store_prompts_in_spend_logs=True)
    reached = _reading(capture)
    http.post(CHAT, json=chat_body())
    assert reached.wait(SECONDS)
    assert capture.recorder._outlet.ended == []


def test_what_is_noted_is_read_late(capture_with, http):
    capture = capture_with()
    reached = _reading(capture)
    http.post(CHAT, json=chat_body())
    assert reached.wait(SECONDS)
    assert len(capture.recorder._outlet.ended) == 1


def test_many_calls_do_not_wait_any_longer(capture_with, never, http):
    capture = capture_with()
    reached = _reading(capture)
    for _ in range(MANY):
        http.post(CHAT, json=chat_body())
        assert not reached.is_set()
    http.post(CHAT, json=chat_body())
    assert reached.wait(SECONDS)


def test_large_replies_do_not_wait_for_many(capture_with, never, http):
    capture = capture_with()
    reached = _reading(capture)
    for _ in range(2):
        http.post(CHAT, json=chat_body("x" * (1 << 20)))
    assert reached.wait(SECONDS)


def test_more_than_can_be_read_in_time_is_read_without_letting_others_go_first(capture_with, never, http):
    capture = capture_with()
    worker, patience = capture.recorder._worker, []
    finish = worker._finish

    def noting(calls, patient, age):
        patience.append(patient)
        finish(calls, patient, age)

    worker._finish = noting
    http.post(CHAT, json=chat_body())
    assert capture.recorder.flush(SECONDS)
    with worker._reading:
        for _ in range(2 * MANY):
            http.post(CHAT, json=chat_body())
    assert capture.recorder.flush(SECONDS)
    # One alone has time; of many those have it that are the last.
    assert patience[0] == patience[-1] == worker_module._LATE
    assert patience[1] <= worker_module._PATIENCE


def test_one_that_is_read_soon_takes_those_before_it_along_in_their_order(capture_with, never, http):
    capture = capture_with()
    reached = _reading(capture, number=3)
    for scenario in ("plain", "plain", "rate_limit"):
        http.post(CHAT, json=chat_body(), headers={"x-scenario": scenario})
    assert reached.wait(SECONDS)
    assert [record.payload.status for record in capture.delivered] == ["success", "success", "failure"]


def test_a_fault_of_ours_in_telling_is_counted_and_the_call_is_read_soon(capture_with, never, http):
    capture = capture_with()

    def broken(*_):
        raise ValueError("broken")

    capture.recorder._outlet.end = broken
    reached = _reading(capture)
    assert http.post(CHAT, json=chat_body()).status_code == 200
    assert reached.wait(SECONDS)
    assert capture.stats.snapshot()["error.brief.ValueError"] == 1


def _reading(capture, number=1):
    """Set when so many calls have been read without being asked for."""
    reached, deliver = threading.Event(), capture.recorder._outlet.deliver

    def delivered(*given):
        deliver(*given)
        if len(capture.delivered) >= number:
            reached.set()

    capture.recorder._outlet.deliver = delivered
    return reached


def test_a_call_that_ends_meanwhile_does_not_make_a_flush_late(capture_with, never, http):
    capture = capture_with()
    http.post(CHAT, json=chat_body())
    alarm, about_to_wait, may_wait = capture.recorder._worker._alarm, threading.Event(), threading.Event()
    wait, ring = alarm.wait, alarm.ring

    def wait_a_moment_later(timeout=None):
        about_to_wait.set()
        assert may_wait.wait(SECONDS)
        wait(timeout)

    def ring_before_a_call_ends():
        assert ring()
        http.post(CHAT, json=chat_body())
        may_wait.set()
        return True

    alarm.wait = wait_a_moment_later
    assert capture.recorder.flush(SECONDS)
    assert about_to_wait.wait(SECONDS)
    alarm.ring = ring_before_a_call_ends
    assert capture.recorder.flush(SECONDS)
    assert len(capture.delivered) == 2


def test_replies_that_real_sdks_read_are_noted_whole_and_streamed(capture_with, provider):
    capture = capture_with()
    asked = [{"role": "user", "content": "hello"}]
    with openai.OpenAI(base_url=f"{provider.url}/v1", api_key=KEY) as client:
        chat, model = client.chat.completions, "gpt-4o-mini"
        chat.create(model=model, messages=asked)
        list(chat.create(model=model, messages=asked, stream=True, stream_options={"include_usage": True}))
        client.responses.create(model=model, input="hello")
        list(client.responses.create(model=model, input="hello", stream=True))
        client.embeddings.create(model="text-embedding-3-small", input="hello")
    with anthropic.Anthropic(base_url=provider.url, api_key=KEY) as client:
        message = {"model": "claude-haiku-4-5", "max_tokens": 9, "messages": asked}
        client.messages.create(**message)
        with client.messages.stream(**message) as stream:
            stream.get_final_text()
    assert len(capture.recorder._outlet.ended) == 7
    assert len(capture.records()) == 7

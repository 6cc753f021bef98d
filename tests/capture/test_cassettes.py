"""Tests of an app that replay recorded traffic (vcrpy) run as before with capture on, in either direction."""

from __future__ import annotations

import pytest
import requests
import vcr
from opentelemetry.instrumentation.httpx import HTTPX2ClientInstrumentor, HTTPXClientInstrumentor

from otel_llmlog.capture import patch
from tests.capture.clients import CHAT, USAGE, chat_body

# Whatever a recording could hold of us.
STRICT = ["method", "scheme", "host", "port", "path", "query", "headers", "body"]


@pytest.fixture
def recorder(tmp_path):
    return vcr.VCR(cassette_library_dir=str(tmp_path), match_on=STRICT)


@pytest.fixture(params=[False, True], ids=["alone", "beside the HTTP instrumentation"])
def beside(request, capture):
    instrumentors = [HTTPXClientInstrumentor(), HTTPX2ClientInstrumentor()] if request.param else []
    for instrumentor in instrumentors:
        instrumentor.instrument(tracer_provider=capture.tracer_provider)
    yield
    for instrumentor in instrumentors:
        instrumentor.uninstrument()


async def test_what_was_recorded_without_capture_is_replayed_with_it(capture, http, provider, recorder, beside):
    patch.remove()
    with recorder.use_cassette("recorded.yaml"):
        recorded = [(await http.post()).content, await http.read(await http.open(streamed()))]
    capture.install()
    provider.clear()
    with recorder.use_cassette("recorded.yaml", record_mode="none") as cassette:
        replayed = [(await http.post()).content, await http.read(await http.open(streamed()))]
    assert replayed == recorded
    assert cassette.all_played
    assert not provider.requests
    assert [payload.prompt_tokens for payload in capture.payloads()] == [11, 11]


async def test_what_was_recorded_with_capture_is_replayed_without_it(capture, http, recorder, beside):
    with recorder.use_cassette("recorded.yaml"):
        recorded = (await http.post()).content
    patch.remove()
    with recorder.use_cassette("recorded.yaml", record_mode="none") as cassette:
        assert (await http.post()).content == recorded
    assert cassette.all_played


def test_recordings_of_requests_are_replayed(capture, provider, recorder):
    def ask():
        with requests.post(provider.url + CHAT, json=streamed(), stream=True, timeout=20) as answer:
            return b"".join(answer.iter_content(7))

    with recorder.use_cassette("recorded.yaml"):
        recorded = ask()
    with recorder.use_cassette("recorded.yaml", record_mode="none"):
        assert ask() == recorded
    assert len(capture.payloads()) == 2


def streamed():
    return chat_body(stream=True, stream_options=USAGE)

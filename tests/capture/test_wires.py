"""Calls on all other wires end in the right payload: plain, streamed in each framing, broken off, refused."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from otel_llmlog.demo.provider import LocalProvider
from otel_llmlog.payload import CallPayload
from tests.capture.clients import said
from tests.capture.conftest import Capture
from tests.wires import ROUTES

USED = {"x-usage": "input=120 output=40 cached=64 reasoning=10"}
GEMINI, COHERE, OLLAMA = "/v1beta/models/gemini-2.5-flash", "/v2/chat", "/api/chat"
CONTENTS = {"contents": [{"role": "user", "parts": [{"text": "hello"}]}]}
CLAUDE = "/v1/projects/p/locations/l/publishers/anthropic/models/claude-sonnet-4-5"
CLAUDE_BODY = {"anthropic_version": "vertex-2023-10-16", "max_tokens": 9, "messages": said("hello")}
COHERE_BODY = {"model": "command-a-03-2025", "messages": said("hello")}
OLLAMA_BODY = {"model": "llama3.1", "messages": said("hello")}

# What is called, with which body, and what its usage is.
PLAIN: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "gemini": (f"{GEMINI}:generateContent", CONTENTS, {"cache_read_tokens": 64, "reasoning_tokens": 10}),
    "claude on vertex": (f"{CLAUDE}:rawPredict", CLAUDE_BODY, {"cache_read_tokens": 64}),
    "mistral fim": ("/v1/fim/completions", {"model": "codestral-latest", "prompt": "a"}, {"cache_read_tokens": 64}),
    "cohere": (COHERE, COHERE_BODY, {"cache_read_tokens": 64}),
    "ollama": (OLLAMA, {**OLLAMA_BODY, "stream": False}, {}),
}
STREAMS: dict[str, tuple[str, dict[str, Any], dict[str, str], dict[str, Any]]] = {
    "gemini events": (f"{GEMINI}:streamGenerateContent?alt=sse", CONTENTS, {}, {"reasoning_tokens": 10}),
    "gemini array": (f"{GEMINI}:streamGenerateContent", CONTENTS, {"x-framing": "array"}, {"reasoning_tokens": 10}),
    "claude on vertex": (f"{CLAUDE}:streamRawPredict", {**CLAUDE_BODY, "stream": True}, {}, {"cache_read_tokens": 64}),
    "mistral fim": (
        "/v1/fim/completions",
        {"model": "m", "prompt": "a", "stream": True},
        {},
        {"cache_read_tokens": 64},
    ),
    "cohere": (COHERE, {**COHERE_BODY, "stream": True}, {}, {"cache_read_tokens": 64}),
    # It streams unless it is told not to.
    "ollama": (OLLAMA, OLLAMA_BODY, {}, {}),
}


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with LocalProvider(routes=ROUTES) as running:
        yield running.url


def post(url: str, path: str, body: Any, headers: dict[str, str]) -> httpx.Response:
    with httpx.Client(base_url=url) as client:
        return client.post(path, json=body, headers=headers)


def read(url: str, path: str, body: Any, headers: dict[str, str]) -> bytes:
    """Sent as a stream is: the reply is read as it comes."""
    with httpx.Client(base_url=url) as client, client.stream("POST", path, json=body, headers=headers) as response:
        return response.read()


def said_of(payload: CallPayload) -> str:
    """All that a payload says but the request's own headers, which ask for the scenario here."""
    metadata = payload.metadata.model_copy(update={"requester_custom_headers": {}})
    return payload.model_copy(update={"metadata": metadata}).model_dump_json()


def counted(payload: CallPayload) -> tuple[int, int]:
    return payload.prompt_tokens, payload.completion_tokens


@pytest.mark.parametrize("name", PLAIN)
def test_a_plain_call_has_its_usage_and_its_time(capture: Capture, url: str, name: str) -> None:
    path, body, used = PLAIN[name]
    post(url, path, body, USED)
    payload = capture.one()
    assert (payload.status, payload.stream, payload.notes) == ("success", False, [])
    assert counted(payload) == (120, 40)
    assert used.items() <= payload.usage.model_dump().items()
    assert payload.completionStartTime is None


@pytest.mark.parametrize("shape", [{}, {"x-chunk-bytes": "7"}, {"x-encoding": "gzip"}], ids=str)
@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_has_its_usage_and_its_first_token_however_it_is_framed_and_cut_up(
    capture: Capture, url: str, name: str, shape: dict[str, str]
) -> None:
    path, body, headers, used = STREAMS[name]
    read(url, path, body, {**USED, **headers, **shape})
    payload = capture.one()
    assert (payload.status, payload.stream, payload.notes) == ("success", True, [])
    assert counted(payload) == (120, 40)
    assert used.items() <= payload.usage.model_dump().items()
    assert payload.completionStartTime is not None
    assert payload.finish_reasons != []


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_that_breaks_off_is_a_failure_and_counts_no_more_than_was_told(
    capture: Capture, url: str, name: str
) -> None:
    path, body, headers, _ = STREAMS[name]
    with pytest.raises(httpx.RemoteProtocolError):
        read(url, path, body, {**USED, **headers, "x-scenario": "cut after=3"})
    payload = capture.one()
    assert (payload.status, payload.stream) == ("failure", True)
    assert payload.error_information is not None
    assert payload.error_information.error_class == "RemoteProtocolError"
    assert payload.prompt_tokens <= 120
    assert payload.completion_tokens <= 40


@pytest.mark.parametrize("name", STREAMS)
def test_an_error_within_a_stream_is_a_failure(capture: Capture, url: str, name: str) -> None:
    path, body, headers, _ = STREAMS[name]
    scenario = 'error_in_stream status=503 type=odd_type message="ein kanarienvogel singt"'
    sent = {**body, "stream": True} if name == "ollama" else body
    read(url, path, sent, {**USED, **headers, "x-scenario": scenario})
    payload = capture.one()
    assert (payload.status, payload.error_information.error_class) == ("failure", "APIError")  # type: ignore[union-attr]
    assert "kanarienvogel" not in said_of(payload)


@pytest.mark.parametrize(
    ("status", "error_class"), [(400, "BadRequestError"), (429, "RateLimitError"), (503, "ServiceUnavailableError")]
)
@pytest.mark.parametrize("calls", ["plain", "stream"])
def test_a_refused_call_is_a_failure_with_the_providers_word_for_it(
    capture: Capture, url: str, status: int, error_class: str, calls: str
) -> None:
    words = {"gemini": {400: " invalid_argument", 429: " resource_exhausted", 503: " unavailable"}[status]}
    asked = [(n, p, b) for n, (p, b, *_) in (PLAIN if calls == "plain" else STREAMS).items()]
    for name, path, body in asked:
        post(url, path, body, {"x-scenario": f'error status={status} message="ein kanarienvogel singt"'})
        payload = capture.one()
        assert (payload.status, payload.error_information.error_class) == ("failure", error_class)  # type: ignore[union-attr]
        assert payload.error_str is not None
        assert payload.error_str.startswith(f"HTTP {status}{words.get(name.split()[0], '')}")
        assert "kanarienvogel" not in said_of(payload)
        capture.clear()


def test_what_is_counted_for_free_leaves_no_record(capture: Capture, url: str) -> None:
    assert post(url, f"{GEMINI}:countTokens", CONTENTS, {}).status_code == 200
    counting = {**CLAUDE_BODY, "model": "claude-sonnet-4-5"}
    assert post(url, CLAUDE.rpartition("/")[0] + "/count-tokens:rawPredict", counting, {}).status_code == 200
    assert capture.payloads() == []


@pytest.mark.parametrize(
    ("path", "body", "used"),
    [
        (f"{GEMINI}:embedContent", {"content": {"parts": [{"text": "a"}]}}, {"input_tokens": 120}),
        (
            f"{GEMINI}:batchEmbedContents",
            {"requests": [{"content": {"parts": [{"text": "a"}]}}]},
            {"input_tokens": 120},
        ),
        ("/v2/embed", {"model": "embed-v4.0", "texts": ["a"]}, {"input_tokens": 120}),
        ("/v2/rerank", {"model": "rerank-v3.5", "query": "q", "documents": ["a"]}, {"search_units": 1}),
        ("/api/embed", {"model": "m", "input": "a"}, {"input_tokens": 120}),
        ("/v1/ocr", {"model": "mistral-ocr-latest", "document": {"type": "document_url"}}, {"pages": 3}),
    ],
)
def test_embeddings_reranking_and_ocr_have_what_they_are_billed_by(
    capture: Capture, url: str, path: str, body: dict[str, Any], used: dict[str, int]
) -> None:
    post(url, path, body, USED)
    payload = capture.one()
    assert (payload.status, payload.notes) == ("success", [])
    assert used.items() <= payload.usage.model_dump().items()


def test_the_tier_that_served_a_gemini_call_is_read_from_its_header(capture: Capture, url: str) -> None:
    post(url, f"{GEMINI}:generateContent", CONTENTS, {"x-service-tier": "flex"})
    assert capture.one().usage.service_tier == "flex"


def test_a_key_of_google_is_hashed_where_it_is_read(capture: Capture, url: str) -> None:
    post(url, f"{GEMINI}:generateContent", CONTENTS, {"x-goog-api-key": "AIzaSyCanary0123456789"})
    payload = capture.one()
    assert payload.metadata.user_api_key_hash is not None
    assert "AIzaSyCanary" not in payload.model_dump_json()


def test_mistral_is_not_asked_for_what_it_would_refuse(capture_with: Any, url: str, monkeypatch: Any) -> None:
    monkeypatch.setenv("LLMLOG_INJECT_STREAM_USAGE", "true")
    capture = capture_with()
    body = {"model": "mistral-large-latest", "messages": said("hello"), "stream": True}
    agent = "speakeasy-sdk/python 3.7.0 2.935.1 1.0.0 mistralai"
    with httpx.Client(base_url=url, headers={**USED, "user-agent": agent}) as client:
        asked = client.post("/mistral/v1/chat/completions", json=body).request
    assert b"stream_options" not in asked.content
    payload = capture.one()
    assert (payload.custom_llm_provider, *counted(payload)) == ("mistral", 120, 40)

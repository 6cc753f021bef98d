"""Whatever bytes a provider sends, the app gets them, and there is one payload that says what was wrong with them."""

from __future__ import annotations

import base64
import gzip
import json

import brotli
import httpx
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings, strategies as st

from otel_llmlog.capture import patch
from otel_llmlog.dialects import llmlog
from tests.capture.clients import USAGE, Http, anthropic_client, chat_body, openai_client, said

PATHS = ["/v1/chat/completions", "/v1/completions", "/v1/responses", "/v1/embeddings", "/v1/messages"]
REQUEST = {"model": "gpt-4o-mini", "messages": [], "prompt": "x", "input": "x"}
VERSION = {"anthropic-version": "2023-06-01"}

# --- bytes made up

WORDS = st.sampled_from([
    "id", "model", "choices", "index", "delta", "message", "content", "text", "role", "tool_calls", "function",
    "name", "arguments", "finish_reason", "usage", "prompt_tokens", "completion_tokens", "input_tokens",
    "output_tokens", "total_tokens", "prompt_tokens_details", "cached_tokens", "cache_read_input_tokens",
    "cache_creation", "cost", "ephemeral_1h_input_tokens", "service_tier", "error", "code", "type", "status",
    "response", "output", "input", "content_block", "partial_json", "stop_reason", "x_groq",
    "incomplete_details", "reason", "cost_in_usd_ticks", "content_block_delta", "content_block_start",
    "message_start", "message_delta", "message_stop", "citation", "response.completed",
    "response.output_text.delta", "server_tool_use", "completed", "failed", "thinking",
])  # fmt: skip
NUMBERS = st.sampled_from(
    [0, 1, -1, 7, 1.5, -0.0, 1e300, 10**12, 10**13, 2**63, 10**40, float("nan"), float("inf"), float("-inf")]
)
SCALARS = st.none() | st.booleans() | NUMBERS | st.integers() | st.text(max_size=8) | WORDS
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=5),
    max_leaves=15,
)
OBJECTS = st.dictionaries(WORDS, VALUES, max_size=8)


def as_json(value):
    # Lone surrogates and NaN are written as providers do it: escaped, and bare.
    return json.dumps(value).encode()


BROKEN = st.binary(max_size=60) | st.sampled_from(
    [b"\0", b"\xff\xfe", b"\xef\xbb\xbf{}", b'{"a":', b'"\\ud800"', b"[" * 9999, b'{"a":' * 9999, b"9" * 9999, b"null"]
)
BODIES = (
    OBJECTS.map(as_json)
    | VALUES.map(as_json)
    | BROKEN
    | st.tuples(OBJECTS.map(as_json), st.integers(0, 80)).map(lambda cut: cut[0][: cut[1]])
    | st.tuples(OBJECTS.map(as_json), BROKEN).map(b"".join)
)
EVENTS = st.builds(
    lambda name, body, end: (b"event: " + name.encode() + b"\n" if name else b"") + b"data: " + body + end,
    st.none() | WORDS,
    BODIES | st.just(b"[DONE]"),
    st.sampled_from([b"\n\n", b"\r\n\r\n", b"\r\r", b"\n", b""]),
)
STREAMS = st.lists(EVENTS | BROKEN, max_size=6)


def assert_whole(capture):
    """One payload, which can be written down and read back, and no failure of ours on the way."""
    (record,) = capture.records()
    payload = record.payload
    assert llmlog.decode(llmlog.encode(payload)) == payload
    assert llmlog.encode(payload) == record.attributes
    json.dumps(record.attributes, allow_nan=False).encode()
    assert not [name for name in capture.stats.snapshot() if name.startswith(("error.", "dropped."))]
    if payload.status == "failure":
        assert payload.error_information.error_class
        assert payload.error_str
    return payload


def answering(pieces, kind, status=200):
    class Stream(httpx.SyncByteStream):
        def __iter__(self):
            yield from pieces

    return httpx.MockTransport(lambda request: httpx.Response(status, headers={"content-type": kind}, stream=Stream()))


@pytest.fixture(params=[False, True], ids=["content-off", "content-on"])
def strict(request, capture_with):
    return capture_with(store_prompts_in_spend_logs=request.param, max_string_length_prompt_in_db=64)


FUZZ = settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@FUZZ
@given(
    path=st.sampled_from(PATHS),
    pieces=STREAMS | BODIES.map(lambda body: [body]),
    kind=st.sampled_from(["application/json", "text/event-stream", "text/html", ""]),
    status=st.sampled_from([200, 200, 200, 200, 204, 302, 400, 429, 500, 599]),
    stream=st.booleans(),
)
def test_any_reply_is_one_payload_and_reaches_the_app(strict, path, pieces, kind, status, stream):
    strict.clear()
    with httpx.Client(transport=answering(pieces, kind, status), base_url="http://in.process") as client:
        request = client.build_request("POST", path, json={**REQUEST, "stream": stream}, headers=VERSION)
        response = client.send(request, stream=stream)
        assert response.read() == b"".join(pieces)
    assert_whole(strict)


@FUZZ
@given(path=st.sampled_from(PATHS), body=BODIES | OBJECTS.map(lambda given: as_json({**REQUEST, **given})))
def test_any_request_is_one_payload_and_goes_out(strict, path, body):
    strict.clear()
    # What tells an LLM call is there; the rest is made up.
    body += b'"messages" "prompt" "input" "model"'
    sent = []

    def answer(request):
        sent.append(request.content)
        return httpx.Response(200, json={"usage": {"prompt_tokens": 1, "input_tokens": 1}})

    with httpx.Client(transport=httpx.MockTransport(answer), base_url="http://in.process") as client:
        client.post(path, content=body, headers=VERSION)
    assert sent == [body]
    assert assert_whole(strict).prompt_tokens == 1


@FUZZ
@given(
    st.dictionaries(
        st.sampled_from(
            [
                "content-encoding",
                "x-litellm-response-cost",
                "x-litellm-call-id",
                "x-ratelimit-limit-requests",
                "x-litellm-model-id",
                "content-type",
                "x-litellm-model-group",
            ]
        ),
        st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=20)
        | st.sampled_from(["gzip", "br", "zstd, gzip", "1e-999999999", "1e999999999", "nan", "-1", "sNaN", "9" * 99]),
    )
)
def test_any_header_of_a_reply_is_one_payload(strict, given_headers):
    strict.clear()
    headers = [(name.encode(), value.encode("latin-1")) for name, value in given_headers.items()]
    transport = httpx.MockTransport(lambda request: httpx.Response(200, headers=headers, stream=Raw(b'{"id": "x"}')))
    with httpx.Client(transport=transport, base_url="http://in.process") as client:
        response = client.send(client.build_request("POST", PATHS[0], json=REQUEST), stream=True)
        assert b"".join(response.iter_raw()) == b'{"id": "x"}'
    payload = assert_whole(strict)
    assert len(payload.model_dump_json()) < 10_000


class Raw(httpx.SyncByteStream):
    def __init__(self, *pieces):
        self._pieces = pieces

    def __iter__(self):
        yield from self._pieces


# --- bytes on the wire


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize(
    "scenario",
    ["nul", "surrogate", "invalid_json", "not_json", "empty", "nest depth=10000"]
    + [f"nan field=all value={value}" for value in ("nan", "inf", "-inf", "negative", "huge", "bigint", "string")]
    + [f"nan field=all value={value}" for value in ("float", "bool", "null", "list", "digits")],
)
async def test_a_broken_reply_on_the_wire_is_one_payload(strict, http, scenario, stream):
    for path in ("/v1/chat/completions", "/v1/responses", "/v1/messages"):
        strict.clear()
        body = {**REQUEST, "stream": stream, "stream_options": USAGE, "messages": said("x")}
        headers = {**VERSION, "x-scenario": scenario}
        request = http.request(body, path=path, headers=headers)
        await http.read(await http.send(request, stream=stream))
        payload = assert_whole(strict)
        assert 0 <= payload.total_tokens <= 10**12
        if payload.status == "failure" or scenario.startswith("nan"):
            assert payload.notes or payload.error_str or payload.usage.source


async def test_usage_behind_a_deep_nest_is_still_found(strict, http):
    await http.post(chat_body("[scenario: nest depth=10000]"))
    payload = assert_whole(strict)
    assert (payload.prompt_tokens, payload.completion_tokens) == (11, 7)
    assert payload.spend is not None
    assert payload.notes == ["response: the body is no readable JSON: read in part"]


async def test_raw_bytes_on_the_wire_are_one_payload_each(strict, http):
    for raw in (b"\0", b"\xff" * 99, b"[" * 9999, b'{"usage": {"prompt_tokens": 5', b"data: {\n\ndata: [DONE]\n\n"):
        for kind in ("application/json", "text/event-stream"):
            strict.clear()
            headers = {
                "x-scenario": "raw",
                "x-raw-body": base64.b64encode(raw).decode(),
                "x-raw-content-type": kind,
            }
            assert (await http.post(headers=headers)).content == raw
            assert_whole(strict)


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
def test_a_reply_of_50_mb_is_one_payload_with_its_usage(strict, provider, stream):
    client = Http(httpx, False, provider.url).client
    body = chat_body("[scenario: huge bytes=50000000]", stream=stream, stream_options=USAGE)
    size = 0
    with client.stream("POST", PATHS[0], json=body) as response:
        for piece in response.iter_raw():
            size += len(piece)
    assert size > 50_000_000
    payload = assert_whole(strict)
    assert (payload.status, payload.prompt_tokens, payload.completion_tokens) == ("success", 11, 7)
    assert len(payload.model_dump_json()) < 10_000


def test_a_request_of_30_mb_is_one_payload(strict, provider):
    client = Http(httpx, False, provider.url).client
    client.post(PATHS[0], json=chat_body("x" * 30_000_000))
    payload = assert_whole(strict)
    assert (payload.model, payload.prompt_tokens) == ("gpt-4o-mini", 11)


@pytest.mark.parametrize(
    ("encoding", "pack"), [("gzip", gzip.compress), ("br", brotli.compress), ("zstd", zstandard.compress)]
)
def test_a_zip_bomb_is_one_payload_and_is_not_opened_whole(capture_with, encoding, pack):
    capture = capture_with(max_body_bytes=1 << 20)
    bomb = pack(bytes(32 << 20))
    transport = httpx.MockTransport(
        lambda request: httpx.Response(200, headers={"content-encoding": encoding}, stream=Raw(bomb))
    )
    with httpx.Client(transport=transport, base_url="http://in.process") as client:
        response = client.send(client.build_request("POST", PATHS[0], json=REQUEST), stream=True)
        # An app that looks at the raw bytes only never opens it.
        assert b"".join(response.iter_raw()) == bomb
    payload = assert_whole(capture)
    assert "response: the body is larger than LLMLOG_MAX_BODY_BYTES: read up to there" in payload.notes


@pytest.mark.parametrize("parameter", ["max_tokens", "seed", "n", "temperature", "top_k"])
def test_a_number_too_big_for_an_attribute_costs_no_span(capture, provider, parameter):
    client = Http(httpx, False, provider.url).client
    client.post(PATHS[0], json=chat_body(**{parameter: 10**30}))
    (span,) = capture.spans()
    # An OTLP integer has 64 bits: one that does not fit would fail the whole batch of spans.
    assert all(abs(value) < 2**63 for value in span.attributes.values() if isinstance(value, int))
    assert capture.one().model_parameters[parameter] == 10**30


def test_an_sdk_raises_its_own_error_on_a_broken_reply(capture, provider):
    patch.remove()
    for install in (lambda: None, capture.install):
        install()
        with pytest.raises(Exception, match=r"JSON|decode|column") as first:
            openai_client(provider.url).chat.completions.create(
                model="gpt-4o", messages=said("[scenario: invalid_json]")
            )
        with pytest.raises(Exception, match=r"JSON|decode|column|body") as second:
            anthropic_client(provider.url).messages.create(
                model="claude-haiku-4-5", max_tokens=9, messages=said("[scenario: invalid_json]")
            )
        seen = (first.type, second.type)
    assert [payload.error_information.error_class for payload in capture.payloads()] == ["InvalidResponse"] * 2
    assert seen

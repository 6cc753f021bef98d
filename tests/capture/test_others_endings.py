"""aiohttp, requests and botocore: one request, one payload, however the call ends; and once, however they are stacked."""

from __future__ import annotations

import asyncio
import io
import socket
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
import requests
from opentelemetry.instrumentation.utils import suppress_instrumentation

import otel_llmlog
from otel_llmlog import redact
from tests.capture.clients import CHAT, KEY, USAGE, chat_body
from tests.capture.others import OTHERS, Aiohttp, Requests
from tests.capture.test_endings import outcome

STREAM = chat_body(stream=True, stream_options=USAGE)
each = pytest.mark.parametrize("client", OTHERS, indirect=True, ids=lambda other: other.name)


def streaming(scenario):
    return chat_body(f"[scenario: {scenario}]", stream=True, stream_options=USAGE)


@pytest.fixture
async def client(request, provider):
    made = request.param(provider.url, timeout=1.0)
    yield made
    await made.end()


@each
async def test_a_plain_reply_is_a_success_of_its_caller(capture, client, provider):
    with otel_llmlog.context(session_id="s-1", user="ada"):
        headers = {"authorization": f"Bearer {KEY}"}
        await client.read(await client.post(chat_body("[scenario: plain id=x-1]"), headers=headers))
    payload = capture.one()
    assert outcome(payload) == ("success", None, None, (11, 7), False)
    assert (payload.id, payload.session_id, payload.api_base) == ("x-1", "s-1", f"{provider.url}/v1")
    assert payload.metadata.user_api_key_hash == redact.key_hash(KEY)
    assert payload.call_type == ("acompletion" if client.is_async else "completion")
    assert payload.spend is not None
    assert [span.name for span in capture.spans()] == ["chat gpt-4o-mini"]


@pytest.mark.parametrize(
    ("client", "way"),
    [pytest.param(o, way, id=f"{o.name}-{way}") for o in OTHERS for way in o.ways],
    indirect=["client"],
)
async def test_a_stream_read_fully_is_a_success_with_its_first_token(capture, client, way):
    for headers in ({}, {"x-encoding": "gzip"}):
        response = await client.post(STREAM, headers=headers, stream=True)
        seen = [piece async for piece in client.pieces(response, way)]
        assert seen
        await client.close(response)
        assert outcome(capture.one()) == ("success", None, None, (11, 7), True)
        capture.clear()


@each
async def test_a_stream_closed_early_is_a_failure_that_keeps_what_had_come(capture, client):
    response = await client.post(streaming("stall after=3 seconds=30"), stream=True)
    pieces = client.pieces(response, client.ways[0])
    seen = b""
    while seen.count(b"chatcmpl") < 2:
        seen += await anext(pieces)
    await pieces.aclose()
    await client.close(response)
    payload = capture.one()
    assert outcome(payload)[:3] == ("failure", "StreamClosed", None)
    assert payload.response_model == "gpt-4o-mini"


@each
@pytest.mark.parametrize("read", [False, True], ids=["unread", "half-read"])
async def test_a_stream_dropped_and_collected_is_a_failure(capture, client, provider, collect, read):
    # aiohttp itself keeps a response until its connection has the end of it.
    response = await client.post(streaming("stall after=3 seconds=0.2" if client.is_async else "plain"), stream=True)
    if read:
        pieces = client.pieces(response, client.ways[0])
        await anext(pieces)
        await pieces.aclose()
        del pieces
    assert capture.payloads() == []
    del response
    provider.wait_ended()
    for _ in range(5):
        await asyncio.sleep(0.01)  # until the loop has passed the end on
        await collect()
    assert outcome(capture.one())[:2] == ("failure", "StreamAbandoned")


@each
async def test_a_timeout_mid_stream_and_one_before_the_headers_are_failures(capture, client):
    client.timeout = 0.2
    other = type(client)(client.url, timeout=0.2)
    response = await other.post(streaming("stall after=2 seconds=30"), stream=True)
    with pytest.raises(Exception, match=r"(?i)time"):
        _ = [piece async for piece in other.pieces(response, other.ways[0])]
    await other.close(response)
    with pytest.raises(Exception, match=r"(?i)time"):
        await other.post(streaming("slow seconds=30"), stream=True)
    await other.end()
    payloads = capture.payloads()
    assert [payload.status for payload in payloads] == ["failure", "failure"]
    assert all("Timeout" in payload.error_information.error_class for payload in payloads)


@each
async def test_a_refused_connection_is_a_failure(capture, client):
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        client.url = f"http://127.0.0.1:{bound.getsockname()[1]}"
        with pytest.raises(Exception, match=r"(?i)connect"):
            await client.post()
    payload = capture.one()
    assert (payload.status, payload.spend) == ("failure", None)
    assert "Connect" in payload.error_information.error_class


@each
@pytest.mark.parametrize(
    ("scenario", "error"),
    [
        ("error status=429 type=rate_limit_error", ("RateLimitError", "429")),
        ("error status=503", ("ServiceUnavailableError", "503")),
        ("invalid_json", ("InvalidResponse", None)),
        ("empty", ("InvalidResponse", None)),
    ],
)
async def test_an_error_reply_and_a_body_that_cannot_be_read_are_failures(capture, client, scenario, error):
    await client.read(await client.post(chat_body(f"[scenario: {scenario}]")))
    assert outcome(capture.one())[:3] == ("failure", *error)


@each
@pytest.mark.parametrize(
    ("scenario", "error"),
    [
        ("no_terminator keep=3", "StreamIncomplete"),
        ("error_in_stream", "APIError"),
        ("error status=500", "InternalServerError"),
    ],
)
async def test_a_stream_without_its_end_or_with_an_error_is_a_failure(capture, client, scenario, error):
    response = await client.post(streaming(scenario), stream=True)
    await client.read(response)
    await client.close(response)
    assert outcome(capture.one())[:2] == ("failure", error)


@pytest.mark.parametrize("when", ["before-headers", "mid-stream"])
async def test_a_cancelled_task_is_a_failure(capture, provider, when):
    client = Aiohttp(provider.url)
    reached = asyncio.Event()

    async def call():
        if when == "before-headers":
            reached.set()
            await client.post(streaming("slow seconds=30"))
        async with await client.post(streaming("stall after=2 seconds=30"), stream=True) as response:
            await response.content.readany()
            reached.set()
            while True:
                await response.content.readany()

    task = asyncio.create_task(call())
    await reached.wait()
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await client.end()
    assert outcome(capture.one())[:2] == ("failure", "CancelledError")


async def test_a_stream_read_on_after_a_read_that_timed_out_is_a_success(capture, provider):
    client = Aiohttp(provider.url)
    response = await client.post(streaming("stall after=2 seconds=0.3"), stream=True)
    timeouts = 0
    while not response.content.at_eof():
        try:
            await asyncio.wait_for(response.content.readany(), 0.05)
        except TimeoutError:
            timeouts += 1
    await client.end()
    assert timeouts
    assert outcome(capture.one()) == ("success", None, None, (11, 7), True)


async def test_a_status_that_the_session_itself_raises_is_the_replys(capture, provider):
    client = Aiohttp(provider.url)
    with pytest.raises(Exception, match="429"):
        await client.session.post(
            provider.url + CHAT, json=chat_body("[scenario: error status=429]"), raise_for_status=True
        )
    await client.end()
    assert outcome(capture.one())[:3] == ("failure", "RateLimitError", "429")


async def test_aiohttp_sends_a_body_of_any_kind_and_a_base_url_is_known(capture, provider):
    import aiohttp

    body = b'{"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "x"}]}'
    headers = {"content-type": "application/json"}
    async with aiohttp.ClientSession(provider.url, headers=headers) as session:
        for data in (body, body.decode(), bytearray(body), aiohttp.BytesPayload(body)):
            async with session.post(CHAT, data=data) as response:
                assert response.status == 200
                await response.json()
    assert [p.prompt_tokens for p in capture.payloads()] == [11] * 4
    assert {p.api_base for p in capture.payloads()} == {f"{provider.url}/v1"}


class _Redirecting(BaseHTTPRequestHandler):
    to = ""

    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(307)
        self.send_header("location", self.to)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.mark.parametrize("client", [Requests, Aiohttp], indirect=True, ids=["requests", "aiohttp"])
@pytest.mark.parametrize("stream", [False, True])
async def test_redirects_are_one_call(capture, client, provider, stream):
    server = HTTPServer(("127.0.0.1", 0), type("_", (_Redirecting,), {"to": provider.url + CHAT}))
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    client.url = f"http://127.0.0.1:{server.server_port}"
    response = await client.post(STREAM if stream else chat_body(), stream=stream)
    assert b"chatcmpl" in await client.read(response)
    server.shutdown()
    server.server_close()
    assert outcome(capture.one())[:4] == ("success", None, None, (11, 7))


def test_a_call_inside_a_hook_of_a_call_is_its_own(capture, provider):
    def hook(response, *_, **__):
        if response.request.path_url == CHAT:
            session.post(f"{provider.url}/v1/embeddings", json={"model": "m", "input": "x"})

    session = requests.Session()
    session.trust_env = False
    session.hooks["response"].append(hook)
    session.post(provider.url + CHAT, json=chat_body())
    assert sorted(payload.operation for payload in capture.payloads()) == ["chat", "embeddings"]


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
async def test_httpx_over_aiohttp_is_counted_once(capture, provider, stream):
    from httpx_aiohttp import HttpxAiohttpClient

    async with HttpxAiohttpClient() as http:
        for path in (CHAT, "/openai/deployments/a%3Ab%2Fc%20d/chat/completions?api-version=1"):
            async with http.stream("POST", provider.url + path, json=STREAM if stream else chat_body()) as response:
                await response.aread()
    assert [p.prompt_tokens for p in capture.payloads()] == [11, 11]
    assert len(capture.spans()) == 2


@each
async def test_other_requests_pass_untouched(capture, client, provider):
    response = await client.post({"no": "call"}, path="/elsewhere", stream=True)
    content = response.content if client.is_async else response.raw
    assert type(content).__module__.startswith(("aiohttp", "urllib3"))
    assert not hasattr(content, "llmlog_call")
    assert not hasattr(content, "_call")
    await client.read(response)
    assert (capture.payloads(), capture.spans()) == ([], [])


@each
async def test_suppressed_instrumentation_leaves_out_the_span_and_keeps_the_row(capture, client):
    with suppress_instrumentation():
        await client.read(await client.post())
    assert (len(capture.payloads()), capture.spans()) == (1, [])


@each
async def test_a_failure_of_ours_lets_the_call_through(capture, client, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("ours")

    for place in ("recorder.recognise", "sending.Url"):
        monkeypatch.setattr(f"otel_llmlog.capture.{place}", broken)
        assert client.status(await client.post()) == 200
        monkeypatch.undo()
    assert capture.payloads() == []


class _InMemory(requests.adapters.BaseAdapter):
    """An adapter that does not use urllib3, as those of test libraries and of file:// are."""

    def send(self, request, **_):
        response = requests.Response()
        response.status_code, response.request, response.url = 200, request, request.url
        response.raw = io.BytesIO(b'{"id": "x", "usage": {"prompt_tokens": 3, "completion_tokens": 2}}')
        return response

    def close(self):
        pass


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
def test_a_reply_of_another_adapter_is_read_where_it_is_plain_and_passed_on_where_it_is_not(capture, stream):
    session = requests.Session()
    session.mount("memory://", _InMemory())
    response = session.post(f"memory://in.process{CHAT}", json=chat_body(), stream=stream)
    assert response.json()["id"] == "x"
    payload = capture.one()
    assert (payload.status, payload.prompt_tokens) == ("success", 0 if stream else 3)
    assert any("a kind that is not known" in note for note in payload.notes) == stream

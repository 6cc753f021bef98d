"""The wrap: in any order, under subclasses and other transports, on LLM calls alone, once a call, and undone."""

from __future__ import annotations

import subprocess
import sys

import aiohttp
import httpx
import httpx2
import pytest
import requests
from botocore.httpsession import URLLib3Session
from opentelemetry import context as otel_context

from otel_llmlog.capture import patch
from tests.capture.clients import CHAT, Http, anthropic_client, chat_body, openai_client, said

REPLY = {"id": "x", "model": "m", "choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}}

INSTALLED_FIRST = """
import sys
from otel_llmlog import config, emit
from otel_llmlog.capture import patch
from otel_llmlog.capture.counting import TokenCounter
from otel_llmlog.capture.reading import Reader
from otel_llmlog.capture.recorder import Recorder
from otel_llmlog.pricing import Pricer
from otel_llmlog.stats import Stats
from tests.capture.outlet import Outlet

settings, stats, found = config.load(), Stats(), []
reader = Reader(settings, Pricer(), TokenCounter(), stats)
deliver = lambda ids, start, end, attributes: found.append(attributes["llmlog.call_type"])
recorder = Recorder(settings.capture, reader, emit.tracer("0"), emit.Metrics("0"), Outlet(deliver), stats)
# Prices and tokens bring in the other two, with the imports above.
later = {"aiohttp", "botocore.httpsession", "httpx"}
assert not later & set(sys.modules), "this test is about an import that comes later"
patch.install(recorder, inject_usage=False)
assert {name for name, is_wrapped in patch.installed().items() if not is_wrapped} == later

import aiohttp, botocore.httpsession, httpx, httpx2, requests

assert set(patch.installed().values()) == {True}
for library in (httpx, httpx2):
    transport = library.MockTransport(lambda request: library.Response(200, json={}))
    body = {"model": "m", "messages": []}
    library.Client(transport=transport).post("http://in.process/v1/chat/completions", json=body)
assert recorder.flush(20)
print(found)
"""


def mock(library, reply=None, seen=None):
    def answer(request):
        if seen is not None:
            seen.append(request)
        return library.Response(200, json=reply or REPLY)

    return library.MockTransport(answer)


def test_libraries_imported_after_installing_are_wrapped_too():
    done = subprocess.run(
        [sys.executable, "-c", INSTALLED_FIRST], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.stdout, done.stderr) == ("['completion', 'completion']\n", "")


def test_removing_gives_all_libraries_the_very_functions_back(capture):
    patch.remove()
    doors = [(cls, "send") for library in (httpx, httpx2) for cls in (library.Client, library.AsyncClient)]
    doors += [(aiohttp.ClientSession, "_request"), (requests.Session, "send"), (URLLib3Session, "send")]
    own = {door: door[0].__dict__[door[1]] for door in doors}
    for _ in range(3):
        capture.install()
        assert all(cls.__dict__[name] is not function for (cls, name), function in own.items())
        assert set(patch.installed().values()) == {True}
        patch.remove()
        assert all(cls.__dict__[name] is function for (cls, name), function in own.items())
        assert set(patch.installed().values()) == {False}


def test_removing_leaves_a_wrap_that_somebody_put_over_ours(capture, monkeypatch):
    patch.remove()
    monkeypatch.setattr(httpx.Client, "send", httpx.Client.send)  # put back at the end, whatever is there then
    capture.install()
    ours, seen = httpx.Client.send, []

    def theirs(self, request, **options):
        seen.append(request.url.path)
        return ours(self, request, **options)

    httpx.Client.send = theirs
    patch.remove()
    client = httpx.Client(transport=mock(httpx), base_url="http://in.process")
    assert client.post(CHAT, json=chat_body()).json() == REPLY
    assert (seen, capture.payloads()) == ([CHAT], [])
    capture.install()
    client.post(CHAT, json=chat_body())
    assert len(capture.payloads()) == 1
    patch.remove()
    assert httpx.Client.send is theirs


async def test_installed_twice_a_call_is_recorded_once_and_by_the_newer(capture, capture_with, http):
    newer = capture_with()
    await http.post()
    assert (len(capture.payloads()), len(newer.payloads())) == (0, 1)


async def test_a_call_that_was_open_when_capture_was_removed_is_still_recorded(capture, http):
    response = await http.open()
    patch.remove()
    await http.read(response)
    await http.post()
    assert [payload.status for payload in capture.payloads()] == ["success"]


async def test_calls_of_subclassed_clients_are_recorded_once(capture, flavour):
    library, is_async = flavour

    class Mine(library.AsyncClient if is_async else library.Client):
        if is_async:

            async def send(self, request, **options):
                request.headers["x-mine"] = "1"
                return await super().send(request, **options)
        else:

            def send(self, request, **options):
                request.headers["x-mine"] = "1"
                return super().send(request, **options)

    http = Http(library, is_async, "http://in.process")
    http.client = Mine(transport=mock(library), base_url="http://in.process")
    await http.post()
    payload = capture.one()
    assert payload.metadata.requester_custom_headers == {"x-mine": "1"}
    assert payload.prompt_tokens == 3


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
async def test_calls_over_a_mock_transport_are_recorded(capture, flavour, stream):
    http = Http(*flavour, "http://in.process", transport=mock(flavour[0]))
    response = await (http.open() if stream else http.post())
    assert await http.read(response)
    payload = capture.one()
    assert (payload.status, payload.prompt_tokens, payload.api_base) == ("success", 3, "http://in.process/v1")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/messages/count_tokens", {"model": "m", "messages": []}),
        ("/v1/messages", {"messages": ["of a chat room"]}),
        ("/v1/images/generations", {"model": "m"}),
        ("/api/responses", {"form": 1}),
        ("/v1/chat/completions", {"no": "conversation"}),
        ("/v1/files", {"model": "m", "messages": []}),
        ("/", {"model": "m", "messages": []}),
        ("/v1/chat/completions/x", {"model": "m", "messages": []}),
    ],
)
async def test_a_request_that_is_no_llm_call_passes_untouched(capture, flavour, path, body):
    seen, contexts = [], []
    library, _ = flavour

    def answer(request):
        seen.append(request)
        contexts.append(otel_context.get_current())
        return library.Response(200, json=REPLY)

    http = Http(*flavour, "http://in.process", transport=library.MockTransport(answer))
    before = otel_context.get_current()
    request = http.request(body, path=path)
    response = await http.send(request, stream=True)
    assert seen == [request]
    assert contexts == [before]
    assert type(response.stream).__module__.startswith(library.__name__)
    await http.read(response)
    assert (capture.payloads(), capture.spans()) == ([], [])


@pytest.mark.parametrize("options", [{"content": "stream"}, {"files": {"file": b"x"}}, {"data": {"messages": "x"}}])
async def test_an_upload_passes_untouched(capture, http, options):
    async def pieces():
        yield b'{"messages": 1}'

    if options.get("content"):
        options = {"content": pieces() if http.is_async else iter([b'{"messages": 1}'])}
    await http.send(http.client.build_request("POST", CHAT, **options))
    assert (capture.payloads(), capture.spans()) == ([], [])


async def test_other_methods_pass_untouched(capture, http):
    for method in ("GET", "PUT", "DELETE"):
        await http.send(http.client.build_request(method, CHAT, json=chat_body()))
    assert (capture.payloads(), capture.spans()) == ([], [])


def test_retrieving_a_response_and_counting_tokens_leave_nothing(capture, provider):
    client = openai_client(provider.url)
    made = client.responses.create(model="gpt-4o", input="hello")
    assert capture.one().id == made.id
    assert client.responses.retrieve(made.id).id == made.id
    anthropic_client(provider.url).messages.count_tokens(model="claude-haiku-4-5", messages=said("hi"))
    assert len(capture.payloads()) == len(capture.spans()) == 1


def through(inner):
    """An httpx transport that sends each request on with a client of httpx2, and hands its stream through."""

    class Through(httpx.BaseTransport, httpx.AsyncBaseTransport):
        def handle_request(self, request):
            sent = inner.build_request(
                request.method, str(request.url), content=request.read(), headers=request.headers
            )
            reply = inner.send(sent, stream=True)
            return httpx.Response(reply.status_code, headers=reply.headers.raw, content=reply.iter_raw())

        async def handle_async_request(self, request):
            content = await request.aread()
            sent = inner.build_request(request.method, str(request.url), content=content, headers=request.headers)
            reply = await inner.send(sent, stream=True)
            return httpx.Response(reply.status_code, headers=reply.headers.raw, content=reply.aiter_raw())

    return Through()


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
async def test_a_client_stacked_on_another_is_counted_once(capture, provider, is_async, stream):
    inner = Http(httpx2, is_async, provider.url)
    outer = Http(httpx, is_async, provider.url, transport=through(inner.client))
    response = await (outer.open() if stream else outer.post())
    assert b"chatcmpl" in await outer.read(response)
    assert len(capture.payloads()) == len(capture.spans()) == 1
    # The mark that says so ends with the call.
    await inner.post()
    assert len(capture.payloads()) == 2
    assert len(provider.wait_ended(2)) == 2


async def test_a_call_inside_a_hook_of_another_call_is_its_own(capture, http, provider):
    """Only the same URL is the same call: a transport that asks a guard model first makes two."""
    other = Http(httpx, False, provider.url)
    asked = []

    def guard(request):
        if not asked:
            asked.append(other.client.post("/v1/embeddings", json={"model": "guard", "input": "x"}))

    async def guard_async(request):
        guard(request)

    http.client.event_hooks = {"request": [guard_async if http.is_async else guard]}
    await http.post()
    embedding, chat = capture.payloads()
    assert (embedding.operation, chat.operation) == ("embeddings", "chat")
    assert embedding.trace_id == chat.trace_id


async def test_a_failure_of_ours_lets_the_call_through(capture, http, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("ours")

    monkeypatch.setattr("otel_llmlog.capture.recorder.recognise", broken)
    assert (await http.post()).status_code == 200
    monkeypatch.undo()
    assert capture.payloads() == []
    assert capture.stats.snapshot()["error.begin.RuntimeError"] >= 1


async def test_redirects_are_one_call(capture, flavour):
    library, _ = flavour

    def answer(request):
        if request.url.host == "old.example":
            return library.Response(307, headers={"location": f"http://new.example{CHAT}"})
        return library.Response(200, json=REPLY)

    http = Http(*flavour, "http://old.example", transport=library.MockTransport(answer), follow_redirects=True)
    response = await http.post()
    assert [reply.status_code for reply in (*response.history, response)] == [307, 200]
    assert capture.one().status == "success"

"""With us and without us an app sees the same: bytes, pieces, headers, exceptions, state; however a call ends."""

from __future__ import annotations

import socket

import pytest

from otel_llmlog.capture import patch
from tests.capture import watching
from tests.capture.clients import CHAT, USAGE, Http, chat_body

ENCODINGS = ["identity", "gzip", "deflate", "br", "zstd"]
WAYS = [watching.plain, watching.streamed, watching.streamed_then_read]
GIVING_UP = [watching.closed_early, watching.dropped]
ENDINGS = [
    "plain events=9",
    "litellm_proxy",
    "error status=401",
    "error status=429",
    "error status=500",
    "error_in_stream",
    "invalid_json",
    "not_json",
    "no_terminator keep=3",
    "cut after=1",
    "nul",
    "surrogate",
    "nan",
    "nest",
    "huge bytes=40000",
    "empty",
    "raw status=204",
]
SILENCES = ["slow seconds=30", "stall after=1 seconds=30"]


async def both(capture, start_over, flavour, url, make_request, way, collect=None, **options):
    """What the app sees without us and with us, and how many payloads that left."""
    patch.remove()
    found = []
    for install in (lambda: None, capture.install):
        install()
        start_over()
        http = Http(*flavour, url, **options)
        found.append(await watching.watch(http, make_request(http), way))
        await http.end()
    if collect is not None:
        await collect()
    payloads = len(capture.payloads())
    capture.clear()
    return (*found, payloads)


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
@pytest.mark.parametrize("scenario", ENDINGS)
async def test_the_app_sees_the_same_of_every_ending(capture, flavour, provider, same_replies, scenario, way):
    body = chat_body(f"[scenario: {scenario}]", stream=way is not watching.plain, stream_options=USAGE)
    without, with_us, payloads = await both(
        capture, same_replies, flavour, provider.url, lambda http: http.request(body), way
    )
    assert with_us == without
    assert payloads == 1
    assert without.status or without.error


@pytest.mark.parametrize("way", GIVING_UP, ids=lambda way: way.__name__)
@pytest.mark.parametrize("scenario", ["plain", "stall after=1 seconds=30", "error status=500"])
async def test_an_app_that_gives_up_a_reply_sees_the_same(
    capture, flavour, provider, same_replies, collect, scenario, way
):
    body = chat_body(f"[scenario: {scenario}]", stream=True)
    without, with_us, payloads = await both(
        capture, same_replies, flavour, provider.url, lambda http: http.request(body), way, collect
    )
    assert with_us == without
    assert payloads == 1
    assert (without.error is None) == (way is watching.dropped)


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
@pytest.mark.parametrize("encoding", ENCODINGS)
async def test_the_app_sees_the_same_of_an_encoded_reply(capture, flavour, provider, same_replies, encoding, way):
    headers = {} if encoding == "identity" else {"x-encoding": encoding}
    for more in ({}, {"x-chunk-bytes": "7"}, {"x-scenario": "cut after=1"}):
        body = chat_body(stream=way is not watching.plain, stream_options=USAGE)
        without, with_us, payloads = await both(
            capture,
            same_replies,
            flavour,
            provider.url,
            lambda http, body=body, more=more: http.request(body, headers={**headers, **more}),
            way,
        )
        assert with_us == without
        assert payloads == 1
        if "x-scenario" not in more and way in {watching.plain, watching.streamed_then_read}:
            assert b"choices" in without.body


@pytest.mark.parametrize("scenario", SILENCES)
async def test_the_app_sees_the_same_timeout(capture, flavour, provider, same_replies, scenario):
    body = chat_body(f"[scenario: {scenario}]", stream=True)
    without, with_us, payloads = await both(
        capture,
        same_replies,
        flavour,
        provider.url,
        lambda http: http.request(body, timeout=0.3),
        watching.streamed,
    )
    assert with_us == without
    assert without.error[0].endswith("ReadTimeout")
    assert payloads == 1


async def test_the_app_sees_the_same_refused_connection(capture, flavour, provider, same_replies):
    with socket.socket() as bound:  # bound but not listening
        bound.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{bound.getsockname()[1]}"
        without, with_us, payloads = await both(
            capture, same_replies, flavour, url, lambda http: http.request(), watching.plain
        )
    assert with_us == without
    assert without.error[0].endswith("ConnectError")
    assert payloads == 1


async def test_the_app_sees_the_same_exception_of_its_own_hook(capture, flavour, provider, same_replies):
    library, is_async = flavour

    def refuse(response):
        response.raise_for_status()

    async def refuse_async(response):
        refuse(response)

    hooks = {"response": [refuse_async if is_async else refuse]}
    body = chat_body("[scenario: error status=403]")
    without, with_us, payloads = await both(
        capture,
        same_replies,
        flavour,
        provider.url,
        lambda http: http.request(body),
        watching.plain,
        event_hooks=hooks,
    )
    assert with_us == without
    assert without.error[0] == f"{library.__name__}.HTTPStatusError"
    assert payloads == 1


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
async def test_the_app_sees_the_same_of_a_body_that_is_not_encoded_as_its_header_says(
    capture, flavour, same_replies, way
):
    library, _ = flavour

    def reply(request):
        return library.Response(200, headers={"content-encoding": "gzip"}, stream=Lie(library))

    without, with_us, payloads = await both(
        capture,
        same_replies,
        flavour,
        "http://in.process",
        lambda http: http.request(),
        way,
        transport=library.MockTransport(reply),
    )
    assert with_us == without
    assert payloads == 1
    assert (without.error is None) == (way is watching.streamed)


def Lie(library):
    class Stream(library.SyncByteStream, library.AsyncByteStream):
        def __iter__(self):
            yield b'{"not": "gzip"}'

        async def __aiter__(self):
            yield b'{"not": "gzip"}'

    return Stream()


async def test_a_reply_whose_stream_fails_to_close_fails_the_same(capture, flavour, same_replies):
    library, _ = flavour

    class Stubborn(library.SyncByteStream, library.AsyncByteStream):
        def __iter__(self):
            yield b"data: [DONE]\n\n"

        async def __aiter__(self):
            yield b"data: [DONE]\n\n"

        def close(self):
            raise ValueError("will not close")

        async def aclose(self):
            self.close()

    transport = library.MockTransport(lambda request: library.Response(200, stream=Stubborn()))
    without, with_us, payloads = await both(
        capture,
        same_replies,
        flavour,
        "http://in.process",
        lambda http: http.request(),
        watching.streamed,
        transport=transport,
    )
    assert with_us == without
    assert without.error == ("builtins.ValueError", "will not close", None)
    assert payloads == 1


async def test_the_request_goes_out_as_it_was_made(capture, http, provider):
    sent = http.request(chat_body(stream=True), headers={"x-test": "1"})
    await http.read(await http.send(sent, stream=True))
    patch.remove()
    await http.read(await http.send(http.request(chat_body(stream=True), headers={"x-test": "1"}), stream=True))
    with_us, without = provider.wait_ended(2)
    assert (with_us.body, with_us.headers, with_us.path) == (without.body, without.headers, without.path)
    assert with_us.path == CHAT

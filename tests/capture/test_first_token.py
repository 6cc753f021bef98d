"""When the first token came: exact where it stands early in a stream, never later than it was deep in one."""

from __future__ import annotations

import itertools

import httpx
import pytest

from otel_llmlog.capture import streams
from tests.capture.clients import CHAT, USAGE, chat_body

COMMENT = b": still thinking\n\n"
EMPTY = b'data: {"id":"c","choices":[{"index":0,"delta":{"role":"assistant"}}]}\n\n'
WORD = b'data: {"id":"c","choices":[{"index":0,"delta":{"content":"word"}}]}\n\n'
END = [
    b'data: {"id":"c","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n',
    b'data: {"id":"c","choices":[],"usage":{"prompt_tokens":5,"completion_tokens":3}}\n\n',
    b"data: [DONE]\n\n",
]
EVENT_STREAM = {"content-type": "text/event-stream"}
# Of the clock that the pieces come by: one second each.
TICK = 10**9


@pytest.fixture
def arrivals(monkeypatch):
    """Pieces come a second apart, the first one at 1."""
    now = itertools.count()
    at = [0]
    monkeypatch.setattr(streams, "time_ns", lambda: at[0] * TICK)

    def tick():
        at[0] = next(now) + 1

    return tick


def sync_first_token(capture, pieces, tick):
    class Stream(httpx.SyncByteStream):
        def __iter__(self):
            for piece in pieces:
                tick()
                yield piece

    reply = httpx.MockTransport(lambda _: httpx.Response(200, headers=EVENT_STREAM, stream=Stream()))
    with httpx.Client(transport=reply, base_url="http://in.process") as http:
        request = http.build_request("POST", CHAT, json=chat_body(stream=True, stream_options=USAGE))
        assert list(http.send(request, stream=True).iter_raw()) == pieces
    return capture.payloads()[0].completionStartTime


async def async_first_token(capture, pieces, tick):
    class Stream(httpx.AsyncByteStream):
        async def __aiter__(self):
            for piece in pieces:
                tick()
                yield piece

    reply = httpx.MockTransport(lambda _: httpx.Response(200, headers=EVENT_STREAM, stream=Stream()))
    async with httpx.AsyncClient(transport=reply, base_url="http://in.process") as http:
        request = http.build_request("POST", CHAT, json=chat_body(stream=True, stream_options=USAGE))
        response = await http.send(request, stream=True)
        assert [piece async for piece in response.aiter_raw()] == pieces
    return capture.payloads()[0].completionStartTime


async def first_token(is_async, *given):
    return await async_first_token(*given) if is_async else sync_first_token(*given)


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize(
    "before", [[], [EMPTY], [EMPTY] * (streams.STAMPED - 1), [COMMENT] * 200, [COMMENT, EMPTY] * 25]
)
async def test_among_the_first_events_it_is_exact_however_many_comments_come_before(
    capture, arrivals, before, is_async
):
    pieces = [*before, *[WORD] * 100, *END]
    assert await first_token(is_async, capture, pieces, arrivals) == len(before) + 1


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("before", [streams.STAMPED, streams.STAMPED + 1, 100, 500])
async def test_deep_in_a_stream_it_is_at_most_a_block_of_events_early(capture, arrivals, before, is_async):
    pieces = [*[EMPTY] * before, *[WORD] * 100, *END]
    found = await first_token(is_async, capture, pieces, arrivals)
    assert before + 1 - streams.BLOCK < found <= before + 1


@pytest.mark.parametrize("is_async", [False, True])
async def test_a_stream_without_a_token_has_no_first_one(capture, arrivals, is_async):
    assert await first_token(is_async, capture, [EMPTY] * 100 + END, arrivals) is None

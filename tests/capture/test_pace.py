"""Nothing is read ahead and nothing is held back: a piece reaches the app before the next one is asked for."""

from __future__ import annotations

import pytest

from tests.capture.clients import USAGE, Http, anthropic_client, chat_body, openai_client, said


class Counted:
    """Makes streams that note when a piece is pulled out of them."""

    def __init__(self, library, count):
        self.pulled, self.closed = 0, 0
        counted = self

        class Stream(library.SyncByteStream, library.AsyncByteStream):
            def __iter__(self):
                for number in range(count):
                    counted.pulled += 1
                    yield b"data: %d\n\n" % number

            async def __aiter__(self):
                for piece in self.__iter__():
                    yield piece

            def close(self):
                counted.closed += 1

            async def aclose(self):
                counted.closed += 1

        self.transport = library.MockTransport(lambda request: library.Response(200, stream=Stream()))


async def test_a_piece_is_yielded_before_the_next_is_pulled(capture, flavour):
    counted = Counted(flavour[0], 5)
    http = Http(*flavour, "http://in.process", transport=counted.transport)
    response = await http.open()
    assert counted.pulled == 0
    number = 0
    async for piece in http.pieces(response):
        assert piece == b"data: %d\n\n" % number
        number += 1
        assert (counted.pulled, counted.closed) == (number, 0)
    assert (number, counted.closed) == (5, 1)
    assert len(capture.payloads()) == 1


async def test_a_stream_that_is_closed_is_not_drained(capture, flavour):
    counted = Counted(flavour[0], 5)
    http = Http(*flavour, "http://in.process", transport=counted.transport)
    response = await http.open()
    pieces = http.pieces(response)
    await anext(pieces)
    await http.close(response)
    await pieces.aclose()
    assert (counted.pulled, counted.closed) == (1, 1)


async def test_a_stream_that_is_given_up_lets_go_of_the_librarys_own_iterator(capture, async_http):
    """httpx2 closes the async iterators below it one by one; ours must pass that on."""
    let_go = []
    library = async_http.library

    class Stream(library.AsyncByteStream):
        async def __aiter__(self):
            try:
                for number in range(5):
                    yield b"data: %d\n\n" % number
            finally:
                let_go.append(True)

    transport = library.MockTransport(lambda request: library.Response(200, stream=Stream()))
    http = Http(library, True, "http://in.process", transport=transport)

    async def give_up():
        response = await http.open()
        pieces = http.pieces(response)
        await anext(pieces)
        await pieces.aclose()
        return bool(let_go)

    with_us = await give_up()
    assert with_us == (library.__name__ == "httpx2")


async def test_an_event_reaches_the_app_while_the_provider_is_silent(capture, http, provider):
    response = await http.open(chat_body("[scenario: stall after=2 seconds=30]", stream=True))
    pieces = http.pieces(response)
    first, second = await anext(pieces), await anext(pieces)
    assert first.startswith(b"data:")
    assert second.startswith(b"data:")
    assert provider.requests[-1].ended is None
    await pieces.aclose()
    await http.close(response)
    (served,) = provider.wait_ended()
    assert served.outcome == "client_gone"


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
async def test_an_sdks_event_reaches_the_app_while_the_provider_is_silent(capture, provider, is_async):
    client = openai_client(provider.url, is_async=is_async)
    asked = {"model": "gpt-4o", "messages": said("[scenario: stall after=3 seconds=30]"), "stream": True}
    made = client.chat.completions.create(**asked, stream_options=USAGE)
    stream = await made if is_async else made
    for _ in range(3):
        chunk = await anext(aiter(stream)) if is_async else next(iter(stream))
    assert chunk.choices[0].delta.content
    assert provider.requests[-1].ended is None
    closed = stream.close()
    if is_async:
        await closed
    assert provider.wait_ended()[0].outcome == "client_gone"
    payload = capture.one()
    assert (payload.status, payload.completionStartTime is not None) == ("failure", True)


def test_anthropics_event_reaches_the_app_while_the_provider_is_silent(capture, provider):
    client = anthropic_client(provider.url)
    asked = "[scenario: stall after=4 seconds=30]"
    with client.messages.stream(model="claude-haiku-4-5", max_tokens=9, messages=said(asked)) as stream:
        event = next(event for event in stream if event.type == "text")
        assert event.text
        assert provider.requests[-1].ended is None
    assert provider.wait_ended()[0].outcome == "client_gone"
    payload = capture.one()
    assert payload.error_information.error_class == "StreamClosed"
    # Input tokens come with the first event.
    assert payload.prompt_tokens == 11

"""One request, one payload, however the call ends; on both libraries, sync and async."""

from __future__ import annotations

import asyncio
import socket

import httpx2
import pytest

from tests.capture.clients import CHAT, USAGE, chat_body

STREAM = chat_body(stream=True, stream_options=USAGE)


def asking(scenario, **more):
    return chat_body(f"[scenario: {scenario}]", **more)


def streaming(scenario):
    return asking(scenario, stream=True, stream_options=USAGE)


def outcome(payload):
    """Status, error class, code, tokens, and whether a first token was seen."""
    information = payload.error_information
    return (
        payload.status,
        information and information.error_class,
        information and information.error_code,
        (payload.prompt_tokens, payload.completion_tokens),
        payload.completionStartTime is not None,
    )


def check_times(payload):
    first = payload.completionStartTime
    assert payload.startTime <= (first or payload.endTime) <= payload.endTime


async def test_a_plain_reply_read_fully_is_a_success(capture, http):
    response = await http.post(asking("plain id=x-1"))
    payload = capture.one()
    assert outcome(payload) == ("success", None, None, (11, 7), False)
    assert (payload.id, payload.usage.source) == ("x-1", "provider")
    assert payload.call_type == ("acompletion" if http.is_async else "completion")
    assert payload.spend is not None
    assert response.json()["usage"]["total_tokens"] == payload.total_tokens == 18
    check_times(payload)


async def test_a_stream_read_fully_is_a_success_with_its_first_token(capture, http):
    response = await http.open(STREAM)
    assert await http.read(response)
    payload = capture.one()
    assert outcome(payload) == ("success", None, None, (11, 7), True)
    assert payload.stream is True
    assert payload.response_time == pytest.approx(payload.completionStartTime - payload.startTime, abs=1e-6)
    check_times(payload)


async def test_a_stream_closed_early_is_a_failure_that_keeps_what_had_come(capture, http):
    response = await http.open(STREAM)
    pieces = http.pieces(response)
    seen = b"".join([await anext(pieces), await anext(pieces)])
    await http.close(response)
    await pieces.aclose()
    payload = capture.one()
    assert outcome(payload)[:3] == ("failure", "StreamClosed", None)
    assert outcome(payload)[4] is True
    assert payload.usage.source == "tiktoken"
    assert payload.response_model == "gpt-4o-mini"
    assert payload.id.encode() in seen
    check_times(payload)


async def test_a_stream_closed_after_its_terminator_but_before_its_end_is_a_success(capture, http, provider):
    response = await http.open(streaming("stall after=99 seconds=30"))
    seen = b""
    pieces = http.pieces(response)
    # The last event is held back: what came before has every finish reason and the usage.
    while b'"usage":{' not in seen:
        seen += await anext(pieces)
    assert provider.requests[-1].ended is None
    await http.close(response)
    await pieces.aclose()
    assert outcome(capture.one()) == ("success", None, None, (11, 7), True)


async def test_a_stream_dropped_unread_and_collected_is_a_failure(capture, http, collect):
    response = await http.open(STREAM)
    assert capture.payloads() == []
    del response
    await collect()
    assert outcome(capture.one()) == ("failure", "StreamAbandoned", None, (0, 0), False)


async def test_a_stream_dropped_half_read_and_collected_is_a_failure(capture, http, collect):
    response = await http.open(STREAM)
    iterator = response.aiter_raw() if http.is_async else response.iter_raw()
    for _ in range(2):
        _ = await anext(iterator) if http.is_async else next(iterator)
    del response, iterator
    await collect()
    payload = capture.one()
    # httpx2 closes a stream whose iterator is dropped, httpx leaves it to the collector.
    assert outcome(payload)[1] == ("StreamClosed" if http.library is httpx2 else "StreamAbandoned")
    assert (payload.status, payload.completionStartTime is not None) == ("failure", True)


@pytest.mark.parametrize("stream", [False, True], ids=["before-headers", "mid-stream"])
async def test_a_cancelled_task_is_a_failure(capture, async_http, provider, stream):
    http = async_http
    reached = asyncio.Event()

    async def call():
        if not stream:
            reached.set()
            await http.post(asking("slow seconds=30"))
        response = await http.open(streaming("stall after=2 seconds=30"))
        async for _ in http.pieces(response):
            reached.set()

    task = asyncio.create_task(call())
    await reached.wait()
    while not provider.requests:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert outcome(capture.one())[:3] == ("failure", "CancelledError", None)
    (served,) = provider.wait_ended()
    assert served.outcome == "client_gone"


async def test_a_read_timeout_before_the_headers_is_a_failure(capture, http):
    with pytest.raises(http.library.ReadTimeout):
        await http.post(asking("slow seconds=30"), timeout=0.3)
    payload = capture.one()
    assert outcome(payload) == ("failure", "ReadTimeout", None, (0, 0), False)
    assert payload.error_str == "ReadTimeout while the reply was awaited"


async def test_a_read_timeout_in_mid_stream_is_a_failure_that_keeps_what_had_come(capture, http):
    response = await http.open(streaming("stall after=3 seconds=30"), timeout=0.3)
    with pytest.raises(http.library.ReadTimeout):
        await http.read(response)
    payload = capture.one()
    assert outcome(payload)[:3] == ("failure", "ReadTimeout", None)
    assert payload.completionStartTime is not None
    assert payload.completion_tokens > 0


async def test_a_refused_connection_is_a_failure(capture, http):
    with socket.socket() as bound:  # bound, so that nobody else gets the port; not listening, so that it refuses
        bound.bind(("127.0.0.1", 0))
        request = http.client.build_request(
            "POST", f"http://127.0.0.1:{bound.getsockname()[1]}{CHAT}", json=chat_body()
        )
        with pytest.raises(http.library.ConnectError):
            await http.send(request)
    payload = capture.one()
    assert outcome(payload) == ("failure", "ConnectError", None, (0, 0), False)
    assert (payload.model, payload.spend) == ("gpt-4o-mini", None)


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize(
    ("status", "error_class"),
    [
        (400, "BadRequestError"),
        (401, "AuthenticationError"),
        (404, "NotFoundError"),
        (418, "APIError"),
        (429, "RateLimitError"),
        (500, "InternalServerError"),
        (503, "ServiceUnavailableError"),
        (529, "OverloadedError"),
    ],
)
async def test_an_http_error_is_a_failure_named_by_its_status(capture, http, status, error_class, stream):
    body = asking(f"error status={status}", stream=stream)
    response = await (http.open(body) if stream else http.post(body))
    await http.read(response)
    assert outcome(capture.one()) == ("failure", error_class, str(status), (0, 0), False)


async def test_invalid_json_in_a_200_is_a_failure_that_says_what_is_wrong(capture, http):
    await http.post(asking("invalid_json"))
    payload = capture.one()
    assert outcome(payload)[:2] == ("failure", "InvalidResponse")
    assert "response: the body is cut off: read in part" in payload.notes


async def test_a_web_page_in_a_200_is_a_failure(capture, http):
    await http.post(asking("not_json"))
    payload = capture.one()
    assert outcome(payload)[:2] == ("failure", "InvalidResponse")
    assert payload.notes == ["response: the body is no readable JSON"]


async def test_an_empty_body_is_a_failure(capture, http):
    await http.post(asking("empty"))
    payload = capture.one()
    assert outcome(payload) == ("failure", "InvalidResponse", None, (0, 0), False)
    assert payload.notes == ["response: the body is empty"]


async def test_an_empty_stream_is_a_failure(capture, http):
    headers = {"x-scenario": "raw", "x-raw-content-type": "text/event-stream", "x-raw-body": ""}
    await http.read(await http.open(STREAM, headers=headers))
    assert outcome(capture.one()) == ("failure", "StreamIncomplete", None, (0, 0), False)


async def test_a_stream_without_its_terminator_is_a_failure(capture, http):
    await http.read(await http.open(streaming("no_terminator keep=4")))
    payload = capture.one()
    assert outcome(payload)[:3] == ("failure", "StreamIncomplete", None)
    assert outcome(payload)[4] is True


async def test_a_stream_without_done_but_with_all_its_finish_reasons_is_a_success(capture, http):
    # Some hosts never send [DONE].
    await http.read(await http.open(streaming("no_terminator")))
    assert outcome(capture.one()) == ("success", None, None, (11, 7), True)


@pytest.mark.parametrize("how", ["close", "reset"])
async def test_a_stream_cut_inside_a_chunk_is_a_failure(capture, http, how):
    response = await http.open(streaming(f"cut after=3 how={how}"))
    with pytest.raises(http.library.TransportError) as raised:
        await http.read(response)
    payload = capture.one()
    assert outcome(payload)[:3] == ("failure", raised.type.__name__, None)


async def test_a_plain_reply_cut_in_its_middle_is_a_failure(capture, http):
    with pytest.raises(http.library.RemoteProtocolError):
        await http.post(asking("cut after=1"))
    assert outcome(capture.one()) == ("failure", "RemoteProtocolError", None, (0, 0), False)


async def test_an_error_inside_a_stream_is_a_failure_with_the_providers_code(capture, http):
    await http.read(await http.open(streaming("error_in_stream status=503")))
    payload = capture.one()
    assert outcome(payload)[:3] == ("failure", "APIError", "overloaded")
    assert payload.error_str == "the provider reported an error in its reply (overloaded)"


async def test_a_call_that_is_open_when_the_process_ends_is_a_failure_and_goes_on(capture, http):
    response = await http.open(STREAM)
    assert capture.recorder.finish(20)
    assert outcome(capture.one()) == ("failure", "ProcessTerminated", None, (0, 0), False)
    assert b"[DONE]" in await http.read(response)
    assert len(capture.payloads()) == 1


async def test_a_body_that_the_app_streams_out_of_with_two_endings_is_one_payload(capture, http):
    response = await http.open(STREAM)
    await http.read(response)
    await http.close(response)
    await http.close(response)
    del response
    assert outcome(capture.one())[0] == "success"

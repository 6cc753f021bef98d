"""Bounds: of calls, of bytes, of one body. What is dropped is counted exactly; a row outlives its bodies."""

from __future__ import annotations

import gc
import threading

import httpx
import pytest
from opentelemetry.sdk.trace import SpanProcessor

from tests.capture.clients import CHAT, USAGE, chat_body

SECONDS = 20
SMALLEST_BODY = 1 << 16
SMALLEST_PENDING = 1 << 20
USAGE_EVENT = b'data: {"id":"c","choices":[],"usage":{"prompt_tokens":5,"completion_tokens":3}}\n\n'
WORD_EVENT = b'data: {"id":"c","choices":[{"index":0,"delta":{"content":"%s"}}]}\n\n'
END = (
    b'data: {"id":"c","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
    + USAGE_EVENT
    + b"data: [DONE]\n\n"
)


class Gate:
    """Holds the recorder's thread at its first delivery, until it is opened."""

    def __init__(self, capture):
        self.reached, self._opened = threading.Event(), threading.Event()
        outlet = capture.recorder._outlet
        deliver = outlet.deliver

        def waiting(*given):
            self.reached.set()
            assert self._opened.wait(SECONDS)
            deliver(*given)

        outlet.deliver = waiting

    def open(self):
        self._opened.set()


def client(*pieces, kind="application/json"):
    class Stream(httpx.SyncByteStream):
        def __iter__(self):
            yield from pieces

    reply = lambda request: httpx.Response(200, headers={"content-type": kind}, stream=Stream())  # noqa: E731
    return httpx.Client(transport=httpx.MockTransport(reply), base_url="http://in.process")


def stream(http):
    request = http.build_request("POST", CHAT, json=chat_body(stream=True, stream_options=USAGE))
    return http.send(request, stream=True)


def test_calls_over_the_limit_are_dropped_and_counted_exactly(capture_with):
    capture = capture_with(max_pending=5)
    gate = Gate(capture)
    with client(b"{}") as http:
        http.post(CHAT, json=chat_body())
        assert gate.reached.wait(SECONDS)
        for _ in range(9):
            assert http.post(CHAT, json=chat_body()).status_code == 200
        assert capture.stats.snapshot()["dropped.capture_queue_full"] == 4
        gate.open()
        assert len(capture.payloads()) == 6
        http.post(CHAT, json=chat_body())
    assert len(capture.payloads()) == 7
    assert capture.stats.snapshot()["captured"] == 11


def test_calls_of_many_threads_are_kept_or_counted(capture_with):
    capture = capture_with(max_pending=3)
    gate = Gate(capture)

    def work():
        with client(b"{}") as http:
            for _ in range(25):
                http.post(CHAT, json=chat_body())

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    gate.open()
    kept = len(capture.payloads())
    assert kept + capture.stats.snapshot()["dropped.capture_queue_full"] == 150
    assert kept < 150


def held_up(capture, calls):
    """Make one small call that keeps the recorder busy, then the others; their payloads."""
    gate = Gate(capture)
    with client(b"{}") as http:
        http.post(CHAT, json=chat_body())
    assert gate.reached.wait(SECONDS)
    for call in calls:
        call()
    gate.open()
    return capture.payloads()[1:]


def plain(size):
    body = b'{"id":"c","usage":{"prompt_tokens":5,"completion_tokens":3},"choices":[],"x":"%s"}' % (b"x" * size)
    with client(body) as http:
        http.post(CHAT, json=chat_body())


def streamed(size):
    with client(WORD_EVENT % (b"x" * size), END, kind="text/event-stream") as http:
        stream(http).read()


def failing(size):
    transport = httpx.MockTransport(lambda request: httpx.Response(500, content=b"x" * size))
    with httpx.Client(transport=transport, base_url="http://in.process") as http:
        http.post(CHAT, json=chat_body())


@pytest.mark.parametrize("call", [plain, streamed], ids=lambda call: call.__name__)
def test_a_call_over_the_byte_limit_keeps_its_row_but_not_its_bodies(capture_with, call):
    capture = capture_with(max_pending_bytes=SMALLEST_PENDING)
    first, second = held_up(capture, [lambda: call(900_000), lambda: call(900_000)])
    assert (first.status, first.prompt_tokens, first.model) == ("success", 5, "gpt-4o-mini")
    # It ended well as far as anybody can tell: that its bytes are gone is our doing.
    assert (second.status, second.prompt_tokens, second.spend) == ("success", 0, None)
    why = "dropped unread: LLMLOG_MAX_PENDING_BYTES were waiting"
    assert f"response: {why}" in second.notes
    assert second.response_cost_failure_debug_info.error_str == f"the response was {why}"
    assert capture.stats.snapshot()["bodies_dropped"] == 1
    # The room is given back.
    call(900_000)
    assert capture.payloads()[-1].prompt_tokens == 5


def test_a_failure_whose_bodies_were_dropped_is_still_a_failure(capture_with):
    capture = capture_with(max_pending_bytes=SMALLEST_PENDING)
    _, http_error, closed = held_up(
        capture, [lambda: plain(900_000), lambda: failing(900_000), lambda: abandoned(900_000)]
    )
    assert (http_error.status, http_error.error_information.error_code) == ("failure", "500")
    assert (closed.status, closed.error_information.error_class) == ("failure", "StreamAbandoned")


def abandoned(size):
    with client(WORD_EVENT % (b"x" * size), END, kind="text/event-stream") as http:
        response = stream(http)
        pieces = response.iter_raw()
        next(pieces)
        del response, pieces
        gc.collect()


@pytest.mark.parametrize("size", [SMALLEST_BODY, 3 << 20, 20 << 20])
def test_a_stream_over_the_limit_keeps_its_usage_from_its_end(capture_with, size):
    # Only what is held counts as held, however long the stream was.
    capture = capture_with(max_body_bytes=SMALLEST_BODY, max_pending_bytes=4 << 20)
    events = [WORD_EVENT % (b"x" * 8000)] * (size // 8000 + 1)
    with client(*events, END, kind="text/event-stream") as http:
        assert len(stream(http).read()) > size
    payload = capture.one()
    assert (payload.status, payload.prompt_tokens, payload.completion_tokens) == ("success", 5, 3)
    assert payload.completionStartTime is not None
    assert "response: larger than LLMLOG_MAX_BODY_BYTES: its middle was not read" in payload.notes
    assert "bodies_dropped" not in capture.stats.snapshot()


def test_a_stream_under_the_limit_is_kept_whole(capture_with):
    capture = capture_with(max_body_bytes=SMALLEST_BODY)
    with client(WORD_EVENT % b"x", b": " + b"x" * 64_000 + b"\n\n", END, kind="text/event-stream") as http:
        stream(http).read()
    assert capture.one().notes == []


def test_a_plain_reply_over_the_limit_keeps_its_row(capture_with):
    capture = capture_with(max_body_bytes=SMALLEST_BODY)
    plain(SMALLEST_BODY)
    payload = capture.one()
    assert (payload.status, payload.model, payload.prompt_tokens) == ("success", "gpt-4o-mini", 0)
    assert payload.notes == ["response: larger than LLMLOG_MAX_BODY_BYTES: not read"]
    assert payload.spend is None


def test_a_plain_reply_that_is_streamed_over_the_limit_keeps_the_usage_at_its_end(capture_with):
    capture = capture_with(max_body_bytes=SMALLEST_BODY)
    pieces = [b'{"choices": "', b"x" * SMALLEST_BODY, b'", "usage": {"prompt_tokens": 5, "completion_tokens": 3}}']
    with client(*pieces) as http:
        stream(http).read()
    payload = capture.one()
    assert (payload.prompt_tokens, payload.completion_tokens) == (5, 3)


def test_a_request_over_the_limit_keeps_its_row(capture_with):
    capture = capture_with(max_body_bytes=SMALLEST_BODY)
    with client(b'{"model": "gpt-4o", "usage": {"prompt_tokens": 5, "completion_tokens": 3}}') as http:
        http.post(CHAT, json=chat_body("x" * SMALLEST_BODY))
    payload = capture.one()
    assert (payload.model, payload.prompt_tokens, payload.status) == ("gpt-4o", 5, "success")
    assert payload.notes == ["request: its body was not at hand to read"]


def test_a_call_that_ends_while_the_thread_is_being_started_is_not_lost(capture_with, monkeypatch):
    """Starting a thread may collect garbage, and that may end a call: on the same stack, inside our lock."""
    capture, own = capture_with(), threading.Thread
    dropped = []

    class Refusing(own):
        def start(self):
            raise RuntimeError("can't start new thread")

    class Collecting(own):
        def start(self):
            dropped.clear()
            gc.collect()
            super().start()

    with client(END, kind="text/event-stream") as http:
        monkeypatch.setattr(threading, "Thread", Refusing)
        dropped.append(stream(http))
        monkeypatch.setattr(threading, "Thread", Collecting)
        worker = own(target=lambda: http.post(CHAT, json=chat_body()), daemon=True)
        worker.start()
        worker.join(SECONDS)
        monkeypatch.undo()
        assert not worker.is_alive()
    assert len(capture.payloads()) == 2


def test_a_flush_in_the_middle_of_a_flush_waits_for_nobody(capture_with, monkeypatch):
    """A signal handler may flush on a thread that reads because no other could be started."""
    capture = capture_with()
    outlet, inside = capture.recorder._outlet, []
    deliver = outlet.deliver

    def interrupted(*given):
        inside.append(capture.recorder.flush(SECONDS))
        deliver(*given)

    def refuse(_):
        raise RuntimeError("can't start new thread")

    outlet.deliver = interrupted
    monkeypatch.setattr(threading.Thread, "start", refuse)
    plain(1)
    monkeypatch.undo()
    flushing = threading.Thread(target=capture.recorder.flush, args=(SECONDS,), daemon=True)
    flushing.start()
    flushing.join(SECONDS)
    assert not flushing.is_alive()
    assert inside == [True]
    assert len(capture.delivered) == 1


def test_a_call_that_cannot_be_delivered_is_counted_and_the_next_one_is_fine(capture_with):
    capture = capture_with()
    outlet = capture.recorder._outlet
    deliver = outlet.deliver

    def fail_once(*given):
        outlet.deliver = deliver
        raise OSError

    outlet.deliver = fail_once
    plain(1)
    assert capture.payloads() == []
    plain(1)
    assert len(capture.payloads()) == 1
    assert capture.stats.snapshot()["dropped.not_accepted"] == 1
    assert len(capture.spans()) == 2


class Broken(SpanProcessor):
    def on_end(self, span):
        raise RuntimeError


@pytest.mark.parametrize("broken", ["span processor", "metrics", "both"])
def test_a_broken_span_processor_or_metric_costs_no_record(capture_with, monkeypatch, broken):
    capture = capture_with()
    if broken != "metrics":
        capture.tracer_provider.add_span_processor(Broken())
    if broken != "span processor":
        monkeypatch.setattr(capture.recorder._worker, "_metrics", None)
    plain(1)
    plain(1)
    assert len(capture.payloads()) == 2
    snapshot = capture.stats.snapshot()
    assert not [name for name in snapshot if name.startswith("dropped")]
    assert sum(count for name, count in snapshot.items() if name.startswith("error.emit")) == 2


def test_a_broken_span_processor_does_not_end_the_recording_of_a_call_that_failed(capture_with):
    capture = capture_with()
    capture.tracer_provider.add_span_processor(Broken())
    outlet = capture.recorder._outlet
    deliver = outlet.deliver

    def fail_once(*given):
        outlet.deliver = deliver
        raise OSError

    outlet.deliver = fail_once
    plain(1)
    assert capture.payloads() == []
    plain(1)
    assert len(capture.payloads()) == 1

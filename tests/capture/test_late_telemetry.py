"""When OpenTelemetry hears of calls: together, after their records, without being asked, and from one process."""

from __future__ import annotations

import os
import threading
from typing import ClassVar

import httpx
import pytest
from opentelemetry.sdk.trace import SpanProcessor

from otel_llmlog.capture import worker as worker_module
from tests.capture.clients import CHAT, chat_body

SECONDS = 20
TOGETHER = 64


class Ends(SpanProcessor):
    """Counts spans that end."""

    def __init__(self):
        self._arrived = threading.Semaphore(0)
        self.number = 0

    def on_end(self, span):
        self.number += 1
        self._arrived.release()

    def one(self):
        assert self._arrived.acquire(timeout=SECONDS)


@pytest.fixture
def http(provider):
    with httpx.Client(base_url=provider.url) as client:
        yield client


@pytest.fixture
def ended(capture_with):
    capture = capture_with()
    capture.recorder._outlet.notes_endings = False  # else all of a call waits, not its span alone
    ends = Ends()
    capture.tracer_provider.add_span_processor(ends)
    return capture, ends


@pytest.fixture
def never(monkeypatch):
    """Spans wait for a number of calls or for a flush alone."""
    monkeypatch.setattr(worker_module, "_LATE", 3600.0)


def reading_of_a_call(capture, http):
    """Make a call and wait until its record is handed on; to flush would bring the span, too. The lock of reading."""
    reached, deliver = threading.Event(), capture.recorder._outlet.deliver

    def delivered(*given):
        deliver(*given)
        reached.set()

    capture.recorder._outlet.deliver = delivered
    http.post(CHAT, json=chat_body())
    assert reached.wait(SECONDS)
    return capture.recorder._worker._reading


def test_spans_end_without_being_asked_for(ended, http):
    _, ends = ended
    for _ in range(3):
        http.post(CHAT, json=chat_body())
        ends.one()


def test_records_do_not_wait_for_spans(ended, never, http):
    capture, ends = ended
    with reading_of_a_call(capture, http):
        assert ends.number == 0
    assert len(capture.spans()) == ends.number == 1


def test_spans_of_many_calls_do_not_wait_any_longer(ended, never, http):
    _, ends = ended
    for _ in range(TOGETHER):
        http.post(CHAT, json=chat_body())
    for _ in range(TOGETHER):
        ends.one()


def test_spans_of_large_calls_do_not_wait_for_many(ended, never, http):
    _, ends = ended
    http.post(CHAT, json=chat_body("x" * (1 << 20)))
    ends.one()


def test_a_span_processor_that_flushes_from_within_does_not_wait_for_itself(ended, http):
    capture, ends = ended

    class Flushing(SpanProcessor):
        answers: ClassVar[list[bool]] = []

        def on_end(self, span):
            self.answers.append(capture.recorder.flush(3600.0))

    capture.tracer_provider.add_span_processor(Flushing())
    for _ in range(2):
        http.post(CHAT, json=chat_body())
    assert len(capture.spans()) == ends.number == 2
    assert Flushing.answers == [False, False]


def test_spans_end_in_the_order_of_their_calls(ended, http):
    capture, _ = ended
    for at in range(2 * TOGETHER + 3):
        http.post(CHAT, json=chat_body(), headers={"x-response-id": f"c-{at}"})
    ids = [span.attributes["gen_ai.response.id"] for span in capture.spans()]
    assert ids == [f"c-{at}" for at in range(2 * TOGETHER + 3)]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_forked_child_leaves_its_parents_spans_to_the_parent(ended, never, http):
    capture, ends = ended
    with reading_of_a_call(capture, http):
        pid = os.fork()
        if pid == 0:
            capture.recorder.flush(SECONDS)
            os._exit(ends.number)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert len(capture.spans()) == 1

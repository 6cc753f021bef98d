"""Alarms: set from one thread, heard by another; one whose descriptor is gone is said to be broken and is replaced."""

from __future__ import annotations

import os
import threading

import httpx
import pytest

from otel_llmlog.capture import alarm
from tests.capture.clients import CHAT, chat_body

SECONDS = 20
KINDS = pytest.mark.parametrize("kind", [alarm.Timer, alarm.Bell])


def waiting(for_, *timeout):
    thread = threading.Thread(target=for_.wait, args=timeout, daemon=True)
    thread.start()
    return thread


@KINDS
def test_who_waits_wakes_each_time_it_was_set(kind):
    given = kind(0.001, 3600)
    for _ in range(3):
        thread = waiting(given)
        assert given.set()
        thread.join(SECONDS)
        assert not thread.is_alive()


@KINDS
@pytest.mark.parametrize("is_late", [False, True])
def test_what_was_set_before_anybody_waits_is_heard_in_its_own_time(kind, is_late):
    given = kind(3600, 0.001) if is_late else kind(0.001, 3600)
    assert given.set_late() if is_late else given.set()
    thread = waiting(given)
    thread.join(SECONDS)
    assert not thread.is_alive()


@KINDS
@pytest.mark.parametrize("is_waiting", [False, True])
def test_one_for_soon_comes_before_one_for_late(kind, is_waiting):
    given = kind(0.001, 3600)
    assert given.set_late()
    thread = waiting(given) if is_waiting else None
    assert given.set()
    thread = thread or waiting(given)
    thread.join(SECONDS)
    assert not thread.is_alive()


@KINDS
@pytest.mark.parametrize("is_set", [False, True])
def test_ringing_does_not_wait_for_the_time(kind, is_set):
    given = kind(3600, 3600)
    thread = waiting(given)
    if is_set:
        assert given.set()
    assert given.ring()
    thread.join(SECONDS)
    assert not thread.is_alive()


@KINDS
def test_who_waits_for_a_while_wakes_without_having_been_called(kind):
    given = kind(3600, 3600)
    thread = waiting(given, 0.001)
    thread.join(SECONDS)
    assert not thread.is_alive()


def test_a_timer_that_was_set_is_not_forgotten_by_who_waits_no_longer():
    given = alarm.Timer(0.05, 3600)
    assert given.set()
    given.wait(0.0)
    thread = waiting(given)
    thread.join(SECONDS)
    assert not thread.is_alive()


def test_a_timer_whose_descriptor_was_closed_says_so():
    given = alarm.Timer(0.001, 3600)
    os.close(given._fd)
    assert not given.set()
    assert not given.set_late()
    assert not given.ring()
    with pytest.raises(OSError, match="closed"):
        given.wait()


def test_a_timer_takes_nothing_from_a_file_that_has_its_descriptor_now():
    given = alarm.Timer(0.001, 3600)
    reading, writing = os.pipe()
    os.write(writing, b"of the app")
    os.dup2(reading, given._fd)
    assert not given.set()
    with pytest.raises(OSError, match="closed"):
        given.wait()
    assert os.read(reading, 100) == b"of the app"
    for each in (reading, writing, given._fd):
        os.close(each)


def test_systems_without_timers_get_a_bell(monkeypatch):
    monkeypatch.setattr(alarm, "AVAILABLE", False)
    assert isinstance(alarm.best(1.0, 1.0), alarm.Bell)


@pytest.fixture
def http(provider):
    with httpx.Client(base_url=provider.url) as client:
        yield client


class Heard:
    """What was delivered, without asking for it: to flush would wake the thread."""

    def __init__(self, capture):
        self._arrived = threading.Semaphore(0)
        outlet = capture.recorder._outlet
        deliver = outlet.deliver

        def delivered(*given):
            deliver(*given)
            self._arrived.release()

        outlet.deliver = delivered

    def one(self):
        assert self._arrived.acquire(timeout=SECONDS)


@pytest.mark.parametrize("available", [True, False])
def test_calls_are_read_soon_after_their_end_without_being_asked_for(capture_with, http, monkeypatch, available):
    monkeypatch.setattr(alarm, "AVAILABLE", available)
    capture = capture_with()
    heard = Heard(capture)
    for _ in range(3):
        http.post(CHAT, json=chat_body())
        heard.one()


@pytest.mark.parametrize("flushed", [False, True])
def test_an_app_that_closes_all_descriptors_goes_on_being_recorded(capture_with, http, flushed):
    capture = capture_with()
    heard = Heard(capture)
    http.post(CHAT, json=chat_body())
    heard.one()
    worker = capture.recorder._worker
    os.close(worker._alarm._fd)
    if flushed:
        assert capture.recorder.flush(SECONDS)
    for _ in range(3):
        http.post(CHAT, json=chat_body())
        heard.one()
    assert len(capture.payloads()) == 4
    assert worker.thread.is_alive()

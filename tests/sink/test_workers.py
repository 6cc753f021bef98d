"""Several processes on the same ports, and the end of all of them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import httpx
import psutil
import psycopg
import pytest

from tests.sink.receiving import Reply, Sink, body, over_grpc
from tests.store.records import record, records


def _children(sink: Sink) -> set[int]:
    return {child.pid for child in psutil.Process(sink.process.pid).children()}


def _until(wanted: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not wanted():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _is_ready(sink: Sink) -> bool:
    try:
        return httpx.get(f"{sink.http}/readyz").status_code == 200
    except httpx.TransportError:
        return False


def _send(sink: Sink, content: bytes) -> None:
    """As a sender does that keeps what is not answered."""
    _until(lambda: over_grpc(sink, content) == Reply("OK"))


def test_a_worker_that_dies_is_replaced_and_all_end_with_the_supervisor(
    start: Callable[..., Sink], database_url: str
) -> None:
    sink = start("--workers", "2")
    _until(lambda: len(_children(sink)) == 2)
    sink.wait_until_ready()
    before = _children(sink)
    os.kill(min(before), signal.SIGKILL)
    _until(lambda: len(_children(sink) - {min(before)}) == 2)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda content: _send(sink, content), [body([record()]) for _ in range(16)]))
    workers = _children(sink)
    code, said = sink.stop()
    assert code == 0
    assert f"worker {min(before)} ended with -9; another takes its place" in said
    assert not any(psutil.pid_exists(pid) for pid in workers)
    with psycopg.connect(database_url) as connection:
        assert connection.execute("SELECT count(*) FROM llmlog.spend_logs").fetchone() == (16,)


@pytest.mark.slow
def test_workers_end_when_their_supervisor_is_killed(start: Callable[..., Sink]) -> None:
    sink = start("--workers", "2")
    _until(lambda: len(_children(sink)) == 2)
    sink.wait_until_ready()
    workers = _children(sink)
    os.kill(sink.process.pid, signal.SIGKILL)  # what it holds of their pipes ends with them
    _until(lambda: not any(psutil.pid_exists(pid) for pid in workers))
    sink.process.communicate()


def test_sigterm_finishes_what_is_in_hand_and_takes_nothing_new(start: Callable[..., Sink], database_url: str) -> None:
    sink = start()
    sink.wait_until_ready()
    sent = records(3)
    with psycopg.connect(database_url) as holding, ThreadPoolExecutor(1) as pool:
        holding.execute("LOCK TABLE llmlog.spend_logs IN EXCLUSIVE MODE")
        in_hand = pool.submit(over_grpc, sink, body(sent))
        with psycopg.connect(database_url, autocommit=True) as watching:
            waits = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
            while not watching.execute(waits).fetchone():
                watching.execute("SELECT pg_stat_clear_snapshot()")
        sink.process.send_signal(signal.SIGTERM)
        _until(lambda: not _is_ready(sink))
        assert over_grpc(sink, body([record()])).code == "UNAVAILABLE"
        assert not in_hand.done()
        holding.rollback()
        assert in_hand.result(30) == Reply("OK")
        assert sink.stop()[0] == 0
        assert holding.execute("SELECT count(*) FROM llmlog.spend_logs").fetchone() == (3,)


def test_one_who_signals_again_and_again_gets_an_orderly_end_too(start: Callable[..., Sink]) -> None:
    sink = start()
    sink.wait_until_ready()
    while sink.process.poll() is None:
        sink.process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            sink.process.wait(0.003)
    assert sink.process.returncode == 0

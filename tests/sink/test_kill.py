"""Killed in the middle of its work, the sink or its Postgres, and every span that a sender kept is one row in the end."""

from __future__ import annotations

import random
import signal
import threading
import time
from collections.abc import Callable

import psutil
import psycopg
import pytest

from otel_llmlog.pipeline.record import Record
from tests.faults.postgres import Postgres
from tests.sink.receiving import Reply, Sink, body, over_grpc
from tests.store.records import records

SENDERS = 4


class Load:
    """Senders that keep a batch until it is answered, as a collector's queue does, and then send the next."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._stop = threading.Event()
        self.sent: list[Record] = []
        self.refused = 0
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._run, args=(n,)) for n in range(SENDERS)]
        for thread in self._threads:
            thread.start()

    def _run(self, number: int) -> None:
        chance = random.Random(number)
        while not self._stop.is_set():
            with self._lock:
                batch = records(chance.randrange(1, 80))
            content = body(batch)
            while (answer := over_grpc(self._sink, content)) != Reply("OK"):
                assert answer.code in {"UNAVAILABLE", "CANCELLED", "UNKNOWN"}, answer
                with self._lock:
                    self.refused += 1
                time.sleep(0.05)  # it is told to wait longer; the test is not as patient
            with self._lock:
                self.sent += batch

    def wait_for_more(self, number: int = 300) -> None:
        wanted = len(self.sent) + number
        deadline = time.monotonic() + 60
        while len(self.sent) < wanted:
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def end(self) -> list[Record]:
        self._stop.set()
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive()
        return self.sent


def _assert_all_are_rows(url: str, sent: list[Record]) -> None:
    with psycopg.connect(url) as connection:
        found = connection.execute("SELECT trace_id, span_id FROM llmlog.spend_logs").fetchall()
        sums = connection.execute("SELECT sum(calls) FROM llmlog.spend_hourly").fetchone()
    assert len(found) == len(set(found))
    assert set(found) >= {(one.trace_id, one.span_id) for one in sent}
    assert len(found) == len(sent)
    assert sums == (len(sent),)


def test_kill_9_of_the_sink_in_the_middle_of_its_load(start: Callable[..., Sink], database_url: str) -> None:
    sink = start()
    sink.wait_until_ready()
    load = Load(sink)
    for _ in range(2):
        load.wait_for_more()
        sink.kill()
        sink.start()
    load.wait_for_more()
    sent = load.end()
    assert load.refused
    _assert_all_are_rows(database_url, sent)


@pytest.mark.slow
@pytest.mark.parametrize("kill", [True, False])
def test_postgres_is_killed_and_comes_back_in_the_middle_of_the_load(kill: bool, start: Callable[..., Sink]) -> None:
    with Postgres() as postgres:
        sink = start(url=postgres.url)
        sink.wait_until_ready()
        load = Load(sink)
        for _ in range(3):
            load.wait_for_more()
            postgres.stop_for(0.5, kill=kill)
        load.wait_for_more()
        sent = load.end()
        assert load.refused
        _assert_all_are_rows(postgres.url, sent)
        assert sink.stop()[0] == 0


@pytest.mark.slow
@pytest.mark.parametrize("waiting_for", ["spend_logs", "spend_hourly"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_the_sinks_session_is_killed_in_the_middle_of_a_transaction(
    waiting_for: str, number: signal.Signals, start: Callable[..., Sink]
) -> None:
    with Postgres() as postgres:
        sink = start(url=postgres.url)
        sink.wait_until_ready()
        load = Load(sink)
        for _ in range(3):
            load.wait_for_more()
            postgres.kill_a_writer(waiting_for, number)
        load.wait_for_more()
        _assert_all_are_rows(postgres.url, load.end())


@pytest.mark.slow
def test_sink_and_postgres_are_killed_at_the_same_time_with_several_workers(start: Callable[..., Sink]) -> None:
    with Postgres() as postgres:
        sink = start("--workers", "2", url=postgres.url)
        sink.wait_until_ready()
        load = Load(sink)
        for _ in range(3):
            load.wait_for_more()
            workers = psutil.Process(sink.process.pid).children()
            sink.kill()
            postgres.stop_for(0.2, kill=True)
            assert not psutil.wait_procs(workers, 30)[1]  # they give the ports back
            sink.start()
        load.wait_for_more()
        _assert_all_are_rows(postgres.url, load.end())

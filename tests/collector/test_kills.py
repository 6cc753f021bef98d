"""kill -9 on the way: every span that the collector said yes to is one row, whatever dies and when."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

import psutil
import psycopg
import pytest

from otel_llmlog.demo.provider import LocalProvider
from otel_llmlog.errors import StoreUnavailable
from otel_llmlog.pipeline.otlp import OTLPExporter
from otel_llmlog.pipeline.record import Record
from tests.collector.conftest import rows_of, until
from tests.collector.programs import BIN, Collector, Kafka, Sink, clean, need_backends, need_kafka
from tests.faults.conftest import SCRIPTS
from tests.faults.postgres import Postgres
from tests.store.records import record

pytestmark = pytest.mark.slow
KILLS = 3
# Spans a request: some requests a second from each of the senders, so that a kill meets them at every stage.
SPANS = 40


class Load:
    """Senders that send to the collector without pause, and know what it accepted and what they cannot know of."""

    def __init__(self, url: str, senders: int = 4) -> None:
        self._url = url
        self._attributes = record(session_id="load").attributes
        self._enough = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._send) for _ in range(senders)]
        self.accepted: list[str] = []
        self.unsure: set[str] = set()

    def _send(self) -> None:
        exporter = OTLPExporter(f"{self._url}/v1/traces", {})
        while not self._enough.is_set():
            now = time.time_ns()
            batch = [
                Record(os.urandom(16).hex(), os.urandom(8).hex(), None, now, now + 10**9, "shop", self._attributes)
                for _ in range(SPANS)
            ]
            ids = [one.span_id for one in batch]
            with self._lock:
                self.unsure.update(ids)
            while not self._enough.is_set():
                try:
                    delivery = exporter.export(batch)
                except StoreUnavailable:
                    self._enough.wait(0.05)
                    continue
                assert (delivery.written, list(delivery.rejected)) == (len(batch), [])
                with self._lock:
                    self.unsure.difference_update(ids)
                    self.accepted += ids
                break
        exporter.close()

    def wait_for_more(self) -> None:
        """Return once the collector has accepted something that was not there before."""
        before = len(self.accepted)
        until(lambda: len(self.accepted) > before + 2 * SPANS)

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """No more. May be called twice."""
        self._enough.set()
        for thread in self._threads:
            thread.join()


@pytest.fixture
def postgres() -> Iterator[Postgres]:
    need_backends()
    with Postgres() as running:
        yield running


def _count(url: str) -> int:
    try:
        with psycopg.connect(url) as connection:
            found = connection.execute("SELECT count(*) FROM llmlog.spend_logs").fetchone()
    except psycopg.Error:
        return 0
    return found[0] if found else 0


def _stored(url: str) -> Counter[str]:
    """How many rows each span has."""
    with psycopg.connect(url) as connection:
        return Counter(span_id for (span_id,) in connection.execute("SELECT span_id FROM llmlog.spend_logs"))


def _wait_for(accepted: set[str], url: str) -> None:
    """Return once all of these have a row. However many there are: it fails when no more come and some are missing."""
    while missing := accepted - (stored := _stored(url)).keys():
        try:
            until(lambda: _count(url) > len(stored))
        except AssertionError:
            pytest.fail(f"{len(missing)} of {len(accepted)} accepted spans have no row")


def _kill_server(postgres: Postgres) -> None:
    """kill -9 of the whole server, mid-transaction, and its start with recovery."""
    server = psutil.Process(postgres._postmaster())
    processes = [server, *server.children()]
    for process in processes:
        process.kill()
    psutil.wait_procs(processes, 30)
    time.sleep(random.uniform(0.0, 1.0))  # how long it is away is what is tried here
    postgres.start()


def _kill(program: Collector | Sink) -> None:
    program.kill()
    time.sleep(random.uniform(0.0, 1.0))  # the same
    program.start()


@pytest.mark.parametrize("victim", ["sink", "collector", "postgres", "all"])
def test_every_span_that_the_collector_accepted_is_one_row(postgres: Postgres, tmp_path: Path, victim: str) -> None:
    kills: dict[str, Callable[[], None]] = {}
    with (
        Sink(postgres.url, tmp_path) as sink,
        Collector(tmp_path, sink=sink.grpc) as collector,
        Load(collector.url) as load,
    ):
        kills["sink"] = lambda: _kill(sink)
        kills["collector"] = lambda: _kill(collector)
        kills["postgres"] = lambda: _kill_server(postgres)
        for each in range(KILLS):
            load.wait_for_more()
            stored = _count(postgres.url)
            until(lambda: _count(postgres.url) > stored)  # noqa: B023 - it is used before it changes
            time.sleep(random.uniform(0.0, 0.4))  # the moment of the kill is what is tried here
            kills[victim if victim != "all" else list(kills)[each % 3]]()
        load.wait_for_more()
        load.stop()
        accepted = set(load.accepted)
        _wait_for(accepted, postgres.url)
        until(lambda: collector.metric("otelcol_exporter_queue_size") == 0)
        found = _stored(postgres.url)
    assert len(accepted) == len(load.accepted) > KILLS * SPANS
    assert accepted - found.keys() == set()
    # What it got but could not say yes to may be there or not; nothing is there twice, and nothing else is.
    assert found.keys() - accepted <= load.unsure
    assert set(found.values()) == {1}


def test_every_span_that_an_agent_accepted_comes_through_kafka_and_is_one_row(
    postgres: Postgres, tmp_path: Path
) -> None:
    need_kafka()
    with Kafka(tmp_path) as kafka, Sink(postgres.url, tmp_path) as sink:
        brokers = {"KAFKA_BROKERS": kafka.brokers}
        endpoint = {"LLMLOG_SINK_ENDPOINT": f"dns:///127.0.0.1:{sink.grpc}"}
        with (
            Collector(tmp_path / "agent", configuration="kafka/agent.yaml", **brokers) as agent,
            Collector(tmp_path / "gateway", configuration="kafka/gateway.yaml", **brokers, **endpoint) as gateway,
            Load(agent.url, senders=2) as load,
        ):
            for victim in (sink, gateway, agent):
                load.wait_for_more()
                stored = _count(postgres.url)
                until(lambda: _count(postgres.url) > stored)  # noqa: B023 - it is used before it changes
                _kill(victim)
            load.wait_for_more()
            load.stop()
            accepted = set(load.accepted)
            _wait_for(accepted, postgres.url)
            # As large as a request may be: it fits into every next place on the way.
            attributes = record(session_id="large").attributes
            large = {**attributes, "llmlog.metadata.requester_metadata": f'{{"x": "{os.urandom(5_500_000).hex()}"}}'}
            now = time.time_ns()
            one = Record(os.urandom(16).hex(), os.urandom(8).hex(), None, now, now, "shop", large)
            assert OTLPExporter(f"{agent.url}/v1/traces", {}).export([one]).written == 1
            until(lambda: one.span_id in _stored(postgres.url))
        found = _stored(postgres.url)
    assert len(accepted) == len(load.accepted) > 3 * SPANS
    assert found.keys() - accepted - {one.span_id} <= load.unsure
    assert set(found.values()) == {1}


def test_an_apps_calls_survive_its_own_kill_and_a_long_outage_of_the_collector(
    database_url: str, provider: LocalProvider, tmp_path: Path
) -> None:
    need_backends()
    with Sink(database_url, tmp_path) as sink:
        collector = Collector(tmp_path, sink=sink.grpc).start()
        environment = {
            **clean(),
            "LLMLOG_EXPORTER": "otlp",
            "LLMLOG_SPOOL_DIR": str(tmp_path / "spool"),
            "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
            "OTEL_TRACES_EXPORTER": "none",  # the records alone: nothing else may bring the rows
            "OTEL_METRICS_EXPORTER": "none",
        }

        def app(name: str) -> subprocess.Popen[str]:
            command = [
                BIN / "opentelemetry-instrument",
                sys.executable,
                SCRIPTS / "load.py",
                provider.url,
                name,
                "0",
                "8",
            ]
            return subprocess.Popen(
                [str(part) for part in command],
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )

        def calls(process: subprocess.Popen[str], number: int) -> None:
            assert process.stdout is not None
            for _ in range(number):
                assert process.stdout.readline()

        try:
            first = app("first")
            calls(first, 100)
            until(lambda: _count(database_url) > 0)
            collector.kill()
            calls(first, 300)  # with nobody to take them
            first.kill()
            first.communicate()
            second = app("second")
            calls(second, 200)
            collector.start()
            calls(second, 200)
            collector.kill()
            calls(second, 200)
            second.kill()
            second.communicate()
            collector.start()
            drained = subprocess.run(
                [BIN / "llmlog", "spool", "drain"],
                env=environment,
                capture_output=True,
                text=True,
                timeout=120,
                check=False,
            )
            assert drained.returncode == 0, drained.stderr
            until(lambda: collector.metric("otelcol_exporter_queue_size") == 0)
            served = {request.headers["x-litellm-session-id"] for request in provider.requests}
            until(lambda: served <= {row["session_id"] for row in rows_of(database_url)})
        finally:
            collector.stop()
        found = rows_of(database_url)
    by_name = Counter(row["session_id"] for row in found)
    assert set(by_name.values()) == {1}
    # A request may have been noted and killed before it went out; it is a failure without a cost then.
    ended = {row["session_id"]: row["error_class"] for row in found}
    assert {ended[name] for name in by_name.keys() - served} <= {"ProcessTerminated"}
    assert {row["total_tokens"] for row in found if row["status"] == "success"} == {160}

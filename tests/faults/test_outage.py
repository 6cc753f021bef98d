"""The database away, restarted, killed in the middle: no row lost, none doubled, and the app does not notice."""

from __future__ import annotations

import signal
import statistics
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

from otel_llmlog.demo.provider import LocalProvider
from otel_llmlog.store import check, migrate
from tests.faults.conftest import BIN, SCRIPTS
from tests.faults.postgres import Postgres
from tests.faults.proxy import CuttingProxy


@pytest.fixture
def postgres(tmp_path: Path) -> Iterator[Postgres]:
    with Postgres() as server:
        migrate.upgrade(server.url)
        yield server


def _load(environment: dict[str, str], provider: LocalProvider, name: str) -> subprocess.Popen[str]:
    """The load, after its first call, until its stdin is closed."""
    command = [
        str(BIN / "opentelemetry-instrument"), sys.executable, str(SCRIPTS / "load.py"), provider.url, name, "0"
    ]  # fmt: skip
    process = subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert process.stdout is not None
    while not process.stdout.readline().startswith("call "):
        assert process.poll() is None
    return process


class _Reader(threading.Thread):
    """Reads what the load says, so that it never waits for the pipe: (when a call ended, how long it took)."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        super().__init__()
        self.calls: list[tuple[float, float]] = []
        self._process = process
        self.start()

    def run(self) -> None:
        for line in self._process.stdout or ():
            _, _, ended, took = line.split()
            self.calls.append((float(ended), float(took)))


def _end(environment: dict[str, str], process: subprocess.Popen[str]) -> None:
    """Let the load come to its end, and deliver what it left."""
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait(60) == 0
    drained = subprocess.run([str(BIN / "llmlog"), "spool", "drain"], env=environment, timeout=120, check=False)
    assert drained.returncode == 0


def _agree(url: str, provider: LocalProvider) -> None:
    """Each request that the provider served has one row, complete and priced; the sums are those of the rows."""
    with psycopg.connect(url, row_factory=dict_row) as connection:
        found: list[dict[str, Any]] = connection.execute("SELECT * FROM llmlog.spend_logs").fetchall()
    served = Counter(request.headers["x-litellm-session-id"] for request in provider.requests)
    assert len(served) > 100
    assert Counter(row["session_id"] for row in found) == served
    assert {(row["status"], row["total_tokens"]) for row in found} == {("success", 160)}
    assert all(row["spend"] is not None for row in found)
    assert check.check(url).differences == []


@pytest.mark.parametrize("away", [2.0, pytest.param(60.0, marks=pytest.mark.slow)])
def test_a_restart_under_load_loses_and_doubles_nothing_and_the_app_does_not_wait(
    environment: dict[str, str],
    provider: LocalProvider,
    postgres: Postgres,
    record_property: Callable[[str, object], None],
    away: float,
) -> None:
    environment = {**environment, "LLMLOG_DATABASE_URL": postgres.url}
    process = _load(environment, provider, "outage")
    reader = _Reader(process)
    time.sleep(away / 4)  # as long as this it is there, before and after
    postgres.stop()
    stopped = time.monotonic()
    time.sleep(away)  # how long it is away is what is tried here
    started = time.monotonic()
    postgres.start()
    time.sleep(away / 4)
    _end(environment, process)
    reader.join(60)
    _agree(postgres.url, provider)
    meanwhile = [took for ended, took in reader.calls if stopped < ended - took and ended < started]
    otherwise = [took for ended, took in reader.calls if ended < stopped or ended - took > started]
    # For who compares them: a machine's schedule moves the last of these, so nobody is held to it here.
    for name, took in (("away", meanwhile), ("there", otherwise)):
        cuts = statistics.quantiles(took, n=1000)
        record_property(name, {"p50": cuts[499], "p99": cuts[989], "p99.9": cuts[998], "max": max(took)})
    # Had a thread waited for the database, it would have ended no call in all that time; here it ends some ten a second.
    assert len(meanwhile) > 16 * away
    assert statistics.median(meanwhile) < 1.0


@pytest.mark.slow
@pytest.mark.parametrize("times", [5])
def test_writers_killed_in_the_middle_of_a_transaction_lose_and_double_nothing(
    environment: dict[str, str], provider: LocalProvider, postgres: Postgres, times: int
) -> None:
    environment = {**environment, "LLMLOG_DATABASE_URL": postgres.url, "LLMLOG_FLUSH_INTERVAL": "0.05"}
    process = _load(environment, provider, "killed")
    reader = _Reader(process)
    for _ in range(times):
        for table in ("spend_logs", "spend_hourly"):
            for number in (signal.SIGTERM, signal.SIGKILL):
                postgres.kill_a_writer(table, number)
                postgres.wait_for_more_rows()
        postgres.stop_for(0.5, kill=True)
    _end(environment, process)
    reader.join(60)
    _agree(postgres.url, provider)


@pytest.mark.parametrize("seconds", [pytest.param(40.0, marks=pytest.mark.slow)])
def test_connections_cut_at_random_bytes_lose_and_double_nothing(
    environment: dict[str, str], provider: LocalProvider, postgres: Postgres, seconds: float
) -> None:
    with CuttingProxy(postgres.socket) as proxy:
        environment = {**environment, "LLMLOG_DATABASE_URL": proxy.url, "LLMLOG_FLUSH_INTERVAL": "0.05"}
        process = _load(environment, provider, "cut")
        reader = _Reader(process)
        time.sleep(seconds)  # so long it is tried
        assert proxy.cuts > 2
        proxy.cut = False
        _end(environment, process)
        reader.join(60)
    _agree(postgres.url, provider)

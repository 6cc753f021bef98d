"""The database away, restarted, killed in the middle: no row lost, none doubled, and the app does not notice."""

from __future__ import annotations

import statistics
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

from otel_llmlog.demo.provider import LocalProvider
from otel_llmlog.store import migrate
from tests.faults.conftest import BIN, SCRIPTS
from tests.faults.postgres import Postgres
from tests.faults.proxy import CuttingProxy


@pytest.fixture
def postgres(tmp_path: Path) -> Iterator[Postgres]:
    with Postgres() as server:
        migrate.upgrade(server.url)
        yield server


def _load(environment: dict[str, str], provider: LocalProvider, name: str, seconds: float) -> subprocess.Popen[str]:
    command = [
        str(BIN / "opentelemetry-instrument"), sys.executable, str(SCRIPTS / "load.py"), provider.url, name, str(seconds)
    ]  # fmt: skip
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def _agree(url: str, provider: LocalProvider) -> None:
    """Each request that the provider served has one row, complete and priced."""
    with psycopg.connect(url, row_factory=dict_row) as connection:
        found: list[dict[str, Any]] = connection.execute("SELECT * FROM llmlog.spend_logs").fetchall()
    served = Counter(request.headers["x-litellm-session-id"] for request in provider.requests)
    assert len(served) > 100
    assert Counter(row["session_id"] for row in found) == served
    assert {(row["status"], row["total_tokens"]) for row in found} == {("success", 160)}
    assert all(row["spend"] is not None for row in found)


@pytest.mark.parametrize("away", [2.0, pytest.param(60.0, marks=pytest.mark.slow)])
def test_a_restart_under_load_loses_and_doubles_nothing_and_the_app_does_not_wait(
    environment: dict[str, str], provider: LocalProvider, postgres: Postgres, away: float
) -> None:
    environment = {**environment, "LLMLOG_DATABASE_URL": postgres.url}
    process = _load(environment, provider, "outage", away + 6.0)
    assert process.stdout is not None
    assert process.stdout.readline()
    postgres.stop_for(away, kill=False)
    lines = process.stdout.read().splitlines()
    assert process.wait(60) == 0
    drained = subprocess.run([str(BIN / "llmlog"), "spool", "drain"], env=environment, timeout=120, check=False)
    assert drained.returncode == 0
    _agree(postgres.url, provider)
    # Calls take 50 to 100 ms here. One that had waited for the database would have taken as long as it was away.
    assert max(float(line.split()[2]) for line in lines) < away
    assert statistics.median(float(line.split()[2]) for line in lines) < 1.0


@pytest.mark.parametrize("times", [pytest.param(15, marks=pytest.mark.slow)])
def test_backends_killed_in_the_middle_lose_and_double_nothing(
    environment: dict[str, str], provider: LocalProvider, postgres: Postgres, times: int
) -> None:
    environment = {**environment, "LLMLOG_DATABASE_URL": postgres.url, "LLMLOG_FLUSH_INTERVAL": "0.05"}
    process = _load(environment, provider, "killed", 3.0 + times)
    assert process.stdout is not None
    assert process.stdout.readline()
    for _ in range(times):
        postgres.kill_a_writing_backend(3.0)
    process.stdout.read()
    assert process.wait(60) == 0
    assert (
        subprocess.run([str(BIN / "llmlog"), "spool", "drain"], env=environment, timeout=120, check=False).returncode
        == 0
    )
    _agree(postgres.url, provider)


@pytest.mark.parametrize("seconds", [pytest.param(40.0, marks=pytest.mark.slow)])
def test_connections_cut_at_random_bytes_lose_and_double_nothing(
    environment: dict[str, str], provider: LocalProvider, postgres: Postgres, seconds: float
) -> None:
    with CuttingProxy(postgres.socket) as proxy:
        environment = {**environment, "LLMLOG_DATABASE_URL": proxy.url, "LLMLOG_FLUSH_INTERVAL": "0.05"}
        process = _load(environment, provider, "cut", seconds)
        assert process.stdout is not None
        process.stdout.read()
        assert process.wait(60) == 0
        assert proxy.cuts > 2
        proxy.cut = False
        drained = subprocess.run([str(BIN / "llmlog"), "spool", "drain"], env=environment, timeout=120, check=False)
        assert drained.returncode == 0
    _agree(postgres.url, provider)

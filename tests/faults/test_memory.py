"""Memory stays flat however many calls are made, the database there or not."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator

import psycopg
import pytest

from otel_llmlog.store import migrate
from tests.faults.conftest import BIN, SCRIPTS
from tests.faults.postgres import Postgres

# MiB by which a process may grow once it is warm.
MOST_GROWTH = 20.0


@pytest.fixture
def postgres() -> Iterator[Postgres]:
    with Postgres() as server:
        migrate.upgrade(server.url)
        yield server


@pytest.mark.slow
@pytest.mark.parametrize("calls", [200_000])
def test_memory_is_flat_with_the_database_away_half_of_the_time(
    environment: dict[str, str], postgres: Postgres, record_property: Callable[[str, object], None], calls: int
) -> None:
    environment = {**environment, "LLMLOG_DATABASE_URL": postgres.url, "LLMLOG_SHUTDOWN_TIMEOUT": "60"}
    process = subprocess.Popen(
        [sys.executable, str(SCRIPTS / "memory.py"), str(calls)],
        env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    seen = []
    for line in process.stdout:
        turn, memory = line.split()
        seen.append(float(memory))
        # Away in turns 2 to 6 and 12 to 16 of 20.
        if turn in {"1", "11"}:
            postgres.stop()
        elif turn in {"6", "16"}:
            postgres.start()
    assert process.wait(300) == 0
    record_property("MiB after each turn", seen)
    assert len(seen) == 20
    assert max(seen[2:]) - seen[1] < MOST_GROWTH
    drained = subprocess.run([str(BIN / "llmlog"), "spool", "drain"], env=environment, timeout=300, check=False)
    assert drained.returncode == 0
    with psycopg.connect(postgres.url) as connection:
        assert connection.execute("SELECT count(*) FROM llmlog.spend_logs").fetchone() == (calls // 320 * 320,)

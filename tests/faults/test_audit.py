"""Audit events when things break for real: what was accepted is one row, what `sync` returned is committed."""

from __future__ import annotations

import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator

import psycopg
import pytest

from otel_llmlog.errors import StoreUnavailable
from otel_llmlog.store import audit_chain, migrate
from otel_llmlog.store.audit_rows import AuditWriter
from otel_llmlog.store.connect import conninfo
from tests.audit.events import event, record
from tests.faults.conftest import BIN, SCRIPTS
from tests.faults.postgres import Postgres
from tests.faults.proxy import CuttingProxy


@pytest.fixture
def postgres() -> Iterator[Postgres]:
    with Postgres() as server:
        migrate.upgrade(server.url)
        yield server


def _load(environment: dict[str, str], name: str, seconds: float, mode: str) -> subprocess.Popen[str]:
    command = [sys.executable, str(SCRIPTS / "audit_load.py"), name, str(seconds), mode]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def _ids(url: str) -> Counter[str]:
    with psycopg.connect(url) as connection:
        return Counter(row[0] for row in connection.execute("SELECT id FROM llmlog.audit_logs").fetchall())


def _accepted(lines: list[str]) -> set[str]:
    """What the app was told is recorded or will be: all that returned, and what raised waits in the spool."""
    return {line.split()[0] for line in lines if len(line.split()) == 3}


def _agree(url: str, lines: list[str]) -> None:
    found, accepted = _ids(url), _accepted(lines)
    assert len(accepted) > 50
    # One that was written when the process died may not have been told of any more.
    assert accepted <= found.keys()
    assert set(found.values()) == {1}
    assert audit_chain.verify(url).findings == []


@pytest.mark.parametrize("kills", [2, pytest.param(60, marks=pytest.mark.slow)])
def test_after_kill_9_every_accepted_event_is_one_row(
    environment: dict[str, str], database_url: str, drain: Callable[[], None], kills: int
) -> None:
    lines: list[str] = []
    for number in range(kills):
        process = _load(environment, f"run{number}", 60, "mixed")
        assert process.stdout is not None
        lines.append(process.stdout.readline())
        time.sleep(0.2 + 0.013 * number)  # the moment of the kill is what is tried here, not something waited for
        process.kill()
        lines += process.stdout.read().splitlines()
        process.wait(30)
    synced = {line.split()[0] for line in lines if line.endswith("ok sync")}
    assert synced <= _ids(database_url).keys()
    drain()
    _agree(database_url, lines)


@pytest.mark.parametrize(
    ("away", "kill"), [(0.5, True), *(pytest.param(20.0, kill, marks=pytest.mark.slow) for kill in (False, True))]
)
def test_an_outage_loses_and_doubles_nothing_and_sync_never_says_what_is_not_so(
    environment: dict[str, str], postgres: Postgres, away: float, kill: bool
) -> None:
    environment = {**environment, "LLMLOG_DATABASE_URL": postgres.url, "LLMLOG_AUDIT_SYNC_TIMEOUT": "0.2"}
    process = _load(environment, "outage", away + 2.0, "mixed")
    assert process.stdout is not None
    lines = [process.stdout.readline()]
    while not lines[-1].endswith("ok sync\n"):
        lines.append(process.stdout.readline())
        assert lines[-1], "it ended early"
    postgres.stop_for(away, kill=kill)
    lines += process.stdout.read().splitlines()
    assert process.wait(60) == 0
    assert any(line.endswith("raised sync") for line in lines)
    drained = subprocess.run([str(BIN / "llmlog"), "spool", "drain"], env=environment, timeout=120, check=False)
    assert drained.returncode == 0
    _agree(postgres.url, lines)


def test_a_fork_loses_and_doubles_nothing(
    environment: dict[str, str], database_url: str, drain: Callable[[], None]
) -> None:
    process = _load(environment, "fork", 0.5, "fork")
    lines = process.communicate(timeout=60)[0].splitlines()
    assert process.returncode == 0
    assert len([line for line in lines if line.endswith("ok sync")]) == 2
    drain()
    _agree(database_url, lines)


@pytest.mark.parametrize("tries", [60, pytest.param(3000, marks=pytest.mark.slow)])
def test_sync_never_returns_without_a_committed_row_wherever_the_connection_is_cut(
    postgres_server: str, database_url: str, tries: int
) -> None:
    database = database_url.rpartition("?")[0].rpartition("/")[2]
    socket = database_url.partition("host=")[2] + "/.s.PGSQL.5432"
    outcomes: Counter[str] = Counter()
    # Cut within the first few records of each connection: at log-in, before, in and after COMMIT.
    with CuttingProxy(socket, most=9_000) as proxy, psycopg.connect(database_url, autocommit=True) as direct:
        url = f"{proxy.url.rpartition('/')[0]}/{database}"
        writer = AuditWriter(lambda: conninfo(url), 5)
        for _ in range(tries):
            made = event()
            try:
                writer.store(record(made))
            except StoreUnavailable:
                outcomes["raised"] += 1
                continue
            outcomes["returned"] += 1
            found = direct.execute("SELECT count(*) FROM llmlog.audit_logs WHERE id = %s", (made.id,)).fetchone()
            assert found == (1,)
        writer.close()
        assert proxy.cuts > tries / 10
    assert outcomes["raised"] >= 1
    assert outcomes["returned"] > tries / 3
    assert audit_chain.verify(database_url).findings == []

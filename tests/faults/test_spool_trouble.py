"""The spool full, its disk full, its directory read-only or gone: the app runs on, and every call is accounted for."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.faults.app import App
from tests.faults.conftest import BIN
from tests.pipeline import spooling

SECONDS = 60.0
# Records that may wait in memory when the disk takes none.
QUEUE = 20


@pytest.fixture
def away(postgres_server: str, database_url: str) -> Callable[[], Any]:
    """Takes the database away for a while: it lets nobody in."""
    name = database_url.partition("?")[0].rpartition("/")[2]

    def open_to_all(answer: str) -> None:
        with psycopg.connect(postgres_server, autocommit=True) as connection:
            connection.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS {answer}")
            connection.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,))

    @contextmanager
    def for_a_while() -> Iterator[None]:
        open_to_all("false")
        try:
            yield
        finally:
            open_to_all("true")

    return for_a_while


@pytest.fixture
def status(environment: dict[str, str]) -> Callable[[int | None], dict[str, Any]]:
    """What `llmlog status` says once it knows of so many calls, None: of any; it must account for all of them."""

    def ask(captured: int | None) -> dict[str, Any]:
        until = time.monotonic() + SECONDS
        while True:
            command = [str(BIN / "llmlog"), "status", "--json"]
            done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=True)
            found: dict[str, Any] = json.loads(done.stdout)
            if captured is None or found["captured"] >= captured or time.monotonic() > until:
                break
            time.sleep(0.2)
        assert found["captured"] == (captured or found["captured"])
        kinds = ("written", "duplicates_ignored", "spooled", "dropped", "rejected", "not_logged")
        assert found["captured"] == sum(found[kind] for kind in kinds)
        return found

    return ask


Status = Callable[[int | None], dict[str, Any]]
Rows = Callable[[], list[dict[str, Any]]]


@pytest.mark.slow
def test_a_full_spool_drops_the_newest_and_the_numbers_say_how_many(
    environment: dict[str, str], away: Callable[[], Any], status: Status, rows: Rows, drain: Callable[[], None]
) -> None:
    environment |= {
        "LLMLOG_SPOOL_MAX_BYTES": str(1 << 20), "LLMLOG_QUEUE_SIZE": str(QUEUE), "LLMLOG_SHUTDOWN_TIMEOUT": "0.5"
    }  # fmt: skip
    with away():
        app = App(environment)
        app.call(700)
        found = app.numbers()
        assert found["waiting"] > QUEUE
        assert found["dropped.spool_full"] == 700 - found["waiting"]
        assert status(700)["spooled"] == found["waiting"]
        app.quit()
        # What only memory held went with the process. It is noted on disk that there were such calls, but for those
        # that found the spool full when they began, too: they count as dropped.
        ended = status(None)
        lost = ended.get("dropped.shutdown", 0)
        noted = QUEUE - lost
        assert (ended["captured"], ended["spooled"]) == (700 - noted, found["waiting"] - QUEUE)
        assert ended["dropped"] == found["dropped.spool_full"] + lost
    drain()
    drained = status(700)
    assert (drained["spooled"], drained["written"], drained["terminated"]) == (0, found["waiting"] - lost, noted)
    assert Counter(row["total_tokens"] for row in rows()) == Counter({160: found["waiting"] - QUEUE, 0: noted})


def test_on_a_full_disk_the_app_runs_on_and_the_numbers_say_what_was_lost(
    environment: dict[str, str], away: Callable[[], Any], rows: Rows, tmp_path: Path
) -> None:
    environment |= {"LLMLOG_QUEUE_SIZE": str(QUEUE)}
    place = tmp_path / "disk"
    with spooling.disk_of(place, "256k") as mounted:
        environment |= {"LLMLOG_SPOOL_DIR": str(place)}
        with away():
            app = App(environment, *([] if mounted else ["200000"]))
            for _ in range(15):
                app.call(20)  # so many are under way at once: their intents are not what fills the disk
            found = app.numbers()
            assert found["dropped.spool_disk_full"] == 300 - found["waiting"] > 0
            assert found["waiting"] > QUEUE
        assert app.ask("flush")
        assert app.numbers()["written"] == found["waiting"]
        if mounted:  # there is room again
            app.call(50)
            assert app.ask("flush")
            assert app.numbers()["written"] == found["waiting"] + 50
        app.quit()
    written = found["waiting"] + 50 * mounted
    assert [row["total_tokens"] for row in rows()] == [160] * written


def test_without_a_directory_to_write_to_rows_go_by_memory_and_the_numbers_say_what_was_lost(
    environment: dict[str, str], away: Callable[[], Any], rows: Rows, tmp_path: Path
) -> None:
    (tmp_path / "spool").write_text("a file where the directory should be")
    environment |= {"LLMLOG_QUEUE_SIZE": str(QUEUE)}
    app = App(environment)
    app.call(10)
    assert app.ask("flush")
    assert app.numbers()["written"] == 10
    with away():
        app.call(100)
        found = app.numbers()
        assert (found["waiting"], found["dropped.spool_unwritable"]) == (QUEUE, 100 - QUEUE)
    assert app.ask("flush")
    assert app.numbers()["written"] == 10 + QUEUE
    app.quit()
    assert [row["total_tokens"] for row in rows()] == [160] * (10 + QUEUE)


def test_a_directory_that_vanishes_costs_nothing(
    environment: dict[str, str], away: Callable[[], Any], status: Status, rows: Rows, tmp_path: Path
) -> None:
    app = App(environment)
    with away():
        app.call(100)
        shutil.rmtree(tmp_path / "spool")
        app.call(100)
        assert app.numbers()["waiting"] == 200
    assert app.ask("flush")
    app.quit()
    assert status(200)["written"] == 200
    assert [row["total_tokens"] for row in rows()] == [160] * 200


@pytest.mark.slow
def test_pipes_and_devices_among_the_files_hold_up_neither_the_app_nor_its_exit(
    environment: dict[str, str], status: Status, rows: Rows, tmp_path: Path
) -> None:
    app = App(environment)
    app.call(1)
    assert app.ask("flush")
    app.quit()
    (place,) = (tmp_path / "spool").iterdir()
    for name in ("77-0123abcd.stats", "77-0123abcd.new", f"{'a' * 32}-00000001.seg", f"{'a' * 32}-00000002.intents"):
        os.mkfifo(place / name)
    (place / "78-0123abcd.stats").symlink_to("/dev/zero")
    app = App(environment)
    for report in place.glob("*.stats"):  # where the next one of this process goes, too
        with contextlib.suppress(FileExistsError):
            os.mkfifo(report.with_suffix(".new"))
    app.call(10)
    assert app.ask("flush")
    assert app.numbers()["spool.set_aside"] >= 5
    app.quit()  # waits a minute at most
    assert len(rows()) == 11
    assert len(status(11)["refused"]) >= 5

"""A Postgres of a test's own, that can be stopped, started again and hurt."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import tempfile
import time
from pathlib import Path
from typing import Any, Self

import psutil
import psycopg

from otel_llmlog.store import embedded


class Postgres:
    """The embedded server in a directory of its own; `url` stays the same over restarts."""

    def __enter__(self) -> Self:
        self._directory = Path(tempfile.mkdtemp(prefix="llmlog-faults-"))
        self.url = embedded.start(self._directory / "data")
        self.socket = str(self._directory / "data" / ".s.PGSQL.5432")
        return self

    def __exit__(self, *_: object) -> None:
        if (self._directory / "data" / "postmaster.pid").exists():
            self._stop(signal.SIGINT)
        shutil.rmtree(self._directory, ignore_errors=True)

    def _postmaster(self) -> int:
        return int((self._directory / "data" / "postmaster.pid").read_text().split("\n", 1)[0])

    def _stop(self, number: signal.Signals) -> None:
        postmaster = self._postmaster()
        os.kill(postmaster, number)
        # Its pid file goes before it does, and a new one starts only when it is gone.
        gone = time.monotonic() + 30
        while psutil.pid_exists(postmaster) and time.monotonic() < gone:
            time.sleep(0.05)

    def stop(self) -> None:
        """End all sessions and the server."""
        self._stop(signal.SIGINT)

    def start(self) -> None:
        """Start it again, under the same URL."""
        assert embedded.start(self._directory / "data") == self.url

    def stop_for(self, seconds: float, *, kill: bool) -> None:
        """Stop the server (SIGQUIT: at once, as a crash would), leave it away for a while, start it again."""
        self._stop(signal.SIGQUIT if kill else signal.SIGINT)
        time.sleep(seconds)  # how long it is away is what is tried here
        self.start()

    def kill_a_writer(self, waiting_for: str, number: signal.Signals) -> None:
        """End the server process of a session that is in the middle of a transaction.

        `waiting_for`: the table whose turn it is, `spend_logs` for the COPY, `spend_hourly` for the sums after it. With
        SIGKILL the server ends all sessions and recovers, as after a crash.
        """
        waiting = "SELECT pid FROM pg_stat_activity WHERE application_name = 'llmlog' AND wait_event_type = 'Lock'"
        with contextlib.suppress(psycopg.OperationalError), self._connected() as connection:
            connection.execute(f"LOCK TABLE llmlog.{waiting_for} IN EXCLUSIVE MODE")
            while not (found := connection.execute(waiting).fetchall()):
                connection.execute("SELECT pg_stat_clear_snapshot()")
                time.sleep(0.01)
            os.kill(found[0][0], number)
            connection.execute("SELECT pg_sleep(0.2)")  # which tells whether the server went as well

    def wait_for_more_rows(self) -> None:
        """Return once a batch has been stored: a writer that fails again and again tries less and less often."""
        before = None
        while True:
            with contextlib.suppress(psycopg.OperationalError), self._connected() as connection:
                rows = connection.execute("SELECT count(*) FROM llmlog.spend_logs").fetchone()
                before = before or rows
                if rows != before:
                    return
            time.sleep(0.05)

    def _connected(self) -> psycopg.Connection[Any]:
        """A session, once the server takes some."""
        deadline = time.monotonic() + 60
        while True:
            try:
                return psycopg.connect(self.url)
            except psycopg.OperationalError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)

"""A Postgres of a test's own, that can be stopped, started again and hurt."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import time
from pathlib import Path
from typing import Self

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

    def kill_a_writing_backend(self, seconds: float) -> None:
        """End the server process of a session that is in the middle of a COPY or a COMMIT, if one is met in time."""
        deadline = time.monotonic() + seconds
        with psycopg.connect(self.url, autocommit=True) as connection:
            while time.monotonic() < deadline:
                found = connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE application_name = 'llmlog' AND state = 'active' AND query ~* 'copy|insert|commit'"
                ).fetchall()
                if found:
                    return

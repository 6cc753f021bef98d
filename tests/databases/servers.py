"""Real servers of any version, poolers in front of them, and primaries with standbys. All listen on loopback only.

As root they run as `nobody`: Postgres and PgBouncer refuse to be root.
"""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
import pytest

BACKENDS = Path(__file__).resolve().parents[2] / ".cache" / "backends"
OTHER_USER = "nobody"
PATIENCE = 60.0


def binaries(major: int) -> Path:
    """Where the server of this version is. Skips the test where there is none, and fails it in CI."""
    found = sorted(BACKENDS.glob(f"postgres-{major}.*/bin/postgres"))
    if not found:
        if os.environ.get("CI"):
            pytest.fail(f"no Postgres {major}: run `make postgres-servers`")
        pytest.skip(f"no Postgres {major} here: `make postgres-servers` fetches it")
    return _reachable(found[-1].parents[1]) / "bin"


@cache
def _reachable(place: Path) -> Path:
    """The server's files where the user whom it runs as can read them: a checkout may be in root's home."""
    if subprocess.run(_as_other(["test", "-x", str(place / "bin" / "postgres")]), check=False, cwd="/").returncode == 0:
        return place
    copied = Path(tempfile.mkdtemp(prefix="llmlog-pg-", dir="/tmp"))
    atexit.register(shutil.rmtree, copied, ignore_errors=True)
    copied.chmod(0o755)
    shutil.copytree(place, copied / place.name, symlinks=True)
    return copied / place.name


def pgbouncer() -> str:
    """The pooler's program. Skips the test where it is not installed, and fails it in CI."""
    found = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
    if found is None:
        if os.environ.get("CI"):
            pytest.fail("no pgbouncer: install the package pgbouncer")
        pytest.skip("no pgbouncer here")
    return found


def free_port() -> int:
    """A port that is free now."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def until(found: Callable[[], Any], what: str, seconds: float = PATIENCE) -> Any:
    """What it answers, once that is something."""
    deadline = time.monotonic() + seconds
    while not (answer := found()):
        assert time.monotonic() < deadline, what
        time.sleep(0.02)
    return answer


@contextmanager
def directory() -> Iterator[Path]:
    """A directory that belongs to the user whom servers run as; its path is short enough for a socket."""
    made = Path(tempfile.mkdtemp(prefix="llmlog-pg-", dir="/tmp"))
    if os.geteuid() == 0:
        shutil.chown(made, OTHER_USER)
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _as_other(command: list[str]) -> list[str]:
    return ["runuser", "-u", OTHER_USER, "--", *command] if os.geteuid() == 0 else command


class Running:
    """A program that runs as somebody else, until it is stopped."""

    def __init__(self, command: list[str], log: Path) -> None:
        self.log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(_as_other(command), stdout=output, stderr=output, cwd="/")

    def alive(self) -> bool:
        return self._process.poll() is None

    def stop(self, number: int = signal.SIGINT) -> None:
        """End it and wait for that."""
        if self.alive():
            # runuser passes SIGTERM on, and no other; its child is the server.
            children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()
            pids = [int(child) for child in children] if os.geteuid() == 0 else [self._process.pid]
            for pid in pids:
                os.kill(pid, number)
        try:
            self._process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise


class Server:
    """A Postgres of its own: trusts everybody, keeps nothing."""

    def __init__(self, major: int, place: Path, port: int | None = None) -> None:
        self.major, self.data, self.port = major, place / "data", port or free_port()
        self._place, self._binaries = place, binaries(major)
        self._running: Running | None = None

    def make(self) -> None:
        """A new, empty cluster."""
        command = [str(self._binaries / "initdb"), "-D", str(self.data), "-A", "trust", "-U", "postgres", "-E", "UTF8",
                   "--locale=C", "--no-sync"]  # fmt: skip
        subprocess.run(_as_other(command), check=True, capture_output=True, cwd="/", timeout=120)

    def start(self, *, answers: bool = True) -> None:
        """Start it and wait until it answers."""
        options = {
            "port": self.port, "listen_addresses": "127.0.0.1", "unix_socket_directories": self._place, "fsync": "off",
            "shared_buffers": "16MB", "max_connections": "40", "logging_collector": "off",
        }  # fmt: skip
        command = [str(self._binaries / "postgres"), "-D", str(self.data)]
        for name, value in options.items():
            command += ["-c", f"{name}={value}"]
        self._running = Running(command, self._place / "log")
        if answers:
            until(self._answers, f"Postgres {self.major} did not start: {self._place / 'log'}")

    def _answers(self) -> bool:
        assert self._running is not None
        assert self._running.alive(), self._running.log.read_text()
        try:
            self.ask("SELECT 1")
        except psycopg.OperationalError:
            return False
        return True

    def stop(self) -> None:
        """Stop it at once, sessions or not."""
        if self._running is not None:
            self._running.stop(signal.SIGQUIT)
            self._running = None

    def standby(self, place: Path) -> Server:
        """A standby of it, from a copy of its files; not started."""
        other = Server(self.major, place)
        with psycopg.connect(self.url(), autocommit=True) as connection:
            new = self.major >= 15
            connection.execute(
                f"SELECT {'pg_backup_start(%s, true)' if new else 'pg_start_backup(%s, true, false)'}", ("x",)
            )
            # Files that come and go meanwhile are of no matter: the log of changes is copied, too.
            subprocess.run(
                _as_other(["cp", "-a", str(self.data), str(other.data)]), check=False, capture_output=True, cwd="/"
            )
            stopped = connection.execute(
                f"SELECT * FROM {'pg_backup_stop()' if new else 'pg_stop_backup(false)'}"
            ).fetchone()
        assert stopped is not None
        (other.data / "postmaster.pid").unlink(missing_ok=True)
        files = {
            "standby.signal": "",
            "backup_label": stopped[1],
            "postgresql.auto.conf": f"primary_conninfo = 'host=127.0.0.1 port={self.port} user=postgres'\n",
        }
        for name, said in files.items():
            (other.data / name).write_text(said)
            if os.geteuid() == 0:
                shutil.chown(other.data / name, OTHER_USER)
        return other

    def ask(self, query: str, database: str = "postgres") -> list[tuple[Any, ...]]:
        """Run a statement as the superuser."""
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            cursor = connection.execute(query)
            return cursor.fetchall() if cursor.description else []

    def database(self, name: str) -> str:
        """A new database, owned by a role of its name that is no superuser; answers the URL for that role."""
        self.ask(f"CREATE ROLE {name} LOGIN")
        self.ask(f"CREATE DATABASE {name} OWNER {name}")
        return self.url(name, name)

    def url(self, database: str = "postgres", user: str = "postgres") -> str:
        """The URL of a database on it."""
        return f"postgresql://{user}@127.0.0.1:{self.port}/{quote(database)}"


@contextmanager
def server(major: int) -> Iterator[Server]:
    """A running server of this version, gone at the end."""
    binaries(major)
    with directory() as place:
        made = Server(major, place)
        made.make()
        try:
            made.start()
            yield made
        finally:
            made.stop()


@contextmanager
def pooler(behind: Server, mode: str, size: int = 1, **settings: Any) -> Iterator[int]:
    """A PgBouncer in front of a server, in this mode, with `size` connections to it; answers its port."""
    program = pgbouncer()
    with directory() as place:
        port = free_port()
        users = place / "users"
        users.write_text("".join(f'"{name}" ""\n' for (name,) in behind.ask("SELECT rolname FROM pg_roles")))
        told = {
            "listen_addr": "127.0.0.1", "listen_port": port, "unix_socket_dir": "", "auth_type": "trust",
            "auth_file": users, "pool_mode": mode, "default_pool_size": size, "reserve_pool_size": 0,
            "query_wait_timeout": 20, "max_client_conn": 100, "ignore_startup_parameters": "", **settings,
        }  # fmt: skip
        file = place / "pgbouncer.ini"
        lines = "".join(f"{name} = {value}\n" for name, value in told.items())
        file.write_text(f"[databases]\n* = host=127.0.0.1 port={behind.port}\n[pgbouncer]\n{lines}")
        running = Running([program, str(file)], place / "log")

        def listens() -> bool:
            assert running.alive(), running.log.read_text()
            with socket.socket() as asking:
                return asking.connect_ex(("127.0.0.1", port)) == 0

        try:
            until(listens, "PgBouncer did not start")
            yield port
        finally:
            running.stop(signal.SIGTERM)

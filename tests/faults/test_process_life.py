"""However processes begin and end, each call they made has its row."""

from __future__ import annotations

import itertools
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from otel_llmlog.demo.provider import LocalProvider
from tests.faults.conftest import BIN, SCRIPTS

Rows = Callable[[], list[dict[str, Any]]]
INSTRUMENT = str(BIN / "opentelemetry-instrument")

QUICK = [
    "fork",
    "pool",
    "pool that is terminated",
    "thread that outlives a child's main function",
    "os.fork in a thread",
    "event loop closed early",
    "SIGTERM while it stops",
    "SIGINT",
]
SLOW = ["spawn", "forkserver", "sys.exit in a thread", "sys.exit", "daemon thread", "SIGTERM", "SIGHUP"]
SLOW += [
    "SIGINT twice",
    "SIGINT in an event loop",
    "interrupted, and caught",
    "raise_signal",
    "kill itself",
    "sys.exit with a code",
    "exception",
]
MODES = [*QUICK, *(pytest.param(mode, marks=pytest.mark.slow) for mode in SLOW)]
# How programs end that do not end well.
EXITS = {
    "SIGTERM": {-signal.SIGTERM},
    "SIGTERM while it stops": {-signal.SIGTERM},
    "SIGHUP": {-signal.SIGHUP},
    "SIGINT": {-signal.SIGINT},
    "SIGINT twice": {-signal.SIGINT},
    "SIGINT in an event loop": {-signal.SIGINT},
    "interrupted, and caught": {3},
    "raise_signal": {-signal.SIGTERM},
    "kill itself": {-signal.SIGHUP},
    "sys.exit with a code": {3},
    "exception": {1},
}


def _agree(provider: LocalProvider, rows: Rows) -> list[dict[str, Any]]:
    found = rows()
    served = Counter(request.headers["x-litellm-session-id"] for request in provider.requests)
    assert served
    assert Counter(row["session_id"] for row in found) == served
    return found


@pytest.mark.parametrize("mode", MODES)
def test_every_call_has_its_row_after(
    environment: dict[str, str], provider: LocalProvider, rows: Rows, drain: Callable[[], None], mode: str
) -> None:
    command = [INSTRUMENT, sys.executable, str(SCRIPTS / "life.py"), provider.url, mode]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode in EXITS.get(mode, {0}), done.stderr
    assert ("KeyboardInterrupt" in done.stderr) == mode.startswith("SIGINT")
    assert "Exception ignored" not in done.stderr
    if mode == "SIGINT twice":  # who is in such a hurry has it from the next process
        drain()
    found = _agree(provider, rows)
    complete = [row for row in found if row["status"] == "success"]
    if mode == "event loop closed early":
        assert [row["error_class"] for row in found] == ["ProcessTerminated"]
    elif mode == "os.fork in a thread":
        # The child left through os._exit: its row is there, though it may not know how the call ended.
        assert len(complete) >= 2
    elif mode != "daemon thread":
        assert len(complete) == len(found)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def _serve(
    command: list[str],
    environment: dict[str, str],
    port: int,
    calls: int,
    *,
    directory: Path = SCRIPTS,
    change: Path | None = None,
) -> set[str]:
    """Start a server, ask it `calls` times, end it with SIGTERM; the process ids that answered.

    `change`: a file that is touched half way; the rest is asked of the process that has seen it.
    """
    process = subprocess.Popen(command, env=environment, cwd=directory, stderr=subprocess.DEVNULL, text=True)
    try:
        transport = httpx.HTTPTransport(retries=5)
        pids = set()
        with httpx.Client(transport=transport, timeout=20) as client:
            deadline = time.monotonic() + 60
            for number in itertools.count():
                if number >= calls and (change is None or len(pids) > 1):
                    break
                assert time.monotonic() < deadline
                if number == calls // 2 and change is not None:
                    change.touch()
                while True:
                    try:
                        answer = client.get(f"http://127.0.0.1:{port}/request-{number}")
                        break
                    except httpx.ConnectError:
                        assert time.monotonic() < deadline
                        assert process.poll() is None
                        time.sleep(0.1)
                assert answer.status_code == 200
                pids.add(answer.text)
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)
    return pids


def test_gunicorn_with_preload_loses_no_row_in_any_worker(
    environment: dict[str, str], provider: LocalProvider, rows: Rows, drain: Callable[[], None]
) -> None:
    port = _free_port()
    command = [
        INSTRUMENT, str(BIN / "gunicorn"), "--preload", "--workers", "3", "--bind", f"127.0.0.1:{port}", "web:wsgi"
    ]  # fmt: skip
    pids = _serve(command, {**environment, "PROVIDER_URL": provider.url}, port, 30)
    assert len(pids) > 1
    drain()
    assert {row["status"] for row in _agree(provider, rows)} == {"success"}


@pytest.mark.slow
def test_uvicorn_with_workers_loses_no_row(
    environment: dict[str, str], provider: LocalProvider, rows: Rows, drain: Callable[[], None]
) -> None:
    port = _free_port()
    command = [INSTRUMENT, str(BIN / "uvicorn"), "--port", str(port), "--workers", "2", "web:asgi"]
    _serve(command, {**environment, "PROVIDER_URL": provider.url}, port, 20)
    drain()
    assert {row["status"] for row in _agree(provider, rows)} == {"success"}


@pytest.mark.slow
def test_uvicorn_that_reloads_loses_no_row(
    environment: dict[str, str], provider: LocalProvider, rows: Rows, drain: Callable[[], None], tmp_path: Path
) -> None:
    app = tmp_path / "app" / "web.py"
    app.parent.mkdir()
    shutil.copy(SCRIPTS / "web.py", app)
    port = _free_port()
    command = [INSTRUMENT, str(BIN / "uvicorn"), "--port", str(port), "--reload", "web:asgi"]
    environment |= {"PROVIDER_URL": provider.url}
    pids = _serve(command, environment, port, 20, directory=app.parent, change=app)
    assert len(pids) > 1
    drain()
    assert {row["status"] for row in _agree(provider, rows)} == {"success"}


def test_a_database_that_hangs_keeps_no_program_from_its_end(
    environment: dict[str, str], provider: LocalProvider
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections, and says nothing
        url = f"postgresql://nobody@127.0.0.1:{silent.getsockname()[1]}/none"
        hanging = {"LLMLOG_DATABASE_URL": url, "LLMLOG_CONNECT_TIMEOUT": "300", "LLMLOG_SHUTDOWN_TIMEOUT": "0.5"}
        command = [INSTRUMENT, sys.executable, str(SCRIPTS / "life.py"), provider.url, "sys.exit"]
        done = subprocess.run(
            command, env={**environment, **hanging}, capture_output=True, text=True, timeout=60, check=False
        )
    assert done.returncode == 0
    assert "1 record(s) wait in the spool" in done.stderr


@pytest.mark.parametrize("why", ["no such database", "no such role", "nobody listens", "not to be changed"])
def test_a_database_that_refuses_keeps_no_program_from_its_end(
    environment: dict[str, str], provider: LocalProvider, database_url: str, why: str
) -> None:
    url = {
        "no such database": database_url.replace("/llmlog_test_", "/no_such_"),
        "no such role": database_url.replace("://postgres", "://nobody"),
        "nobody listens": f"postgresql://postgres@127.0.0.1:{_free_port()}/llmlog",
        "not to be changed": f"{database_url}&options=-cdefault_transaction_read_only%3Don",
    }[why]
    assert url != database_url
    command = [INSTRUMENT, sys.executable, str(SCRIPTS / "life.py"), provider.url, "sys.exit"]
    refused = {**environment, "LLMLOG_DATABASE_URL": url, "LLMLOG_SHUTDOWN_TIMEOUT": "300"}
    done = subprocess.run(command, env=refused, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0
    assert "1 record(s) wait in the spool" in done.stderr

"""Whatever runs the app, and however its processes end: each call has its row soon after, and nobody drains by hand.

The servers end with the code and the signal that they end with without us: that is what the table below says.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psycopg
import pytest

from otel_llmlog.demo.provider import LocalProvider
from tests.servers.conftest import BIN, SCRIPTS

pytestmark = pytest.mark.slow

INSTRUMENT = str(BIN / "opentelemetry-instrument")
# Within these a server is up, its rows are there, and it is gone when it is told to: hangs took 30 s.
SECONDS, GONE_SECONDS = 60.0, 25.0
TERM, INT, QUIT, HUP = signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP

# Command lines; then what the server's process ends with: a signal that kills it is negative, as in `subprocess`.
GUNICORN = "gunicorn --workers 2 --bind 127.0.0.1:{port} "
COMMANDS = {
    "gunicorn": GUNICORN + "{module}:wsgi",
    "gunicorn, preloaded": GUNICORN + "--preload {module}:wsgi",
    "gunicorn with threads": GUNICORN + "-k gthread --threads 4 {module}:wsgi",
    "gunicorn with uvicorn": GUNICORN + "-k uvicorn.workers.UvicornWorker {module}:asgi",
    "gunicorn with uvicorn-worker": GUNICORN + "-k uvicorn_worker.UvicornWorker {module}:asgi",
    "gunicorn with gevent": GUNICORN + "-k gevent {module}:wsgi",
    "gunicorn with gevent, preloaded": GUNICORN + "-k gevent --preload {module}:wsgi",
    "uvicorn": "uvicorn --port {port} {module}:asgi",
    "uvicorn with workers": "uvicorn --port {port} --workers 2 {module}:asgi",
    "hypercorn": "hypercorn -w 2 -b 127.0.0.1:{port} {module}:asgi",
    "daphne": "daphne -b 127.0.0.1 -p {port} {module}:asgi",
    "granian": "granian --interface asgi --workers 2 --host 127.0.0.1 --port {port} {module}:asgi",
    "waitress": "waitress-serve --listen=127.0.0.1:{port} {module}:wsgi",
    "eventlet": "python evented.py {port} {module}",
    "uwsgi": "uwsgi --http-socket 127.0.0.1:{port} --master -p 2 --enable-threads --die-on-term -w {module}:wsgi",
    "uwsgi, lazy": "uwsgi --http-socket 127.0.0.1:{port} --master -p 2 --enable-threads --lazy-apps --die-on-term "
    "-w {module}:wsgi",
}
ENDS = [
    *((name, TERM, 0) for name in COMMANDS if name not in {"uvicorn", "waitress", "eventlet"}),
    *((name, TERM, -TERM) for name in ("uvicorn", "waitress", "eventlet")),
    # gunicorn with uvicorn is not here: without us, too, its workers do not hear of these, and are killed after 30 s.
    ("gunicorn with threads", INT, 0),
    ("gunicorn with gevent", QUIT, 0),
    ("uvicorn", INT, 0),
    ("uvicorn with workers", INT, 0),
    ("uwsgi", INT, 0),
]


@dataclass
class Server:
    """A server at work: its process and the processes that answered."""

    process: subprocess.Popen[str]
    port: int
    log: Path
    pids: set[int] = field(default_factory=set)

    def ask(self, name: str) -> int:
        """Make the app call; answers the process that did."""
        deadline = time.monotonic() + SECONDS
        while True:
            try:
                # Each over a connection of its own: servers wait at their end for those that are kept.
                answer = httpx.get(f"http://127.0.0.1:{self.port}/{name}", headers={"connection": "close"}, timeout=20)
            except httpx.ConnectError:
                assert self.process.poll() is None, self.log.read_text()
                assert time.monotonic() < deadline
                time.sleep(0.05)
            else:
                assert answer.status_code == 200
                self.pids.add(int(answer.text))
                return int(answer.text)

    def end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        return self.process.wait(GONE_SECONDS)


@pytest.fixture
def serve(environment: dict[str, str], tmp_path: Path):  # type: ignore[no-untyped-def]
    started: list[Server] = []

    def start(name: str, *more: str, module: str = "web") -> Server:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = int(free.getsockname()[1])
        program, *arguments = COMMANDS[name].format(port=port, module=module).split()
        command = [*([] if module == "coded" else [INSTRUMENT]), str(BIN / program), *arguments, *more]
        log = tmp_path / "server.log"
        with log.open("w") as file:
            process = subprocess.Popen(
                command, env=environment, cwd=SCRIPTS, stdout=file, stderr=file, text=True, start_new_session=True
            )
        started.append(Server(process, port, log))
        return started[-1]

    yield start
    for server in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.process.pid, signal.SIGKILL)
        server.process.wait()


@pytest.fixture
def agree(provider: LocalProvider, database_url: str):  # type: ignore[no-untyped-def]
    """Wait until each call that the provider served has its row, and no other is there."""

    def check() -> None:
        deadline = time.monotonic() + SECONDS
        served = Counter(request.headers["x-litellm-session-id"] for request in provider.requests)
        assert served
        while True:
            with psycopg.connect(database_url) as connection:
                rows = connection.execute("SELECT session_id, status FROM llmlog.spend_logs").fetchall()
            if len(rows) >= served.total() or time.monotonic() > deadline:
                break
            time.sleep(0.05)
        assert Counter(session for session, _ in rows) == served
        assert {status for _, status in rows} == {"success"}

    return check


def _is_quiet(server: Server) -> None:
    said = server.log.read_text()
    assert "Exception ignored" not in said
    assert "AssertionError" not in said
    assert "otel-llmlog" not in said


@pytest.mark.parametrize(("name", "number", "code"), ENDS)
def test_after_a_short_life_each_call_has_its_row(serve, agree, name, number, code) -> None:  # type: ignore[no-untyped-def]
    server = serve(name)
    for each in range(8):
        server.ask(f"call-{each}")
    assert server.end(number) == code
    agree()
    _is_quiet(server)


@pytest.mark.parametrize("name", ["gunicorn with uvicorn", "gunicorn with gevent", "uvicorn with workers"])
def test_ctrl_c_at_a_terminal_which_all_processes_hear_leaves_their_rows(serve, agree, name) -> None:  # type: ignore[no-untyped-def]
    server = serve(name)
    for each in range(8):
        server.ask(f"call-{each}")
    os.killpg(server.process.pid, INT)
    assert server.process.wait(GONE_SECONDS) == 0
    agree()
    _is_quiet(server)


IN_CODE = ["gunicorn, preloaded", "gunicorn with uvicorn", "gunicorn with gevent", "uwsgi"]


@pytest.mark.parametrize("name", IN_CODE)
def test_with_capture_switched_on_in_code_each_call_has_its_row(serve, agree, name) -> None:  # type: ignore[no-untyped-def]
    server = serve(name, module="coded")
    for each in range(8):
        server.ask(f"call-{each}")
    assert server.end(TERM) == 0
    agree()
    _is_quiet(server)


@pytest.mark.parametrize("name", ["gunicorn with threads", "gunicorn with gevent"])
def test_workers_that_are_replaced_after_some_calls_leave_their_rows(serve, agree, name) -> None:  # type: ignore[no-untyped-def]
    server = serve(name, "--max-requests", "3")
    deadline, each = time.monotonic() + SECONDS, 0
    while len(server.pids) <= 2:
        assert time.monotonic() < deadline
        server.ask(f"call-{each}")
        each += 1
    assert server.end(TERM) == 0
    agree()
    _is_quiet(server)


@pytest.mark.parametrize("name", ["gunicorn", "gunicorn with uvicorn", "uwsgi"])
def test_workers_that_are_replaced_at_a_reload_leave_their_rows(serve, agree, name) -> None:  # type: ignore[no-untyped-def]
    server = serve(name)
    before = {server.ask(f"before-{each}") for each in range(6)}
    server.process.send_signal(HUP)
    deadline, each = time.monotonic() + SECONDS, 0
    while any(Path(f"/proc/{pid}").exists() for pid in before):
        assert time.monotonic() < deadline
        with contextlib.suppress(httpx.HTTPError):  # a worker that goes may close what it has just taken
            server.ask(f"meanwhile-{each}")
        each += 1
    agree()
    assert server.end(TERM) == 0
    _is_quiet(server)


KILLS = [
    *((name, "by the system") for name in COMMANDS if name.startswith("gunicorn")),
    # Of a worker of gevent only a task is stuck then.
    *((name, "by its master, because it is stuck") for name in ("gunicorn", "gunicorn with uvicorn")),
]


@pytest.mark.parametrize(("name", "how"), KILLS)
def test_a_worker_that_is_killed_leaves_its_rows_to_the_server_that_goes_on(serve, agree, name, how) -> None:  # type: ignore[no-untyped-def]
    stuck = how != "by the system"
    others = 1 if stuck else 2  # that answer afterwards
    server = serve(name, "--timeout", "3", "--workers", str(others))
    pid = server.ask("first")
    if stuck:
        with contextlib.suppress(httpx.HTTPError):
            httpx.get(f"http://127.0.0.1:{server.port}/stuck", timeout=20)
    else:
        os.kill(pid, signal.SIGKILL)
    agree()
    # gunicorn does not hear that it should end while a worker starts.
    deadline, each = time.monotonic() + SECONDS, 0
    while len(server.pids - {pid}) < others and time.monotonic() < deadline:
        server.ask(f"after-{each}")
        each += 1
    assert server.end(TERM) == 0


@pytest.mark.parametrize("order", ["patched first", "captured first"])
@pytest.mark.parametrize("library", ["gevent", "eventlet"])
def test_calls_on_tasks_have_their_rows_and_a_flush_stops_nobody(  # type: ignore[no-untyped-def]
    environment: dict[str, str], provider: LocalProvider, agree, library: str, order: str
) -> None:
    command = [str(BIN / "python"), str(SCRIPTS / "patched.py"), library, order, provider.url]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 0, done.stderr
    agree()
    assert "AssertionError" not in done.stderr


@pytest.mark.parametrize(
    "pool", ["prefork --max-tasks-per-child 1", "prefork", "threads", "solo", "gevent", "eventlet"]
)
def test_tasks_of_celery_leave_their_rows_in_an_idle_worker_and_at_its_end(  # type: ignore[no-untyped-def]
    environment: dict[str, str], provider: LocalProvider, agree, pool: str, tmp_path: Path
) -> None:
    command = [INSTRUMENT, str(BIN / "celery"), "-A", "tasks", "worker", "-c", "2", "--without-mingle"]
    command += ["--without-gossip", "--without-heartbeat", "-P", *pool.split()]
    log = tmp_path / "celery.log"
    asking = "import sys, tasks\nfor number in range(6): tasks.ask.delay(f'{sys.argv[1]}-{number}')"
    with log.open("w") as file:
        worker = subprocess.Popen(
            command, env=environment, cwd=tmp_path, stdout=file, stderr=file, text=True, start_new_session=True
        )
    try:
        for turn in ("first", "second"):
            subprocess.run([str(BIN / "python"), "-c", asking, turn], env=environment, check=True, timeout=SECONDS)
            deadline = time.monotonic() + SECONDS
            wanted = 6 if turn == "first" else 12
            while len(provider.requests) < wanted and time.monotonic() < deadline:
                time.sleep(0.05)
            assert len(provider.requests) == wanted, log.read_text()
            if turn == "first":
                agree()  # the worker is idle, and goes on
        worker.send_signal(TERM)
        assert worker.wait(GONE_SECONDS) == 0
        agree()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(worker.pid, signal.SIGKILL)
        worker.wait()

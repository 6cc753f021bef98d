"""The examples do what they say, run as their first lines say."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from otel_llmlog.demo.provider import LocalProvider
from tests.e2e.conftest import ROOT

BIN = Path(sys.executable).parent
INSTRUMENT = str(BIN / "opentelemetry-instrument")
EXAMPLES = ROOT / "examples"
WORKER = [INSTRUMENT, sys.executable, str(EXAMPLES / "worker.py")]
UVICORN = [INSTRUMENT, str(BIN / "uvicorn"), "--app-dir", str(EXAMPLES), "--port", "0"]

Rows = Callable[[], list[dict[str, Any]]]


@contextmanager
def running(command: list[str], environment: dict[str, str], ready: str) -> Iterator[str]:
    """A program, up to its end; gives what stands where in the line that says it is ready."""
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, bufsize=1
    )
    try:
        heard = []
        for line in process.stdout:
            heard.append(line)
            if found := re.search(ready, line):
                break
        else:
            raise AssertionError("".join(heard))
        yield found[1]
    finally:
        process.terminate()
        process.communicate(timeout=30)


def test_a_web_handler_says_who_asks_for_its_tasks_threads_and_services(
    app_environment: dict[str, str], provider: LocalProvider, rows: Rows
) -> None:
    listening = r"running on (http://127.0.0.1:\d+)"
    with running([*UVICORN, "web_service:answers"], app_environment, listening) as answers:
        environment = {**app_environment, "ANSWERS_URL": answers, "NO_PROXY": "127.0.0.1"}
        with running([*UVICORN, "web_service:app"], environment, listening) as app:
            for user, chat in (("ada", "chat-7"), ("bob", "chat-8")):
                reply = httpx.get(f"{app}/chats/{chat}", params={"text": "hello"}, headers={"x-user": user}, timeout=60)
                assert reply.status_code == 200
                assert all(reply.json().values())
    found = [(row["session_id"], row["user_id"], row["request_tags"]) for row in rows()]
    assert sorted(found) == [("chat-7", "ada", ["web"])] * 3 + [("chat-8", "bob", ["web"])] * 3
    assert [request.headers.get("baggage") for request in provider.requests] == [None] * 6


def test_a_worker_books_calls_on_who_asked_for_the_task(
    app_environment: dict[str, str], provider: LocalProvider, rows: Rows
) -> None:
    with running([*WORKER, "work", "127.0.0.1:0"], app_environment, r"ready at (127.0.0.1:\d+)") as address:
        for user, chat in (("ada", "chat-7"), ("bob", "chat-8")):
            subprocess.run([*WORKER, "enqueue", address, chat, user, "Rivers"], env=app_environment, check=True)
        subprocess.run([*WORKER, "stop", address], env=app_environment, check=True)
    found = [(row["session_id"], row["user_id"], row["request_tags"]) for row in rows()]
    assert found == [("chat-7", "ada", ["worker"])] * 2 + [("chat-8", "bob", ["worker"])] * 2
    assert [request.headers.get("baggage") for request in provider.requests] == [None] * 4

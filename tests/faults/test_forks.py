"""A fork meets background threads at work: it waits for what it must not cut in half."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import httpx
import pytest
from opentelemetry.sdk.trace import TracerProvider

from otel_llmlog import config, emit, forks
from otel_llmlog.capture import patch
from otel_llmlog.capture.counting import TokenCounter
from otel_llmlog.capture.reading import Reader
from otel_llmlog.capture.recorder import Recorder
from otel_llmlog.capture.worker import ReadingWorker
from otel_llmlog.demo.provider import LocalProvider
from otel_llmlog.pricing import Pricer
from otel_llmlog.stats import Stats
from tests.capture.outlet import Outlet
from tests.faults.conftest import SCRIPTS


def test_a_fork_waits_for_background_work_that_has_begun() -> None:
    begun, forking, said = threading.Event(), threading.Event(), ["half done"]
    os.register_at_fork(before=forking.set)  # such handlers run last first: before the one that is tried here

    def work() -> None:
        with forks.held_off():
            begun.set()
            forking.wait(20)
            said[0] = "done"

    thread = threading.Thread(target=work)
    thread.start()
    assert begun.wait(20)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(writing, said[0].encode())
        os._exit(0)
    thread.join(20)
    os.waitpid(child, 0)
    assert os.read(reading, 100) == b"done"


def test_a_fork_on_the_thread_that_holds_forks_off_does_not_wait_for_itself() -> None:
    with forks.held_off():
        child = os.fork()
        if child == 0:
            with forks.held_off():
                os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


@pytest.mark.parametrize("store", ["tables to be made", "embedded", "collector"])
def test_background_threads_import_and_read_calls_only_while_forks_wait(
    postgres_server: str, empty_database_url: str, provider: LocalProvider, tmp_path: Path, store: str
) -> None:
    settings = {
        "tables to be made": {"LLMLOG_DATABASE_URL": empty_database_url},
        "embedded": {"LLMLOG_EMBEDDED_DIR": postgres_server.partition("host=")[2]},
        "collector": {
            "LLMLOG_EXPORTER": "otlp",
            "OTEL_EXPORTER_OTLP_ENDPOINT": provider.url,
            "LLMLOG_SHUTDOWN_TIMEOUT": "1",
        },
    }[store]
    outside = {name: value for name, value in os.environ.items() if not name.startswith(("LLMLOG_", "OTEL_"))}
    environment = {**outside, **settings, "LLMLOG_SPOOL_DIR": str(tmp_path / "spool")}
    environment.setdefault("LLMLOG_SHUTDOWN_TIMEOUT", "20")
    command = [sys.executable, str(SCRIPTS / "background.py"), provider.url]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=True)
    assert json.loads(done.stdout) == {"imported": [], "read": [True, True]}


def test_a_fork_waits_for_the_call_that_is_read_and_not_for_those_that_follow(monkeypatch: pytest.MonkeyPatch) -> None:
    between, forked = threading.Event(), threading.Event()

    def let_a_fork_go_first(worker: ReadingWorker, until: float) -> None:
        between.set()
        assert forked.wait(5)  # half as long as a fork waits at most

    provider = TracerProvider()
    settings, stats = config.Settings(), Stats()
    delivered: list[object] = []
    outlet = Outlet(lambda *given: delivered.append(given))
    reader = Reader(settings, Pricer(), TokenCounter(), stats)
    recorder = Recorder(settings.capture, reader, provider.get_tracer("x"), emit.Metrics("0"), outlet, stats)
    patch.install(recorder, inject_usage=False)
    try:
        monkeypatch.setattr(ReadingWorker, "_let_others_run", let_a_fork_go_first)
        reply = {"id": "c", "choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}}
        transport = httpx.MockTransport(lambda _: httpx.Response(200, json=reply))
        with httpx.Client(transport=transport, base_url="http://llm") as client:
            for _ in range(2):
                client.post("/v1/chat/completions", json={"model": "gpt-4o-mini", "messages": []})
        assert between.wait(20)
        child = os.fork()
        if not child:
            os._exit(0)
        forked.set()
        os.waitpid(child, 0)
        assert recorder.flush(20)
    finally:
        patch.remove()
    assert len(delivered) == 2

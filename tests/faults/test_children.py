"""Children that end without a chance to deliver: who forked them does, however idle, and nobody drains by hand."""

from __future__ import annotations

import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from otel_llmlog.demo.provider import LocalProvider
from tests.faults.conftest import BIN, SCRIPTS

Rows = Callable[[], list[dict[str, Any]]]
INSTRUMENT = str(BIN / "opentelemetry-instrument")
# A minute: nothing here takes so long, unless it never comes.
SECONDS = 60.0


def _await(rows: Rows, provider: LocalProvider, calls: int) -> None:
    deadline = time.monotonic() + SECONDS
    while len(rows()) < calls and time.monotonic() < deadline:
        time.sleep(0.05)
    served = Counter(request.headers["x-litellm-session-id"] for request in provider.requests)
    assert Counter(row["session_id"] for row in rows()) == served
    assert {row["status"] for row in rows()} == {"success"}
    assert len(served) == calls


@pytest.mark.parametrize("mode", ["gone", "killed", "aborted", "another program", "grandchild", "in code"])
def test_a_parent_that_makes_no_call_delivers_what_its_children_left(
    environment: dict[str, str], provider: LocalProvider, rows: Rows, mode: str
) -> None:
    command = [] if mode == "in code" else [INSTRUMENT]
    command += [sys.executable, str(SCRIPTS / "children.py"), provider.url, mode]
    process = subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        _await(rows, provider, 6 if mode == "grandchild" else 3)
    finally:
        process.communicate(timeout=SECONDS)
    assert process.returncode == 0


def test_what_waits_of_a_program_that_was_killed_is_delivered_by_the_next_one_that_starts_and_makes_no_call(
    environment: dict[str, str], provider: LocalProvider, rows: Rows
) -> None:
    call = [INSTRUMENT, sys.executable, str(SCRIPTS / "life.py"), provider.url, "killed"]
    assert subprocess.run(call, env=environment, timeout=SECONDS, check=False).returncode == -9
    wait = [INSTRUMENT, sys.executable, "-c", "import sys; sys.stdin.read()"]
    process = subprocess.Popen(wait, env=environment, stdin=subprocess.PIPE)
    try:
        _await(rows, provider, 1)
    finally:
        process.communicate(timeout=SECONDS)

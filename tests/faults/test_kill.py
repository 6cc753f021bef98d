"""kill -9 at any moment: the provider's own log and the table agree on every request."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from otel_llmlog.demo.provider import LocalProvider
from tests.faults.conftest import BIN, SCRIPTS


def _kill_once(environment: dict[str, str], provider: LocalProvider, name: str, wait: float) -> dict[str, float]:
    """Run the load, and kill it `wait` seconds after it has begun. Answers how long before that calls were fully read."""
    command = [
        str(BIN / "opentelemetry-instrument"), sys.executable, str(SCRIPTS / "load.py"), provider.url, name, "60", "16",
    ]  # fmt: skip
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None
    assert process.stdout.readline().startswith("up ")
    time.sleep(wait)  # the moment of the kill is what is tried here, not something that is waited for
    killed = time.monotonic()
    process.kill()
    said = [line.split() for line in process.stdout.read().splitlines()]
    process.wait(30)
    return {words[1]: killed - float(words[2]) for words in said if len(words) == 4 and words[0] == "call"}


@pytest.mark.parametrize(
    ("kills", "content"), [(3, False), (3, True), pytest.param(100, False, marks=pytest.mark.slow)]
)
def test_after_kill_9_every_request_has_one_row_and_every_one_that_was_read_its_cost(
    environment: dict[str, str],
    provider: LocalProvider,
    drain: Callable[[], None],
    rows: Callable[[], list[dict[str, Any]]],
    kills: int,
    content: bool,
) -> None:
    environment |= {"LLMLOG_STORE_PROMPTS_IN_SPEND_LOGS": str(content)}
    moments = random.Random(kills)
    # Each second one at any moment, from the first line of the program on.
    waits = [moments.uniform(0.0, 3.0) if number % 2 else moments.uniform(1.5, 3.0) for number in range(kills)]
    read = [_kill_once(environment, provider, f"run{number}", wait) for number, wait in enumerate(waits)]
    drain()
    found = rows()
    by_name = Counter(row["session_id"] for row in found)
    served = {request.headers["x-litellm-session-id"] for request in provider.requests}
    assert served <= by_name.keys()
    assert set(by_name.values()) == {1}
    status = {row["session_id"]: row for row in found}
    # A request may have been noted and killed before it went out: it is there as a failure, never as a cost.
    assert {status[name]["error_class"] for name in by_name.keys() - served} <= {"ProcessTerminated"}
    assert {row["total_tokens"] for row in found if row["status"] == "success"} == {160}
    assert {row["error_class"] for row in found if row["status"] == "failure"} <= {"ProcessTerminated"}
    # What the app had its answer of when it was killed is known with its cost: no time need have passed. With content on
    # it must have been read, which takes some milliseconds; a second is enough in any case.
    least = 1.0 if content else float("-inf")
    names = {name for run in read for name, before in run.items() if before > least}
    assert len(names) > kills
    assert [name for name in names if status[name]["status"] != "success" or status[name]["spend"] is None] == []
    # And not because all of it had been read by then.
    assert content != any("the process ended before the reply was read" in str(row["metadata"]) for row in found)

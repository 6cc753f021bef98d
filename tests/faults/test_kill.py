"""kill -9 at any moment: the provider's own log and the table agree on every request."""

from __future__ import annotations

import random
import struct
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from otel_llmlog.demo.provider import LocalProvider
from tests.faults.conftest import BIN, SCRIPTS

# Seconds after which what was read has its tokens and its cost: of time in which the process's threads got their turns,
# and in any case.
SETTLED, SETTLED_IN_ANY_CASE = 0.020, 1.0
# As in the script: a beat that is later than this is a stall, which began when the beat was due.
BEAT, LATE = 0.002, 0.005


class Killed(NamedTuple):
    """A run that was killed: the names of calls that were fully read so long before."""

    settled: set[str]
    long_settled: set[str]
    stalled: float
    """Seconds in which no thread got a turn."""


def _kill_once(
    environment: dict[str, str], provider: LocalProvider, name: str, after: str, wait: float, heart: Path
) -> Killed:
    """Run the load, and kill it `wait` seconds after it has said `after`: that it is up, or that prices are loaded."""
    heart.write_bytes(bytes(8))
    command = [
        str(BIN / "opentelemetry-instrument"), sys.executable, str(SCRIPTS / "load.py"),
        provider.url, name, "60", "16", str(heart),
    ]  # fmt: skip
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None
    said = []
    while not said or not said[-1].startswith(after + " "):
        said.append(process.stdout.readline())
        assert said[-1], "the load came to an end"
    time.sleep(wait)  # the moment of the kill is what is tried here, not something that is waited for
    killed = time.monotonic()
    process.kill()
    lines = [line.split() for line in (*said, *process.stdout.read().splitlines()) if line]
    process.wait(30)
    ready = next((float(words[1]) for words in lines if words[0] == "ready" and len(words) == 2), killed)
    stalls = [(float(words[1]), float(words[2])) for words in lines if words[0] == "stall" and len(words) == 3]
    (last_beat,) = struct.unpack("d", heart.read_bytes())
    if killed - last_beat > LATE:
        stalls.append((last_beat + BEAT, killed))

    def turns(since: float) -> float:
        return killed - since - sum(max(0.0, end - max(begin, since)) for begin, end in stalls)

    ended = {words[1]: float(words[2]) for words in lines if words[0] == "call" and len(words) == 4}
    return Killed(
        {name for name, at in ended.items() if at > ready and turns(at) > SETTLED},
        {name for name, at in ended.items() if at > ready and killed - at > SETTLED_IN_ANY_CASE},
        sum(end - begin for begin, end in stalls),
    )


@pytest.mark.parametrize("kills", [3, pytest.param(100, marks=pytest.mark.slow)])
def test_after_kill_9_every_request_has_one_row_and_every_settled_one_its_cost(
    environment: dict[str, str],
    provider: LocalProvider,
    drain: Callable[[], None],
    rows: Callable[[], list[dict[str, Any]]],
    tmp_path: Path,
    kills: int,
) -> None:
    moments = random.Random(kills)
    runs = []
    for number in range(kills):
        # Each second one at any moment, from the first line of the program on.
        after, wait = ("up", moments.uniform(0.0, 3.0)) if number % 2 else ("ready", moments.uniform(1.5, 3.0))
        runs.append(_kill_once(environment, provider, f"run{number}", after, wait, tmp_path / "heart"))
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

    def without_cost(names: set[str]) -> list[str]:
        return [name for name in names if status[name]["status"] != "success" or status[name]["spend"] is None]

    long_settled = set().union(*(run.long_settled for run in runs))
    assert len(long_settled) > kills
    assert without_cost(long_settled) == []
    if kills > 10:
        # The short form, that must never fail by chance, does not hold anybody to milliseconds.
        settled = set().union(*(run.settled for run in runs))
        assert len(settled) > len(long_settled)
        assert without_cost(settled) == []

"""What the processes of a spool directory say of themselves: their counters, as a small file each, and as OTel metrics.

Always true: a report is replaced whole, so that a reader sees an old or a new one; failing to write one harms nothing.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, Observation

from otel_llmlog.emit import SCOPE
from otel_llmlog.stats import Stats

_SUFFIX = ".stats"
# Reports of processes that ended longer ago than this many seconds are removed.
_KEEP_SECONDS = 86_400
# Counters that together account for every call captured and event audited, beside those that wait.
_STATES = ("captured", "audited", "written", "duplicates", "dead", "adopted", "terminated")
# A report that is older than this many seconds is of a process that is gone: ids of processes come again.
_FRESH_SECONDS = 120.0

# Of one process, since its id may be another's tomorrow.
_name = ""


def _forget_name() -> None:
    global _name  # noqa: PLW0603 - one process, one report
    _name = ""


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_name)


@dataclass(frozen=True, slots=True)
class Report:
    """One process: its id, whether it lives, when it last reported (epoch seconds), its counters."""

    pid: int
    live: bool
    at: float
    waiting: int
    counts: Mapping[str, int]


def write(directory: str, stats: Stats, waiting: int) -> None:
    """Say how things stand in this process, if anything has happened in it."""
    counts = stats.snapshot()
    if not counts:
        return
    global _name  # noqa: PLW0603 - one process, one report
    _name = _name or f"{os.getpid()}-{os.urandom(4).hex()}"
    path = Path(directory, _name + _SUFFIX)
    fresh = path.with_suffix(".new")
    said = json.dumps({"at": time.time(), "waiting": waiting, "counts": counts})
    with contextlib.suppress(OSError):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)  # it may have vanished
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(said)
        fresh.replace(path)


def read(directory: str) -> list[Report]:
    """What all processes said; reports that are long dead are removed."""
    found = []
    for path in sorted(Path(directory).glob(f"*{_SUFFIX}")):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            said = json.loads(path.read_text())
            pid = int(path.stem.partition("-")[0])
            there = Path(f"/proc/{pid}").exists() if Path("/proc").exists() else _lives(pid)
            live = there and said["at"] > time.time() - _FRESH_SECONDS
            if not live and said["at"] < time.time() - _KEEP_SECONDS:
                path.unlink()
                continue
            found.append(Report(pid, live, float(said["at"]), int(said["waiting"]), dict(said["counts"])))
    return found


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def observe(version: str, stats: Stats, waiting: Callable[[], int], spool_bytes: Callable[[], int]) -> None:
    """Make the counters OTel metrics, read when a metric reader asks."""
    meter = metrics.get_meter(SCOPE, version)

    def records(_options: CallbackOptions) -> Iterable[Observation]:
        for name, number in stats.snapshot().items():
            if name in _STATES:
                yield Observation(number, {"llmlog.state": name})
            elif name.startswith("dropped."):
                yield Observation(number, {"llmlog.state": "dropped", "llmlog.reason": name.removeprefix("dropped.")})

    meter.create_observable_counter("llmlog.records", [records], "{record}", "LLM call records by what became of them")
    meter.create_observable_gauge(
        "llmlog.records.waiting", [lambda _: [Observation(waiting())]], "{record}", "Records not delivered yet"
    )
    meter.create_observable_gauge(
        "llmlog.spool.size", [lambda _: [Observation(spool_bytes())]], "By", "Disk that this process's spool takes"
    )
    meter.create_observable_gauge(
        "llmlog.write.duration",
        [lambda _: [Observation(stats.snapshot().get("write.last_ms", 0) / 1000)]],
        "s",
        "How long the last batch took to be delivered",
    )

"""What the processes of a spool directory say of themselves: their counters, as a small file each, and as OTel metrics.

Always true: a report is replaced whole, so that a reader sees an old or a new one; failing to write one harms nothing.
"""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import msgspec
from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, Observation

from otel_llmlog.emit import SCOPE
from otel_llmlog.pipeline.spool import aside, files, folder
from otel_llmlog.stats import Stats

# A report, or one that is being written.
_NAME = re.compile(r"([0-9]{1,10})-[0-9a-f]{8}(\.stats|\.new)")
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


_Count = Annotated[int, msgspec.Meta(ge=0, le=1 << 62)]


class _Said(msgspec.Struct, gc=False):
    """A report as it is on disk."""

    at: float
    waiting: _Count
    counts: dict[str, _Count]


_decode = msgspec.json.Decoder(_Said).decode


def write(directory: str, stats: Stats, waiting: int) -> None:
    """Say how things stand in this process, if anything has happened in it."""
    counts = stats.snapshot()
    if not counts:
        return
    global _name  # noqa: PLW0603 - one process, one report
    _name = _name or f"{os.getpid()}-{os.urandom(4).hex()}"
    path = Path(directory, _name + aside.REPORT)
    # A name that nobody can have put a pipe at.
    fresh = path.with_name(f"{os.getpid()}-{os.urandom(4).hex()}.new")
    said = msgspec.json.encode(_Said(time.time(), waiting, counts))
    with contextlib.suppress(OSError):
        files.make_directory(path.parent, fsync=False)  # it may have vanished
        try:
            with os.fdopen(files.make(fresh), "wb") as file:
                file.write(said)
            fresh.replace(path)
        except OSError:
            files.remove(fresh)
            raise


def read(directory: str) -> list[Report]:
    """What all processes said; reports that are long dead are removed."""
    return look(directory)[0]


def look(directory: str) -> tuple[list[Report], list[str]]:
    """What all processes said, and the names of files that are no reports, though they are called so."""
    found: list[Report] = []
    unreadable: list[str] = []
    place = Path(directory).absolute()
    try:
        uid = folder.check(place)
        names = sorted(path.name for path in place.iterdir())
    except OSError:
        return [], []
    for name in names:
        matched = _NAME.fullmatch(name)
        # What is no plain file of ours is not opened; `spool.status` tells of it.
        descriptor = files.open_existing(place / name, uid, write=False) if matched else None
        if matched is None or descriptor is None:
            continue
        with os.fdopen(descriptor, "rb") as file:
            data, changed = file.read(aside.MAX_REPORT + 1), os.fstat(descriptor).st_mtime
        try:
            said = _decode(data)
        except (msgspec.MsgspecError, ValueError):
            if changed < time.time() - _KEEP_SECONDS:
                files.remove(place / name)
            elif matched[2] == aside.REPORT and len(data) <= aside.MAX_REPORT:  # else `spool.status` tells of it
                unreadable.append(f"{name}: no counters")
            continue
        if matched[2] != aside.REPORT:
            continue
        pid = int(matched[1])
        there = Path(f"/proc/{pid}").exists() if Path("/proc").exists() else _lives(pid)
        live = there and said.at > time.time() - _FRESH_SECONDS
        if not live and said.at < time.time() - _KEEP_SECONDS:
            files.remove(place / name)
            continue
        found.append(Report(pid, live, said.at, said.waiting, said.counts))
    return found, unreadable


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
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

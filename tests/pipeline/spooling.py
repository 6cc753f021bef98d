"""What the spool's tests share: real processes to kill, and what is left in a directory after them."""

from __future__ import annotations

import os
import signal
import subprocess
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from otel_llmlog.pipeline.spool import Spool, adopt


def fork(body: Callable[[], object]) -> int:
    """Run `body` in a child process; answers its id. The child ends without the parent's clean-up."""
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        body()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def wait(child: int) -> int:
    """The exit code of a child, negative for the signal that killed it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def run(body: Callable[[], object]) -> None:
    """Run `body` in a child process to its end."""
    assert wait(fork(body)) == 0


def die() -> None:
    """End this process as the kernel would: no clean-up of any kind."""
    os.kill(os.getpid(), signal.SIGKILL)


def run_and_die(body: Callable[[], object]) -> None:
    """Run `body` in a child process that is then killed."""

    def all_of_it() -> None:
        body()
        die()

    assert wait(fork(all_of_it)) == -signal.SIGKILL


def left(directory: Path, *, done: bool = True) -> tuple[list[bytes], list[bytes]]:
    """Outcomes and open intents that dead processes left in the directory; removed, unless `done` is False."""
    outcomes: list[bytes] = []
    intents: list[bytes] = []
    for orphan in adopt(directory):
        found, still_open = list(orphan.outcomes()), [intent for intent, _ in orphan.intents()]
        assert (orphan.outcome_count, orphan.intent_count) == (len(found), len(still_open))
        outcomes += found
        intents += still_open
        if done:
            orphan.done()
    return outcomes, intents


def endings(directory: Path) -> dict[bytes, bytes | None]:
    """The endings that dead processes left in the directory, by intent."""
    return {intent: ending for orphan in adopt(directory) for intent, ending in orphan.intents()}


def drain(spool: Spool, limit: int = 1000) -> list[bytes]:
    """Read and acknowledge all there is."""
    payloads: list[bytes] = []
    while entries := spool.read(limit):
        payloads += [entry.payload for entry in entries]
        spool.ack(entries)
    return payloads


def tables(directory: Path) -> list[Path]:
    """Files of intents."""
    return sorted(directory.glob("*.intents"))


def segments(directory: Path) -> list[Path]:
    """Files of outcomes."""
    return sorted(directory.glob("*.seg"))


@contextmanager
def disk_of(place: Path, size: str) -> Iterator[bool]:
    """A directory that is a file system of a few KB, if one may be mounted here; answers whether that is so."""
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=755", "none", place]
    mounted = subprocess.run(command, stderr=subprocess.DEVNULL, check=False).returncode == 0
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(["umount", "-l", place], check=True)


@contextmanager
def small_disk(place: Path, size: str) -> Iterator[Path]:
    """A file system of a few KB. Needs root."""
    with disk_of(place, size) as mounted:
        if not mounted:
            import pytest

            pytest.skip("no file system can be mounted here")
        yield place


def remount(place: Path, options: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{options}", place], check=True)

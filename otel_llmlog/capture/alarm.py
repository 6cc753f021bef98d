"""Alarm: wakes one thread a while, or a longer while, after another has set it, and wakes nobody before.

A thread that hears over a lock or a queue that it is to wake in 5 ms wakes twice, once to hear it; one that looks every
5 ms wakes for nothing most times. Each time it wants the interpreter's lock of an app's thread that has just got its
answer. Linux can do the waiting: to set a timer there takes one short system call, in which that lock is kept.

Always true: setting an alarm wakes nobody and never waits; an alarm that is set is heard, in time or later, as long as
`set` and `ring` answered True.
"""

from __future__ import annotations

import ctypes
import os
import select
from _queue import Empty, SimpleQueue  # the system's, which nobody patches
from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from typing import Protocol

from otel_llmlog import native

_CLOCK_MONOTONIC = 1
_CLOSED_ON_EXEC = 0o2000000

# Where pointers have 64 bits, so have seconds and nanoseconds. `PyDLL` keeps the interpreter's lock, `CDLL` would not.
_libc = ctypes.PyDLL(None) if os.name == "posix" and ctypes.sizeof(ctypes.c_void_p) == 8 else None
AVAILABLE = hasattr(_libc, "timerfd_settime")
_Times = ctypes.c_int64 * 4

if _libc is not None and AVAILABLE:
    # (descriptor, 0: from now on, address of `_Times`, None) -> 0, or -1 where the descriptor is no timer
    _settime: Callable[[int, int, int, None], int] = _libc.timerfd_settime
    _libc.timerfd_settime.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]


def _once(seconds: float) -> ctypes.Array[ctypes.c_int64]:
    """For `_settime`: once, so long from now; 0 is never."""
    return _Times(0, 0, int(seconds), int(seconds % 1 * 1e9))


_NOW, _NEVER = _once(1e-9), _once(0)


class Alarm(Protocol):
    """One thread waits, any may set it."""

    def set(self) -> bool:
        """Wake who waits in a while. False: it cannot be, the alarm is broken."""
        ...

    def set_late(self) -> bool:
        """Wake who waits in a longer while; not for an alarm that is set, it may become later. False: the same."""
        ...

    def ring(self) -> bool:
        """Wake who waits now. False: the same."""
        ...

    def wait(self, timeout: float | None = None) -> None:
        """Wait until it is time, or for `timeout` s. Raises OSError when the alarm is broken."""
        ...


class Timer:
    """An alarm of Linux: the system wakes who waits."""

    def __init__(self, soon: float, late: float) -> None:
        """Seconds from `set`, and from `set_late`, to waking. Raises OSError where there are no timers."""
        if not AVAILABLE or _libc is None:
            raise OSError("no timers on this system")
        self._fd = _libc.timerfd_create(_CLOCK_MONOTONIC, _CLOSED_ON_EXEC)
        if self._fd < 0:
            raise OSError("no timer can be made")
        self._times = _once(soon), _once(late)
        # Made once: what the app's thread touches for the first time costs.
        self._soon, self._late = map(ctypes.addressof, self._times)
        self._settime = _settime
        # Waiting for it, instead of reading, takes nothing from a file that is not ours: some apps close all
        # descriptors they find, and this one may be another file by now.
        self._poll = native.poll()
        self._poll.register(self._fd, select.POLLIN)

    def set(self) -> bool:
        return self._settime(self._fd, 0, self._soon, None) == 0

    def set_late(self) -> bool:
        return self._settime(self._fd, 0, self._late, None) == 0

    def ring(self) -> bool:
        return self._settime(self._fd, 0, ctypes.addressof(_NOW), None) == 0

    def wait(self, timeout: float | None = None) -> None:
        if not self._poll.poll(None if timeout is None else timeout * 1e3):
            return  # one that has been set meanwhile stays so
        if self._settime(self._fd, 0, ctypes.addressof(_NEVER), None):
            raise OSError("the timer was closed")


class Bell:
    """An alarm of any system: who waits wakes when it is set, and pauses."""

    def __init__(self, soon: float, late: float) -> None:
        """Seconds from `set`, and from `set_late`, to waking."""
        self._soon, self._late = soon, late
        self._rung: SimpleQueue[float] = SimpleQueue()

    def set(self) -> bool:
        self._rung.put(self._soon)
        return True

    def set_late(self) -> bool:
        self._rung.put(self._late)
        return True

    def ring(self) -> bool:
        self._rung.put(0.0)
        return True

    def wait(self, timeout: float | None = None) -> None:
        with suppress(Empty):
            due = monotonic() + self._rung.get(timeout=timeout)
            while (left := due - monotonic()) > 0:
                due = min(due, monotonic() + self._rung.get(timeout=left))


def best(soon: float, late: float) -> Alarm:
    """The alarm that disturbs least here; seconds from `set`, and from `set_late`, to waking."""
    try:
        return Timer(soon, late)
    except OSError:
        return Bell(soon, late)

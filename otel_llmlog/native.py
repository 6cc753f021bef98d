"""Threads and locks of the system, whatever gevent or eventlet have put in their place, before this or after.

There, "threads" are tasks of an event loop: one that works, or waits for a lock of the system, stops the whole app. So
our background work runs on threads of the system, with its locks.

Always true: nothing here changes when modules are patched. Who waits on the loop's thread lets other tasks go on, until
the process ends.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from importlib import import_module
from typing import Any


def _original(module: str, name: str) -> Any:
    gevent, eventlet = sys.modules.get("gevent.monkey"), sys.modules.get("eventlet.patcher")
    if gevent is not None:
        return gevent.get_original(module, name)
    if eventlet is not None and eventlet.is_monkey_patched("thread" if module == "_thread" else module):
        return getattr(eventlet.original(module), name)
    return getattr(import_module(module), name)


_start_new_thread = _original("_thread", "start_new_thread")
_allocate_lock = _original("_thread", "allocate_lock")
_get_ident = _original("_thread", "get_ident")
_make_rlock = _original("_thread", "RLock")
sleep = _original("time", "sleep")
poll = _original("select", "poll")

# Seconds between two looks of who waits beside an event loop.
_SLICE = 0.002

# Threads of ours that run now, by the system's number.
_ours: set[int] = set()
_is_ending = False


def _after_fork_in_child() -> None:
    global _is_ending  # noqa: PLW0603 - one process, one end
    _ours.clear()
    _is_ending = False


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


def end_tasks() -> None:
    """The process ends: from now on who waits stops all tasks, so that what they raise does not hit who waits."""
    global _is_ending  # noqa: PLW0603 - one process, one end
    _is_ending = True


def Lock() -> Any:  # noqa: N802 - as threading names it
    """A lock of the system."""
    return _allocate_lock()


class RLock:
    """A reentrant lock of the system. Eventlet looks through all modules for such locks to replace: not in here."""

    __slots__ = ("_lock", "acquire", "release")

    def __init__(self) -> None:
        self._lock = _make_rlock()
        self.acquire, self.release = self._lock.acquire, self._lock.release

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()

    def let_go(self) -> Any:
        """Release it however often it is held; answers what `take_back` takes."""
        return self._lock._release_save()  # noqa: SLF001 - as threading.Condition does

    def take_back(self, held: Any) -> None:
        """Hold it as before."""
        self._lock._acquire_restore(held)  # noqa: SLF001 - the same


def get_ident() -> int:
    """The number of the system's thread."""
    return int(_get_ident())


def is_patched() -> bool:
    """Whether threads that the app starts now are tasks of an event loop."""
    return time.sleep is not sleep


class Condition:
    """As `threading.Condition` on a reentrant lock. `stops`: who waits stops the system's thread, tasks or not."""

    def __init__(self, *, stops: bool = False) -> None:
        self._stops = stops
        self._lock = RLock()
        self._waiters: deque[Any] = deque()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def wait(self, timeout: float | None = None) -> bool:
        """Let go of the lock until told, or for `timeout` seconds; False when nobody told."""
        waiter = _allocate_lock()
        waiter.acquire()
        self._waiters.append(waiter)
        held, told = self._lock.let_go(), False
        try:
            told = _acquire(waiter, timeout, self._stops)
        finally:
            self._lock.take_back(held)
            if not told and waiter in self._waiters:
                self._waiters.remove(waiter)
        return told

    def wait_for(self, predicate: Callable[[], Any], timeout: float | None = None) -> bool:
        """Wait until it is true, or for `timeout` seconds; answers whether it is."""
        end = None if timeout is None else time.monotonic() + timeout
        while not (found := predicate()):
            left = None if end is None else end - time.monotonic()
            if left is not None and left <= 0:
                break
            self.wait(left)
        return bool(found)

    def notify_all(self) -> None:
        """Tell all who wait."""
        while self._waiters:
            self._waiters.popleft().release()


class Event:
    """As `threading.Event`, but set once."""

    def __init__(self) -> None:
        self._changed = Condition()
        self._is_set = False

    def is_set(self) -> bool:
        """Whether it is."""
        return self._is_set

    def set(self) -> None:
        """Wake all who wait."""
        with self._changed:
            self._is_set = True
            self._changed.notify_all()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for it, or for `timeout` seconds; answers whether it is set."""
        with self._changed:
            return self._changed.wait_for(lambda: self._is_set, timeout)


class Thread:
    """A daemon thread of the system, for work in the background."""

    def __init__(self, target: Callable[..., None], name: str, *args: Any) -> None:
        self._target, self._name, self._args = target, name, args
        self._ended = Event()
        self.ident = 0
        """The system's number, once it runs."""

    def start(self) -> None:
        """Start it. Raises RuntimeError when the interpreter is shutting down."""
        if is_patched():
            _start_new_thread(self._run, ())
        else:  # by its name, too
            threading.Thread(target=self._run, name=self._name, daemon=True).start()

    def _run(self) -> None:
        self.ident = _get_ident()
        _ours.add(self.ident)
        try:
            self._target(*self._args)
        finally:
            _ours.discard(self.ident)
            self._ended.set()

    def is_alive(self) -> bool:
        """Whether it may still be at work."""
        return not self._ended.is_set()

    def join(self, timeout: float | None = None) -> None:
        """Wait until it has ended, or for `timeout` seconds."""
        self._ended.wait(timeout)


def _acquire(lock: Any, timeout: float | None, stops: bool) -> bool:
    if not stops and not _is_ending and is_patched() and _get_ident() not in _ours:
        end = None if timeout is None else time.monotonic() + timeout
        while not lock.acquire(False):
            if end is not None and time.monotonic() >= end:
                return False
            try:
                time.sleep(_SLICE)
            except Exception:  # the loop itself runs this, as in a signal handler: it cannot wait for others
                break
        else:
            return True
        timeout = None if end is None else max(0.0, end - time.monotonic())
    return bool(lock.acquire(True, -1 if timeout is None else timeout))

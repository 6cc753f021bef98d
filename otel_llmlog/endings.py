"""How a process ends, and what is done before it does.

Always true: a program ends as it would without us, by the same signal or with the same code; what is done before takes
effect once, and a signal that comes meanwhile takes effect when it is done.
"""

from __future__ import annotations

import atexit
import contextlib
import multiprocessing.util
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator

from otel_llmlog import native

# What ends Python without its exit handlers, where nobody handles it.
_ENDING = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
# What a server that has stopped in an orderly way kills itself by, when it was sent that before.
_SELF_SENT = {getattr(signal, name, None) for name in ("SIGTERM", "SIGHUP", "SIGINT", "SIGQUIT")} - {None}

_stop: Callable[[], None] | None = None
_stopping = 0
"""How many are preparing the end."""
_killed_by = 0
"""Number of a signal that came while the end was prepared."""
_raise_signal, _kill = signal.raise_signal, os.kill


def _after_fork_in_child() -> None:
    global _stopping, _killed_by
    _stopping, _killed_by = 0, 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


def before(stop: Callable[[], None]) -> None:
    """Call this before the process ends, however it does, as far as Python hears of it."""
    global _stop
    is_first, _stop = _stop is None, stop
    atexit.register(_at_exit)
    # Children of multiprocessing end without Python's exit handlers, but run these.
    multiprocessing.util.register_after_fork(stop, _stop_at_end_of_child)
    if is_first:
        signal.raise_signal, os.kill = _raised, _killed
    for number in _ENDING:
        # Where the app handles it we stay out of the way.
        if signal.getsignal(number) is signal.SIG_DFL:
            with contextlib.suppress(ValueError):  # this is not the main thread
                signal.signal(number, _terminate)


def forget() -> None:
    """Nothing is to be done any more."""
    global _stop  # noqa: PLW0603 - see above
    _stop = None
    atexit.unregister(_at_exit)
    if signal.raise_signal is _raised:
        signal.raise_signal = _raise_signal
    if os.kill is _killed:
        os.kill = _kill


def go_first() -> None:
    """Run before the exit handlers that are registered by now."""
    if _stop is not None:
        atexit.unregister(_at_exit)
        atexit.register(_at_exit)


@contextlib.contextmanager
def signals_wait() -> Iterator[None]:
    """While this runs a signal to end is noted; it takes effect afterwards."""
    global _stopping, _killed_by  # noqa: PLW0603 - see above
    _stopping += 1
    try:
        yield
    finally:
        _stopping -= 1
        if not _stopping and (number := _killed_by):
            _killed_by = 0
            _kill(os.getpid(), number)


def _at_exit() -> None:
    # Python says at the very end that it was interrupted, but forgets it where text is compiled after that, as when
    # modules are imported. An exception that nobody caught is the last one, but for one at a prompt.
    interrupted = getattr(sys, "last_type", None) is KeyboardInterrupt and not hasattr(sys, "ps1")
    # Somebody is in a hurry: what is on disk stays there.
    with contextlib.suppress(KeyboardInterrupt):
        _now()
    if interrupted:
        with contextlib.suppress(KeyboardInterrupt):
            exec("raise KeyboardInterrupt")  # noqa: S102 - it is this that Python remembers


def _now() -> None:
    if _stop is not None:
        native.end_tasks()
        _stop()


def _stop_at_end_of_child(_: object) -> None:
    multiprocessing.util.Finalize(None, _stop_after_threads, exitpriority=0)


def _stop_after_threads() -> None:
    """Here, other than at the end of a program, threads that the app waits for may still make calls."""
    here = threading.current_thread()
    others = [thread for thread in threading.enumerate() if not thread.daemon and thread is not here]
    if not others:
        _now()
        return

    def wait() -> None:
        for thread in others:
            thread.join()
        _now()

    threading.Thread(target=wait, name="llmlog-stop", daemon=False).start()


def _terminate(number: int, _frame: object) -> None:
    global _killed_by  # noqa: PLW0603 - one process, one end
    if _stopping:  # perhaps further down this very stack: to end now would lose what it is about to write
        _killed_by = number
        return
    try:
        _now()
    finally:  # interrupted, too
        signal.signal(number, signal.SIG_DFL)
        _kill(os.getpid(), number)


def _raised(number: int, /) -> None:
    _stop_before(number)
    _raise_signal(number)


def _killed(pid: int, number: int, /) -> None:
    if pid == os.getpid():
        _stop_before(number)
    _kill(pid, number)


def _stop_before(number: int) -> None:
    """The process is about to kill itself: uvicorn does that, and under gunicorn nobody handles the signal then."""
    if number in _SELF_SENT and not _stopping and signal.getsignal(number) is signal.SIG_DFL:
        with contextlib.suppress(KeyboardInterrupt):
            _now()

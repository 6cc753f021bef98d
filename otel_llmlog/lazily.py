"""Imports that are made in the background, and must not be cut in half by a fork.

Always true: a fork waits for an import that is under way in `importing()`. Without that the child would have a half
made module and nobody to finish it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

# Seconds that a fork waits at most: far longer than any import takes, so that a fault of ours cannot hang the app.
_LONGEST = 10.0

_lock = threading.RLock()
_held = threading.local()


@contextmanager
def importing() -> Iterator[None]:
    """Keep forks away while something is imported. Nothing else may be waited for inside."""
    with _lock:
        yield


def _before_fork() -> None:
    _held.lock = _lock if _lock.acquire(timeout=_LONGEST) else None


def _after_fork() -> None:
    lock, _held.lock = getattr(_held, "lock", None), None
    if lock is not None:
        lock.release()


def _after_fork_in_child() -> None:
    global _lock  # noqa: PLW0603 - its owner may not exist here
    _lock = threading.RLock()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork_in_child)

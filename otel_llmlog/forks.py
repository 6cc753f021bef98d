"""Work of our background threads that a fork must not cut in half.

Always true: a fork waits for what is under way in `held_off()`, and what would begin while one waits lets it go first.
Without that the child would have a half made module, or a lock that a thread which does not exist there holds for ever:
many libraries build something at its first use under such a lock, where Python cannot see it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from otel_llmlog import native

# Seconds that a fork waits at most: far longer than any import takes, so that a fault of ours cannot hang the app.
_LONGEST = 10.0

_changed = native.Condition(stops=True)  # on a reentrant lock: a signal handler may fork
_inside = 0  # threads at work
_forks = 0  # under way, or waiting for them


class _Own(threading.local):
    depth = 0


_own = _Own()


@contextmanager
def held_off() -> Iterator[None]:
    """Keep forks away while this runs. Short work on background threads only: an app's fork waits for it."""
    global _inside  # noqa: PLW0603 - one process, one gate
    if not _own.depth:
        with _changed:
            # A fork that is kept waiting goes first, or a busy thread would keep it for ever.
            _changed.wait_for(lambda: not _forks, _LONGEST)
            _inside += 1
    _own.depth += 1
    try:
        yield
    finally:
        _own.depth -= 1
        if not _own.depth:
            with _changed:
                _inside -= 1
                if _forks:
                    _changed.notify_all()


def _before_fork() -> None:
    global _forks  # noqa: PLW0603 - see above
    with _changed:
        _forks += 1
        others = 1 if _own.depth else 0
        _changed.wait_for(lambda: _inside <= others, _LONGEST)


def _after_fork() -> None:
    global _forks  # noqa: PLW0603 - see above
    with _changed:
        _forks -= 1
        _changed.notify_all()


def _after_fork_in_child() -> None:
    global _changed, _inside, _forks  # noqa: PLW0603 - whoever holds the lock may not exist here
    _changed = native.Condition(stops=True)
    _inside = 1 if _own.depth else 0
    _forks = 0


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork_in_child)

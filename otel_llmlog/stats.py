"""Numbers of the pipeline: what came in, what became of it. Every loss has a counter and a reason."""

from __future__ import annotations

import logging
import os
import time
from collections import Counter

from otel_llmlog import native

_log = logging.getLogger("otel_llmlog")
# Seconds between two log lines of the same kind. The counters tell the rest.
_QUIET_SECONDS = 60.0


class Stats:
    """Counters by name; drops and own errors also by reason, each logged at most once a minute."""

    def __init__(self) -> None:
        self._logged: dict[str, float] = {}
        self._standing: set[str] = set()  # warned of, and not over yet
        self._reset()
        os.register_at_fork(after_in_child=self._reset)

    def _reset(self) -> None:
        # New in a forked child, too: what its parent did is its parent's to say.
        self._counts: Counter[str] = Counter()
        # Reentrant: a call may end, and be counted, inside the garbage collector of a thread that is counting. The
        # thread that held it at a fork is not there in the child to release it.
        self._lock = native.RLock()

    def count(self, name: str, number: int = 1) -> None:
        """Add to a counter."""
        with self._lock:
            self._counts[name] += number

    def took(self, name: str, seconds: float) -> None:
        """Note how long something took: the last and the longest, in milliseconds."""
        spent = round(seconds * 1000)
        with self._lock:
            self._counts[f"{name}.last_ms"] = spent
            self._counts[f"{name}.longest_ms"] = max(spent, self._counts[f"{name}.longest_ms"])

    def dropped(self, reason: str, number: int = 1) -> None:
        """Records that are lost, and why."""
        self.count(f"dropped.{reason}", number)
        self.warn(f"dropped.{reason}", f"{number} LLM call record(s) dropped: {reason}")

    def error(self, where: str, error: BaseException) -> None:
        """A failure of our own. Its class is told, never its message: that may quote content."""
        self.count(f"error.{where}.{type(error).__name__}")
        self.warn(f"error.{where}", f"a fault of its own in {where}: {type(error).__name__}; the app is not affected")

    def warn(self, kind: str, message: str) -> None:
        """Log a line, at most once a minute for each kind."""
        now = time.monotonic()
        with self._lock:
            if now - self._logged.get(kind, -_QUIET_SECONDS) < _QUIET_SECONDS:
                return
            self._logged[kind] = now
            self._standing.add(kind)
        _log.warning("otel-llmlog: %s", message)

    def over(self, kind: str, message: str) -> None:
        """What was warned of is over: say so, once, if the warning was heard."""
        with self._lock:
            if kind not in self._standing:
                return
            self._standing.remove(kind)
        _log.warning("otel-llmlog: %s", message)

    def snapshot(self) -> dict[str, int]:
        """All counters as they are now."""
        with self._lock:
            return dict(self._counts)

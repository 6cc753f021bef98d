"""BatchWorker: a bounded queue and the one thread that hands its records to the exporter.

Always true: `put` never blocks and never raises; every record put is delivered, rejected with a reason, or dropped
and counted; while the database is away the records wait and the newest are dropped when the queue is full; after
fork the child starts empty, since what was queued is its parent's to deliver.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections import deque

from otel_llmlog.config import PipelineSettings
from otel_llmlog.errors import StoreUnavailable
from otel_llmlog.pipeline.record import Exporter, Record
from otel_llmlog.stats import Stats

# Seconds before a failed batch is tried again: doubled each time, with up to as much jitter, so that the
# processes of a fleet do not come back at once.
_FIRST_RETRY = 0.25
_LAST_RETRY = 15.0
# Batches handed over at once when many wait, so that the exporter can prepare one while the database takes another.
_BATCHES_AT_ONCE = 8


class BatchWorker:
    """Queues records and delivers them in batches."""

    def __init__(self, exporter: Exporter, settings: PipelineSettings, stats: Stats) -> None:
        self._exporter = exporter
        self._settings = settings
        self._stats = stats
        self._reset()
        os.register_at_fork(after_in_child=self._reset)

    def _reset(self) -> None:
        self._queue: deque[Record] = deque()
        self._changed = threading.Condition(threading.RLock())
        self._thread: threading.Thread | None = None
        self._accepted = 0
        self._settled = 0
        self._hurry = 0  # flushes that wait: batches need not fill, retries need not wait
        self._closed = False

    def put(self, record: Record) -> None:
        """Queue a record; when the queue is full, or closed, it is dropped and counted."""
        with self._changed:
            if self._closed:
                self._stats.dropped("after_shutdown")
                return
            if len(self._queue) >= self._settings.queue_size:
                self._stats.dropped("queue_full")
                return
            self._queue.append(record)
            self._accepted += 1
            if len(self._queue) in {1, self._settings.batch_size}:
                self._changed.notify_all()
            if self._thread is None:
                thread = threading.Thread(target=self._run, name="llmlog-write", daemon=True)
                try:
                    thread.start()
                except RuntimeError:  # the interpreter is shutting down: `close` delivers what is left
                    return
                self._thread = thread

    def flush(self, timeout: float) -> bool:
        """Wait until all that was put so far is settled; False when that took longer than `timeout` seconds."""
        with self._changed:
            wanted = self._accepted
            self._hurry += 1
            self._changed.notify_all()
            try:
                return self._changed.wait_for(lambda: self._settled >= wanted, timeout)
            finally:
                self._hurry -= 1

    def close(self, timeout: float) -> bool:
        """Deliver what is left within `timeout` seconds; what remains is dropped and counted."""
        deadline = time.monotonic() + timeout
        if self._thread is None and self._queue:
            self._last_try()
        done = self.flush(timeout)
        with self._changed:
            self._closed = True
            left = len(self._queue)
            self._queue.clear()
            self._changed.notify_all()
            thread = self._thread
        if left:
            self._stats.dropped("shutdown", left)
        if thread is not None:
            thread.join(max(0.0, deadline - time.monotonic()))
        if thread is None or not thread.is_alive():
            self._exporter.close()
        return done

    def waiting(self) -> int:
        """Records not settled yet."""
        with self._changed:
            return self._accepted - self._settled

    def _run(self) -> None:
        delay = _FIRST_RETRY
        try:
            # At once, not with the first batch: that may come when the interpreter is about to end.
            self._exporter.open()
        except Exception as error:  # the same will meet the first batch, which is not lost
            self._stats.count(f"error.open.{type(error).__name__}")
        while True:
            batch = self._next_batch()
            if not batch:
                return
            if self._deliver(batch):
                delay = _FIRST_RETRY
                continue
            with self._changed:
                # Back to the front, in order: these were accepted first.
                self._queue.extendleft(reversed(batch))
                self._changed.wait_for(lambda: self._closed, delay * (1 + random.random()))  # noqa: S311 - jitter
                if self._closed:
                    self._stats.dropped("shutdown", len(self._queue))
                    self._queue.clear()
                    return
                delay = min(delay * 2, _FIRST_RETRY * 2 if self._hurry else _LAST_RETRY)

    def _next_batch(self) -> list[Record]:
        """Wait for a full batch, or for the first record's time to be up; empty once closed."""
        size, queue = self._settings.batch_size, self._queue
        with self._changed:
            self._changed.wait_for(lambda: queue or self._closed)
            if len(queue) < size and not self._hurry:
                full = lambda: len(queue) >= size or self._hurry or self._closed  # noqa: E731
                self._changed.wait_for(full, self._settings.flush_interval)
            return [queue.popleft() for _ in range(min(len(queue), size * _BATCHES_AT_ONCE))]

    def _deliver(self, batch: list[Record]) -> bool:
        try:
            delivery = self._exporter.export(batch)
        except StoreUnavailable as error:
            self._stats.count("retries")
            self._stats.warn("unavailable", f"{error}; {self.waiting()} record(s) wait")
            return False
        except Exception as error:  # not foreseen, so nothing is known to be stored: try again
            self._stats.error("write", error)
            return False
        self._stats.count("written", delivery.written)
        self._stats.count("duplicates", delivery.duplicates)
        for _, reason in delivery.rejected:
            self._stats.count("rejected")
            self._stats.warn("rejected", f"the database refused an LLM call record: {reason}")
        with self._changed:
            self._settled += len(batch)
            self._changed.notify_all()
        return True

    def _last_try(self) -> None:
        """Deliver from the calling thread, where no thread of our own can be started any more."""
        batch = list(self._queue)
        if self._deliver(batch):
            self._queue.clear()

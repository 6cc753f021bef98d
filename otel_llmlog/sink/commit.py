"""Group commit: requests that wait at the same time share one transaction, and each gets its own answer.

Always true: a request is answered well only after COMMIT; while the database is away it is told so at once and nothing
of it is kept, so whoever sent it still has it; storing the same span twice stores it once, so that is safe.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from otel_llmlog.errors import ConfigError, StoreUnavailable
from otel_llmlog.pipeline.record import Exporter, Record
from otel_llmlog.stats import Stats

# Records that share a transaction, if that many wait: two transactions of the exporter, so that it formats the second
# while the database commits the first.
_AT_ONCE = 4096
# Seconds between two looks whether the database is back, at first and at most.
_FIRST_LOOK, _LAST_LOOK = 0.2, 2.0

Rejected = dict[int, str]
"""Reason of each record that was rejected, by its place in the request."""


class _Waiting(NamedTuple):
    records: Sequence[Record]
    answer: asyncio.Future[Rejected]


class Committer:
    """Stores what requests bring, on a thread of its own. `store` is for the event loop that `start` is called on."""

    def __init__(self, exporter: Exporter, stats: Stats, on_fatal: Callable[[ConfigError], None]) -> None:
        """`on_fatal`: called on the writer's thread when a setting makes storing impossible."""
        self._exporter = exporter
        self._stats = stats
        self._on_fatal = on_fatal
        self._changed = threading.Condition()
        self._queue: deque[_Waiting] = deque()
        self._away: str | None = "the sink is starting"
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="llmlog-write", daemon=True)

    def start(self) -> None:
        """Connect, and store from now on."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    def away(self) -> str | None:
        """Why nothing can be stored now; None when it can, as far as is known."""
        return self._away

    def store(self, records: Sequence[Record]) -> asyncio.Future[Rejected]:
        """Done after COMMIT. Raises StoreUnavailable, here or there: then nothing of it is known to be stored."""
        waiting = _Waiting(records, self._loop.create_future())
        with self._changed:
            if self._away is not None or self._closed:
                raise StoreUnavailable(self._away or "the sink is stopping")
            self._queue.append(waiting)
            self._changed.notify()
        return waiting.answer

    def close(self, timeout: float) -> None:
        """Store what waits, within `timeout` seconds, and give the connection back."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(timeout)
        if not self._thread.is_alive():
            self._exporter.close()

    def _run(self) -> None:
        self._come_back()
        while group := self._next():
            try:
                answers = self._store([record for one in group for record in one.records], group)
            except StoreUnavailable as error:
                self._go_away(group, error)
                self._come_back()
            else:
                self._loop.call_soon_threadsafe(_settle, group, answers)

    def _next(self) -> list[_Waiting]:
        """Wait for requests; what waits by then is one group. Empty when this is the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._closed)
            group: list[_Waiting] = []
            number = 0
            while self._queue and (not group or number + len(self._queue[0].records) <= _AT_ONCE):
                group.append(self._queue.popleft())
                number += len(group[-1].records)
            return group

    def _store(self, records: list[Record], group: list[_Waiting]) -> list[Rejected]:
        began = time.perf_counter()
        try:
            delivery = self._exporter.export(records)
        except StoreUnavailable:
            # The connection may have died of old age, or two transactions have met: that is no outage yet.
            self._stats.count("retries")
            delivery = self._exporter.export(records)
        self._stats.took("write", time.perf_counter() - began)
        logs = sum(record.kind == "log" for record in records)
        self._stats.count("captured", len(records) - logs)
        self._stats.count("audited", logs)
        self._stats.count("written", delivery.written)
        self._stats.count("duplicates", delivery.duplicates)
        self._stats.count("dead", len(delivery.rejected))
        self._stats.count("sink.transactions")
        if not delivery.rejected:
            return [{} for _ in group]
        reasons = {id(record): reason for record, reason in delivery.rejected}
        return [
            {place: reasons[id(record)] for place, record in enumerate(one.records) if id(record) in reasons}
            for one in group
        ]

    def _go_away(self, group: list[_Waiting], error: StoreUnavailable) -> None:
        with self._changed:
            self._away = str(error)
            group = [*group, *self._queue]
            self._queue.clear()
        self._stats.count("sink.outages")
        self._stats.warn("unavailable", f"{error}; senders are told to try again")
        self._loop.call_soon_threadsafe(_settle, group, [error] * len(group))

    def _come_back(self) -> None:
        """Look until the database is there."""
        pause = _FIRST_LOOK
        while not self._closed:
            try:
                self._exporter.open()
            except ConfigError as error:
                self._on_fatal(error)
                return
            except Exception as error:  # whatever it is, storing would meet it, too
                advice = str(error) if isinstance(error, StoreUnavailable) else f"failed: {type(error).__name__}"
                self._away = advice
                self._stats.warn("unavailable", f"{advice}; senders are told to try again")
            else:
                self._away = None
                self._stats.over("unavailable", "the database takes records again; senders are answered")
                return
            with self._changed:
                self._changed.wait_for(lambda: self._closed, pause)
            pause = min(2 * pause, _LAST_LOOK)


def _settle(group: Sequence[_Waiting], answers: Sequence[Rejected | StoreUnavailable]) -> None:
    for one, answer in zip(group, answers, strict=True):
        if one.answer.done():
            continue
        if isinstance(answer, StoreUnavailable):
            one.answer.set_exception(answer)
        else:
            one.answer.set_result(answer)

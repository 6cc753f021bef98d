"""BatchWorker: the one thread that takes records from their source and hands them to the exporter.

Always true: `put` never blocks and never raises; every record put is delivered, rejected with a reason, kept in the
spool, or dropped and counted; while the database is away records wait; what dead processes left in the spool
directory is delivered, too; after fork the child starts empty, since what waited is its parent's to deliver.
"""

from __future__ import annotations

import os
import random
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence

from otel_llmlog import native
from otel_llmlog.config import PipelineSettings
from otel_llmlog.errors import StoreUnavailable
from otel_llmlog.pipeline import adoption, report
from otel_llmlog.pipeline.record import Delivery, Exporter, Record
from otel_llmlog.pipeline.source import Batch, Source
from otel_llmlog.pipeline.spool import Watch, has_orphans
from otel_llmlog.pricing import Pricer
from otel_llmlog.stats import Stats

# Seconds before a failed batch is tried again: doubled each time, with up to as much jitter, so that the
# processes of a fleet do not come back at once.
_FIRST_RETRY = 0.25
_LAST_RETRY = 15.0
# Batches handed over as one when many wait, for sums that change once for all of them. The exporter prepares as much
# again while the database takes these. A record takes some 5 KB while it is under way: that is all that catching up
# after an outage adds to memory.
_BATCHES_AT_ONCE = 2
# Seconds between two looks for what dead processes left.
_ADOPT_SECONDS = 30.0
# Seconds that the end waits for one more try where the last one failed: what is on disk is safe, and others deliver it.
_LAST_TRY_SECONDS = 1.0
# Seconds after the first request until the exporter is made ready, if no record comes before.
_OPEN_SECONDS = 0.3
# Seconds between two reports of the counters, for `llmlog status`.
_REPORT_SECONDS = 5.0


class BatchWorker:
    """Delivers records in batches. `spool_directory`: where it says how things stand; None: nowhere.

    `adopt_from`: where orphans are looked for; None: in that directory.
    `pricer`: for calls in there that had ended and were not read yet. `destination`: in words, for who is warned.
    """

    def __init__(
        self,
        exporter: Exporter,
        source: Source,
        settings: PipelineSettings,
        stats: Stats,
        spool_directory: str | None = None,
        pricer: Pricer | None = None,
        adopt_from: Sequence[str] | None = None,
        destination: str = "the database",
    ) -> None:
        self._exporter = exporter
        self._source = source
        # Note that a request goes out, and that it ended; straight to the spool, without a function between.
        self.intend, self.end = source.intend, source.end
        self._pricer = pricer or Pricer()
        self._settings = settings
        self._stats = stats
        self._spool_directory = spool_directory
        self._destination = destination
        self._adopt_from = adopt_from if adopt_from is not None else [spool_directory] if spool_directory else []
        self._reset()
        self._watch: Watch | None = None
        os.register_at_fork(after_in_parent=self._after_fork_in_parent, after_in_child=self._after_fork_in_child)

    def _after_fork_in_parent(self) -> None:
        # A child may end without a chance to deliver: then its parent does, however idle it is.
        if self._watch is None and self._spool_directory is not None and not self._closed:
            self._watch = Watch(self._spool_directory, self.adopt_soon)
            self._watch.start()

    def _after_fork_in_child(self) -> None:
        if self._watch is not None:
            self._watch.forget()
            self._watch = None
        self._source.renew()
        self._reset()

    def _reset(self) -> None:
        self._changed = native.Condition()
        self._thread: native.Thread | None = None
        self._accepted = 0
        self._settled = 0
        self._hurry = 0  # flushes that wait: batches need not fill, retries need not wait
        self._flushes = 0  # all that there ever were: one that begins during a try is worth another at once
        self._hand: deque[Batch] = deque()  # under way, oldest first; the writing thread's own
        self._in_hand: list[int] = []  # tickets of records under way that only memory holds
        self._closed = False
        self._failures = 0  # tries that failed, ever
        self._is_failing = False  # the last one did
        self._looks = 0  # who asked for a look for what dead processes left, and has not got it
        self._adopt_at = self._report_at = self._sent_at = 0.0

    def forget(self, ticket: int) -> None:
        """The request needs no record."""
        self._source.forget(ticket)

    def put(self, record: Record, ticket: int = 0) -> None:
        """Take a record in; when there is no room for it, or after the end, it is dropped and counted."""
        self.put_all([(record, ticket)])

    def put_all(self, records: Sequence[tuple[Record, int]]) -> None:
        """Take records in, each with its ticket, as `put` does."""
        reasons = ["shutdown"] * len(records) if self._closed else self._source.put(records)
        for reason, number in Counter(reasons).items():
            self._stats.dropped(reason, number)
        accepted = len(records) - len(reasons)
        if not accepted:
            return
        size = self._settings.batch_size
        with self._changed:
            before = self._accepted - self._settled
            self._accepted += accepted
            if before == 0 or before < size <= before + accepted:
                self._changed.notify_all()
        if self._thread is None:
            self.start()

    def adopt_soon(self) -> None:
        """Deliver what dead processes left, if they did: else nobody is woken, and no connection is made."""
        if any(map(has_orphans, self._adopt_from)):
            self.look()

    def look(self) -> None:
        """A process may have died: look for what it left, soon."""
        with self._changed:
            self._looks += 1
            self._changed.notify_all()
        self.start()

    def start(self) -> None:
        """Begin to deliver, or at least to get ready for it. The first record does so, too."""
        with self._changed:
            if self._thread is None and not self._closed:
                thread = native.Thread(self._run, "llmlog-write")
                try:
                    thread.start()
                except RuntimeError:  # the interpreter is shutting down: `close` delivers what is left
                    return
                self._thread = thread

    def flush(self, timeout: float, *, in_hope: bool = False) -> bool:
        """Wait until all that was put so far is settled; False when that took longer than `timeout` seconds.

        `in_hope`: no longer than until a try has failed, where all that waits is on disk.
        """
        with self._changed:
            wanted, failures = self._accepted, self._failures
            self._hurry += 1
            self._flushes += 1
            self._changed.notify_all()

            def is_over() -> bool:
                if self._settled >= wanted:
                    return True
                return in_hope and self._failures > failures and not self._source.holds_in_memory()

            try:
                self._changed.wait_for(is_over, timeout)
                return self._settled >= wanted
            finally:
                self._hurry -= 1

    def close(self, timeout: float) -> bool:
        """Deliver what is left within `timeout` seconds. The spool keeps the rest; what only memory held is dropped.

        What is on disk is waited for while there is hope: until a try has failed.
        """
        if self._is_failing and not self._source.holds_in_memory():
            timeout = min(timeout, _LAST_TRY_SECONDS)
        deadline = time.monotonic() + timeout
        while self._thread is None and self._source.waiting() and self._deliver():
            pass
        done = not self.waiting() or (self._thread is not None and self.flush(timeout, in_hope=True))
        if self._watch is not None:
            self._watch.close()
            self._adopt_last(deadline)
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            thread = self._thread
        if thread is not None:
            thread.join(max(0.0, deadline - time.monotonic()))
        self._give_up()
        self._report()
        if kept := self._source.close():
            self._stats.count("kept_in_spool", kept)
            # It may be that the database has just stored some of them, and did not get to say so.
            self._stats.warn(
                "kept_in_spool",
                f"{kept} record(s) wait in the spool, not confirmed by {self._destination}; "
                "the next program with these settings, or `llmlog spool drain`, delivers what is missing",
            )
        if thread is None or not thread.is_alive():
            self._exporter.close()
        return done

    def _adopt_last(self, deadline: float) -> None:
        """Children may have ended just before: nobody else may be left to deliver what is theirs."""
        if self._is_failing or not any(map(has_orphans, self._adopt_from)):
            return
        self.look()
        if self._thread is None:  # no thread can be started at the end of the interpreter
            self.adopt()
            return
        with self._changed:
            failures = self._failures
            self._changed.wait_for(lambda: not self._looks or self._failures > failures, deadline - time.monotonic())

    def waiting(self) -> int:
        """Records not settled yet."""
        with self._changed:
            return self._accepted - self._settled

    def search(self, needle: bytes, wanted: Callable[[Record], bool]) -> list[Record]:
        """Records that hold these bytes in a text, are wanted and may not be stored yet."""
        return self._source.search(needle, wanted)

    def _run(self) -> None:
        delay = _FIRST_RETRY
        with self._changed:
            # The capture thread loads prices meanwhile. What ends before it has them waits for it, this waits better.
            ready = lambda: self._accepted or self._hurry or self._looks or self._closed  # noqa: E731 - used once
            self._changed.wait_for(ready, _OPEN_SECONDS)
        try:
            # Not only with the first batch: that may come when the interpreter is about to end.
            self._exporter.open()
        except Exception as error:  # the same will meet the first batch, which is not lost
            self._stats.count(f"error.open.{type(error).__name__}")
            self._note_failure()
        while True:
            if time.monotonic() >= self._report_at:
                self._report()
            if not self._hand:
                if not self._closed and (self._looks or time.monotonic() >= self._adopt_at):
                    self._look()
                if not self._await_batch():
                    if self._closed:
                        return
                    continue
            flushes = self._flushes
            if self._deliver():
                delay = _FIRST_RETRY
                continue
            with self._changed:
                woken = lambda: self._closed or self._flushes > flushes  # noqa: E731, B023 - used before it changes
                self._changed.wait_for(woken, delay * (1 + random.random()))  # noqa: S311 - jitter
                if self._closed:
                    # What came from the spool is there still; the rest goes where the rest of memory goes.
                    self._give_up()
                    return
                delay = min(delay * 2, _FIRST_RETRY * 2 if self._hurry else _LAST_RETRY)

    def _look(self) -> None:
        with self._changed:
            looks = self._looks
        self.adopt()
        self._adopt_at = time.monotonic() + _ADOPT_SECONDS
        with self._changed:
            self._looks -= looks
            self._changed.notify_all()

    def _await_batch(self) -> bool:
        """Wait for a record, and for more to fill its batch if one went out just before; False when there is none.

        So few calls are stored at once, and many wait for each other.
        """
        size, source = self._settings.batch_size, self._source
        with self._changed:
            pause = max(0.0, self._adopt_at - time.monotonic()) if self._adopt_from else None
            self._changed.wait_for(lambda: source.waiting() or self._looks or self._closed, pause)
            patience = self._sent_at + self._settings.flush_interval - time.monotonic()
            if 0 < source.waiting() < size and not self._hurry and not self._closed and patience > 0:
                full = lambda: source.waiting() >= size or self._hurry or self._closed  # noqa: E731 - used once
                self._changed.wait_for(full, patience)
            self._sent_at = time.monotonic()
        return source.waiting() > 0

    def _deliver(self) -> bool:
        """Deliver what is under way and, batch after batch, what waits; False when that should be tried again."""
        began = time.perf_counter()
        try:
            for delivery in self._exporter.export_all(self._batches()):
                began = self._account(delivery, began)
                self._settle(self._hand.popleft())
        except Exception as error:  # whatever it was, nothing is known to be stored: see `_failed`
            self._failed(error)
            return False
        return True

    def _batches(self) -> Iterator[Sequence[Record]]:
        """The batches under way, and then more of them as long as enough waits."""
        for batch in list(self._hand):
            yield batch.records
        taken = 0
        while self._source.waiting() >= (1 if self._hurry or self._closed or not taken else self._settings.batch_size):
            batch = self._source.take(self._settings.batch_size * _BATCHES_AT_ONCE)
            taken += 1
            self._in_hand += batch.tickets
            if batch.records:
                self._hand.append(batch)
                yield batch.records
            elif batch.entries or batch.lost:
                self._settle(batch)
            else:
                return
            if time.monotonic() >= self._report_at:
                return  # there is something else to do, too

    def _settle(self, batch: Batch) -> None:
        self._source.settle(batch)
        if batch.unreadable:
            self._stats.dropped("spool_unreadable", batch.unreadable)
        with self._changed:
            self._settled += len(batch.records) + batch.unreadable + batch.lost
            del self._in_hand[: len(batch.tickets)]
            self._changed.notify_all()

    def _give_up(self) -> None:
        """The end has come: drop the records that only memory holds.

        Those whose intent is on disk leave that: whoever finds it makes a row, if one that knows nothing of the end.
        """
        with self._changed:
            tickets, self._in_hand = [*self._in_hand, *self._source.drop_memory()], []
            self._settled += len(tickets)
        if dropped := tickets.count(0):
            self._stats.dropped("shutdown", dropped)
        if unended := len(tickets) - dropped:
            self._stats.count("unended", unended)
            self._stats.warn("unended", f"{unended} LLM call record(s) will not say how the call ended")

    def _account(self, delivery: Delivery, began: float) -> float:
        """Count what became of a batch whose delivery began then; answers when the next one's does: now."""
        now = time.perf_counter()
        self._is_failing = False
        self._stats.took("write", now - began)
        self._stats.over("unavailable", f"{self._destination}: it takes records again")
        self._stats.count("written", delivery.written)
        self._stats.count("duplicates", delivery.duplicates)
        for _, reason in delivery.rejected:
            self._stats.count("dead")
            self._stats.warn("dead", f"{self._destination} refused an LLM call record: {reason}")
        return now

    def _note_failure(self) -> None:
        with self._changed:
            self._failures += 1
            self._is_failing = True
            self._changed.notify_all()

    def _failed(self, error: Exception) -> None:
        self._note_failure()
        if isinstance(error, StoreUnavailable):
            self._stats.count("retries")
            self._stats.warn("unavailable", f"{self._destination}: {error}; {self.waiting()} record(s) wait")
        else:  # not foreseen, so nothing is known to be stored: it is tried again
            self._stats.error("write", error)

    def _export(self, records: list[Record]) -> bool:
        began = time.perf_counter()
        try:
            self._account(self._exporter.export(records), began)
        except Exception as error:  # the same
            self._failed(error)
            return False
        return True

    def _report(self) -> None:
        if self._spool_directory is not None:
            report.write(self._spool_directory, self._stats, self.waiting())
        self._report_at = time.monotonic() + _REPORT_SECONDS

    def adopt(self) -> int:
        """Deliver what dead processes left. Answers how many records that were; what cannot be delivered stays."""
        return adoption.deliver(
            self._adopt_from,
            lambda records: not self._closed and self._export(records),
            self._settings.batch_size * _BATCHES_AT_ONCE,
            self._pricer,
            self._stats,
        )

"""Source: where finished records wait for delivery. On disk in the spool; in memory where that takes no more.

Always true: every record put is taken again, in order for each of the two, until it is settled; or it was refused, and
the answer says why. With a spool the memory holds what the disk refused, no more.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

from otel_llmlog import native
from otel_llmlog.pipeline.record import Record
from otel_llmlog.pipeline.spool import Entry, Spool, decode_record, encode_record


class Batch(NamedTuple):
    """Records under way. `entries` are their places in the spool, `tickets` the intents of those from memory."""

    records: list[Record]
    entries: Sequence[Entry] = ()
    tickets: Sequence[int] = ()
    unreadable: int = 0
    """Outcomes that are no records: written by a version that this one does not understand."""
    lost: int = 0
    """Outcomes that the disk damaged. They are counted as dropped already."""


def _nowhere(intent: bytes) -> int:  # noqa: ARG001 - as a spool's
    return 0


def _without(ticket: int, ending: bytes) -> bool:  # noqa: ARG001 - as a spool's
    return True  # a record in memory would not survive the process either


class Source:
    """Records that wait. Any thread puts, one takes."""

    def __init__(self, spool: Spool | None, queue_size: int) -> None:
        self._spool = spool
        self._queue_size = queue_size
        self._lock = native.Lock()
        self._memory: deque[tuple[Record, int]] = deque()
        self._lost = 0
        self._taken: list[tuple[Record, int]] = []  # of memory, and not settled yet
        # Note that a request goes out, as `encode_intent` writes it. Answers a ticket for `put`, 0 when it could not be
        # noted on disk. The spool's own function: it is called on the app's thread.
        self.intend: Callable[[bytes], int] = spool.begin if spool is not None else _nowhere
        # Note how it ended, as `encode_ending` writes that; False where the record should come soon instead. The same.
        self.end: Callable[[int, bytes], bool] = spool.end if spool is not None else _without

    def renew(self) -> None:
        """In a forked child: what waits is the parent's to deliver."""
        self._lock = native.Lock()
        self._memory = deque()
        self._lost = 0
        self._taken = []

    def forget(self, ticket: int) -> None:
        """The request needs no record."""
        if ticket and self._spool is not None:
            self._spool.settle(ticket)

    def put(self, records: Sequence[tuple[Record, int]]) -> list[str]:
        """Take records in, each with its ticket. Answers why others were dropped: a reason for each that was."""
        reason = "queue_full"
        if self._spool is not None:
            refused = self._spool.finish_all([(ticket, encode_record(record)) for record, ticket in records])
            records = [records[at] for at in refused]
            reason = self._spool.reason() or reason
        if not records:
            return []
        with self._lock:
            room = max(0, self._queue_size - len(self._memory) - len(self._taken))
            # Their intents stay open on disk: should this process die, it is known that there were calls.
            self._memory.extend(records[:room])
        for _, ticket in records[room:]:
            self.forget(ticket)
        return [reason] * len(records[room:])

    def waiting(self) -> int:
        """Records that `take` would still give."""
        return len(self._memory) + (self._spool.unread if self._spool is not None else 0)

    def holds_in_memory(self) -> bool:
        """Whether records wait, or are under way, that are nowhere else."""
        return bool(self._memory or self._taken)

    def disk_bytes(self) -> int:
        """Disk that the spool of this process takes."""
        return self._spool.pending().bytes if self._spool is not None else 0

    def take(self, limit: int) -> Batch:
        """The next records; what waited in memory first, because only the disk survives."""
        with self._lock:
            waited = [self._memory.popleft() for _ in range(min(limit, len(self._memory)))]
            self._taken += waited
        if waited or self._spool is None:
            return Batch([record for record, _ in waited], tickets=[ticket for _, ticket in waited])
        entries = self._spool.read(limit)
        decoded = [decode_record(entry.payload) for entry in entries]
        records = [record for record in decoded if record is not None]
        before, self._lost = self._lost, self._spool.lost
        places = [entry._replace(payload=b"") for entry in entries]  # not held twice while the batch is under way
        return Batch(records, places, unreadable=len(entries) - len(records), lost=self._lost - before)

    def settle(self, batch: Batch) -> None:
        """These are delivered, or will never be."""
        if batch.entries and self._spool is not None:
            self._spool.ack(batch.entries)
        for ticket in batch.tickets:
            self.forget(ticket)
        with self._lock:
            del self._taken[: len(batch.tickets)]

    def search(self, needle: bytes, wanted: Callable[[Record], bool]) -> list[Record]:
        """Records that hold these bytes in a text, are wanted and may not be stored yet. They stay where they are."""
        with self._lock:
            held = [record for record, _ in (*self._taken, *self._memory)]
        found = [record for record in held if wanted(record)]

        def see(payload: bytes) -> None:
            record = decode_record(payload)
            if record is not None and wanted(record):
                found.append(record)

        if self._spool is not None:
            self._spool.search(needle, see)
        return found

    def drop_memory(self) -> list[int]:
        """Give up what only memory holds; answers the tickets of those records, 0 for one that has no intent."""
        with self._lock:
            tickets = [ticket for _, ticket in self._memory]
            self._memory.clear()
        return tickets

    def close(self) -> int:
        """Close the spool; answers how many outcomes it keeps for the next process."""
        return self._spool.close().outcomes if self._spool is not None else 0

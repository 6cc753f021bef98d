"""Spool: accepted records survive a crash. Appended by `Log`, read back and acknowledged here.

Always true: outcomes are read in the order they were appended, from the files and not from memory, each once; a
segment is removed only when every outcome in it and before it is acknowledged; an outcome never leaves the disk before
its intent does. How far delivery has come is noted in the newest segment, so that after a crash only what was under
way is delivered again.
"""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Callable, Iterable
from time import monotonic
from typing import NamedTuple

from otel_llmlog import native
from otel_llmlog.pipeline.spool import files, frames
from otel_llmlog.pipeline.spool.log import DISK_FULL, Log
from otel_llmlog.pipeline.spool.segment import Segment
from otel_llmlog.stats import Stats

# Bytes that one `read` answers at most, but for a single larger outcome.
READ_BYTES = 32 << 20
# An empty segment of this size is cut to nothing rather than kept until it is full.
_TRIM_BYTES = 256 << 10
# Payload of a DELIVERED frame: segment and offset before which all is acknowledged, outcomes appended after that.
POSITION = struct.Struct("<QQQ")


class Entry(NamedTuple):
    """An outcome that was read. It stays the reader's until acknowledged: `read` gives it once."""

    segment: int
    offset: int
    payload: bytes


class Pending(NamedTuple):
    """What a spool still holds."""

    outcomes: int
    """Spooled and not acknowledged."""
    intents: int
    """Without outcome yet."""
    bytes: int
    """Of this process's files, delivered parts that are not removed yet included."""


class Spool(Log):
    """One process's spool. Any thread may call anything; `read` and `ack` wait for each other."""

    def __init__(
        self,
        directory: str | os.PathLike[str],
        max_bytes: int = 1 << 30,
        *,
        fsync: bool = False,
        stats: Stats | None = None,
        segment_bytes: int | None = None,
        destination: str = "",
    ) -> None:
        """`max_bytes`: of all files in the directory, those of other processes as they were a few seconds ago.

        `destination`: where its records go, in words. The directory says so to who finds it.
        """
        super().__init__(
            directory, max_bytes, fsync=fsync, stats=stats, segment_bytes=segment_bytes, destination=destination
        )

    def _start_anew(self) -> None:
        super()._start_anew()
        self._reading = native.RLock()
        # Where the next outcome is looked for: a segment's number, or the first one after it, and an offset in it.
        self._at, self._offset = 0, 0
        self._in_flight: dict[tuple[int, int], Segment] = {}  # read and not acknowledged
        self._lost = 0

    @property
    def lost(self) -> int:
        """Outcomes that turned out to be damaged, since the beginning."""
        return self._lost

    @property
    def unread(self) -> int:
        """Outcomes that `read` has still to give."""
        return self._unread

    def pending(self) -> Pending:
        """What is still held."""
        with self._lock:
            intents, used = (0, 0) if self._intents is None else (self._intents.under_way(), self._intents.used())
            return Pending(self._unread + len(self._in_flight), intents, self._own_bytes + used)

    def read(self, limit: int, max_bytes: int = READ_BYTES) -> list[Entry]:
        """The next outcomes, oldest first: up to `limit`, and no more once they hold `max_bytes`."""
        entries: list[Entry] = []
        with self._reading:
            while len(entries) < limit and max_bytes > 0:
                with self._lock:
                    segment = next((s for s in self._segments.values() if s.name.number >= self._at), None)
                    if segment is None:
                        break
                    if segment.name.number != self._at:
                        self._at, self._offset = segment.name.number, 0
                    end, outcomes = segment.size, segment.outcomes
                max_bytes = self._read_segment(segment, end, limit, max_bytes, entries)
                if self._offset < end:
                    break
                self._note_lost(segment, outcomes)
                with self._lock:
                    if self._offset < segment.size:
                        continue
                    # The active one grows; any other is followed by the next, when there is one.
                    if segment is self._active or next(reversed(self._segments)) == segment.name.number:
                        break
                    self._at, self._offset = segment.name.number + 1, 0
            self._retire()
        return entries

    def _read_segment(self, segment: Segment, end: int, limit: int, max_bytes: int, entries: list[Entry]) -> int:
        """Append to `entries` up to a limit; answers the bytes that may still follow."""
        for found in frames.scan(segment.read, self._offset, end, segment.seed):
            if isinstance(found, frames.Gap):
                self._count("spool.corrupt")
                files.keep_aside(self._directory, segment.name.stem, segment.fd, [found])
            elif found.kind == frames.OUTCOME:
                entries.append(Entry(segment.name.number, found.start, found.payload))
                max_bytes -= len(found.payload)
                with self._lock:
                    self._in_flight[segment.name.number, found.start] = segment
                    segment.in_flight += 1
                    segment.seen += 1
                    self._unread -= 1
            self._offset = found.end
            if len(entries) >= limit or max_bytes <= 0:
                return max_bytes
        self._offset = end
        return max_bytes

    def _note_lost(self, segment: Segment, outcomes: int) -> None:
        """All of the segment was read up to where it held so many outcomes: those not seen are damaged."""
        lost = outcomes - segment.seen
        if lost > 0:
            with self._lock:
                segment.seen += lost
                self._unread -= lost
                self._lost += lost
            if self._stats is not None:
                self._stats.dropped("spool_corrupt", lost)

    def ack(self, entries: Iterable[Entry]) -> None:
        """These are delivered, or will never be: they may leave the disk. A second time does nothing."""
        with self._reading:
            with self._lock:
                for entry in entries:
                    segment = self._in_flight.pop((entry.segment, entry.offset), None)
                    if segment is not None:
                        segment.in_flight -= 1
            self._retire()
            self._note_delivered()

    def search(self, needle: bytes, see: Callable[[bytes], None]) -> None:
        """Show every outcome of this process that holds these bytes, oldest first; whose they are does not change.

        Some may be acknowledged: their segment is not removed yet. What cannot be read is left out.
        """
        with self._reading:  # no segment is removed meanwhile
            with self._lock:
                segments = [(segment, segment.size) for segment in self._segments.values()]
            for segment, end in segments:
                with contextlib.suppress(OSError):
                    for frame in frames.scan(segment.read, 0, end, segment.seed):
                        if isinstance(frame, frames.Frame) and frame.kind == frames.OUTCOME and needle in frame.payload:
                            see(frame.payload)

    def _retire(self) -> None:
        """Remove the oldest segments as far as nothing in them is needed."""
        while True:
            with self._lock:
                if self._inside:
                    return
                self._inside = True
                try:
                    if not self._unread and self._active is not None:
                        # What came after the last look are notes. Everything is passed.
                        self._at, self._offset = self._active.name.number, self._active.size
                    first = next(iter(self._segments.values()), None)
                    if first is None or first.in_flight or not self._passed(first):
                        return
                    if first is self._active:
                        self._trim(first)
                        return
                    del self._segments[first.name.number]
                    self._weigh()
                finally:
                    self._inside = False
            self._sync_intents()
            first.remove()

    def _passed(self, segment: Segment) -> bool:
        return segment.name.number < self._at or (segment.name.number == self._at and self._offset >= segment.size)

    def _trim(self, segment: Segment) -> None:
        """Give back what the active segment, the only one, takes on disk, if it holds nothing any more."""
        # On a disk that was full every byte counts: it may be this segment that fills it.
        small = segment.size < _TRIM_BYTES and self._trouble != DISK_FULL
        if small or not segment.size or self._unread or self._in_flight:
            return
        self._sync_intents()
        if segment.empty():
            self._trouble = ""
            self._offset = 0
            self._weigh()

    def _sync_intents(self) -> None:
        """That calls have ended must be on disk before their outcomes are gone."""
        intents = self._intents
        if self._fsync and intents is not None and not intents.sync(intents.written()):
            self._count("spool.sync_failed")

    def _note_delivered(self) -> None:
        """Note how far delivery has come, for who adopts these files after a crash."""
        with self._lock:
            segment = self._active
            if self._inside or segment is None or not segment.size or monotonic() < self._retry_at:
                return
            if self._in_flight and self._trouble:
                return  # what room there is belongs to records
            self._inside = True
            try:
                # Batches are acknowledged in the order in which they were read.
                number, offset = next(iter(self._in_flight), (self._at, self._offset))
                position = POSITION.pack(number, offset, self._unread + len(self._in_flight))
                self._write(segment, frames.encode(frames.DELIVERED, 0, position, segment.seed))
            finally:
                self._inside = False

    def close(self) -> Pending:
        """Remove this process's files, or leave them to be adopted if they hold anything: that is what it answers."""
        with self._reading, self._lock:
            if self._inside:
                # A signal handler ends the process from the middle of an append, whose state may be half changed.
                # The files say all there is to say; they are found as those of any dead process.
                return self.pending()
            left = self.pending()
            held, owner = [*self._segments.values(), *filter(None, [self._intents])], self._owner
            empty = not (left.outcomes or left.intents)
            self._start_anew()
            self._shut()
        for each in held:
            if empty:
                each.remove()
            else:
                each.unmap()
                each.close()
        files.unclaim(owner)
        return left

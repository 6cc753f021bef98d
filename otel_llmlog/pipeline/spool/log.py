"""Log: the writing side of a spool. Intents go into a table, outcomes to the end of the newest segment.

Always true: what was answered with a ticket or True is in a file, whole; what was refused is in none, and its reason
is counted; writing never raises. An intent leaves the table when its outcome is in a segment, not before.
"""

from __future__ import annotations

import errno
import itertools
import math
import os
import threading
import weakref
from collections.abc import Sequence
from pathlib import Path
from time import monotonic
from typing import TypeVar

from otel_llmlog import native
from otel_llmlog.pipeline.spool import files, folder, frames, purpose
from otel_llmlog.pipeline.spool.intents import Intents
from otel_llmlog.pipeline.spool.segment import Segment
from otel_llmlog.pipeline.spool.window import AVAILABLE
from otel_llmlog.stats import Stats

# Why an append is refused.
FULL, DISK_FULL, UNWRITABLE = "spool_full", "spool_disk_full", "spool_unwritable"
TOO_BIG, BUSY, CLOSED = "spool_too_big", "spool_busy", "spool_closed"

# A segment's bytes: small enough to give disk back soon, large enough that making one does not count. Each holds a
# descriptor while it lasts, so a large spool has larger ones, not more.
_SEGMENT_BYTES = 8 << 20
_MAX_SEGMENTS = 64
# Bytes a spool must be allowed for its segments to be mapped.
_LEAST_MAPPED = 64 << 20
# Seconds until a disk that failed is tried again, and between looks whether the segment is still in its directory.
_RETRY_SECONDS = _CHECK_SECONDS = 1.0
# Seconds between counts of what other processes hold in the directory; less when that is why an append was refused.
_RECOUNT_SECONDS = 5.0
_DISK_FULL_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}

_Held = TypeVar("_Held", Segment, Intents)

_logs: weakref.WeakSet[Log] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for log in list(_logs):
        log.after_fork_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


class Log:
    """Appends to the segments of this process. Every method may be called from any thread."""

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
        """Touches no file: the directory and the first segment are made at the first append, or by `open`."""
        self._directory = Path(directory).absolute()  # the app may change its working directory
        self._max_bytes = max_bytes
        self._destination = destination  # of the records, in words
        self._segment_bytes = segment_bytes or max(_SEGMENT_BYTES, max_bytes // _MAX_SEGMENTS)
        # Background threads begin a new segment a little early, so that the app's threads seldom have to.
        self._early_bytes = self._segment_bytes * 7 // 8
        self._fsync = fsync
        self._stats = stats
        # Both go on in a forked child: its tickets must not be taken for those of calls that its parent began.
        self._next_ticket = itertools.count(1).__next__
        self._number = 0
        self._start_anew()
        _logs.add(self)

    def _start_anew(self) -> None:
        # Reentrant: a signal handler or a finaliser may call while its thread is in here. `_inside` then refuses it.
        self._lock = native.RLock()
        self._inside = False
        self._pid = os.getpid()
        self._owner = ""
        self._segments: dict[int, Segment] = {}  # oldest first
        self._active: Segment | None = None
        self._intents: Intents | None = None
        self._maps = False  # whether files are mapped
        self._own_bytes = 0
        self._other_bytes = 0
        self._unread = 0
        self._trouble = ""
        self._retry_at = -math.inf
        self._check_at = 0.0
        self._recount_at = math.inf  # nothing to count before there is a directory
        self._last = threading.local()

    def after_fork_in_child(self) -> None:
        """Leave the parent's files and lock alone and begin anew at the next append. Happens by itself; may repeat."""
        if self._pid == os.getpid():
            return
        inherited = [*self._segments.values(), *filter(None, [self._intents])]
        closed = self._trouble == CLOSED
        self._start_anew()
        if closed:
            self._shut()
        for held in inherited:
            held.close()

    def _shut(self) -> None:
        self._trouble, self._retry_at = CLOSED, math.inf

    def open(self) -> bool:
        """Make the directory and the first files now, so that the first call need not; False when that is refused."""
        with self._lock:
            if self._inside or monotonic() < self._retry_at:
                return self._active is not None
            self._inside = True
            try:
                return self._ready(0, self._segment_bytes) is not None and self._table() is not None
            finally:
                self._inside = False

    def begin(self, intent: bytes) -> int:
        """Note an intent. Answers its ticket, which `finish` or `settle` takes, or 0 when it is refused."""
        # This is the app's thread, and its caches are cold: nearly always a slot is free, and there is nothing else to
        # see to.
        ticket, intents = self._next_ticket(), self._intents
        if intents is not None and intents.put(ticket, intent):
            return ticket
        with self._lock:
            if self._inside:
                return self._refuse(BUSY)
            self._inside = True
            try:
                intents = self._note(ticket, intent)
                if intents is None:
                    return 0
                written = intents.written()
            finally:
                self._inside = False
        if self._fsync and not intents.sync(written):
            self._count("spool.sync_failed")
            intents.attached = False  # the next look moves all to another file
        return ticket

    def end(self, ticket: int, ending: bytes) -> bool:
        """Note how the call of an intent ended. True: its outcome may be late.

        On the app's thread, which never waits here.
        """
        intents = self._intents
        # Where the disk refuses outcomes, memory has no room for many that come at once. And where the table was moved
        # meanwhile, this may have been moved without it.
        return intents is not None and not self._trouble and intents.end(ticket, ending) and intents is self._intents

    def _note(self, ticket: int, intent: bytes) -> Intents | None:
        """Write an intent into the table; answers the table, None when that is refused."""
        self._look()
        size = frames.HEADER_BYTES + len(intent)
        reason = self._reason_against(size, size if self._intents is None else self._intents.growth(size))
        if not reason and (intents := self._table()) is not None:
            try:
                intents.write(ticket, intent)
            except OSError as error:
                if error.errno != errno.EFBIG:
                    self._fail(error)
                else:  # as large as a file of this process may be: outcomes still have segments to go to
                    reason = UNWRITABLE
            else:
                return intents
        self._refuse(reason or self._trouble)
        return None

    def _table(self) -> Intents | None:
        if self._intents is None:
            try:
                self._intents = self._made(Intents)
            except OSError as error:
                self._fail(error)
                return None
        return self._intents

    def finish(self, ticket: int, outcome: bytes) -> bool:
        """Append the outcome of an intent, or with ticket 0 of none. After False the intent is still open."""
        return not self.finish_all([(ticket, outcome)])

    def finish_all(self, outcomes: Sequence[tuple[int, bytes]]) -> list[int]:
        """Append outcomes, each with the ticket of its intent or 0. Answers which of them were refused."""
        if monotonic() >= self._recount_at:
            self._recount()
        # One write for all of them; where they do not fit together, one for each.
        if len(outcomes) > 1:
            trouble = self._retry_at
            if self._finish(outcomes):
                return []
            if self._retry_at != trouble and self._trouble == DISK_FULL:
                self._retry_at = -math.inf  # what is left of the disk may have room for some of them
        return [at for at, outcome in enumerate(outcomes) if not self._finish([outcome])]

    def _finish(self, outcomes: Sequence[tuple[int, bytes]]) -> bool:
        with self._lock:
            if self._inside:
                return bool(self._refuse(BUSY))
            self._inside = True
            try:
                intents = self._intents
                known = [
                    (ticket if intents is not None and ticket in intents else 0, outcome)
                    for ticket, outcome in outcomes
                ]
                segment = self._append(frames.OUTCOME, known, self._early_bytes)
                if segment is None:
                    return False
                end = segment.size
                segment.outcomes += len(known)
                self._unread += len(known)
                if self._intents is not None:  # by now it may be another one
                    for ticket, _ in known:
                        self._intents.clear(ticket)
            finally:
                self._inside = False
        if self._fsync:
            self._sync(segment, end)
        return True

    def settle(self, ticket: int) -> None:
        """The intent needs no outcome here: it was dropped, or is delivered by other means. May be called twice."""
        with self._lock:
            if self._intents is not None:
                self._intents.clear(ticket)

    def reason(self) -> str:
        """Why this thread's last append was refused."""
        return str(getattr(self._last, "reason", ""))

    def _append(self, kind: int, payloads: Sequence[tuple[int, bytes]], room: int) -> Segment | None:
        """Write a frame for each ticket and payload. `room`: bytes at which a segment counts as full."""
        size = sum([frames.HEADER_BYTES + len(payload) for _, payload in payloads])
        if reason := self._reason_against(size, size):
            self._refuse(reason)
            return None
        segment, now = self._active, monotonic()
        for _ in range(2):
            if segment is None or segment.size + size > room or now >= self._check_at:
                segment = self._ready(size, room)
                if segment is None:
                    break
            if self._write(segment, b"".join([frames.encode(kind, t, p, segment.seed) for t, p in payloads])):
                return segment
            if self._active is not None or now < self._retry_at:
                break
            segment = None  # it had reached the size that this process's files may have: once more, in a new one
        self._refuse(self._trouble)
        return None

    def _reason_against(self, size: int, growth: int) -> str:
        """Why a frame of `size` bytes is refused that takes `growth` bytes of disk; empty when it is not."""
        now = monotonic()
        if now < self._retry_at:
            return self._trouble
        if size > frames.MAX_PAYLOAD + frames.HEADER_BYTES:
            return TOO_BIG
        held = self._own_bytes + self._other_bytes + (self._intents.size if self._intents is not None else 0)
        if growth and held + growth > self._max_bytes:
            self._recount_at = min(self._recount_at, now + _RETRY_SECONDS)
            return FULL
        return ""

    def _write(self, segment: Segment, data: bytes) -> bool:
        try:
            segment.write(data)
        except OSError as error:
            self._fail(error, segment)
            return False
        except BaseException:  # KeyboardInterrupt
            if segment.torn:
                self._active = None
            raise
        self._own_bytes += len(data)
        return True

    def _fail(self, error: OSError, segment: Segment | None = None) -> None:
        if segment is not None and (segment.torn or (error.errno == errno.EFBIG and segment.size)):
            # Nothing may follow a torn frame: its length would cover it, if not its check.
            self._active = None
        if segment is None or error.errno != errno.EFBIG or not segment.size:
            self._trouble = DISK_FULL if error.errno in _DISK_FULL_ERRORS else UNWRITABLE
            self._retry_at = monotonic() + _RETRY_SECONDS
            if self._trouble == UNWRITABLE:
                self._active = None
            self._count(f"spool.error.{errno.errorcode.get(error.errno or 0, 'unknown')}")
            if isinstance(error, folder.RefusedError) and self._stats:
                self._stats.warn("spool.refused", f"{error.strerror}: {folder.ADVICE}")

    def _refuse(self, reason: str) -> int:
        self._last.reason = reason
        self._count(f"spool.refused.{reason}")
        return 0

    def _count(self, name: str, number: int = 1) -> None:
        if self._stats:
            self._stats.count(name, number)

    def _ready(self, size: int, room: int) -> Segment | None:
        """A segment that takes `size` bytes more."""
        self._look()
        segment = self._active
        if segment is None or (segment.size and segment.size + size > room):
            segment = self._create()
        return segment

    def _look(self) -> None:
        """See to it, now and then, that what is written can be found after a crash."""
        now = monotonic()
        if now < self._check_at:
            return
        self._check_at = now + _CHECK_SECONDS
        gone = [held for held in (self._active, self._intents) if held is not None and not held.is_held()]
        if gone:
            self._count("spool.vanished")
        if self._active in gone:
            self._detach()
        if self._intents is not None:
            self._intents.mapped = self._maps  # it may have given up when the disk was full
            if self._intents in gone or not self._intents.attached:
                self._replace(self._intents)

    def _replace(self, intents: Intents) -> None:
        """Move what is under way to another table."""
        self._intents = None
        if self._table() is None:
            self._intents, intents.attached = intents, False  # the next look tries again
            return
        for ticket, intent, ending in intents.all():
            if intent is None:
                self._count("spool.corrupt")
            elif (moved := self._note(ticket, intent)) is not None and ending is not None:
                moved.end(ticket, ending)
            intents.clear(ticket)
        intents.attached = intents.is_there()
        intents.remove()

    def _detach(self) -> None:
        """The directory is gone, or a segment, or its descriptor: what is in it may be read, but is no longer ours."""
        for segment in self._segments.values():
            segment.attached = segment.attached and segment.is_held()
        self._active = None
        self._weigh()

    def _weigh(self) -> None:
        self._own_bytes = sum(segment.size for segment in self._segments.values() if segment.attached)

    def _made(self, kind: type[_Held]) -> _Held:
        """A new file in the directory, which is made if it is not there. Raises OSError."""
        if not self._owner:
            self._owner = os.urandom(16).hex()
            files.claim(self._owner)
        files.make_directory(self._directory, fsync=self._fsync)
        # With fsync each frame costs a system call anyway; a small spool has no room to allocate ahead.
        roomy = not self._fsync and self._max_bytes >= _LEAST_MAPPED
        self._maps = roomy and AVAILABLE and files.can_map(self._directory)
        made = kind.create(self._directory, self._owner, self._number + 1, fsync=self._fsync, mapped=self._maps)
        self._number = made.name.number
        purpose.note(self._directory, self._destination)
        if self._recount_at == math.inf:
            self._recount()
        return made

    def _create(self) -> Segment | None:
        try:
            segment = self._made(Segment)
        except OSError as error:
            self._fail(error)
            return None
        if self._active is not None:
            self._active.unmap()
        self._segments[segment.name.number] = self._active = segment
        self._check_at = monotonic() + _CHECK_SECONDS
        self._weigh()
        return segment

    def _sync(self, segment: Segment, end: int) -> None:
        if not segment.sync(end):
            # What is written survives this process, if not the machine: better kept there than in memory alone.
            self._count("spool.sync_failed")
            with self._lock:
                if self._active is segment:
                    self._active = None

    def _recount(self) -> None:
        self._recount_at = monotonic() + _RECOUNT_SECONDS
        self._other_bytes = files.used(self._directory, but=self._owner)

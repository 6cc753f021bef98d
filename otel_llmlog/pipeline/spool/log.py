"""Log: the append side of a spool. Intents and outcomes go to the end of the newest segment, one write each.

Always true: what was answered with a ticket or True is in a file, whole; what was refused is in none, and its reason
is counted; appending never raises. A segment is locked from its creation to its end, and opened once. An open intent
is in a segment not older than the oldest outcome that is still needed, because it is carried forward when its segment
has nothing else to keep: one call that never ends holds a few hundred bytes, not all that came after it.
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

from otel_llmlog.pipeline.spool import files, frames
from otel_llmlog.pipeline.spool.segment import Segment, create
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
_RETRY_SECONDS = 1.0
_CHECK_SECONDS = 1.0
# Seconds between counts of what other processes hold in the directory; less when that is why an append was refused.
_RECOUNT_SECONDS = 5.0
# Open intents carried forward under the lock at once: about 100 µs.
_CARRY_AT_ONCE = 64
_DISK_FULL_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}

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
    ) -> None:
        """Touches no file: the directory and the first segment are made at the first append, or by `open`."""
        self._directory = Path(directory).absolute()  # the app may change its working directory
        self._max_bytes = max_bytes
        self._segment_bytes = segment_bytes or max(_SEGMENT_BYTES, max_bytes // _MAX_SEGMENTS)
        # Background threads begin a new segment a little early, so that the app's threads seldom have to.
        self._early_bytes = self._segment_bytes * 7 // 8
        self._fsync = fsync
        self._stats = stats
        # Both go on in a forked child: its tickets must not be taken for those of calls that its parent began.
        self._ticket = 0
        self._number = 0
        self._start_anew()
        _logs.add(self)

    def _start_anew(self) -> None:
        # Reentrant, because a signal handler or a finaliser may make a call while its thread is in here; `_inside`
        # then refuses it, since the state may be half changed.
        self._lock = threading.RLock()
        self._inside = False
        self._pid = os.getpid()
        self._owner = ""
        self._segments: dict[int, Segment] = {}  # oldest first
        self._active: Segment | None = None
        # Ticket of each open intent: its segment, where its frame begins and ends. Oldest segment first.
        self._open: dict[int, tuple[Segment, int, int]] = {}
        self._unsettled: list[int] = []  # intents that ended while the disk would not take a note of it
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
        inherited = list(self._segments.values())
        closed = self._trouble == CLOSED
        self._start_anew()
        if closed:
            self._shut()
        for segment in inherited:
            segment.close()

    def _shut(self) -> None:
        self._trouble, self._retry_at = CLOSED, math.inf

    # Appending.

    def open(self) -> bool:
        """Make the directory and a segment now, so that the first append need not; False when that is refused."""
        with self._lock:
            if self._inside or monotonic() < self._retry_at:
                return self._active is not None
            self._inside = True
            try:
                return self._ready(0, self._segment_bytes) is not None
            finally:
                self._inside = False

    def begin(self, intent: bytes) -> int:
        """Append an intent. Answers its ticket, which `finish` or `settle` takes, or 0 when it is refused."""
        with self._lock:
            if self._inside:
                return self._refuse(BUSY)
            self._inside = True
            try:
                self._ticket = ticket = self._ticket + 1
                segment, size = self._active, frames.HEADER_BYTES + len(intent)
                # Nearly always nothing else is to be seen to. This is the app's thread, and its caches are cold: what
                # is touched for the first time costs, each function too, so all of it is looked at here.
                if (
                    segment is not None
                    and self._retry_at <= monotonic() < self._check_at
                    and segment.size + size <= self._segment_bytes
                    and self._own_bytes + self._other_bytes + size <= self._max_bytes
                    and segment.put(frames.encode(frames.INTENT, ticket, intent, segment.seed))
                ):
                    self._own_bytes += size
                else:
                    segment = self._append(frames.INTENT, [(ticket, intent)], self._segment_bytes)
                    if segment is None:
                        return 0
                end = segment.size
                self._open[ticket] = segment, end - size, end
                segment.open += 1
            finally:
                self._inside = False
        if self._fsync:
            self._sync(segment, end)
        return ticket

    def finish(self, ticket: int, outcome: bytes) -> bool:
        """Append the outcome of an intent, or with ticket 0 of none. After False the intent is still open."""
        return not self.finish_all([(ticket, outcome)])

    def finish_all(self, outcomes: Sequence[tuple[int, bytes]]) -> list[int]:
        """Append outcomes, each with the ticket of its intent or 0. Answers which of them were refused."""
        if monotonic() >= self._recount_at:
            self._recount()
        # One write for all of them; where they do not fit together, one for each.
        if len(outcomes) > 1 and self._finish(outcomes):
            return []
        return [at for at, outcome in enumerate(outcomes) if not self._finish([outcome])]

    def _finish(self, outcomes: Sequence[tuple[int, bytes]]) -> bool:
        with self._lock:
            if self._inside:
                return bool(self._refuse(BUSY))
            self._inside = True
            try:
                known = [(ticket if ticket in self._open else 0, outcome) for ticket, outcome in outcomes]
                segment = self._append(frames.OUTCOME, known, self._early_bytes)
                if segment is None:
                    return False
                end = segment.size
                segment.outcomes += len(known)
                self._unread += len(known)
                for ticket, _ in known:
                    if ticket in self._open:
                        self._open.pop(ticket)[0].open -= 1
                if self._unsettled:
                    self._note_settled()
            finally:
                self._inside = False
        if self._fsync:
            self._sync(segment, end)
        return True

    def settle(self, ticket: int) -> None:
        """The intent needs no outcome here: it was dropped, or is delivered by other means. May be called twice."""
        with self._lock:
            if ticket not in self._open:
                return
            self._open.pop(ticket)[0].open -= 1
            self._unsettled.append(ticket)
            if not self._inside:
                self._inside = True
                try:
                    self._note_settled()
                finally:
                    self._inside = False

    def reason(self) -> str:
        """Why this thread's last append was refused."""
        return str(getattr(self._last, "reason", ""))

    def _append(self, kind: int, payloads: Sequence[tuple[int, bytes]], room: int) -> Segment | None:
        """Write a frame for each ticket and payload. `room`: bytes at which a segment counts as full."""
        size = sum([frames.HEADER_BYTES + len(payload) for _, payload in payloads])
        now, reason = monotonic(), ""
        if now < self._retry_at:
            reason = self._trouble
        elif size > frames.MAX_PAYLOAD + frames.HEADER_BYTES:
            reason = TOO_BIG
        elif self._own_bytes + self._other_bytes + size > self._max_bytes:
            self._recount_at = min(self._recount_at, now + _RETRY_SECONDS)
            reason = FULL
        if reason:
            self._refuse(reason)
            return None
        segment = self._active
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

    def _refuse(self, reason: str) -> int:
        self._last.reason = reason
        self._count(f"spool.refused.{reason}")
        return 0

    def _count(self, name: str, number: int = 1) -> None:
        if self._stats:
            self._stats.count(name, number)

    # Segments.

    def _ready(self, size: int, room: int) -> Segment | None:
        """A segment that takes `size` bytes more."""
        now, lost = monotonic(), False
        if now >= self._check_at:
            self._check_at = now + _CHECK_SECONDS
            lost = self._active is not None and not self._active.is_there()
            if lost:
                self._detach()
        segment = self._active
        if segment is None or (segment.size and segment.size + size > room):
            segment = self._create()
        if lost and segment is not None:
            while self._open and not next(iter(self._open.values()))[0].attached and self._carry():
                pass
        return segment

    def _detach(self) -> None:
        """The directory or a file in it is gone. What is open can still be read, but not be found after a crash."""
        for segment in self._segments.values():
            segment.attached = segment.attached and segment.is_there()
        self._active = None
        self._weigh()
        self._count("spool.vanished")

    def _weigh(self) -> None:
        self._own_bytes = sum(segment.size for segment in self._segments.values() if segment.attached)

    def _create(self) -> Segment | None:
        if not self._owner:
            self._owner = os.urandom(16).hex()
            files.claim(self._owner)
        try:
            files.make_directory(self._directory, fsync=self._fsync)
            # With fsync each frame costs a system call anyway; a small spool has no room to allocate ahead.
            mapped = (
                not self._fsync and self._max_bytes >= _LEAST_MAPPED and AVAILABLE and files.can_map(self._directory)
            )
            segment = create(self._directory, self._owner, self._number + 1, fsync=self._fsync, mapped=mapped)
        except OSError as error:
            self._fail(error)
            return None
        if self._active is not None:
            self._active.unmap()
        self._number = segment.number
        self._segments[segment.number] = self._active = segment
        self._check_at = monotonic() + _CHECK_SECONDS
        self._weigh()
        if self._recount_at == math.inf:
            self._recount()
        return segment

    def _carry(self) -> bool:
        """Copy open intents of the oldest segment that has some to the active one. False when none could be."""
        target = self._active
        if target is None or not self._open:
            return False
        if (first := next(iter(self._open.values()))[0]) is target:
            return False
        moved: list[tuple[int, int]] = []
        data = b""
        for ticket, (segment, start, end) in itertools.islice(self._open.items(), _CARRY_AT_ONCE):
            if segment is not first:
                break
            found = frames.decode(segment.read(start, end - start), segment.seed)
            copy = frames.encode(frames.INTENT, ticket, found.payload, target.seed) if found else b""
            moved.append((ticket, len(copy)))
            data += copy
        at = target.size
        if data and not self._write(target, data):
            return False
        for ticket, size in moved:
            self._open.pop(ticket)[0].open -= 1
            if size:
                self._open[ticket] = target, at, at + size
                target.open += 1
                at += size
            else:
                self._count("spool.corrupt")
        return True

    def _note_settled(self) -> None:
        """Append what intents were settled; later, if the disk will not have it now."""
        segment = self._active
        if not self._segments:
            self._unsettled.clear()
        elif segment is not None and monotonic() >= self._retry_at:
            tickets = self._unsettled
            if self._write(segment, b"".join(frames.encode(frames.SETTLED, t, b"", segment.seed) for t in tickets)):
                self._unsettled = []

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

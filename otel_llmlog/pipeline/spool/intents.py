"""Intents: the calls of this process that are under way, each in a slot of one file. Slots are used again.

A call that has ended and is still to be read has its ending beside it, if there is room.

An app's thread notes its call here while it waits for nothing: a slot that is free is memory that was touched before,
a window of the file, and takes neither a lock nor a system call. However many calls there were, the file is as large as
the most that were under way at once, and a call that never ends holds its slot and nothing else.

Always true: what was noted stands whole in its slot until it is cleared; what is cleared is zeros. A slot belongs to
one thread from the moment it is taken until its ticket is known.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from otel_llmlog.pipeline.spool import files, frames
from otel_llmlog.pipeline.spool.held import HeldFile
from otel_llmlog.pipeline.spool.window import Window

# Bytes of a slot. An intent is some 400; a longer one gets a slot of its size, a power of two, which is written to.
SLOT_BYTES = 1 << 10
# Bytes that are allocated and mapped at once. Few processes have more than 64 calls under way.
_WINDOW_BYTES = 64 << 10


class _Slot(NamedTuple):
    view: memoryview | None
    """Where it is memory; else it is written to."""
    at: int
    """Offset in the view, or in the file."""
    size: int


_NOWHERE = _Slot(None, 0, 0)


class Intents(HeldFile):
    """The table. `put` may be called by any thread at any time, also from within the garbage collector."""

    __slots__ = ("_free", "_number_written", "_open", "_spare", "_stale", "_windows", "size")

    ENDING, APPENDS = files.INTENTS, False

    def __init__(self, directory: Path, owner: str, number: int, *, fsync: bool, mapped: bool = False) -> None:
        """As the file that it is."""
        self._windows: list[Window] = []
        self._free: list[_Slot] = []  # in memory; what was freed last comes first, its bytes may still be in a cache
        self._spare: dict[int, list[_Slot]] = {}  # those that are written to, by size
        self._stale: list[_Slot] = []  # free, but the disk would not take the zeros
        self._open: dict[int, _Slot] = {}
        self._number_written = 0
        self.size = 0  # bytes of slots, whether in use or not
        super().__init__(directory, owner, number, fsync=fsync, mapped=mapped)
        if mapped:
            self._grow()

    def under_way(self) -> int:
        """How many calls are."""
        return len(self._open)

    def __contains__(self, ticket: int) -> bool:
        """Whether the call of this ticket is under way."""
        return ticket in self._open

    def used(self) -> int:
        """Bytes of the slots in use, large ones counted as others."""
        return len(self._open) * SLOT_BYTES

    def written(self) -> int:
        """How often it was written to."""
        return self._number_written

    def put(self, ticket: int, intent: bytes) -> bool:
        """Note that a call begins; False, and nothing is done, where that takes more than a free slot in memory."""
        frame = frames.encode(frames.INTENT, ticket, intent, self.seed)
        end = len(frame)
        if end > SLOT_BYTES:
            return False
        try:
            slot = self._free.pop()
        except IndexError:
            return False
        view, at, _ = slot
        try:
            view[at : at + end] = frame  # type: ignore[index]  # those in `_free` have one
        except ValueError:  # closed meanwhile
            return False
        self._open[ticket] = slot
        return True

    def end(self, ticket: int, ending: bytes) -> bool:
        """Note beside an intent how its call ended; False, and nothing is done, where that takes more than memory."""
        view, at, size = self._open.get(ticket) or _NOWHERE
        if view is None:
            return False
        frame = frames.encode(frames.ENDING, ticket, ending, self.seed)
        try:
            start = at + frames.size_at(view, at)
            end = start + len(frame)
            if end > at + size:
                return False
            view[start:end] = frame
        except ValueError:  # closed meanwhile
            return False
        return True

    def growth(self, size: int) -> int:
        """Bytes by which the file must grow for an intent of `size` bytes."""
        size = _size_of(size)
        if self._spare.get(size) or (size == SLOT_BYTES and self._free):
            return 0
        return _WINDOW_BYTES if self.mapped and size == SLOT_BYTES else size

    def write(self, ticket: int, intent: bytes) -> None:
        """Note it whatever it takes. One thread at a time. Raises OSError, and nothing is noted then."""
        if self.put(ticket, intent):
            return
        frame = frames.encode(frames.INTENT, ticket, intent, self.seed)
        slot = self._slot(_size_of(len(frame)))
        self._write(slot, frame)
        self._open[ticket] = slot

    def _slot(self, size: int) -> _Slot:
        if size == SLOT_BYTES:
            if not self._free and self.mapped:
                self._grow()
            with contextlib.suppress(IndexError):  # other threads take them without asking
                return self._free.pop()
        if spare := self._spare.get(size):
            return spare.pop()
        for slot in tuple(self._stale):
            if slot.size == size:
                with contextlib.suppress(ValueError):  # a finaliser ended a call meanwhile, and that one blanked it
                    self._stale.remove(slot)
                    return slot
        slot = _Slot(None, -(-self.size // size) * size, size)  # so none of a page or less lies across two
        self.size = slot.at + size
        return slot

    def _grow(self) -> None:
        """Make a window of slots, if the disk has room for it."""
        start = -(-self.size // _WINDOW_BYTES) * _WINDOW_BYTES
        try:
            window = Window(self.fd, start, _WINDOW_BYTES) if self.is_ours() else None
        except OSError:  # writing will meet the same, and say so
            window = None
        if window is None:
            self.mapped = False
            return
        self._windows.append(window)
        self.size = window.end
        self._free += [_Slot(window.view, at, SLOT_BYTES) for at in range(_WINDOW_BYTES - SLOT_BYTES, -1, -SLOT_BYTES)]

    def _write(self, slot: _Slot, data: bytes) -> None:
        view, at, size = slot
        if view is not None:
            view[at : at + len(data)] = data
            return
        try:
            self._pwrite(data.ljust(size, b"\0"), at)
        except BaseException:  # KeyboardInterrupt too: it may stand there, and nobody will know its ticket
            self._free_slot(slot)
            raise

    def _pwrite(self, data: bytes, at: int) -> None:
        self.must_be_ours()
        while data:  # a write that came short is followed by one that fails and says why
            written = os.pwrite(self.fd, data, at)
            if not written:
                raise OSError(errno.ENOSPC, "nothing written")
            data, at = data[written:], at + written
        self._number_written += 1

    def clear(self, ticket: int) -> None:
        """The call has ended, and that is on disk, or need not be. May be called twice."""
        slot = self._open.pop(ticket, None)
        if slot is not None:
            while self._stale and self._free_slot(self._stale.pop()):
                pass
            self._free_slot(slot)

    def _free_slot(self, slot: _Slot) -> bool:
        """Blank it, so that it can be taken again; False when that is left for later."""
        view, at, size = slot
        if view is not None:
            view[at : at + size] = bytes(size)
            self._free.append(slot)
            return True
        try:
            self._pwrite(bytes(size), at)
        except OSError:
            self._stale.append(slot)
            return False
        self._spare.setdefault(size, []).append(slot)
        return True

    def all(self) -> Iterator[tuple[int, bytes | None, bytes | None]]:
        """Tickets, intents and endings of the calls under way; None for what is not there or cannot be read."""
        for ticket, (view, at, size) in self._open.copy().items():
            data = self.read(at, size) if view is None else bytes(view[at : at + size])
            found = {frame.kind: frame.payload for frame in frames.decode(data, self.seed)}
            yield ticket, found.get(frames.INTENT), found.get(frames.ENDING)

    def unmap(self) -> None:
        """Give windows back. Nothing is put into memory after that."""
        self._free = []
        windows, self._windows = self._windows, []
        for window in windows:
            window.close()


def _size_of(size: int) -> int:
    return max(SLOT_BYTES, 1 << (size - 1).bit_length())

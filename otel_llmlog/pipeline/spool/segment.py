"""Segment: one append-only file of this process, opened once and locked from its creation to its end.

Where it is safe, frames are put into a window of the file instead of being written to it: that survives the process
just as well, and takes no system call, in which a Python thread would give the interpreter's lock away and then wait
for it. Always true: behind the last frame the file holds zeros or nothing.
"""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

from otel_llmlog.pipeline.spool import files, frames
from otel_llmlog.pipeline.spool.window import BYTES, Window

# Names to try for a new segment.
_TRIES = 10


class Segment:
    """Frames go to its end, whole or not at all. The numbers are kept by who appends and who reads."""

    __slots__ = (
        "_mapped", "_window", "attached", "fd", "identity", "in_flight", "number", "open", "outcomes",
        "path", "seed", "seen", "size", "stem", "synced", "syncing", "torn",
    )  # fmt: skip

    def __init__(self, directory: Path, owner: str, number: int, *, fsync: bool, mapped: bool = False) -> None:
        """`mapped`: put frames into windows of it.

        Raises OSError; FileExistsError or BlockingIOError when the name has to be another.
        """
        self.number = number
        self.stem = files.stem(owner, number)
        self.path = directory / (self.stem + ".seg")
        self.seed = frames.seed(self.stem)
        self.fd = files.create(self.path)
        self.identity = files.identity(self.fd)
        self.attached = True  # False once its name is gone: what it holds can be read until this process ends
        self.torn = False  # a part of a frame stands at its end and could not be taken back
        self.size = 0  # bytes of whole frames
        self.synced = 0  # of these, on disk
        self.syncing = threading.Lock()
        self.open = 0  # intents without outcome
        self.outcomes = 0
        self.seen = 0  # outcomes read, or found unreadable
        self.in_flight = 0  # outcomes read and not acknowledged
        self._mapped = mapped
        self._window: Window | None = None
        if fsync:
            try:
                files.sync_directory(directory)
            except OSError:
                files.remove(self.path)
                self.close()
                raise

    def put(self, data: bytes) -> bool:
        """Append whole frames if the window takes them; False, and nothing is done, where they need a system call."""
        window, start = self._window, self.size
        end = start + len(data)
        if window is None or end > window.end:
            return False
        window.view[start - window.start : end - window.start] = data
        self.size = end
        return True

    def write(self, data: bytes) -> None:
        """Append whole frames. Raises OSError, having taken back what was written of them."""
        end = self.size + len(data)
        if self._mapped and (self.put(data) or (self._next_window(end) is not None and self.put(data))):
            return
        try:
            written = os.write(self.fd, data)
            if written != len(data):
                self._write_rest(data[written:])
            self.size = end
        except BaseException:  # KeyboardInterrupt too: the frame may stand there, and nobody will know its ticket
            self._cut()
            raise

    def _next_window(self, end: int) -> Window | None:
        """A window for what goes to the end of the file, up to `end`; None where it has to be written."""
        self._close_window()
        # Some apps close all descriptors they find: this one may be another file by now.
        if end - self.size <= BYTES // 2 and files.identity(self.fd) == self.identity:
            try:
                self._window = Window(self.fd, self.size)
            except OSError:  # no room on the disk, say: writing will meet the same, and say so
                self._mapped = False
            else:
                return self._window
        self._cut()  # writing appends to the file, and so behind what was allocated
        return None

    def _close_window(self) -> None:
        window, self._window = self._window, None
        if window is not None:
            window.close()

    def unmap(self) -> None:
        """Give back the disk behind the last frame. What follows is written."""
        if self._mapped:
            self._mapped = False
            self._close_window()
            self._cut()

    def _write_rest(self, data: bytes) -> None:
        """A write that came short is followed by one that fails and says why."""
        while data:
            written = os.write(self.fd, data)
            if not written:
                raise OSError(errno.ENOSPC, "nothing written")
            data = data[written:]

    def _cut(self) -> None:
        """Take back what stands behind the last whole frame."""
        try:
            found = os.fstat(self.fd)
            if (found.st_dev, found.st_ino) == self.identity and found.st_size != self.size:
                os.ftruncate(self.fd, self.size)
        except OSError:
            self.torn = True

    def read(self, offset: int, size: int) -> bytes:
        """Bytes of the file."""
        return files.read_at(self.fd, offset, size)

    def sync(self, end: int) -> bool:
        """Return once what was written up to `end` is on disk; False if the disk fails to promise it."""
        if self.synced >= end:
            return True
        with self.syncing:  # threads that come together share one sync
            size = self.size
            if self.synced < end and self.fd >= 0:
                try:
                    files.sync(self.fd)
                    self.synced = size
                except OSError:
                    return self.fd < 0  # removed meanwhile: it was delivered
        return True

    def empty(self) -> bool:
        """Give back what it takes on disk, and begin it anew; False when the disk refuses."""
        self._close_window()
        try:
            os.ftruncate(self.fd, 0)
        except OSError:
            return False
        self.size = self.synced = self.outcomes = self.seen = 0
        return True

    def is_there(self) -> bool:
        """Whether its name still leads to it."""
        return files.is_at(self.path, self.identity)

    def remove(self) -> None:
        """Remove the file, and close it."""
        if self.attached:
            files.remove(self.path)
        self.close()

    def close(self) -> None:
        """Close it. Whatever it holds is then an orphan's."""
        # Forgotten first: at a fork in between, the child must not close a number that is already another file's.
        fd, self.fd = self.fd, -1
        self._mapped = False
        self._close_window()
        files.close(fd, self.identity)


def create(directory: Path, owner: str, number: int, *, fsync: bool, mapped: bool) -> Segment:
    """A new segment with this number, or a higher one where it is taken. Raises OSError."""
    for _ in range(_TRIES):
        try:
            return Segment(directory, owner, number, fsync=fsync, mapped=mapped)
        except (BlockingIOError, FileExistsError):  # another process looked at it before it was locked
            number += 1
    raise BlockingIOError(errno.EAGAIN, "no segment could be locked")

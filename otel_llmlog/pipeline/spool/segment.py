"""Segment: an append-only file of outcomes.

Where it is safe, frames are put into a window of the file instead of being written to it: that survives the process
just as well, and takes no system call, in which a Python thread would give the interpreter's lock away and then wait
for it. Always true: behind the last frame the file holds zeros or nothing.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

from otel_llmlog.pipeline.spool import files
from otel_llmlog.pipeline.spool.held import HeldFile
from otel_llmlog.pipeline.spool.window import BYTES, Window


class Segment(HeldFile):
    """Frames go to its end, whole or not at all. The numbers are kept by who appends and who reads."""

    __slots__ = ("_window", "in_flight", "outcomes", "seen", "size", "torn")

    ENDING, APPENDS = files.SEGMENT, True

    def __init__(self, directory: Path, owner: str, number: int, *, fsync: bool, mapped: bool = False) -> None:
        """As the file that it is."""
        self._window: Window | None = None
        self.torn = False  # a part of a frame stands at its end and could not be taken back
        self.size = 0  # bytes of whole frames
        self.outcomes = 0
        self.seen = 0  # outcomes read, or found unreadable
        self.in_flight = 0  # outcomes read and not acknowledged
        super().__init__(directory, owner, number, fsync=fsync, mapped=mapped)

    def written(self) -> int:
        """Bytes of whole frames."""
        return self.size

    def write(self, data: bytes) -> None:
        """Append whole frames. Raises OSError, having taken back what was written of them."""
        end = self.size + len(data)
        if self.mapped and (self._put(data) or (self._next_window(end) and self._put(data))):
            return
        self.must_be_ours()
        try:
            written = os.write(self.fd, data)
            if written != len(data):
                self._write_rest(data[written:])
            self.size = end
        except BaseException:  # KeyboardInterrupt too: the frame may stand there, and nobody will know its ticket
            self._cut()
            raise

    def _put(self, data: bytes) -> bool:
        """Append whole frames if the window takes them."""
        window, start = self._window, self.size
        end = start + len(data)
        if window is None or end > window.end:
            return False
        window.view[start - window.start : end - window.start] = data
        self.size = end
        return True

    def _next_window(self, end: int) -> bool:
        """Have a window for what goes to the end of the file, up to `end`; False where it has to be written."""
        self._close_window()
        if end - self.size <= BYTES // 2 and self.is_ours():
            try:
                self._window = Window(self.fd, self.size)
            except OSError:  # no room on the disk, say: writing will meet the same, and say so
                self.mapped = False
            else:
                return True
        self._cut()  # writing appends to the file, and so behind what was allocated
        return False

    def _close_window(self) -> None:
        window, self._window = self._window, None
        if window is not None:
            window.close()

    def unmap(self) -> None:
        """Give back the disk behind the last frame. What follows is written."""
        self._close_window()
        if self.mapped:
            self.mapped = False
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

    def empty(self) -> bool:
        """Give back what it takes on disk, and begin it anew; False when the disk refuses."""
        self._close_window()
        try:
            self.must_be_ours()
            os.ftruncate(self.fd, 0)
        except OSError:
            return False
        self.size = self.synced = self.outcomes = self.seen = 0
        return True

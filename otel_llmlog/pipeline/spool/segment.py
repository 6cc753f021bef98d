"""Segment: one append-only file of this process, opened once and locked from its creation to its end."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

from otel_llmlog.pipeline.spool import files, frames

# Names to try for a new segment.
_TRIES = 10


class Segment:
    """Frames go to its end, whole or not at all. The numbers are kept by who appends and who reads."""

    __slots__ = (
        "attached", "fd", "identity", "in_flight", "number", "open", "outcomes", "path", "seed", "seen", "size",
        "stem", "synced", "syncing", "torn",
    )  # fmt: skip

    def __init__(self, directory: Path, owner: str, number: int, *, fsync: bool) -> None:
        """Raises OSError; FileExistsError or BlockingIOError when the name has to be another."""
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
        if fsync:
            try:
                files.sync_directory(directory)
            except OSError:
                files.remove(self.path)
                self.close()
                raise

    def write(self, data: bytes) -> None:
        """Append whole frames. Raises OSError, having taken back what was written of them."""
        size = len(data)
        try:
            written = os.write(self.fd, data)
            if written != size:
                self._write_rest(data[written:])
            self.size += size
        except BaseException:  # KeyboardInterrupt too: the frame may stand there, and nobody will know its ticket
            self._cut()
            raise

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
            if os.fstat(self.fd).st_size != self.size:
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
        files.close(fd, self.identity)


def create(directory: Path, owner: str, number: int, *, fsync: bool) -> Segment:
    """A new segment with this number, or a higher one where it is taken. Raises OSError."""
    for _ in range(_TRIES):
        try:
            return Segment(directory, owner, number, fsync=fsync)
        except (BlockingIOError, FileExistsError):  # another process looked at it before it was locked
            number += 1
    raise BlockingIOError(errno.EAGAIN, "no segment could be locked")

"""HeldFile: one file of this process in the spool directory, opened once and locked from its creation to its end."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import ClassVar, Self

from otel_llmlog import native
from otel_llmlog.pipeline.spool import files, frames

# Names to try for a new file.
_TRIES = 10


class HeldFile:
    """What a segment and the table of intents have in common."""

    __slots__ = ("attached", "fd", "identity", "mapped", "name", "path", "seed", "synced", "syncing")

    ENDING: ClassVar[str]
    APPENDS: ClassVar[bool]
    """Whether what is written goes to the end of the file, wherever that is."""

    def __init__(self, directory: Path, owner: str, number: int, *, fsync: bool, mapped: bool = False) -> None:
        """`mapped`: frames go into windows of it where they can.

        Raises OSError; FileExistsError or BlockingIOError when the name has to be another.
        """
        self.name = files.Name(number, owner, self.ENDING)
        self.path = self.name.at(directory)
        self.seed = frames.seed(self.name.stem)
        self.fd = files.create(self.path, append=self.APPENDS)
        self.identity = files.identity(self.fd)
        self.attached = True  # False once its name is gone: what it holds can be read until this process ends
        self.mapped = mapped
        self.synced = 0  # of what is written, on disk
        # Reentrant: a signal handler may make a call while its thread is in here.
        self.syncing = native.RLock()
        if fsync:
            try:
                files.sync_directory(directory)
            except OSError:
                files.remove(self.path)
                self.close()
                raise

    @classmethod
    def create(cls, directory: Path, owner: str, number: int, *, fsync: bool, mapped: bool) -> Self:
        """A new one with this number, or a higher one where it is taken. Raises OSError."""
        for _ in range(_TRIES):
            try:
                return cls(directory, owner, number, fsync=fsync, mapped=mapped)
            except (BlockingIOError, FileExistsError):  # another process looked at it before it was locked
                number += 1
        raise BlockingIOError(errno.EAGAIN, "no file in the spool could be locked")

    def written(self) -> int:
        """How much was written: a number that only grows."""
        raise NotImplementedError

    def sync(self, upto: int) -> bool:
        """Return once what was written up to there is on disk; False if the disk fails to promise it."""
        if self.synced >= upto:
            return True
        with self.syncing:  # threads that come together share one sync
            written = self.written()
            if self.synced < upto and self.fd >= 0:
                try:
                    files.sync(self.fd)
                    self.synced = max(self.synced, written)
                except OSError:
                    return self.fd < 0  # removed meanwhile: it was delivered
        return True

    def read(self, offset: int, size: int) -> bytes:
        """Bytes of the file; none where the descriptor is another file's by now."""
        return files.read_at(self.fd, offset, size) if self.is_ours() else b""

    def is_there(self) -> bool:
        """Whether its name still leads to it."""
        return files.is_at(self.path, self.identity)

    def is_held(self) -> bool:
        """Whether both its name and its descriptor do, and with that its lock."""
        return self.is_there() and self.is_ours()

    def is_ours(self) -> bool:
        """Whether the descriptor still leads to it: some apps close all they find, and numbers come again."""
        return files.identity(self.fd) == self.identity

    def must_be_ours(self) -> None:
        """Before anything is written: raises OSError rather than write into a file of the app."""
        if not self.is_ours():
            raise OSError(errno.EBADF, "the app closed the descriptor")

    def remove(self) -> None:
        """Remove the file, and close it."""
        if self.attached:
            files.remove(self.path)
        self.close()

    def close(self) -> None:
        """Close it. Whatever it holds is then an orphan's."""
        # Forgotten first: at a fork in between, the child must not close a number that is already another file's.
        fd, self.fd = self.fd, -1
        self.mapped = False
        self.unmap()
        files.close(fd, self.identity)

    def unmap(self) -> None:
        """Give windows back. What follows is written."""
        raise NotImplementedError

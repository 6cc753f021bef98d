"""Watch: tells a process that forked others when one of them is gone and left files in the spool directory.

Linux says when a file that was written to is closed, which the death of its process does. So whoever watches sleeps
until then. Elsewhere it looks now and then.

Always true: nothing is read from a descriptor that is not ours any more; a forked child watches nothing.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

from otel_llmlog import native
from otel_llmlog.pipeline.spool import files

# From <sys/inotify.h>.
_CLOSED_AFTER_WRITING, _IGNORED, _OVERFLOWED = 0x8, 0x8000, 0x4000
_NOT_WHEN_UNLINKED, _DIRECTORY_ONLY = 0x0400_0000, 0x0100_0000
_FLAGS = os.O_NONBLOCK | getattr(os, "O_CLOEXEC", 0)
# Descriptor of the watch, mask, cookie, bytes of the name that follows.
_EVENT = struct.Struct("iIII")
_ROOM = 16 << 10
# Seconds between two looks where the system says nothing, and until a watch that broke is made anew.
_LOOK_SECONDS, _PAUSE_SECONDS = 2.0, 1.0

_libc = ctypes.CDLL(None, use_errno=True) if os.name == "posix" else None


class Watch:
    """Calls `gone`, on a thread of its own, soon after a process has left files in the directory."""

    def __init__(self, directory: str, gone: Callable[[], None]) -> None:
        self._directory = Path(directory)
        self._gone = gone
        self._stopped = native.Event()
        self._fd = self._number = -1

    def start(self) -> None:
        """Begin to watch, if a thread can be started."""
        with contextlib.suppress(RuntimeError):
            native.Thread(self._run, "llmlog-watch").start()

    def close(self) -> None:
        """Watch no longer."""
        self._stopped.set()
        if _libc is not None and _is_ours(self._fd):
            _libc.inotify_rm_watch(self._fd, self._number)  # which wakes the thread

    def forget(self) -> None:
        """In a forked child, whose thread is not there: give back the descriptor."""
        fd, self._fd = self._fd, -1
        if _is_ours(fd):
            os.close(fd)

    def _run(self) -> None:
        while not self._stopped.is_set():
            try:
                files.make_directory(self._directory, fsync=False)
                self._fd, self._number = _inotify(self._directory)
            except OSError:
                # No such thing on this system, or no more of them for this user.
                if not self._stopped.wait(_LOOK_SECONDS):
                    self._gone()
                continue
            self._gone()  # who died before
            for name in self._closed():
                if name is None or files.is_held_name(name):
                    self._gone()
            self._stopped.wait(_PAUSE_SECONDS)

    def _closed(self) -> Iterator[str | None]:
        """Names of files that were closed; None for some that are not known. Ends when the watch is broken."""
        poll, fd = native.poll(), self._fd
        with contextlib.suppress(OSError):
            poll.register(fd, select.POLLIN)
            while not self._stopped.is_set():
                poll.poll()
                if not _is_ours(fd):
                    return
                data, at = os.read(fd, _ROOM), 0
                while at < len(data):
                    _, mask, _, size = _EVENT.unpack_from(data, at)
                    at += _EVENT.size
                    if mask & _IGNORED:  # the directory is gone, or `close` was called
                        self.forget()
                        return
                    yield None if mask & _OVERFLOWED else os.fsdecode(data[at : at + size].rstrip(b"\0"))
                    at += size


def _inotify(directory: Path) -> tuple[int, int]:
    """A descriptor that tells of this directory, and the number of the watch. Raises OSError."""
    if _libc is None or not hasattr(_libc, "inotify_init1"):
        raise OSError("no inotify on this system")
    fd = int(_libc.inotify_init1(_FLAGS))
    if fd < 0:
        raise OSError(ctypes.get_errno(), "inotify_init1")
    mask = _CLOSED_AFTER_WRITING | _NOT_WHEN_UNLINKED | _DIRECTORY_ONLY
    number = int(_libc.inotify_add_watch(fd, os.fsencode(directory), mask))
    if number < 0:
        os.close(fd)
        raise OSError(ctypes.get_errno(), "inotify_add_watch")
    return fd, number


def _is_ours(fd: int) -> bool:
    """Whether this is still a watch: some apps close all descriptors they find, and numbers come again."""
    with contextlib.suppress(OSError):
        return fd >= 0 and str(Path(f"/proc/self/fd/{fd}").readlink()) == "anon_inode:inotify"
    return False

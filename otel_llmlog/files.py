"""Files that a setting, a command or somebody else names: opened without waiting for them, read up to a limit.

Always true: a named pipe, a device or a socket is not opened, unless the caller can take a pipe; no more than the limit
is ever in memory.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

# Bytes of files that settings name: lists of prices (LiteLLM's has 2 MB), certificates and tokens.
MAX_PRICES = 64 << 20
MAX_SMALL = 1 << 20
_KINDS = (
    (stat.S_ISDIR, "a directory"),
    (stat.S_ISLNK, "a symbolic link"),
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


class UnfitFileError(OSError):
    """What is there is no file to be read. `strerror` says why."""

    def __init__(self, reason: str) -> None:
        super().__init__(errno.EINVAL, reason)


def kind(mode: int) -> str:
    """What a file of this mode is, in words."""
    return next((words for test, words in _KINDS if test(mode)), "a plain file")


def check(path: str | os.PathLike[str], limit: int) -> None:
    """Raises OSError, UnfitFileError among them, where `read` would refuse it."""
    found = os.stat(path)  # noqa: PTH116 - by whatever name it was given
    _fit(found, limit)
    if not os.access(path, os.R_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def read(path: str | os.PathLike[str], limit: int, *, pipes: bool = False) -> bytes:
    """All of a file that holds up to `limit` bytes. `pipes`: take what a pipe brings, too, and wait for it.

    Raises OSError; UnfitFileError when it is no plain file, or a larger one.
    """
    # Looked at before it is opened, since opening a device may have effects; and after, to be sure.
    waits = pipes and not stat.S_ISREG(os.stat(path).st_mode)  # noqa: PTH116 - the same
    if not waits:
        _fit(os.stat(path), limit)  # noqa: PTH116 - the same
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | (0 if waits else os.O_NONBLOCK))
    with os.fdopen(descriptor, "rb") as file:
        if not waits:
            _fit(os.fstat(descriptor), limit)
        data = file.read(limit + 1)
    if len(data) > limit:
        raise _too_large(limit)
    return data


def replace(path: Path, data: bytes) -> None:
    """Write a file that takes the place of what is there, whole. Raises OSError."""
    # A name that nobody can have put a link or a pipe at.
    fresh = path.with_name(f".{path.name}.{os.urandom(4).hex()}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(fresh, flags, 0o644)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        fresh.replace(path)
    except OSError:
        fresh.unlink()
        raise


def reason(error: OSError) -> str:
    """Why a file could not be read or written, in a few words."""
    return error.strerror or type(error).__name__


def _fit(found: os.stat_result, limit: int) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise UnfitFileError(f"it is {kind(found.st_mode)}, not a plain file")
    if found.st_size > limit:
        raise _too_large(limit)


def _too_large(limit: int) -> UnfitFileError:
    return UnfitFileError(f"it is larger than {limit:,} bytes")

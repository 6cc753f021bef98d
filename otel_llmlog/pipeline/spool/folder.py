"""The folder of a spool: whose it is.

Always true: nothing is written, read or adopted in a folder that another user made or could put in its place; the way
there leads over symbolic links of this user and of root only.
"""

from __future__ import annotations

import contextlib
import errno
import os
import pwd
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from otel_llmlog.files import kind

ADVICE = "records wait in memory, and a kill loses them; set LLMLOG_SPOOL_DIR to a directory of your own"
_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NONBLOCK


class RefusedError(OSError):
    """The folder is not this user's to use. `strerror` says why, in one line."""

    def __init__(self, why: str) -> None:
        super().__init__(errno.EACCES, why)


def check(directory: Path) -> int:
    """The uid whose files are taken there. Raises FileNotFoundError, RefusedError, other OSErrors."""
    with opened(directory) as (_, uid):
        return uid


@contextmanager
def opened(directory: Path) -> Iterator[tuple[int, int]]:
    """A descriptor of the folder, and the uid whose files are taken there. Raises as `check`."""
    for part in (directory, *directory.parents):
        found = part.lstat()
        if stat.S_ISLNK(found.st_mode) and found.st_uid not in {0, os.geteuid()}:
            raise RefusedError(f"{part} is a symbolic link of {_user(found.st_uid)}")
    try:
        descriptor = os.open(directory, _FLAGS)
    except NotADirectoryError:
        raise RefusedError(f"{directory} is {kind(directory.stat().st_mode)}, not a directory") from None
    try:
        yield descriptor, _owner(descriptor, directory)
    finally:
        os.close(descriptor)


def first_usable(directory: Path) -> Path:
    """The folder, or one beside it for this user alone where another user was there first. Touches nothing."""
    for place in (directory, beside(directory)):
        try:
            check(place)
        except RefusedError:
            continue
        except OSError:
            return place  # not there yet, or there is no right to look: whoever writes will meet that and say so
        return place
    return directory


def beside(directory: Path) -> Path:
    """The folder for this user alone."""
    return directory.with_name(f"{directory.name}-{os.geteuid()}")


def _owner(descriptor: int, directory: Path) -> int:
    found = os.fstat(descriptor)
    if found.st_uid != os.geteuid() and found.st_uid != _owner_of_new_file(descriptor):
        raise RefusedError(f"{directory} belongs to {_user(found.st_uid)}, not to {_user(os.geteuid())}")
    if found.st_mode & stat.S_IWOTH:
        # Made as 0700, and opened to everybody since. What is in there already is looked at file by file.
        with contextlib.suppress(OSError):  # a file system without modes
            os.fchmod(descriptor, stat.S_IMODE(found.st_mode) & ~stat.S_IWOTH)
    return found.st_uid


def _owner_of_new_file(descriptor: int) -> int | None:
    """Some file systems (SMB, NFS for root, EFS access points) give all files to one user, whoever makes them."""
    name = f".{os.urandom(8).hex()}"
    try:
        made = os.open(
            name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600, dir_fd=descriptor
        )
    except OSError:
        return None
    try:
        return os.fstat(made).st_uid
    finally:
        os.close(made)
        with contextlib.suppress(OSError):
            os.unlink(name, dir_fd=descriptor)


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"

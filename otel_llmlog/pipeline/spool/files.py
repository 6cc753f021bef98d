"""Files of a spool directory: their names, who owns them, and how they are opened without being fooled.

Always true: a process that lives holds a POSIX record lock on every file of its own, so one whose lock can be taken
has lost its owner; nothing but plain files of this user with a single name is ever opened, in a folder of this user; a
directory made here is 0700, a file 0600. Names: `<owner>-<number>.seg` for a segment, `.intents` for calls under way,
`.corrupt` for unreadable bytes kept aside; the owner is 32 random hex digits.

A record lock belongs to the process and goes with the first close of any descriptor of that file. Hence a process
opens each file once, and `claim` keeps its own threads off each other's files.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from otel_llmlog import native
from otel_llmlog.files import kind
from otel_llmlog.pipeline.spool import folder

SEGMENT, INTENTS = ".seg", ".intents"
# Ending of what was moved aside because it is not what its name says.
REFUSED = ".refused"
_HELD = re.compile(r"([0-9a-f]{32})-([0-9]{8})(\.seg|\.intents)")
# Bytes a read falls back to where the disk cannot give a whole chunk.
_BLOCK = 4096
# Unreadable bytes kept of one segment, and of a whole directory. They are for a human to look at.
MAX_ASIDE_FILE = 1 << 20
MAX_ASIDE = 16 << 20

_MAPPABLE = {"ext2", "ext3", "ext4", "xfs", "tmpfs", "overlay"}

_DATASYNC = getattr(os, "fdatasync", os.fsync)  # not on macOS

# Owners whose files this process has open, as their owner or as their adopter.
_claims: set[str] = set()
_claims_lock = native.RLock()  # reentrant: a signal handler may end the process from in here


def _forget_claims() -> None:
    """In a forked child: record locks are not inherited, so it owns nothing."""
    global _claims_lock  # noqa: PLW0603 - a thread of the parent may hold the old one for ever
    _claims_lock = native.RLock()
    _claims.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_claims)


def claim(owner: str) -> bool:
    """Reserve an owner's files for the caller among the threads of this process."""
    with _claims_lock:
        if owner in _claims:
            return False
        _claims.add(owner)
        return True


def unclaim(owner: str) -> None:
    """Give them back. Only after every descriptor of theirs is closed."""
    with _claims_lock:
        _claims.discard(owner)


class Name(NamedTuple):
    """Whose file it is, which one, and of what kind. Numbers are counted over both kinds."""

    number: int
    owner: str
    ending: str

    @property
    def stem(self) -> str:
        """Without its ending: this is random, and no two files have the same."""
        return f"{self.owner}-{self.number:08d}"

    def at(self, directory: Path) -> Path:
        """Where it is."""
        return directory / (self.stem + self.ending)


def is_held_name(name: str) -> bool:
    """Whether a file of this name is one that its process holds locked."""
    return _HELD.fullmatch(name) is not None


def make_directory(directory: Path, *, fsync: bool) -> None:
    """Make the directory, readable by this user alone. One that exists stays as it is. Raises OSError."""
    if directory.is_dir():
        return
    missing = [each for each in (directory, *directory.parents) if not each.exists()]
    for each in reversed(missing):  # those above, too: `parents=True` would leave them to the umask
        each.mkdir(mode=0o700, exist_ok=True)
    if fsync:
        for above in directory.parents:
            with contextlib.suppress(OSError):  # not ours to open, so not made here either
                sync_directory(above)


def can_map(directory: Path) -> bool:
    """Whether space allocated for a file there is kept for it, so that writing through a map cannot fail.

    File systems that write elsewhere what is changed (btrfs, ZFS) keep no space, and network ones may lose the file.
    """
    try:
        device = directory.stat().st_dev
        mounts = Path("/proc/self/mountinfo").read_text()
    except OSError:
        return False
    wanted = f"{os.major(device)}:{os.minor(device)}"
    # Fields of a line: id, parent, device, root, mount point, options …, a dash, type of file system, …
    lines = (line.split() for line in mounts.splitlines())
    return any(each[2] == wanted and each[each.index("-") + 1] in _MAPPABLE for each in lines)


def create(path: Path, *, append: bool) -> int:
    """A new file, open and locked. Raises OSError; BlockingIOError when another process was quicker to lock it."""
    descriptor = make(path, append=append)
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        remove(path)
        raise BlockingIOError(error.errno, "locked by another process") from None
    return descriptor


def make(path: Path, *, append: bool = False) -> int:
    """A new file in a folder of this user, open. Raises OSError."""
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW | (os.O_APPEND if append else 0)
    with folder.opened(path.parent) as (directory, _):
        return os.open(path.name, flags, 0o600, dir_fd=directory)


def open_existing(path: Path, uid: int, *, write: bool) -> int | None:
    """Open a file that another process made; None when it is gone or is not a plain file of this user."""
    try:
        # Looked at before it is opened, since opening a pipe or a device may have effects; and after, to be sure.
        if objection(os.lstat(path), uid):
            return None
        mode = os.O_RDWR | os.O_APPEND if write else os.O_RDONLY
        descriptor = os.open(path, mode | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    if not objection(os.fstat(descriptor), uid):
        return descriptor
    os.close(descriptor)
    return None


def objection(found: os.stat_result, uid: int) -> str:
    """Why this is no plain file of this user with a single name; empty when it is one."""
    if not stat.S_ISREG(found.st_mode):
        return kind(found.st_mode)
    if found.st_uid != uid:
        return "a file of another user"
    return "a file with a second name (hard link)" if found.st_nlink != 1 else ""


def lock(descriptor: int, *, shared: bool = False) -> bool:
    """Take the record lock if its owner is dead."""
    try:
        fcntl.lockf(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


Identity = tuple[int, int]


def identity(descriptor: int) -> Identity | None:
    """Which file is open there: its device and inode."""
    try:
        found = os.fstat(descriptor)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def is_at(path: Path, wanted: Identity | None) -> bool:
    """Whether the path names this file."""
    try:
        found = os.lstat(path)
    except OSError:
        return False
    return (found.st_dev, found.st_ino) == wanted


def read_at(descriptor: int, offset: int, size: int) -> bytes:
    """Up to `size` bytes; those that the disk fails to give are zeros, which no frame's check takes."""
    try:
        return os.pread(descriptor, size, offset)
    except OSError:
        pieces = []
        for start in range(offset, offset + size, _BLOCK):
            wanted = min(_BLOCK, offset + size - start)
            try:
                piece = os.pread(descriptor, wanted, start)
            except OSError:
                piece = bytes(wanted)
            pieces.append(piece)
            if len(piece) < wanted:
                break
        return b"".join(pieces)


def sync(descriptor: int) -> None:
    """Return once what was appended is on disk. Raises OSError."""
    _DATASYNC(descriptor)


def sync_directory(directory: Path) -> None:
    """Return once the names in the directory are on disk. Raises OSError."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove(path: Path) -> None:
    """Remove a file that may be gone already, or may not be ours to remove any more."""
    with contextlib.suppress(OSError):
        path.unlink()


def close(descriptor: int, wanted: Identity | None) -> None:
    """Close a descriptor unless it has become another file: some apps close all they find, and numbers come again."""
    if descriptor >= 0 and identity(descriptor) == wanted:
        with contextlib.suppress(OSError):
            os.close(descriptor)


def owners(directory: Path) -> dict[str, list[Name]]:
    """Owners that have files in the directory, each with its files in the order of their numbers."""
    found: dict[str, list[Name]] = {}
    with contextlib.suppress(OSError):
        for name in os.listdir(directory):  # noqa: PTH208 - names are all that is wanted
            match = _HELD.fullmatch(name)
            if match:
                found.setdefault(match[1], []).append(Name(int(match[2]), match[1], match[3]))
    for names in found.values():
        names.sort()
    return found


def used(directory: Path, *, but: str = "", ending: str = "") -> int:
    """Bytes of all plain files of its owner in the directory: those with this ending, without what one process holds.

    What others put there, or what was moved aside, takes no room away.
    """
    total = 0
    with contextlib.suppress(OSError), os.scandir(directory) as entries:
        uid = directory.stat().st_uid
        for entry in entries:
            if not entry.name.endswith(ending) or (but and entry.name.startswith(but) and _HELD.fullmatch(entry.name)):
                continue
            with contextlib.suppress(OSError):  # gone since
                found = entry.stat(follow_symlinks=False)
                if stat.S_ISREG(found.st_mode) and found.st_uid == uid and not entry.name.endswith(REFUSED):
                    total += found.st_size
    return total


def keep_aside(directory: Path, stem: str, descriptor: int, parts: Sequence[tuple[int, int]]) -> None:
    """Copy unreadable parts of a segment to `<stem>.<offset>.corrupt`, as far as the limits allow. Never raises."""
    room = min(MAX_ASIDE_FILE, MAX_ASIDE - used(directory, ending=".corrupt"))
    if not parts or room <= 0:
        return
    path = directory / f"{stem}.{parts[0][0]}.corrupt"
    with contextlib.suppress(OSError):  # FileExistsError: kept by an adopter that did not get to its end
        target = make(path)
        try:
            for start, end in parts:
                size = min(end - start, room)
                if size > 0:
                    room -= os.write(target, read_at(descriptor, start, size))
        finally:
            os.close(target)

"""What stands in a spool's folder under a name of ours and is no file of ours: found without being opened, moved aside.

Always true: nothing is removed; what may hold records of this user (a plain file with a second name) stays where it is,
and is delivered once that name is gone.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from otel_llmlog.pipeline.spool import files, folder

# Names that files of ours have, and the most bytes of those that are read whole.
REPORT = ".stats"
MAX_REPORT = 64 << 10
_OURS = re.compile(
    r"[0-9a-f]{32}-[0-9]{8}(\.seg|\.intents|\.[0-9]{1,20}\.corrupt)|[0-9]{1,10}-[0-9a-f]{8}(\.stats|\.new)"
)
# Odd files that are told or moved in one go: a folder may be full of them.
_MAX_ODD = 100


class Odd(NamedTuple):
    """A name of ours that leads to something else."""

    name: str
    what: str
    is_moved: bool
    """It was moved aside already."""
    can_move: bool

    def __str__(self) -> str:
        return f"{self.name}: {self.what}"


def odd(directory: Path, uid: int) -> Iterator[Odd]:
    """The odd files in a folder whose files are this user's: the first hundred. Never raises."""
    found = 0
    try:
        entries = sorted(os.listdir(directory))  # noqa: PTH208 - names are all that is wanted
    except OSError:
        return
    for name in entries:
        is_moved = name.endswith(files.REFUSED)
        if not is_moved and not _OURS.fullmatch(name):
            continue
        try:
            seen = os.lstat(directory / name)
        except OSError:  # gone since
            continue
        what = files.objection(seen, uid)
        if not what and name.endswith(REPORT) and seen.st_size > MAX_REPORT:
            what = f"counters of {seen.st_size:,} bytes"
        if what or is_moved:
            yield Odd(name, what or "a plain file", is_moved, not stat.S_ISREG(seen.st_mode) or seen.st_nlink == 1)
            found += 1
            if found == _MAX_ODD:
                return


def move(directory: str | os.PathLike[str]) -> list[Odd]:
    """Give what is odd another name, `….refused`, so that it is in nobody's way; answers what was moved."""
    place = Path(directory)
    try:
        with folder.opened(place) as (descriptor, uid):
            found = [one for one in odd(place, uid) if one.can_move and not one.is_moved]
            return [one for one in found if _renamed(descriptor, one.name)]
    except OSError:
        return []


def _renamed(directory: int, name: str) -> bool:
    free = f"{name}.{os.urandom(4).hex()}{files.REFUSED}"
    try:
        os.rename(name, free, src_dir_fd=directory, dst_dir_fd=directory)
    except OSError:
        return False
    return True

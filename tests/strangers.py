"""Another user of the machine, for tests of what one may do to another."""

from __future__ import annotations

import os
import pwd
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import rmtree

STRANGER = "nobody"
# Where the tests run as root, as in a container; else the machine of the CI lets its user become another.
_AS_STRANGER = ["runuser", "-u", STRANGER, "--"] if os.geteuid() == 0 else ["sudo", "-n", "-u", STRANGER, "--"]


def uid() -> int:
    """The stranger's."""
    return pwd.getpwnam(STRANGER).pw_uid


def do(*command: str | Path) -> None:
    """Have the stranger run a command."""
    subprocess.run([*_AS_STRANGER, *map(str, command)], check=True, capture_output=True, timeout=60)


@contextmanager
def common_ground(mode: int = 0o1777) -> Iterator[Path]:
    """A directory of ours that the stranger can reach, by default with the rights of /tmp."""
    place = Path(tempfile.mkdtemp(prefix="llmlog-common-"))
    place.chmod(mode)
    try:
        yield place
    finally:
        rmtree(place, ignore_errors=True)

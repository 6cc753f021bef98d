"""Who reaches the embedded server: its user alone, whatever the umask, the paths and what others left in shared places.

Always true: the data directory and the directory of the socket belong to the server's user and are closed to others, or
nothing is started; the server takes only connections of the user who started it (`peer`, from the kernel), and clients
ask that it is that user's server (`requirepeer`). No password that could leak. Nothing of another user is trusted.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import stat
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from otel_llmlog.errors import StoreUnavailable

PORT = 5432
# Bytes of a Unix socket's path. Beyond that the kernel knows no such address.
_LONGEST = 107 if sys.platform == "linux" else 103
_SOCKET = f".s.PGSQL.{PORT}"
# In the data directory: where the socket is when that path is too long.
_ELSEWHERE = "llmlog_socket_directory"
_SETTING = "set LLMLOG_EMBEDDED_DIR"

# Any name of the database's roles: it is the system's user that counts. There is no line for hosts and replication.
_HBA = "# Written by otel-llmlog at each start: only the system's user who starts the server may connect.\n"
_HBA += "local all all peer map=llmlog\n"


class Users(NamedTuple):
    """The user who runs this process, and the one who runs the server: another one where the first is root."""

    client: str
    name: str
    uid: int
    gid: int
    is_other: bool


def users(server_of_root: str) -> Users:
    """Who they are. Raises StoreUnavailable when a user has no name, which Postgres needs."""
    try:
        own = pwd.getpwuid(os.geteuid())
    except KeyError:
        raise StoreUnavailable(
            f"user id {os.geteuid()} has no name, without which no Postgres starts: set LLMLOG_DATABASE_URL to another"
        ) from None
    runs = pwd.getpwnam(server_of_root) if os.geteuid() == 0 else own
    return Users(own.pw_name, runs.pw_name, runs.pw_uid, runs.pw_gid, runs.pw_uid != own.pw_uid)


def take_directory(path: Path, who: Users) -> None:
    """Make the data directory, or make sure that it is ours, and close it to others. Raises StoreUnavailable."""
    # Postgres notes it in lines, and addresses are UTF-8.
    if any(character < " " or "\ud800" <= character <= "\udfff" for character in str(path)):
        raise StoreUnavailable(f"the embedded Postgres' path must be one line of UTF-8: {_SETTING} to another")
    _make_parents(path, who)
    with contextlib.suppress(FileExistsError):
        path.mkdir(0o700)
    # By its descriptor: another user may put something else under this name meanwhile.
    try:
        directory = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except PermissionError:
        raise StoreUnavailable(f"{path} is closed to this user: {_SETTING} to a directory of your own") from None
    try:
        found = os.fstat(directory)
        if found.st_uid not in {who.uid, os.geteuid()}:
            raise StoreUnavailable(f"{path} belongs to another user: {_SETTING} to a directory of your own")
        if found.st_uid != who.uid:
            refuse_other_data(path)
            os.fchown(directory, who.uid, who.gid)
        if found.st_mode & 0o077:
            os.fchmod(directory, 0o700)
    finally:
        os.close(directory)
    if who.is_other:
        let_through(path)


def refuse_other_data(path: Path) -> None:
    """Raises StoreUnavailable when a directory holds something else than a Postgres' data."""
    if not (path / "PG_VERSION").exists() and any(path.iterdir()):
        raise StoreUnavailable(f"{path} holds something else than Postgres' data: {_SETTING} to an empty directory")


def _make_parents(path: Path, who: Users) -> None:
    missing = [parent for parent in path.parents if not parent.exists()]
    for parent in reversed(missing):
        try:
            parent.mkdir(0o755)
        except FileExistsError:  # another process was faster
            continue
        if who.is_other:
            parent.chmod(0o755)


def let_through(path: Path) -> None:
    """Let other users pass through root's directories above a path, without a look at what is in them."""
    for parent in path.parents:
        mode = stat.S_IMODE(parent.stat().st_mode)
        if not mode & stat.S_IXOTH:
            parent.chmod(mode | stat.S_IXOTH)


def allow_only(data: Path, who: Users) -> bool:
    """Have the server take connections of this user only; answers whether that is new to it."""
    name = '"' + who.client.replace('"', '""') + '"'
    wanted = {"pg_hba.conf": _HBA, "pg_ident.conf": f"llmlog {name} all\n"}
    changed = [file for file, text in wanted.items() if not _says(data / file, text)]
    for file in changed:
        _write(data / file, wanted[file], who)
    return bool(changed)


def _says(path: Path, text: str) -> bool:
    try:
        return path.read_text("utf-8") == text
    except (OSError, ValueError):
        return False


def _write(path: Path, text: str, who: Users) -> None:
    fresh = path.with_name(f"{path.name}.llmlog")
    fresh.unlink(missing_ok=True)
    file = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(file, "w", encoding="utf-8") as writing:
        writing.write(text)
        if who.is_other:
            os.fchown(writing.fileno(), who.uid, who.gid)
    fresh.replace(path)


def socket_directory(data: Path, who: Users) -> Path:
    """Where the socket goes: the data directory, or one of its own where that path is too long.

    Raises StoreUnavailable when no place is short enough.
    """
    if _fits(data):
        return data
    note = data / _ELSEWHERE
    try:
        before = Path(note.read_text("utf-8"))
    except (OSError, ValueError):
        before = None
    if before is not None and _fits(before) and _is_closed(before, who):
        return before
    for base in _places(who):
        try:
            made = Path(tempfile.mkdtemp(prefix="llmlog-", dir=base))
        except OSError:
            continue
        if who.is_other:
            os.chown(made, who.uid, who.gid)
        _write(note, str(made), who)
        return made
    longest = _LONGEST - len(_SOCKET) - 1
    raise StoreUnavailable(
        f"no place for the embedded Postgres' socket: {_SETTING} to a path of {longest} bytes at most"
    )


def _places(who: Users) -> Iterator[Path]:
    """Directories where nobody else can move what we make, and the server's user can go."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    given = [runtime] if runtime and not who.is_other else []
    for place in (*given, tempfile.gettempdir(), "/tmp", "/var/tmp"):  # noqa: S108 - a new directory in it, closed to others
        base = Path(place)
        try:
            found = base.resolve(strict=True)
            modes = [each.stat() for each in (found, *found.parents)]
        except OSError:
            continue
        moved_by_us = all(
            mode.st_uid in {0, os.geteuid()} and (not mode.st_mode & 0o022 or mode.st_mode & stat.S_ISVTX)
            for mode in modes
        )
        passable = not who.is_other or all(mode.st_mode & stat.S_IXOTH for mode in modes)
        if moved_by_us and passable and _fits(found / "llmlog-xxxxxxxx"):
            yield found


def _fits(directory: Path) -> bool:
    # libpq takes what has a comma in it for several hosts.
    return len(os.fsencode(directory / _SOCKET)) <= _LONGEST and "," not in str(directory)


def _is_closed(directory: Path, who: Users) -> bool:
    try:
        found = os.lstat(directory)
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == who.uid and not found.st_mode & 0o077


def close_socket_directory(directory: Path, who: Users) -> None:
    """Close the directory where a running server has its socket, which older versions left open to all.

    Raises StoreUnavailable when it is another user's.
    """
    try:
        opened = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        raise StoreUnavailable(f"{directory}, the socket's directory, cannot be opened: stop the server") from None
    try:
        found = os.fstat(opened)
        if found.st_uid not in {who.uid, os.geteuid()}:
            raise StoreUnavailable(f"{directory}, the socket's directory, belongs to another user: {_SETTING} anew")
        if found.st_uid != who.uid:
            os.fchown(opened, who.uid, who.gid)
        if found.st_mode & 0o077:
            os.fchmod(opened, 0o700)
    finally:
        os.close(opened)

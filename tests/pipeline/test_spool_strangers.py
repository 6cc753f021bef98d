"""A spool's folder among other users: what is not ours is not used, not waited for and not believed, and is told."""

from __future__ import annotations

import json
import os
import socket
import stat
import time

import pytest

from otel_llmlog.pipeline import report
from otel_llmlog.pipeline.spool import Spool, aside, files, folder, frames, purpose, set_aside, status
from otel_llmlog.stats import Stats
from tests import strangers
from tests.pipeline.spooling import left, run_and_die


@pytest.fixture
def ground():
    with strangers.common_ground() as place:
        yield place


def test_the_folder_of_another_user_is_not_written_to_and_that_is_told(ground, caplog):
    place = ground / "spool"
    strangers.do("mkdir", "-m", "777", place)
    stats = Stats()
    spool = Spool(place, stats=stats)
    assert spool.begin(b"intent") == 0
    assert spool.reason() == "spool_unwritable"
    assert list(place.iterdir()) == []
    assert "belongs to nobody" in caplog.text
    assert "LLMLOG_SPOOL_DIR" in caplog.text
    assert status(place).refused == (f"{place} belongs to nobody, not to {folder._user(os.geteuid())}",)
    report.write(str(place), stats, 0)
    assert report.read(str(place)) == []
    assert list(place.iterdir()) == []
    spool.close()


def test_where_another_user_was_first_this_one_has_a_folder_beside(ground):
    place = ground / "spool"
    strangers.do("mkdir", place)
    assert folder.first_usable(place) == ground / f"spool-{os.geteuid()}"
    assert folder.first_usable(ground / "other") == ground / "other"


@pytest.mark.parametrize("whose", ["ours", "a stranger's"])
def test_a_symbolic_link_leads_to_the_folder_if_it_is_ours(ground, whose):
    elsewhere, link = ground / "elsewhere", ground / "spool"
    elsewhere.mkdir(mode=0o700)
    if whose == "ours":
        link.symlink_to(elsewhere)
    else:
        strangers.do("ln", "-s", elsewhere, link)
    for place in (link, link / "deeper"):
        spool = Spool(place)
        assert bool(spool.begin(b"intent")) == (whose == "ours")
        spool.close()
        if whose != "ours":
            assert status(place).refused == (f"{link} is a symbolic link of nobody",)
    assert list(elsewhere.glob("**/*.seg")) == []


def test_what_stands_where_the_folder_should_be_is_not_waited_for(ground):
    place = ground / "spool"
    os.mkfifo(place)
    spool = Spool(place)
    assert spool.begin(b"intent") == 0
    assert status(place).refused == (f"{place} is a named pipe, not a directory",)
    assert folder.first_usable(place) == folder.beside(place)
    spool.close()


def test_a_folder_that_everybody_may_write_to_is_closed_to_them(ground):
    place = ground / "spool"
    place.mkdir()
    place.chmod(0o777)
    spool = Spool(place)
    assert spool.begin(b"intent")
    assert stat.S_IMODE(place.stat().st_mode) == 0o775
    spool.close()


def test_directories_that_are_made_on_the_way_are_for_this_user_alone(ground):
    before = os.umask(0)
    try:
        spool = Spool(ground / "state" / "otel-llmlog" / "spool")
        assert spool.begin(b"intent")
    finally:
        os.umask(before)
    for place in (ground / "state", ground / "state/otel-llmlog", ground / "state/otel-llmlog/spool"):
        assert stat.S_IMODE(place.stat().st_mode) == 0o700
    spool.close()


def test_where_the_file_system_gives_all_files_to_one_user_that_is_ours(tmp_path, monkeypatch):
    """SMB, NFS for root, EFS access points: whoever makes a file, it belongs to one user."""
    run_and_die(lambda: Spool(tmp_path).finish(0, b"outcome"))
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    assert folder.check(tmp_path) == tmp_path.stat().st_uid
    assert left(tmp_path) == ([b"outcome"], [])
    assert list(tmp_path.iterdir()) == []


def _plant(place, kind):
    if kind == "pipe":
        os.mkfifo(place)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as listening:
            here = os.open(place.parent, os.O_RDONLY)  # its path may be too long
            listening.bind(f"/proc/self/fd/{here}/{place.name}")
            os.close(here)
    elif kind == "device":
        os.mknod(place, 0o600 | stat.S_IFCHR, os.makedev(1, 5))  # /dev/zero
    elif kind == "directory":
        place.mkdir()
    elif kind == "link to a pipe":
        os.mkfifo(place.with_name("elsewhere"))
        place.symlink_to(place.with_name("elsewhere"))
    elif kind == "a stranger's file":
        place.parent.chmod(0o777)
        strangers.do("cp", "/proc/self/status", place)
    elif kind == "hard link":
        place.with_name("elsewhere").write_bytes(b"{}")
        place.hardlink_to(place.with_name("elsewhere"))


KINDS = ["pipe", "socket", "device", "directory", "link to a pipe", "a stranger's file", "hard link"]
NAMES = [
    "4242-0123abcd.stats",
    "4242-0123abcd.new",
    files.Name(1, "a" * 32, files.SEGMENT).stem + files.SEGMENT,
    files.Name(2, "a" * 32, files.INTENTS).stem + files.INTENTS,
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", NAMES)
def test_what_is_no_file_of_ours_is_told_and_moved_aside_and_never_waited_for(ground, kind, name):
    if kind == "device" and os.geteuid() != 0:
        pytest.skip("only root makes devices")
    place = ground / "spool"
    place.mkdir(mode=0o755)
    _plant(place / name, kind)
    run_and_die(lambda: Spool(place).finish(0, b"genuine"))
    stats = Stats()
    stats.count("captured")
    report.write(str(place), stats, 0)
    assert [one.counts for one in report.read(str(place))] == [{"captured": 1}]
    (told,) = status(place).refused
    assert told.startswith(f"{name}: ")
    assert left(place) == ([b"genuine"], [])
    moved = set_aside(place)
    if kind == "hard link":  # it may hold records of ours
        assert (place / name).exists()
        assert moved == []
        (place / "elsewhere").unlink()
        assert status(place).refused == ()
    else:
        assert not os.path.lexists(place / name)
        (aside_now,) = place.glob("*.refused")
        assert aside_now.name.startswith(name)
        assert status(place).refused[0].startswith(aside_now.name)
        assert set_aside(place) == []


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"hello",
        bytes(range(256)) * 10,
        b'{"at": 1, "waiting": 0',
        b'{"at": "x", "waiting": 0, "counts": {}}',
        b'{"at": 1e999, "waiting": 0, "counts": {}}',
        b'{"at": 1, "waiting": -5, "counts": {}}',
        b'{"at": 1, "waiting": 0, "counts": {"captured": "many"}}',
        b'{"at": 1, "waiting": 0, "counts": {"captured": -1}}',
        b'{"at": 1, "waiting": 0, "counts": {"captured": 1e300}}',
        b'{"at": 1, "waiting": 0, "counts": {"captured": ' + b"9" * 5000 + b"}}",
        b'{"at": 1, "waiting": 0, "counts": {"captured": NaN}}',
        b'{"at": 1, "waiting": 0, "counts": [1]}',
        b"[" * 5000,
        b"null",
    ],
)
def test_counters_that_are_none_are_passed_over_and_told(tmp_path, content):
    odd = tmp_path / "4242-0123abcd.stats"
    odd.write_bytes(content)
    assert report.look(str(tmp_path)) == ([], [f"{odd.name}: no counters"])
    os.utime(odd, (0, 0))
    assert report.look(str(tmp_path)) == ([], [])
    assert not odd.exists()


def test_a_huge_counter_file_is_not_read_and_takes_no_room_of_the_spool(tmp_path):
    with (tmp_path / "4242-0123abcd.stats").open("wb") as file:
        file.truncate(10 << 30)
    assert report.look(str(tmp_path)) == ([], [])
    assert status(tmp_path).refused == (f"4242-0123abcd.stats: counters of {10 << 30:,} bytes",)
    assert len(set_aside(tmp_path)) == 1
    spool = Spool(tmp_path, 1 << 20)
    assert spool.finish(spool.begin(b"intent"), b"outcome")
    spool.close()


def test_a_process_id_that_no_system_has_is_not_alive(tmp_path):
    said = {"at": time.time(), "waiting": 1, "counts": {"captured": 1}}
    (tmp_path / "9999999999-0123abcd.stats").write_text(json.dumps(said))
    assert [one.live for one in report.read(str(tmp_path))] == [False]


def test_a_report_is_written_though_a_pipe_waits_at_the_name_of_an_unfinished_one(tmp_path):
    stats = Stats()
    stats.count("captured")
    report.write(str(tmp_path), stats, 0)
    (mine,) = tmp_path.glob("*.stats")
    os.mkfifo(mine.with_suffix(".new"))
    stats.count("captured")
    report.write(str(tmp_path), stats, 0)
    assert [one.counts for one in report.read(str(tmp_path))] == [{"captured": 2}]


def test_segments_of_a_stranger_are_not_delivered_as_ours(ground):
    place = ground / "spool"
    place.mkdir(mode=0o777)
    place.chmod(0o777)
    name = files.Name(1, "b" * 32, files.SEGMENT)
    planted = ground / "planted"
    planted.write_bytes(frames.encode(frames.OUTCOME, 0, b"forged", frames.seed(name.stem)))
    planted.chmod(0o644)
    strangers.do("cp", planted, name.at(place))
    assert left(place) == ([], [])
    assert status(place).outcomes == 0
    assert [one.what for one in set_aside(place)] == ["a file of another user"]


def test_only_so_many_odd_files_are_looked_at_in_one_go(tmp_path):
    for number in range(150):
        (tmp_path / f"{number}-0123abcd.stats").mkdir()
    assert len(status(tmp_path).refused) == aside._MAX_ODD
    assert len(set_aside(tmp_path)) == aside._MAX_ODD


def test_a_folder_says_what_it_is_for_and_only_its_owner_can_say_so(ground):
    place = ground / "spool"
    spool = Spool(place, destination="postgres db.example:5432/app")
    spool.begin(b"intent")
    assert purpose.noted(place, folder.check(place)) == "postgres db.example:5432/app"
    spool.close()
    note = place / "destination.txt"
    note.unlink()
    place.chmod(0o777)
    strangers.do("cp", "/proc/self/comm", note)
    assert purpose.noted(place, folder.check(place)) == ""

"""Processes that die, fork and race for real: what was accepted is found once, by one."""

from __future__ import annotations

import itertools
import os
import random
import signal
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from otel_llmlog.pipeline.spool import Spool, SpoolStatus, adopt, files, frames, status
from otel_llmlog.pipeline.spool.intents import Intents
from tests.pipeline.spooling import die, drain, fork, left, run, run_and_die, segments, tables, wait


def _append_and_tell(directory: Path, pipe: int) -> None:
    """Eight threads append for ever, and tell each answer once it was given."""
    spool = Spool(directory, segment_bytes=100_000)

    def work(thread: int) -> None:
        i = 0
        while True:
            name = b"%d.%d" % (thread, i)
            i += 1
            ticket = spool.begin(name + b" " * 100)
            assert ticket
            os.write(pipe, b"i%b\n" % name)
            if i % 3:
                assert spool.finish(ticket, name + b" " * 300)
                os.write(pipe, b"o%b\n" % name)

    for number in range(8):
        threading.Thread(target=work, args=(number,)).start()
    time.sleep(60)


@pytest.mark.parametrize("round_", range(5))
def test_whatever_was_accepted_before_a_kill_is_found_exactly_once(tmp_path, round_):
    out, into = os.pipe()
    child = fork(lambda: _append_and_tell(tmp_path, into))
    os.close(into)
    told = os.read(out, 1 << 20)
    # From the first sign of life: how long a process takes to get there is the machine's affair.
    killer = threading.Timer(random.Random(round_).uniform(0.1, 0.4), os.kill, (child, signal.SIGKILL))
    killer.start()
    while piece := os.read(out, 1 << 20):
        told += piece
    os.close(out)
    assert wait(child) == -signal.SIGKILL
    lines = told.split(b"\n")[:-1]
    begun = {line[1:] for line in lines if line[:1] == b"i"}
    ended = {line[1:] for line in lines if line[:1] == b"o"}
    assert len(ended) > 50
    # The kernel may stop a write that a kill meets between two pages: one torn frame, which was not accepted.
    assert status(tmp_path).corrupt <= 1
    outcomes, intents = ([payload.strip() for payload in payloads] for payloads in left(tmp_path))
    assert set(Counter(outcomes).values()) | set(Counter(intents).values()) == {1}
    assert ended <= set(outcomes)
    # Every request is there once, as its outcome or as the intent that has none; one more a thread was not told yet.
    assert not set(outcomes) & set(intents)
    assert begun <= set(outcomes) | set(intents)
    assert len(outcomes) <= len(ended) + 8
    assert len(set(outcomes) | set(intents)) <= len(begun) + 8
    assert segments(tmp_path) == []


def test_after_a_crash_only_what_was_not_acknowledged_comes_again(tmp_path):
    def child() -> None:
        spool = Spool(tmp_path, segment_bytes=20_000)
        tickets = [spool.begin(b"intent %d" % i) for i in range(300)]
        for i, ticket in enumerate(tickets[:200]):
            spool.finish(ticket, b"%d" % i + bytes(200))
        spool.ack(spool.read(50))
        for i in range(200, 250):
            spool.finish(tickets[i], b"%d" % i + bytes(200))
        spool.ack(spool.read(70))
        spool.read(40)  # under way when the process dies

    run_and_die(child)
    outcomes, intents = left(tmp_path)
    assert [payload.rstrip(b"\0") for payload in outcomes] == [b"%d" % i for i in range(120, 250)]
    assert intents == [b"intent %d" % i for i in range(250, 300)]


def test_after_a_crash_what_was_acknowledged_does_not_come_again_though_more_was_under_way(tmp_path):
    def child() -> None:
        spool = Spool(tmp_path)
        for number in range(6):
            spool.finish(0, b"outcome %d" % number)
        first, _ = spool.read(3), spool.read(2)
        spool.ack(first)

    run_and_die(child)
    outcomes, intents = left(tmp_path)
    assert (outcomes, intents) == ([b"outcome 3", b"outcome 4", b"outcome 5"], [])


def test_an_adopter_that_dies_midway_leaves_all_to_the_next(tmp_path):
    def child() -> None:
        spool = Spool(tmp_path, segment_bytes=20_000)
        for i in range(200):
            spool.finish(spool.begin(b"intent"), b"%d" % i + bytes(300))
        spool.begin(b"open")

    def adopter() -> None:
        orphans = adopt(tmp_path)
        orphan = next(orphans)
        for number, _ in enumerate(orphan.outcomes()):
            if number == 100:
                die()

    run_and_die(child)
    before = segments(tmp_path)
    assert wait(fork(adopter)) == -signal.SIGKILL
    assert segments(tmp_path) == before
    outcomes, intents = left(tmp_path)
    assert ([payload.rstrip(b"\0") for payload in outcomes], intents) == ([b"%d" % i for i in range(200)], [b"open"])


def test_an_adopter_that_dies_while_it_removes_loses_nothing_of_what_is_left(tmp_path, monkeypatch):
    def child() -> None:
        spool = Spool(tmp_path, segment_bytes=20_000)
        tickets = [spool.begin(b"intent") for _ in range(100)]
        for ticket in tickets:
            spool.finish(ticket, bytes(400))

    def adopter() -> None:
        real, removed = files.remove, []

        def remove(path):
            real(path)
            removed.append(path)
            if len(removed) == 2:
                die()

        monkeypatch.setattr(files, "remove", remove)
        for orphan in adopt(tmp_path):
            orphan.done()

    run_and_die(child)
    number = len(segments(tmp_path))
    assert wait(fork(adopter)) == -signal.SIGKILL
    assert (len(segments(tmp_path)), tables(tmp_path)) == (number - 1, [])  # intents before what closes them
    outcomes, intents = left(tmp_path)
    assert outcomes
    assert intents == []


def test_of_many_adopters_that_race_one_gets_each_orphan(tmp_path):
    owners = 12
    for number in range(owners):
        run_and_die(lambda number=number: [Spool(tmp_path).finish(0, b"%d" % number)])
    out, into = os.pipe()
    start_out, start_into = os.pipe()

    def adopter() -> None:
        os.close(start_into)
        os.read(start_out, 1)  # returns for all at once, when the parent closes its end
        for _ in range(5):
            for orphan in adopt(tmp_path):
                for payload in orphan.outcomes():
                    os.write(into, payload + b"\n")
                time.sleep(0.002)
                orphan.done()

    children = [fork(adopter) for _ in range(6)]
    os.close(start_out)
    os.close(start_into)
    assert [wait(child) for child in children] == [0] * 6
    os.close(into)
    with os.fdopen(out, "rb") as told:
        assert sorted(told.read().split()) == sorted(b"%d" % number for number in range(owners))
    assert list(tmp_path.iterdir()) == []


def test_two_threads_of_one_process_do_not_adopt_the_same_orphan(tmp_path):
    run_and_die(lambda: Spool(tmp_path).finish(0, b"outcome"))
    first = adopt(tmp_path)
    orphan = next(first)
    assert list(adopt(tmp_path)) == []
    assert status(tmp_path).live == 1
    run(lambda: _adopts(tmp_path, 0))  # and looking has not given the lock away
    first.close()
    assert list(orphan.outcomes()) == []
    run(lambda: _adopts(tmp_path, 1))


def _adopts(directory: Path, number: int) -> None:
    assert sum(1 for _ in adopt(directory)) == number


def test_a_live_owner_is_never_adopted_while_its_segments_come_and_go(tmp_path):
    """An adopter and a viewer look without pause at a spool that makes and removes segments as fast as it can."""
    stop_out, stop_into = os.pipe()

    def look(at) -> None:
        os.close(stop_into)
        os.set_blocking(stop_out, False)
        while True:
            at()
            try:
                os.read(stop_out, 1)
            except BlockingIOError:
                continue
            return

    def adopt_all() -> None:
        for orphan in adopt(tmp_path):
            assert orphan.outcome_count == orphan.intent_count == 0  # at most a segment that was never owned
            orphan.done()

    children = [fork(lambda: look(adopt_all)), fork(lambda: look(lambda: status(tmp_path)))]
    os.close(stop_out)
    spool = Spool(tmp_path, segment_bytes=1000)
    written, found = [], []
    for i in range(3000):
        written.append(b"%d" % i + bytes(200))
        assert spool.finish(spool.begin(b"intent"), written[-1])
        if not i % 10:
            found += drain(spool)
    found += drain(spool)
    os.close(stop_into)
    assert [wait(child) for child in children] == [0, 0]
    assert found == written
    spool.close()


def test_a_forked_child_has_a_spool_of_its_own_and_leaves_its_parents_alone(tmp_path):
    spool = Spool(tmp_path, segment_bytes=20_000)
    stop = threading.Event()
    written: list[bytes] = []

    def work(number: int) -> None:
        for i in itertools.count():
            if stop.is_set():
                return
            payload = b"parent %d %d" % (number, i) + bytes(100)
            written.append(payload)
            assert spool.finish(spool.begin(b"of the parent"), payload)

    def child() -> None:
        assert spool.unread == 0
        assert spool.read(10) == []
        mine = spool.begin(b"of the child")
        assert mine
        assert mine not in parents_tickets
        assert spool.finish(parents_tickets[0], b"a call begun before the fork")
        assert spool.finish(mine, b"child")
        assert [entry.payload for entry in spool.read(10)] == [b"a call begun before the fork", b"child"]
        assert parent not in {orphan.owner for orphan in adopt(tmp_path)}
        assert spool.close()[:2] == (2, 0)

    parents_tickets = [spool.begin(b"open") for _ in range(3)]
    parent = tables(tmp_path)[0].name[:32]
    threads = [threading.Thread(target=work, args=(number,), daemon=True) for number in range(2)]
    for thread in threads:
        thread.start()
    children = []
    for _ in range(10):
        time.sleep(0.005)
        children.append(fork(child))
    codes = [wait(each) for each in children]
    stop.set()
    for thread in threads:
        thread.join()
    assert codes == [0] * 10
    # The children's ends have not given the parent's lock away.
    outcomes, intents = left(tmp_path)
    assert sorted(outcomes) == sorted([b"a call begun before the fork", b"child"] * 10)
    assert intents == []
    assert sorted(drain(spool)) == sorted(written)
    for ticket in parents_tickets:
        spool.settle(ticket)
    assert spool.close()[:2] == (0, 0)
    assert list(tmp_path.iterdir()) == []


def test_a_fork_closes_what_it_inherited(tmp_path):
    spool = Spool(tmp_path)
    assert spool.open()
    (segment,) = spool._segments.values()
    inherited = [segment.fd, spool._intents.fd]

    def child() -> None:
        for descriptor in inherited:
            with pytest.raises(OSError):
                os.fstat(descriptor)
        spool.after_fork_in_child()
        assert spool.begin(b"intent")
        spool.after_fork_in_child()  # a second time, it does nothing
        assert spool.pending().intents == 1

    run(child)
    spool.close()


def test_status_tells_the_living_from_the_dead(tmp_path):
    assert status(tmp_path / "nothing") == SpoolStatus()
    dead = Spool(tmp_path)

    def dying() -> None:
        for i in range(10):
            ticket = dead.begin(b"intent")
            if i < 6:
                dead.finish(ticket, b"outcome")
        dead.ack(dead.read(2))

    run_and_die(dying)
    ready_out, ready_into = os.pipe()

    def living() -> None:
        spool = Spool(tmp_path)
        spool.begin(b"intent")
        spool.finish(0, b"outcome")
        os.write(ready_into, b"!")
        time.sleep(60)

    child = fork(living)
    os.read(ready_out, 1)
    found = status(tmp_path)
    assert (found.live, found.orphans, found.outcomes, found.intents, found.corrupt) == (1, 1, 5, 5, 0)
    assert found.bytes == sum(path.stat().st_size for path in tmp_path.iterdir())
    assert left(tmp_path) == ([b"outcome"] * 4, [b"intent"] * 4)
    os.kill(child, signal.SIGKILL)
    wait(child)
    assert left(tmp_path) == ([b"outcome"], [b"intent"])


def test_damage_in_an_orphan_costs_what_was_damaged_and_is_kept_aside(tmp_path, monkeypatch):
    def child() -> None:
        spool = Spool(tmp_path)
        tickets = [spool.begin(b"intent %d" % i) for i in range(30)]
        monkeypatch.setattr(Intents, "clear", lambda *_: None)  # it dies before
        for i, ticket in enumerate(tickets):
            spool.finish(ticket, b"outcome %d " % i * 5)

    run_and_die(child)
    (path,), (table,) = segments(tmp_path), tables(tmp_path)
    raw = bytearray(table.read_bytes())
    raw[raw.index(b"intent 20")] ^= 0xFF
    table.write_bytes(raw)
    raw = bytearray(path.read_bytes())
    raw[raw.index(b"outcome 4 ")] ^= 0xFF
    # The last frame lost its end; behind it stand zeros, where disk was allocated ahead.
    last = raw.rindex(b"outcome 29 ")
    path.write_bytes(raw[:last] + bytes(len(raw) - last))
    assert status(tmp_path).corrupt == 3
    outcomes, intents = left(tmp_path)
    assert outcomes == [b"outcome %d " % i * 5 for i in range(29) if i != 4]
    # A call whose outcome cannot be read is at least known to have been made.
    assert intents == [b"intent 4", b"intent 29"]
    asides = list(tmp_path.iterdir())
    assert {(aside.suffix, aside.stat().st_mode & 0o777) for aside in asides} == {(".corrupt", 0o600)}
    kept = b"".join(aside.read_bytes() for aside in asides)
    assert b"ntent 20" in kept
    assert b"utcome 4 outcome 4 " in kept
    size = len(kept)
    assert status(tmp_path) == SpoolStatus(bytes=size, set_aside_bytes=size)


def test_what_is_kept_aside_is_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "MAX_ASIDE", 3000)
    monkeypatch.setattr(files, "MAX_ASIDE_FILE", 2000)
    for number in range(3):
        files.Name(1, str(number) * 32, files.SEGMENT).at(tmp_path).write_bytes(os.urandom(5000))
    assert left(tmp_path) == ([], [])
    assert sorted(path.stat().st_size for path in tmp_path.iterdir()) == [1000, 2000]


@pytest.mark.parametrize("ending", [files.SEGMENT, files.INTENTS])
def test_empty_and_meaningless_files_are_cleared_away(tmp_path, ending):
    files.Name(1, "a" * 32, ending).at(tmp_path).touch()
    assert left(tmp_path) == ([], [])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["symlink", "dangling symlink", "hard link", "directory", "pipe"])
def test_what_is_no_plain_file_of_our_own_is_left_alone(tmp_path, kind):
    directory, victim = tmp_path / "spool", tmp_path / "victim"
    directory.mkdir()
    name = files.Name(1, "a" * 32, files.SEGMENT)
    seed = frames.seed(name.stem)
    victim.write_bytes(frames.encode(frames.OUTCOME, 0, b"planted", seed))
    planted = name.at(directory)
    before = victim.read_bytes()
    if kind == "symlink":
        planted.symlink_to(victim)
    elif kind == "dangling symlink":
        planted.symlink_to(tmp_path / "to be made")
    elif kind == "hard link":
        planted.hardlink_to(victim)
    elif kind == "directory":
        planted.mkdir()
    else:
        os.mkfifo(planted)
    run_and_die(lambda: Spool(directory).finish(0, b"genuine"))
    assert status(directory).outcomes == 1
    assert left(directory) == ([b"genuine"], [])
    assert os.path.lexists(planted)
    assert victim.read_bytes() == before
    assert not (tmp_path / "to be made").exists()


def test_names_that_others_planted_for_new_segments_are_not_followed(tmp_path, monkeypatch):
    victim = tmp_path / "victim"
    victim.write_text("mine")
    monkeypatch.setattr(os, "urandom", lambda size: b"\xaa" * size)
    directory = tmp_path / "spool"
    directory.mkdir()
    for number in (1, 2):
        for ending in (files.SEGMENT, files.INTENTS):
            files.Name(number, "aa" * 16, ending).at(directory).symlink_to(victim)
    spool = Spool(directory)
    assert spool.finish(spool.begin(b"intent"), b"outcome")
    assert victim.read_text() == "mine"
    assert drain(spool) == [b"outcome"]
    spool.close()


def test_files_of_others_in_the_directory_stay(tmp_path):
    names = ["notes.txt", "x.seg", f"{'g' * 32}-00000001.seg", f"{'a' * 32}-1.seg", ".hidden"]
    for name in names:
        (tmp_path / name).write_text(name)
    spool = Spool(tmp_path)
    spool.finish(0, b"outcome")
    drain(spool)
    spool.close()
    assert left(tmp_path) == ([], [])
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)

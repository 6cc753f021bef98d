"""Calls under way: each has a slot on disk until it ends, and slots are used again."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from otel_llmlog.pipeline.spool import Spool, files, frames, log, status
from otel_llmlog.pipeline.spool.intents import SLOT_BYTES, Intents
from otel_llmlog.stats import Stats
from tests.pipeline.spooling import drain, endings, left, run, run_and_die, segments, small_disk, tables

WAYS = ["mapped", "written", "synced"]


@pytest.fixture(params=WAYS)
def make(request, monkeypatch) -> Callable[..., Spool]:
    """Makes a spool of each kind."""
    if request.param == "written":
        monkeypatch.setattr(files, "can_map", lambda _: False)
    return lambda directory, **given: Spool(directory, fsync=request.param == "synced", **given)


def size(path: Path) -> int:
    return path.stat().st_size


def test_however_many_calls_there_were_the_file_is_as_large_as_the_most_at_once(tmp_path, make):
    spool = make(tmp_path)
    tickets = [spool.begin(b"intent") for _ in range(20)]
    before = size(*tables(tmp_path))
    for ticket in tickets:
        spool.finish(ticket, b"outcome")
    for _ in range(50):
        for ticket in [spool.begin(b"another") for _ in range(20)]:
            spool.finish(ticket, b"outcome")
    assert size(*tables(tmp_path)) == before
    drain(spool)
    assert spool.pending()[:2] == (0, 0)
    spool.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("length", [SLOT_BYTES - frames.HEADER_BYTES, SLOT_BYTES, 5000, 100_000, 700_000])
def test_an_intent_of_any_length_is_there_after_a_kill(tmp_path, make, length):
    def child() -> None:
        spool = make(tmp_path)
        for _ in range(2):  # the second time in slots that were used
            ended = [spool.begin(b"%d" % i * length) for i in range(3)]
            for ticket in ended:
                spool.settle(ticket)
        spool.begin(b"x" * length)
        spool.begin(b"short")

    run_and_die(child)
    assert status(tmp_path).corrupt == 0
    assert left(tmp_path) == ([], [b"x" * length, b"short"])


def test_more_calls_at_once_than_a_window_holds_are_all_there_after_a_kill(tmp_path, make):
    def child() -> None:
        spool = make(tmp_path)
        tickets = [spool.begin(b"%d" % i) for i in range(1000)]
        for ticket in tickets[::2]:
            spool.settle(ticket)

    run_and_die(child)
    assert left(tmp_path) == ([], [b"%d" % i for i in range(1, 1000, 2)])


step = st.one_of(
    st.tuples(st.just("begin"), st.sampled_from([0, 10, 900, 999, 1000, 1500, 5000])),
    st.tuples(st.sampled_from(["finish", "settle"]), st.integers(0, 5)),
    st.tuples(st.just("drain"), st.just(0)),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30, deadline=None)
@given(steps=st.lists(step, max_size=40))
def test_at_any_moment_the_disk_knows_each_call_once_as_its_intent_or_as_its_outcome(make, steps):
    with tempfile.TemporaryDirectory() as place:
        directory, copy = Path(place, "spool"), Path(place, "copy")
        spool = make(directory)
        spool.open()
        open_calls: dict[int, bytes] = {}
        waiting: list[bytes] = []
        for number, (what, value) in enumerate(steps):
            name = b"%d " % number
            if what == "begin":
                payload = name + b"x" * value
                open_calls[spool.begin(payload)] = payload
            elif what == "drain":
                drain(spool)
                waiting.clear()
            elif open_calls:
                ticket = list(open_calls)[value % len(open_calls)]
                del open_calls[ticket]
                if what == "settle":
                    spool.settle(ticket)
                else:
                    spool.finish(ticket, name)
                    waiting.append(name)
        shutil.copytree(directory, copy)
        run(lambda: _holds(copy, waiting, list(open_calls.values())))
        assert 0 not in open_calls
        spool.close()


def _holds(directory: Path, waiting: list[bytes], under_way: list[bytes]) -> None:
    assert status(directory).corrupt == 0
    assert left(directory) == (waiting, under_way)


def test_a_call_begins_while_another_thread_has_the_lock(tmp_path):
    spool = Spool(tmp_path)
    spool.open()
    found = []
    with spool._lock:
        thread = threading.Thread(target=lambda: found.append(spool.begin(b"intent")))
        thread.start()
        thread.join(10)
    assert len(found) == 1
    assert found[0]
    spool.close()


def test_a_call_that_finds_all_slots_taken_by_others_is_noted_all_the_same(tmp_path, monkeypatch):
    grow = Intents._grow

    def grow_for_others(self):
        grow(self)
        self._free.clear()

    def child() -> None:
        monkeypatch.setattr(Intents, "_grow", grow_for_others)
        assert Spool(tmp_path).begin(b"intent")

    run_and_die(child)
    assert left(tmp_path) == ([], [b"intent"])


def test_threads_that_begin_and_end_calls_never_share_a_slot(tmp_path, make):
    spool = make(tmp_path)
    kept: list[bytes] = []

    def work(thread: int) -> None:
        for i in range(60):
            tickets = [spool.begin(b"%d.%d.%d " % (thread, i, j) * 20) for j in range(3)]
            assert all(tickets)
            spool.settle(tickets[0])
            assert spool.finish(tickets[1], b"outcome")
            if i % 20:
                spool.settle(tickets[2])
            else:
                kept.append(b"%d.%d.2 " % (thread, i) * 20)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    drain(spool)
    spool.close()
    outcomes, intents = left(tmp_path)
    assert outcomes == []
    assert sorted(intents) == sorted(kept)


def test_the_end_of_a_call_is_noted_once_the_disk_takes_notes_again(written, tmp_path, monkeypatch):
    def child() -> None:
        spool = Spool(tmp_path)
        first, second, third = (spool.begin(b"%d" % i) for i in range(3))

        def fail(*_):
            raise OSError(errno.EIO, "Input/output error")

        with monkeypatch.context() as patch:
            patch.setattr(os, "pwrite", fail)
            spool.settle(first)
            spool.settle(second)
        assert spool.pending().intents == 1
        spool.settle(third)
        assert spool.begin(b"in one of their places")

    run_and_die(child)
    assert left(tmp_path) == ([], [b"in one of their places"])


def test_once_a_full_disk_has_room_again_calls_are_noted_in_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(log, "_CHECK_SECONDS", 0.0)
    with small_disk(tmp_path / "disk", "512k") as disk:
        (disk / "ballast").write_bytes(bytes(400 << 10))
        spool = Spool(disk / "spool")
        first = spool.begin(b"written")
        assert first
        (disk / "ballast").unlink()
        assert spool.begin(b"grows")
        with monkeypatch.context() as patch:
            patch.setattr(os, "pwrite", None)
            assert spool.begin(b"in memory")
        spool.settle(first)
        spool.close()
        assert left(disk / "spool") == ([], [b"grows", b"in memory"])


def test_where_a_file_may_not_grow_further_intents_are_refused_and_outcomes_are_not(tmp_path):
    def child() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        spool = Spool(tmp_path, stats=(stats := Stats()))
        tickets = [spool.begin(b"intent") for _ in range(30)]
        assert tickets.count(0) == 30 - 20_000 // SLOT_BYTES
        assert spool.reason() == "spool_unwritable"
        assert all(spool.finish(ticket, bytes(300)) for ticket in tickets)
        assert stats.snapshot() == {"spool.refused.spool_unwritable": tickets.count(0)}

    run_and_die(child)
    assert left(tmp_path) == ([bytes(300)] * 30, [])


def test_a_table_whose_file_was_removed_is_made_again_with_what_is_under_way(tmp_path, make, monkeypatch):
    monkeypatch.setattr(log, "_CHECK_SECONDS", 0.0)
    spool = make(tmp_path, stats=(stats := Stats()))
    tickets = [spool.begin(b"%d" % i * 400) for i in range(5)]
    spool.finish(0, b"before")
    (table,) = tables(tmp_path)
    table.unlink()
    assert spool.finish(tickets[0], b"after")
    assert stats.snapshot() == {"spool.vanished": 1}
    run(lambda: _finds(tmp_path, outcomes=2, intents=4))
    assert tables(tmp_path) != [table]
    for ticket in tickets[1:]:
        assert spool.finish(ticket, b"ended")
    assert len(drain(spool)) == 6
    spool.close()
    assert list(tmp_path.iterdir()) == []


def _finds(directory: Path, outcomes: int, intents: int) -> None:
    found = status(directory)
    assert (found.live, found.outcomes, found.intents, found.corrupt) == (1, outcomes, intents, 0)


def test_a_table_that_the_disk_fails_to_sync_is_left_for_another(tmp_path, monkeypatch):
    monkeypatch.setattr(log, "_CHECK_SECONDS", 0.0)
    spool = Spool(tmp_path, fsync=True, stats=(stats := Stats()))
    first = spool.begin(b"first")
    (before,) = tables(tmp_path)

    def fail(_):
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(files, "sync", fail)
        second = spool.begin(b"second")
    assert second
    assert stats.snapshot() == {"spool.sync_failed": 1}
    third = spool.begin(b"third")
    (after,) = tables(tmp_path)
    assert after != before
    run(lambda: _finds(tmp_path, outcomes=0, intents=3))
    for ticket in (first, second, third):
        spool.settle(ticket)
    spool.close()
    assert list(tmp_path.iterdir()) == []


def test_files_of_an_app_that_closed_our_descriptors_are_neither_written_nor_cut(tmp_path, make, monkeypatch):
    """The numbers are those of its own files by then. What comes after that is noted in files of ours again."""
    monkeypatch.setattr(log, "_CHECK_SECONDS", 0.0)
    monkeypatch.setattr(log, "_RETRY_SECONDS", 0.0)

    def child() -> None:
        spool = make(tmp_path / "spool")
        under_way = [spool.begin(b"x" * 2000), spool.begin(b"short")]
        assert spool.finish(0, bytes(300_000))
        drained = spool.read(10)
        (segment,) = spool._segments.values()
        theirs = sorted({segment.fd, spool._intents.fd})
        for number, descriptor in enumerate(theirs):
            file = os.dup2(os.open(tmp_path / f"theirs {number}", os.O_RDWR | os.O_CREAT, 0o600), descriptor)
            os.write(file, b"of the app")
        for ticket in under_way:
            spool.settle(ticket)
        spool.ack(drained)
        for i in range(10):
            spool.finish(spool.begin(b"intent" * 300), b"%d" % i * 1000)
        assert spool.begin(b"after")
        assert len(spool.read(100)) == 10

    run_and_die(child)
    for number in range(2):
        assert (tmp_path / f"theirs {number}").read_bytes() == b"of the app"
    assert left(tmp_path / "spool")[1] == [b"after"]


def test_a_call_made_while_its_thread_waits_for_the_disk_is_noted_too(tmp_path, monkeypatch):
    """A signal handler makes it."""
    real, inner = files.sync, []

    def sync(descriptor):
        if not inner:
            inner.append(0)
            inner[0] = spool.begin(b"inner")
        real(descriptor)

    spool = Spool(tmp_path, fsync=True)
    spool.open()
    monkeypatch.setattr(files, "sync", sync)
    thread = threading.Thread(target=lambda: inner.append(spool.begin(b"outer")), daemon=True)
    thread.start()
    thread.join(10)
    assert len(inner) == 2
    assert all(inner)
    spool.close()
    assert left(tmp_path) == ([], [b"outer", b"inner"])


def test_free_slots_are_no_damage_and_half_a_slot_is(tmp_path):
    def child() -> None:
        spool = Spool(tmp_path)
        tickets = [spool.begin(b"intent %d " % i * 20) for i in range(3)]
        spool.settle(tickets[1])

    run_and_die(child)
    assert (status(tmp_path).corrupt, status(tmp_path).intents) == (0, 2)
    (table,) = tables(tmp_path)
    with table.open("r+b") as file:  # the kernel was stopped in the middle of taking it
        file.seek(2 * SLOT_BYTES + 100)
        file.write(bytes(SLOT_BYTES - 100))
    assert (status(tmp_path).corrupt, status(tmp_path).intents) == (1, 1)
    assert left(tmp_path) == ([], [b"intent 0 " * 20])
    assert segments(tmp_path) == tables(tmp_path) == []


def test_an_ending_beside_its_intent_survives_a_kill(tmp_path):
    def child() -> None:
        spool = Spool(tmp_path)
        ended, ended_and_stored, _, short = (spool.begin(b"intent %d" % i) for i in range(4))
        assert spool.end(ended, b"ending " * 50)
        assert spool.end(ended_and_stored, b"ending")
        spool.finish(ended_and_stored, b"outcome")
        again = spool.begin(b"intent 4")  # in the slot of the one before
        assert spool.end(short, b"")
        assert again

    run_and_die(child)
    assert status(tmp_path).corrupt == 0
    assert endings(tmp_path) == {
        b"intent 0": b"ending " * 50,
        b"intent 2": None,
        b"intent 3": b"",
        b"intent 4": None,
    }
    assert left(tmp_path) == ([b"outcome"], [b"intent 0", b"intent 2", b"intent 3", b"intent 4"])


@pytest.mark.parametrize("intent", [b"i", b"i" * 400, b"i" * 900])
def test_an_ending_that_has_no_room_in_the_slot_is_refused_and_the_intent_stands(tmp_path, intent):
    room = SLOT_BYTES - 2 * frames.HEADER_BYTES - len(intent)

    def child() -> None:
        spool = Spool(tmp_path)
        full, over = spool.begin(intent + b"0"), spool.begin(intent + b"1")
        assert spool.end(full, b"e" * (room - 1))
        assert not spool.end(over, b"e" * room)

    run_and_die(child)
    assert status(tmp_path).corrupt == 0
    assert endings(tmp_path) == {intent + b"0": b"e" * (room - 1), intent + b"1": None}


@pytest.mark.parametrize("length", [10, 5000])
def test_an_ending_takes_no_system_call_or_is_refused(tmp_path, make, length):
    spool = make(tmp_path)
    ticket = spool.begin(b"x" * length)
    written = spool._intents.written()
    in_memory = spool._intents._open[ticket].view is not None
    assert spool.end(ticket, b"ending") is in_memory
    assert spool._intents.written() == written
    spool.settle(ticket)
    assert not spool.end(ticket, b"ending")
    assert not spool.end(0, b"ending")
    spool.close()
    assert not spool.end(ticket, b"ending")


def test_an_ending_moves_with_its_intent(tmp_path, monkeypatch):
    def child() -> None:
        spool = Spool(tmp_path)
        tickets = [spool.begin(b"intent %d" % i) for i in range(3)]
        for ticket in tickets[:2]:
            assert spool.end(ticket, b"ending %d" % ticket)
        tables(tmp_path)[0].unlink()
        spool._check_at = 0.0
        spool.finish(tickets[0], b"outcome")

    run_and_die(child)
    (ending,) = [ending for intent, ending in endings(tmp_path).items() if intent == b"intent 1"]
    assert ending == b"ending 2"
    assert left(tmp_path)[1] == [b"intent 1", b"intent 2"]


def test_a_forked_child_has_no_calls_that_end(tmp_path):
    spool = Spool(tmp_path)
    ticket = spool.begin(b"intent")

    def child() -> None:
        assert not spool.end(ticket, b"the child's")

    run(child)
    assert spool.end(ticket, b"ending")
    assert [ending for _, _, ending in spool._intents.all()] == [b"ending"]
    spool.close()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0, 10**6), value=st.integers(0, 255))
def test_damage_to_an_ending_leaves_the_intent(place, value):
    seed = 7
    intent = frames.encode(frames.INTENT, 1, b"intent", seed)
    ending = bytearray(frames.encode(frames.ENDING, 1, b"ending", seed))
    place %= len(ending)
    damaged = ending[place] != value
    ending[place] = value
    found = frames.decode((intent + bytes(ending)).ljust(SLOT_BYTES, b"\0"), seed)
    assert found[0].payload == b"intent"
    assert [frame.payload for frame in found[1:]] == ([] if damaged else [b"ending"])


def test_while_the_disk_refuses_outcomes_they_are_not_to_be_late(tmp_path):
    with small_disk(tmp_path / "disk", "512k") as disk:
        spool = Spool(disk)
        ticket = spool.begin(b"intent")
        assert spool.end(ticket, b"ending")
        assert not spool.finish(ticket, bytes(1 << 20))
        assert not spool.end(ticket, b"ending")
        spool.settle(ticket)
        spool.close()

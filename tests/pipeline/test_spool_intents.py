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
from tests.pipeline.spooling import drain, left, run, run_and_die, segments, small_disk, tables

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
            os.close(descriptor)
            file = os.open(tmp_path / f"theirs {number}", os.O_RDWR | os.O_CREAT, 0o600)
            assert file == descriptor
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

"""A live spool: what goes in comes out once and in order, and leaves the disk when it is acknowledged, not before."""

from __future__ import annotations

import os
import stat
import threading
import time
from pathlib import Path

import pytest

from otel_llmlog.pipeline.spool import MAX_PAYLOAD, Pending, Spool, adopt, files, frames, status
from otel_llmlog.pipeline.spool.intents import SLOT_BYTES, Intents
from otel_llmlog.stats import Stats
from tests.pipeline.spooling import drain, left, run, run_and_die, segments


@pytest.fixture
def stats():
    return Stats()


@pytest.fixture
def spool(tmp_path, stats):
    spool = Spool(tmp_path / "spool", segment_bytes=20_000, stats=stats)
    yield spool
    spool.close()


def test_making_a_spool_touches_no_file(tmp_path):
    Spool(tmp_path / "spool")
    assert list(tmp_path.iterdir()) == []


def test_outcomes_are_read_in_the_order_they_were_finished_and_each_once(spool):
    written = [b"%d" % i * 100 for i in range(1000)]
    for payload in written:
        assert spool.finish(spool.begin(b"intent"), payload)
    assert spool.unread == 1000
    found = []
    while entries := spool.read(7):
        assert len(entries) <= 7
        found += entries
    assert [entry.payload for entry in found] == written
    assert (spool.unread, spool.pending().outcomes) == (0, 1000)
    spool.ack(found)
    assert spool.pending()[:2] == (0, 0)


def test_a_read_stops_at_its_limit_of_bytes(spool):
    for _ in range(10):
        spool.finish(0, bytes(1000))
    assert [len(spool.read(100, max_bytes=2500)) for _ in range(5)] == [3, 3, 3, 1, 0]


def test_what_was_delivered_leaves_the_disk(spool, tmp_path):
    for _ in range(3000):
        assert spool.finish(spool.begin(b"intent"), bytes(100))
    assert len(segments(tmp_path / "spool")) > 10
    drain(spool)
    assert len(segments(tmp_path / "spool")) == 1
    assert spool.pending()[:2] == (0, 0)
    # Behind the last frame stand zeros, where disk was allocated ahead.
    assert not segments(tmp_path / "spool")[0].read_bytes()[spool.pending().bytes :].strip(b"\0")


def test_an_idle_segment_that_has_grown_is_cut_to_nothing(tmp_path):
    spool = Spool(tmp_path)
    for _ in range(3):
        for _ in range(3000):
            spool.finish(spool.begin(b"intent"), bytes(100))
        assert len(drain(spool)) == 3000
        assert [path.stat().st_size for path in segments(tmp_path)] == [0]
    spool.close()


def test_acknowledging_twice_or_out_of_order_counts_each_outcome_once(spool, tmp_path):
    for i in range(500):
        spool.finish(0, b"%d" % i * 50)
    first, second, third = spool.read(100), spool.read(100), spool.read(300)
    spool.ack(third)
    spool.ack(second)
    spool.ack(second)
    assert spool.pending().outcomes == 100
    assert segments(tmp_path / "spool")[0].name.endswith("-00000001.seg")
    spool.ack(first)
    assert spool.pending().outcomes == 0
    assert len(segments(tmp_path / "spool")) == 1


def test_an_open_intent_stays_on_disk_and_its_outcome_frees_it(tmp_path):
    """However much comes after it, which it does not hold on to."""
    spool = Spool(tmp_path, segment_bytes=20_000)
    still_open = [spool.begin(b"a long call %d" % i) for i in range(200)]
    for _ in range(30):
        for _ in range(200):
            assert spool.finish(spool.begin(b"intent"), bytes(200))
        drain(spool)
        assert len(segments(tmp_path)) == 1
        assert spool.pending().intents == 200
        assert status(tmp_path).live == 1
    run(lambda: _sees_intents(tmp_path, 200))
    for ticket in still_open:
        assert spool.finish(ticket, b"ended")
    assert drain(spool) == [b"ended"] * 200
    assert spool.close()[:2] == (0, 0)
    assert segments(tmp_path) == []


def _sees_intents(directory: Path, number: int) -> None:
    assert (status(directory).intents, status(directory).corrupt) == (number, 0)


def test_a_settled_intent_needs_no_outcome(tmp_path):
    def child():
        spool = Spool(tmp_path)
        for i in range(100):
            ticket = spool.begin(b"%d" % i)
            if i % 2:
                spool.settle(ticket)
                spool.settle(ticket)

    run_and_die(child)
    assert left(tmp_path) == ([], [b"%d" % i for i in range(0, 100, 2)])


def test_an_outcome_of_an_unknown_ticket_is_kept_as_well(spool):
    assert spool.finish(999, b"outcome")
    ticket = spool.begin(b"intent")
    assert spool.finish(ticket, b"once")
    assert spool.finish(ticket, b"twice")
    assert drain(spool) == [b"outcome", b"once", b"twice"]


def test_a_payload_over_the_limit_is_refused(spool, stats):
    assert spool.begin(bytes(MAX_PAYLOAD + 1)) == 0
    assert not spool.finish(0, bytes(MAX_PAYLOAD + 1))
    assert spool.reason() == "spool_too_big"
    assert stats.snapshot() == {"spool.refused.spool_too_big": 2}
    assert spool.finish(0, bytes(MAX_PAYLOAD))
    assert [len(payload) for payload in drain(spool)] == [MAX_PAYLOAD]


def test_a_closed_spool_refuses_and_says_so(spool):
    spool.close()
    assert spool.begin(b"intent") == 0
    assert not spool.finish(0, b"outcome")
    assert spool.reason() == "spool_closed"
    assert spool.close() == Pending(0, 0, 0)


def test_closing_removes_the_files_when_nothing_is_left_in_them(tmp_path):
    spool = Spool(tmp_path)
    spool.finish(spool.begin(b"intent"), b"outcome")
    drain(spool)
    assert spool.close()[:2] == (0, 0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("acknowledge", "end"), [(False, True), (True, False)])
def test_closing_leaves_what_is_not_delivered_or_not_ended_to_the_next(tmp_path, acknowledge, end):
    spool = Spool(tmp_path)
    ticket = spool.begin(b"intent")
    if end:
        spool.finish(ticket, b"outcome")
    if acknowledge:
        drain(spool)
    assert spool.close()[:2] == (int(end), int(not end))
    assert left(tmp_path) == ([b"outcome"] * end, [b"intent"] * (not end))
    assert list(tmp_path.iterdir()) == []


def test_files_are_for_the_owner_alone(tmp_path):
    before = os.umask(0)
    try:
        spool = Spool(tmp_path / "deep" / "spool")
        spool.finish(0, b"outcome")
        assert stat.S_IMODE((tmp_path / "deep" / "spool").stat().st_mode) == 0o700
        assert [stat.S_IMODE(path.stat().st_mode) for path in segments(tmp_path / "deep" / "spool")] == [0o600]
    finally:
        os.umask(before)
    spool.close()


def test_a_relative_directory_stays_the_same_when_the_app_moves(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    spool = Spool("spool")
    monkeypatch.chdir("/")
    spool.finish(0, b"outcome")
    assert len(segments(tmp_path / "spool")) == 1
    spool.close()


def test_many_threads_append_while_one_reads_and_nothing_is_lost_or_doubled(spool):
    def work(thread: int) -> None:
        for i in range(400):
            ticket = spool.begin(b"intent")
            assert ticket
            assert spool.finish(ticket, b"%d-%d" % (thread, i) + bytes(100))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    found: list[bytes] = []
    while any(thread.is_alive() for thread in threads):
        found += drain(spool, 50)
    for thread in threads:
        thread.join()
    found += drain(spool, 50)
    assert sorted(payload.rstrip(b"\0") for payload in found) == sorted(
        b"%d-%d" % (thread, i) for thread in range(8) for i in range(400)
    )
    assert spool.pending()[:2] == (0, 0)


def test_a_damaged_outcome_is_counted_and_kept_aside_and_the_others_are_read(spool, stats, tmp_path):
    for i in range(20):
        spool.finish(0, b"outcome %d " % i * 3)
    path = segments(tmp_path / "spool")[0]
    raw = path.read_bytes()
    at = raw.index(b"outcome 7 ")
    with path.open("r+b") as file:  # closing it here gives the lock away: a record lock's nature, harmless in this test
        file.seek(at)
        file.write(b"\0\0\0")
    assert drain(spool) == [b"outcome %d " % i * 3 for i in range(20) if i != 7]
    assert spool.pending().outcomes == 0
    assert stats.snapshot() == {"spool.corrupt": 1, "dropped.spool_corrupt": 1}
    (aside,) = (tmp_path / "spool").glob("*.corrupt")
    assert b"come 7 " in aside.read_bytes()
    assert stat.S_IMODE(aside.stat().st_mode) == 0o600


def test_a_block_that_the_disk_cannot_read_costs_only_what_stands_in_it(spool, stats, monkeypatch):
    for i in range(10):
        spool.finish(0, bytes([i]) * 1500)
    real = os.pread

    def pread(descriptor, size, offset):
        if offset <= 5000 < offset + size:
            raise OSError(5, "Input/output error")
        return real(descriptor, size, offset)

    monkeypatch.setattr(os, "pread", pread)
    # The block from 4096 to 8192 is bad: frames 2 to 5 of 1525 bytes each reach into it.
    assert [payload[0] for payload in drain(spool)] == [0, 1, 6, 7, 8, 9]
    assert stats.snapshot()["dropped.spool_corrupt"] == 4


@pytest.mark.parametrize("middle", ["write", "pwrite"])
def test_a_call_made_inside_an_append_is_refused_rather_than_stuck(written, spool, monkeypatch, middle):
    real, inner = getattr(os, middle), []

    def write(*given):
        if not inner:
            inner.append(None)
            inner[0] = (spool.begin(b"inner"), spool.reason(), spool.finish(0, b"inner"))
        return real(*given)

    spool.open()
    monkeypatch.setattr(os, middle, write)
    ticket = spool.begin(b"outer")
    assert spool.finish(ticket, b"outer")
    assert inner == [(0, "spool_busy", False)]
    assert drain(spool) == [b"outer"]


def test_a_call_made_inside_an_append_is_noted_where_intents_are_in_memory(spool, monkeypatch):
    """A finaliser makes a call while its thread holds the lock."""
    tickets = []
    real = Intents.clear

    def clear(self, ticket):
        if not tickets:
            tickets.append(spool.begin(b"inner"))
        real(self, ticket)

    monkeypatch.setattr(Intents, "clear", clear)
    assert spool.finish(spool.begin(b"outer"), b"outer")
    assert spool.pending().intents == 1
    assert spool.finish(tickets[0], b"inner")
    assert drain(spool) == [b"outer", b"inner"]


def test_a_process_that_ends_inside_an_append_leaves_its_files_to_the_next(written, tmp_path, monkeypatch):
    """A signal handler ends the program while its thread is in the middle of noting a call."""
    spool = Spool(tmp_path)
    assert spool.finish(spool.begin(b"intent"), b"outcome")
    write, left = os.write, []

    def interrupted(descriptor, data):
        left.append(spool.close())
        return write(descriptor, data)

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", interrupted)
        assert spool.finish(0, b"second")
    assert [pending.outcomes for pending in left] == [1]
    spool.close()
    assert status(tmp_path).outcomes == 2


@pytest.mark.parametrize("append", [lambda spool: spool.begin(b"x"), lambda spool: spool.finish(0, b"x")])
def test_an_interrupt_in_the_middle_of_an_append_leaves_no_trace_of_it(written, tmp_path, monkeypatch, append):
    spool = Spool(tmp_path)
    spool.finish(0, b"before")

    def interrupted(real):
        def write(*given):
            real(*given)
            if write in {os.write, os.pwrite}:
                patch.undo()
                raise KeyboardInterrupt

        return write

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", interrupted(os.write))
        patch.setattr(os, "pwrite", interrupted(os.pwrite))
        with pytest.raises(KeyboardInterrupt):
            append(spool)
    assert spool.finish(spool.begin(b"intent"), b"after")
    assert [entry.payload for entry in spool.read(10)] == [b"before", b"after"]
    assert spool.close()[:2] == (2, 0)
    assert left(tmp_path) == ([b"before", b"after"], [])


def test_with_fsync_all_is_on_disk_before_the_answer(tmp_path, monkeypatch):
    synced: list[int] = []
    directories: list[Path] = []
    monkeypatch.setattr(files, "sync", lambda descriptor: synced.append(os.fstat(descriptor).st_size))
    monkeypatch.setattr(files, "sync_directory", directories.append)
    spool = Spool(tmp_path, fsync=True)
    ticket = spool.begin(b"intent")
    assert (synced, directories) == ([SLOT_BYTES], [tmp_path])
    spool.finish(ticket, b"outcome")
    assert (synced, directories) == ([SLOT_BYTES, frames.HEADER_BYTES + 7], [tmp_path, tmp_path])
    drain(spool)
    spool.close()


def test_with_fsync_the_end_of_a_call_is_on_disk_before_its_outcome_is_gone(tmp_path, monkeypatch):
    spool = Spool(tmp_path, fsync=True, segment_bytes=20_000)
    while len(segments(tmp_path)) < 2:
        spool.finish(spool.begin(b"intent"), bytes(1000))
    happened = []
    table = spool._intents.fd
    real_sync, real_remove = files.sync, files.remove

    def sync(descriptor):
        happened.append("sync" if descriptor == table else "other")
        real_sync(descriptor)

    def remove(path):
        happened.append("remove")
        real_remove(path)

    monkeypatch.setattr(files, "sync", sync)
    monkeypatch.setattr(files, "remove", remove)
    drain(spool)
    assert happened == ["sync", "remove"]
    spool.close()


def test_with_fsync_a_new_directory_is_on_disk_too(tmp_path, monkeypatch):
    directories: list[Path] = []
    monkeypatch.setattr(files, "sync_directory", directories.append)
    spool = Spool(tmp_path / "deep" / "spool", fsync=True)
    assert spool.open()
    assert directories[:2] == [tmp_path / "deep", tmp_path]
    assert directories[-1] == tmp_path / "deep" / "spool"
    spool.close()


def test_threads_that_sync_together_share_a_sync(tmp_path, monkeypatch):
    real, count = files.sync, []

    def slow(descriptor):
        count.append(1)
        time.sleep(0.05)
        real(descriptor)

    spool = Spool(tmp_path, fsync=True)
    spool.open()
    monkeypatch.setattr(files, "sync", slow)
    threads = [threading.Thread(target=spool.begin, args=(b"intent",)) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert spool.pending().intents == 16
    assert len(count) <= 4
    spool.close()


def test_a_disk_that_fails_to_sync_is_counted_and_what_is_written_is_kept(tmp_path, stats, monkeypatch):
    def fail(descriptor):
        raise OSError(5, "Input/output error")

    spool = Spool(tmp_path, fsync=True, stats=stats)
    monkeypatch.setattr(files, "sync", fail)
    assert spool.finish(0, b"first")
    assert spool.finish(0, b"second")
    assert stats.snapshot() == {"spool.sync_failed": 2}
    assert len(segments(tmp_path)) == 2  # no more goes to a file that the disk has failed on
    assert drain(spool) == [b"first", b"second"]
    spool.close()


def rss() -> int:
    """Memory of this process, in bytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="no /proc to measure by")
def test_memory_stays_flat_however_much_is_spooled(tmp_path):
    def child() -> None:
        spool = Spool(tmp_path)
        payload = os.urandom(400)
        for _ in range(1000):  # what is made once is made
            spool.finish(spool.begin(b"intent"), payload)
        drain(spool)
        before, most = rss(), 0
        for i in range(200_000):
            assert spool.finish(0, payload)
            if not i % 1000:
                most = max(most, rss())
        assert spool.unread == 200_000
        number = 0
        while entries := spool.read(512):
            number += len(entries)
            spool.ack(entries)
            most = max(most, rss())
        assert number == 200_000
        assert most - before < 10 << 20, (most - before) >> 20

    run(child)


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="no /proc to measure by")
def test_memory_stays_flat_however_much_a_dead_process_left(tmp_path):
    def dying() -> None:
        spool = Spool(tmp_path)
        for _ in range(50_000):
            spool.finish(spool.begin(b"intent"), bytes(800))
        spool.begin(b"open")

    def adopter() -> None:
        before, most, number = rss(), 0, 0
        for orphan in adopt(tmp_path):
            for payload in orphan.outcomes():
                number += len(payload) == 800
                if not number % 1000:
                    most = max(most, rss())
            assert list(orphan.intents()) == [(b"open", None)]
            orphan.done()
        assert number == 50_000
        assert most - before < 10 << 20, (most - before) >> 20

    run_and_die(dying)
    run(adopter)


def test_looking_at_the_directory_does_not_give_the_lock_away(tmp_path):
    spool = Spool(tmp_path)
    spool.finish(0, b"mine")
    assert status(tmp_path).live == 1
    assert list(adopt(tmp_path)) == []

    def other() -> None:
        assert list(adopt(tmp_path)) == []
        assert status(tmp_path).live == 1

    run(other)
    spool.close()


@pytest.mark.parametrize("size", [1, 300, 100_000, 200_000, 3_000_000])
def test_windows_hold_payloads_of_any_size_and_are_read_back(tmp_path, size):
    spool = Spool(tmp_path)
    written = [b"%6d" % i + os.urandom(size) for i in range(max(3, 600_000 // size if size > 1 else 2000))]
    for payload in written:
        assert spool.finish(spool.begin(b"intent"), payload)
    assert drain(spool) == written
    spool.close()
    assert segments(tmp_path) == []


@pytest.mark.parametrize("way", ["mapped", "written"])
def test_both_ways_to_append_leave_the_same_frames(tmp_path, monkeypatch, way):
    if way == "written":
        monkeypatch.setattr(files, "can_map", lambda _: False)

    def child() -> None:
        spool = Spool(tmp_path)
        for i in range(2000):
            ticket = spool.begin(b"intent %d" % i)
            if i % 3:
                assert spool.finish(ticket, b"outcome %d " % i * 20)

    run_and_die(child)
    assert status(tmp_path).corrupt == 0
    outcomes, intents = left(tmp_path)
    assert outcomes == [b"outcome %d " % i * 20 for i in range(2000) if i % 3]
    assert intents == [b"intent %d" % i for i in range(0, 2000, 3)]


def test_a_segment_is_mapped_here_and_gives_the_disk_back_that_it_did_not_use(tmp_path):
    spool = Spool(tmp_path)
    spool.finish(0, b"outcome")
    (path,) = segments(tmp_path)
    ahead = path.stat().st_size
    spool.close()
    assert ahead > 100_000
    assert path.stat().st_size < 1000


def test_notes_that_come_while_the_last_outcomes_are_under_way_do_not_keep_the_disk(tmp_path):
    spool = Spool(tmp_path / "spool")
    ticket = spool.begin(b"intent")
    for _ in range(40):
        assert spool.finish(0, b"x" * 10_000)
    first, rest = spool.read(10), spool.read(100)
    spool.settle(ticket)
    spool.ack(first)
    spool.ack(rest)
    assert spool.pending() == (0, 0, 0)

"""Full, failing and vanishing disks: the app goes on, each refusal has its reason, and what was accepted is there."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import threading

import pytest

from otel_llmlog.pipeline.spool import Pending, Spool, frames, log, status
from otel_llmlog.pipeline.spool.intents import SLOT_BYTES
from otel_llmlog.stats import Stats
from tests.pipeline.spooling import drain, left, remount, run, run_and_die, segments, small_disk


@pytest.fixture
def stats():
    return Stats()


@pytest.fixture
def impatient(monkeypatch):
    """Look and try again at every append rather than every second."""
    monkeypatch.setattr(log, "_RETRY_SECONDS", 0.0)
    monkeypatch.setattr(log, "_CHECK_SECONDS", 0.0)


def test_a_full_spool_refuses_the_newest_and_counts_it(tmp_path, stats):
    spool = Spool(tmp_path, max_bytes=100_000, segment_bytes=20_000, stats=stats)
    answers = [spool.finish(0, b"%4d" % i + bytes(471)) for i in range(1000)]
    accepted = sum(answers)
    assert answers == [True] * accepted + [False] * (1000 - accepted)
    assert accepted == 100_000 // (frames.HEADER_BYTES + 475) == 200
    assert spool.begin(b"intent") == 0
    assert spool.reason() == "spool_full"
    assert stats.snapshot() == {"spool.refused.spool_full": 801}
    assert [int(payload[:4]) for payload in drain(spool)] == list(range(accepted))
    assert spool.finish(0, b"again")
    spool.close()


def test_threads_that_fill_the_spool_get_an_exact_answer_each(tmp_path, stats):
    spool = Spool(tmp_path, max_bytes=50 * SLOT_BYTES, stats=stats)
    tickets: list[int] = []
    threads = [
        threading.Thread(target=lambda: tickets.extend(spool.begin(bytes(75)) for _ in range(200))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    accepted = [ticket for ticket in tickets if ticket]
    assert len(accepted) == len(set(accepted)) == 50 == spool.pending().intents
    assert stats.snapshot() == {"spool.refused.spool_full": 1550}
    spool.close()
    assert left(tmp_path) == ([], [bytes(75)] * 50)


def test_what_others_hold_in_the_directory_counts_as_well(tmp_path, monkeypatch):
    run_and_die(lambda: Spool(tmp_path).finish(0, bytes(60_000)))
    (tmp_path / "something else").write_bytes(bytes(30_000))
    spool = Spool(tmp_path, max_bytes=100_000)
    assert spool.finish(0, bytes(5_000))
    assert not spool.finish(0, bytes(5_000))
    assert spool.reason() == "spool_full"
    assert left(tmp_path)[0] == [bytes(60_000)]
    monkeypatch.setattr(spool, "_recount_at", 0.0)
    assert spool.finish(0, bytes(5_000))
    spool.close()


def test_a_settled_intent_is_noted_even_when_the_spool_is_full(tmp_path):
    def child() -> None:
        spool = Spool(tmp_path, max_bytes=10_000)
        tickets = []
        while ticket := spool.begin(bytes(75)):
            tickets.append(ticket)
        for ticket in tickets:
            assert not spool.finish(ticket, bytes(1000))
            spool.settle(ticket)
        assert spool.pending().intents == 0

    run_and_die(child)
    assert left(tmp_path) == ([], [])


def test_on_a_full_disk_the_accepted_are_kept_the_others_refused_and_it_heals(tmp_path, stats, impatient):
    with small_disk(tmp_path / "disk", "256k") as disk:
        (disk / "ballast").write_bytes(bytes(64 << 10))
        spool = Spool(disk / "spool", stats=stats)
        accepted: list[bytes] = []
        refused = 0
        for i in range(2000):
            ticket = spool.begin(b"intent")
            payload = b"%d" % i + bytes(i % 700)
            if spool.finish(ticket, payload):
                accepted.append(payload)
            else:
                assert spool.reason() == "spool_disk_full"
                refused += 1
                spool.settle(ticket)
        assert refused > 100
        assert stats.snapshot()["spool.refused.spool_disk_full"] >= refused
        entries = spool.read(10_000)
        assert [entry.payload for entry in entries] == accepted
        (disk / "ballast").unlink()
        assert spool.finish(spool.begin(b"intent"), b"healed")
        assert [entry.payload for entry in spool.read(10)] == [b"healed"]
        assert spool.pending()[:2] == (len(accepted) + 1, 0)
        spool.close()
        # Nothing torn was left behind, and what was settled while the disk was full is settled.
        assert status(disk / "spool").corrupt == 0
        assert left(disk / "spool") == ([*accepted, b"healed"], [])


@pytest.mark.parametrize("append", [lambda spool: spool.begin(b"intent"), lambda spool: spool.finish(0, b"outcome")])
def test_after_a_refusal_the_disk_is_left_in_peace_for_a_second(written, tmp_path, monkeypatch, append):
    spool = Spool(tmp_path)
    spool.open()
    tries = []

    def write(descriptor, data, at=0):
        tries.append(1)
        raise OSError(errno.ENOSPC, "No space left on device")

    now = [log.monotonic()]
    monkeypatch.setattr(log, "monotonic", lambda: now[0])
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", write)
        patch.setattr(os, "pwrite", write)
        assert [append(spool) for _ in range(100)] == [0] * 100
        first = len(tries)
        assert first in {1, 2}  # an intent's place is blanked, too
        now[0] += 1.1
        assert append(spool) == 0
        assert len(tries) == 2 * first
    now[0] += 1.1
    assert append(spool)
    spool.close()


def test_a_torn_frame_that_cannot_be_taken_back_is_passed_over_and_kept_aside(
    written, tmp_path, impatient, monkeypatch
):
    spool = Spool(tmp_path)
    spool.finish(0, b"before")
    real = os.write

    def write(descriptor, data):
        if len(data) > 100:
            real(descriptor, data[:60])
            raise OSError(errno.EIO, "Input/output error")
        return real(descriptor, data)

    def fail(*_):
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", write)
        patch.setattr(os, "ftruncate", fail)
        assert not spool.finish(0, b"torn" * 100)
        assert spool.reason() == "spool_unwritable"
    assert spool.finish(0, b"after")
    assert [entry.payload for entry in spool.read(10)] == [b"before", b"after"]
    spool.close()
    assert status(tmp_path).corrupt == 1
    assert left(tmp_path) == ([b"before", b"after"], [])
    (aside,) = tmp_path.iterdir()
    assert aside.suffix == ".corrupt"
    assert aside.read_bytes().endswith(b"torn" * 8 + b"tor")


def test_a_limit_on_the_size_of_files_only_makes_smaller_segments(tmp_path):
    def child() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        spool = Spool(tmp_path)
        for i in range(500):
            ticket = spool.begin(b"intent")
            assert ticket
            assert spool.finish(ticket, b"%d" % i + bytes(300))

    run_and_die(child)
    assert len(segments(tmp_path)) > 8
    assert status(tmp_path).corrupt == 0
    outcomes, intents = left(tmp_path)
    assert [payload.rstrip(b"\0") for payload in outcomes] == [b"%d" % i for i in range(500)]
    assert intents == []


def test_a_read_only_directory_refuses_until_it_can_be_written(tmp_path, stats, impatient):
    with small_disk(tmp_path / "disk", "1m") as disk:
        remount(disk, "ro")
        spool = Spool(disk / "spool", stats=stats)
        assert not spool.open()
        assert [spool.begin(b"intent") for _ in range(10)] == [0] * 10
        assert spool.reason() == "spool_unwritable"
        assert stats.snapshot()["spool.refused.spool_unwritable"] == 10
        assert spool.pending() == Pending(0, 0, 0)
        remount(disk, "rw")
        assert spool.finish(spool.begin(b"intent"), b"healed")
        assert drain(spool) == [b"healed"]
        spool.close()


def test_a_file_where_the_directory_should_be_refuses(tmp_path):
    (tmp_path / "spool").write_text("mine")
    spool = Spool(tmp_path / "spool")
    assert spool.begin(b"intent") == 0
    assert spool.reason() == "spool_unwritable"
    assert spool.read(10) == []
    spool.close()
    assert status(tmp_path / "spool").live == 0
    assert (tmp_path / "spool").read_text() == "mine"


@pytest.mark.parametrize("how", ["removed", "moved away"])
def test_a_vanished_directory_is_made_again_and_nothing_that_was_read_from_it_is_lost(tmp_path, stats, impatient, how):
    place = tmp_path / "spool"
    spool = Spool(place, segment_bytes=20_000, stats=stats)
    still_open = [spool.begin(b"open %d" % i) for i in range(100)]
    for i in range(100):
        spool.finish(0, b"%d" % i + bytes(500))
    if how == "removed":
        shutil.rmtree(place)
    else:
        place.rename(tmp_path / "elsewhere")
    assert spool.finish(0, b"after")
    assert stats.snapshot() == {"spool.vanished": 1}
    assert len(segments(place)) == 1
    run(lambda: _finds(place, outcomes=1, intents=100))  # the open intents are on disk again
    assert [payload.rstrip(b"\0") for payload in drain(spool)] == [*(b"%d" % i for i in range(100)), b"after"]
    for ticket in still_open:
        assert spool.finish(ticket, b"ended")
    assert len(drain(spool)) == 100
    spool.close()
    assert segments(place) == []
    if how == "moved away":
        assert segments(tmp_path / "elsewhere")  # what is not where it was put is not ours to remove


def _finds(directory, outcomes, intents):
    found = status(directory)
    assert (found.live, found.outcomes, found.intents, found.corrupt) == (1, outcomes, intents, 0)


def test_descriptors_that_the_app_closed_are_not_closed_again(tmp_path, impatient):
    """Some daemons close every descriptor they find; the numbers then belong to files of the app."""

    def child() -> None:
        spool = Spool(tmp_path)
        spool.finish(0, b"before")
        (segment,) = spool._segments.values()
        theirs = os.dup2(os.open(tmp_path / "theirs", os.O_RDWR | os.O_CREAT, 0o600), segment.fd)
        spool.close()
        os.write(theirs, b"still open")

    run(child)
    assert (tmp_path / "theirs").read_bytes() == b"still open"


def test_of_outcomes_that_do_not_fit_together_a_full_disk_takes_those_that_do(tmp_path):
    with small_disk(tmp_path / "disk", "256k") as disk:
        spool = Spool(disk)
        outcomes = [(spool.begin(b"intent %d" % i), b"%d" % i * 4000) for i in range(60)]
        refused = spool.finish_all(outcomes)
        assert 0 < len(refused) < 50
        taken = [outcome for at, (_, outcome) in enumerate(outcomes) if at not in refused]
        assert drain(spool) == taken
        spool.close()

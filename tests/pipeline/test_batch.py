"""The worker and its source: what is accepted is delivered, what is dropped is counted, exactly."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pytest

from otel_llmlog.config import PipelineSettings
from otel_llmlog.errors import StoreUnavailable
from otel_llmlog.pipeline import batch
from otel_llmlog.pipeline.batch import BatchWorker
from otel_llmlog.pipeline.record import Delivery, Exporter, Record
from otel_llmlog.pipeline.source import Source
from otel_llmlog.pipeline.spool import Ending, Intent, Spool, encode_ending, encode_intent, encode_record
from otel_llmlog.stats import Stats
from tests.pipeline.spooling import run_and_die

SECONDS = 30.0


class Store(Exporter):
    """Keeps what it is given, by identity as the real one does; can be away, hold a batch, and refuse records."""

    def __init__(self) -> None:
        self.rows: dict[str, Record] = {}
        self.away = False
        self.refused: set[str] = set()
        self.tried = threading.Event()
        self.gate = threading.Event()
        self.gate.set()
        self.closed = False

    def open(self) -> None: ...

    def export(self, records: Sequence[Record]) -> Delivery:
        self.tried.set()
        assert self.gate.wait(SECONDS)
        if self.away:
            raise StoreUnavailable("the store is away")
        rejected = [(record, "refused") for record in records if record.span_id in self.refused]
        good = [record for record in records if record.span_id not in self.refused]
        new = {record.span_id: record for record in good if record.span_id not in self.rows}
        self.rows |= new
        return Delivery(len(new), len(good) - len(new), rejected)

    def close(self) -> None:
        self.closed = True


def record(number: int, size: int = 100) -> Record:
    return Record("a" * 32, f"{number:016x}", None, number, number + 1, "shop", {"llmlog.id": "x" * size})


def intent(number: int) -> bytes:
    facts = {"operation": "chat", "call_type": "completion"}
    return encode_intent(Intent(b"\xaa" * 16, number, None, number, "shop", facts))


class Pipe:
    """A worker with everything around it."""

    def __init__(self, directory: Path | None, *, max_bytes: int = 1 << 30, **settings: object) -> None:
        self.store, self.stats = Store(), Stats()
        self.settings = PipelineSettings(**{"flush_interval": 0.01, "shutdown_timeout": 5, **settings})
        self.spool = Spool(directory, max_bytes, stats=self.stats) if directory else None
        source = Source(self.spool, self.settings.queue_size)
        self.worker = BatchWorker(self.store, source, self.settings, self.stats, str(directory) if directory else None)

    def counted(self, prefix: str) -> int:
        return sum(number for name, number in self.stats.snapshot().items() if name.startswith(prefix))


@pytest.fixture(params=["on disk", "in memory"])
def directory(request: pytest.FixtureRequest, tmp_path: Path) -> Path | None:
    return tmp_path / "spool" if request.param == "on disk" else None


@pytest.fixture
def pipe(directory: Path | None) -> Iterator[Pipe]:
    made = Pipe(directory)
    yield made
    made.store.away = False
    made.store.gate.set()
    made.worker.close(5)


def test_everything_put_is_delivered_once(pipe: Pipe) -> None:
    for number in range(2000):
        pipe.worker.put(record(number))
    assert pipe.worker.flush(SECONDS)
    assert list(pipe.store.rows) == [f"{number:016x}" for number in range(2000)]
    assert pipe.counted("written") == 2000
    assert pipe.counted("dropped") == 0


def test_records_wait_while_the_store_is_away_and_go_when_it_is_back(pipe: Pipe) -> None:
    pipe.store.away = True
    for number in range(100):
        pipe.worker.put(record(number))
    assert pipe.store.tried.wait(SECONDS)
    assert not pipe.worker.flush(0.1)
    assert pipe.worker.waiting() == 100
    pipe.store.away = False
    assert pipe.worker.flush(SECONDS)
    assert len(pipe.store.rows) == 100
    assert pipe.counted("retries") >= 1


def test_that_a_destination_is_away_is_told_and_that_it_is_back(pipe: Pipe, caplog: pytest.LogCaptureFixture) -> None:
    pipe.store.away = True
    pipe.worker.put(record(1))
    assert not pipe.worker.flush(0.1)
    pipe.store.away = False
    assert pipe.worker.flush(SECONDS)
    assert [entry.getMessage() for entry in caplog.records] == [
        "otel-llmlog: the database: the store is away; 1 record(s) wait",
        "otel-llmlog: the database: it takes records again",
    ]


def test_who_flushes_does_not_wait_for_the_next_try(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "_FIRST_RETRY", 1000.0)
    pipe.store.away = True
    pipe.worker.put(record(1))
    assert pipe.store.tried.wait(SECONDS)
    while not pipe.counted("retries"):
        time.sleep(0.001)
    pipe.store.away = False
    assert pipe.worker.flush(SECONDS)
    assert len(pipe.store.rows) == 1


def test_a_record_that_is_refused_is_counted_and_harms_no_other(pipe: Pipe) -> None:
    pipe.store.refused = {f"{3:016x}"}
    for number in range(10):
        pipe.worker.put(record(number))
    assert pipe.worker.flush(SECONDS)
    assert len(pipe.store.rows) == 9
    assert pipe.counted("dead") == 1


def test_a_fault_of_the_exporter_that_nobody_foresaw_loses_nothing(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    export = pipe.store.export

    def broken(records: Sequence[Record]) -> Delivery:
        monkeypatch.setattr(pipe.store, "export", export)
        raise ZeroDivisionError

    monkeypatch.setattr(pipe.store, "export", broken)
    pipe.worker.put(record(1))
    assert pipe.worker.flush(SECONDS)
    assert len(pipe.store.rows) == 1
    assert pipe.counted("error.write.ZeroDivisionError") == 1


def test_a_full_memory_queue_drops_the_newest_and_counts_it() -> None:
    pipe = Pipe(None, queue_size=50, batch_size=1)
    pipe.store.gate.clear()
    pipe.worker.put(record(0))
    assert pipe.store.tried.wait(SECONDS)
    for number in range(1, 101):
        pipe.worker.put(record(number))
    # The one under way is in memory, too.
    assert pipe.counted("dropped.queue_full") == 51
    pipe.store.gate.set()
    assert pipe.worker.close(SECONDS)
    assert list(pipe.store.rows) == [f"{number:016x}" for number in range(50)]


def test_a_full_spool_falls_back_to_memory_then_drops_the_newest_and_counts_exactly(tmp_path: Path) -> None:
    pipe = Pipe(tmp_path / "spool", max_bytes=1 << 20, queue_size=20)
    pipe.store.away = True
    for number in range(400):
        pipe.worker.put(record(number, size=10_000))
    dropped = pipe.counted("dropped.")
    assert 200 < dropped < 380
    pipe.store.away = False
    assert pipe.worker.close(SECONDS)
    assert len(pipe.store.rows) == 400 - dropped == pipe.counted("written")
    # The newest are the ones that are not there.
    assert f"{0:016x}" in pipe.store.rows
    assert f"{399:016x}" not in pipe.store.rows


@pytest.mark.parametrize("trouble", ["vanished", "read-only", "never there"])
def test_without_a_usable_spool_directory_records_are_delivered_from_memory(tmp_path: Path, trouble: str) -> None:
    directory = tmp_path / "spool"
    if trouble == "never there":
        (tmp_path / "file").write_text("not a directory")
        directory = tmp_path / "file" / "spool"
    pipe = Pipe(directory)
    pipe.worker.put(record(0))
    assert pipe.worker.flush(SECONDS)
    if trouble == "vanished":
        for path in directory.iterdir():
            path.unlink()
        directory.rmdir()
    elif trouble == "read-only":
        directory.chmod(0o500)
    for number in range(1, 100):
        pipe.worker.put(record(number))
    assert pipe.worker.flush(SECONDS)
    assert len(pipe.store.rows) + pipe.counted("dropped.") == 100
    assert len(pipe.store.rows) == 100
    if directory.exists():
        directory.chmod(0o700)
    pipe.worker.close(5)


def test_what_cannot_be_delivered_before_the_end_stays_in_the_spool_for_the_next_process(tmp_path: Path) -> None:
    first = Pipe(tmp_path / "spool")
    first.store.away = True
    for number in range(30):
        first.worker.put(record(number))
    assert not first.worker.close(0.2)
    assert first.counted("kept_in_spool") == 30
    second = Pipe(tmp_path / "spool")
    assert second.worker.adopt() == 30
    assert len(second.store.rows) == 30
    assert second.worker.close(5)
    assert not [path for path in (tmp_path / "spool").iterdir() if path.suffix == ".seg"]


def test_the_end_waits_for_one_try_and_not_for_a_store_that_fails(tmp_path: Path) -> None:
    pipe = Pipe(tmp_path / "spool")
    pipe.store.away = True
    pipe.worker.put(record(1))
    assert not pipe.worker.close(10_000)
    assert pipe.counted("kept_in_spool") == 1


def test_the_end_waits_for_a_store_that_is_slow(tmp_path: Path) -> None:
    pipe = Pipe(tmp_path / "spool")
    pipe.store.gate.clear()
    pipe.worker.put(record(1))
    assert pipe.store.tried.wait(SECONDS)
    ending = threading.Thread(target=pipe.worker.close, args=(SECONDS,))
    ending.start()
    ending.join(0.2)
    assert ending.is_alive()
    pipe.store.gate.set()
    ending.join(SECONDS)
    assert len(pipe.store.rows) == 1
    assert pipe.counted("kept_in_spool") == 0


def test_the_end_tries_again_what_only_memory_holds() -> None:
    pipe = Pipe(None)
    pipe.store.away = True
    pipe.worker.put(record(1))
    ending = threading.Thread(target=pipe.worker.close, args=(SECONDS,))
    ending.start()
    while pipe.counted("retries") < 2:
        time.sleep(0.001)
    pipe.store.away = False
    ending.join(SECONDS)
    assert len(pipe.store.rows) == 1


def test_a_record_after_a_pause_is_stored_at_once_and_those_that_follow_together() -> None:
    pipe = Pipe(None, flush_interval=60)
    pipe.worker.put(record(0))
    while not pipe.store.rows:
        time.sleep(0.001)
    for number in range(1, 10):
        pipe.worker.put(record(number))
    assert len(pipe.store.rows) == 1
    assert pipe.worker.close(SECONDS)
    assert len(pipe.store.rows) == 10


def test_an_intent_without_an_outcome_becomes_a_failed_row_in_the_next_process(tmp_path: Path) -> None:
    child = os.fork()
    if child == 0:
        pipe = Pipe(tmp_path / "spool")
        pipe.worker.intend(intent(1))
        ticket = pipe.worker.intend(intent(2))
        pipe.store.away = True
        pipe.worker.put(record(2), ticket)
        pipe.worker.forget(pipe.worker.intend(intent(3)))
        os._exit(0)
    os.waitpid(child, 0)
    pipe = Pipe(tmp_path / "spool")
    assert pipe.worker.adopt() == 2
    assert {
        span: row.attributes.get("llmlog.error_information.error_class") for span, row in pipe.store.rows.items()
    } == {
        f"{1:016x}": "ProcessTerminated",
        f"{2:016x}": None,
    }
    pipe.worker.close(5)


CHAT = {
    "operation": "chat",
    "call_type": "completion",
    "wire": "openai",
    "model": "gpt-4o-mini",
    "url": "https://api.openai.com/v1/chat/completions",
}
BRIEF = b'{"id":"c-1","model":"gpt-4o-mini","usage":{"prompt_tokens":1000,"completion_tokens":100,"total_tokens":1100}}'


@pytest.mark.parametrize(
    ("facts", "ending", "expected"),
    [
        (CHAT, encode_ending(Ending(9, BRIEF)), ("success", 1100, "0.00021", 9)),
        (CHAT | {"model": "unheard-of"}, encode_ending(Ending(9, b'{"usage":{"prompt_tokens":5}}')), ("success", 5, None, 9)),
        (CHAT, b"no ending", ("failure", None, None, 1)),
        (CHAT, encode_ending(Ending(9, b"\xff")), ("success", None, None, 9)),
        (CHAT | {"wire": "cohere"}, encode_ending(Ending(9, BRIEF)), ("failure", None, None, 1)),
        (CHAT | {"url": "http://[broken"}, encode_ending(Ending(9, BRIEF)), ("failure", None, None, 1)),
        ({}, encode_ending(Ending(9, BRIEF)), ("failure", None, None, 1)),
        (CHAT, encode_ending(Ending(-(1 << 63), BRIEF)), ("success", 1100, "0.00021", -(1 << 63))),
    ],
)  # fmt: skip
def test_a_call_that_ended_and_was_not_read_has_what_was_noted_of_it(tmp_path, facts, ending, expected):
    def child() -> None:
        pipe = Pipe(tmp_path / "spool")
        ticket = pipe.worker.intend(encode_intent(Intent(b"\xaa" * 16, 1, None, 1, "shop", facts)))
        assert pipe.worker.end(ticket, ending)

    run_and_die(child)
    pipe = Pipe(tmp_path / "spool")
    assert pipe.worker.adopt() == 1
    (row,) = pipe.store.rows.values()
    said = row.attributes
    assert (
        said["llmlog.status"], said.get("llmlog.total_tokens") or None, said.get("llmlog.spend"), row.end_ns
    ) == expected  # fmt: skip
    assert pipe.counted("terminated") == 1
    assert list((tmp_path / "spool").glob("*.corrupt")) == []
    pipe.worker.close(5)


def test_captured_is_written_waiting_dropped_and_dead_together_at_any_quiet_moment(tmp_path: Path) -> None:
    pipe = Pipe(tmp_path / "spool", max_bytes=1 << 20, queue_size=5)
    pipe.store.refused = {f"{number:016x}" for number in range(0, 1000, 100)}
    for turn in range(5):
        pipe.store.away = turn % 2 == 1
        for number in range(200):
            pipe.worker.put(record(turn * 200 + number, size=10_000))
        if not pipe.store.away:
            assert pipe.worker.flush(SECONDS)
        together = sum(map(pipe.counted, ("written", "duplicates", "dead", "dropped.")))
        assert together + pipe.worker.waiting() == (turn + 1) * 200
    pipe.worker.close(5)


def test_a_call_that_had_to_wait_in_memory_leaves_no_open_intent(tmp_path: Path) -> None:
    pipe = Pipe(tmp_path / "spool", max_bytes=1 << 20)
    assert pipe.spool is not None
    tickets = [pipe.worker.intend(intent(number)) for number in range(3)]
    pipe.store.away = True
    for number, ticket in enumerate(tickets):
        pipe.worker.put(record(number, size=900_000), ticket)
    assert pipe.counted("spool.refused") >= 1
    pipe.store.away = False
    assert pipe.worker.flush(SECONDS)
    assert len(pipe.store.rows) == 3
    assert pipe.spool.pending().intents == 0
    pipe.worker.close(5)


def test_an_outcome_that_is_no_record_is_dropped_and_counted(tmp_path: Path) -> None:
    pipe = Pipe(tmp_path / "spool")
    assert pipe.spool is not None
    assert pipe.spool.finish(0, b"from another age")
    pipe.worker.put(record(1))
    assert pipe.worker.flush(SECONDS)
    assert len(pipe.store.rows) == 1
    assert pipe.counted("dropped.spool_unreadable") == 1
    pipe.worker.close(5)


def test_what_a_dead_process_left_unreadable_is_counted_before_it_is_removed(tmp_path: Path) -> None:
    directory = tmp_path / "spool"

    def child() -> None:
        spool = Spool(directory)
        spool.begin(b"from another age")
        spool.finish(0, b"from another age")
        spool.finish(0, encode_record(record(1)))

    run_and_die(child)
    pipe = Pipe(directory)
    assert pipe.worker.adopt() == 1
    assert (pipe.counted("adopted"), pipe.counted("dropped.spool_unreadable")) == (1, 2)
    assert not list(directory.glob("*.seg"))
    pipe.worker.close(5)


@pytest.mark.usefixtures("written")
def test_a_damaged_outcome_is_dropped_and_counted_and_nobody_waits_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe = Pipe(tmp_path / "spool")
    write = os.write
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:-1] + b"\xff"))
        pipe.worker.put(record(1))
    pipe.worker.put(record(2))
    assert pipe.worker.flush(SECONDS)
    assert (pipe.counted("written"), pipe.counted("dropped.spool_corrupt"), pipe.worker.waiting()) == (1, 1, 0)
    pipe.worker.close(5)


class Ahead(Store):
    """Takes the next batch before it answers for the one before, as the real store does."""

    def export_all(self, batches: Iterable[Sequence[Record]]) -> Iterator[Delivery]:
        before: Sequence[Record] = ()
        for records in batches:
            if before:
                yield self.export(before)
            before = records
        if before:
            yield self.export(before)


@pytest.mark.parametrize("in_memory", [False, True])
def test_of_batches_under_way_when_the_store_goes_none_is_lost_or_doubled(tmp_path: Path, in_memory: bool) -> None:
    pipe = Pipe(None if in_memory else tmp_path, batch_size=4, queue_size=1000)
    pipe.worker._exporter = pipe.store = Ahead()
    pipe.store.away = True
    for number in range(200):
        pipe.worker.put(record(number))
    assert pipe.store.tried.wait(SECONDS)
    assert not pipe.worker.flush(0.3)
    pipe.store.away = False
    assert pipe.worker.flush(SECONDS)
    assert len(pipe.store.rows) == pipe.counted("written") == 200
    assert (pipe.counted("duplicates"), pipe.worker.waiting()) == (0, 0)
    pipe.worker.put(record(200))
    assert pipe.worker.close(SECONDS)
    assert len(pipe.store.rows) == 201

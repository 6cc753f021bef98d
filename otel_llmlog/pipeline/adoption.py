"""From what dead processes left in spool directories to records that are delivered.

Always true: an orphan's files are removed when all of it is delivered, or known to be unreadable and counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice

from otel_llmlog import forks
from otel_llmlog.pipeline.record import Record
from otel_llmlog.pipeline.spool import (
    Ending,
    Intent,
    Orphan,
    adopt,
    decode_ending,
    decode_intent,
    decode_record,
    set_aside,
)
from otel_llmlog.pipeline.terminated import terminated, unread
from otel_llmlog.pricing import Pricer
from otel_llmlog.stats import Stats


def deliver(
    directories: Sequence[str],
    export: Callable[[list[Record]], bool],
    batch_size: int,
    pricer: Pricer,
    stats: Stats,
) -> int:
    """Deliver each orphan by `export`, which answers False when that should be tried again later.

    Answers how many records were delivered; what cannot be stays.
    """
    delivered = 0
    for directory in directories:
        if moved := set_aside(directory):
            stats.count("spool.set_aside", len(moved))
            stats.warn(
                "spool.set_aside", f"moved aside in {directory}: {len(moved)} that are no files of ours, {moved[0]}"
            )
    for orphan in (orphan for directory in directories for orphan in adopt(directory)):
        unreadable = Counter[str]()
        for counter, found in (
            ("adopted", _outcomes(orphan, unreadable)),
            ("terminated", _terminated(orphan, unreadable, pricer, stats)),
        ):
            for records in _batches(found, batch_size):
                if not export(records):
                    return delivered
                delivered += len(records)
                stats.count(counter, len(records))
        if number := unreadable["terminated"]:
            stats.count("terminated", number)
        if number := unreadable.total():
            stats.dropped("spool_unreadable", number)
        if orphan.corrupt:
            stats.count("spool.corrupt", orphan.corrupt)
        orphan.done()
    return delivered


def _outcomes(orphan: Orphan, unreadable: Counter[str]) -> Iterator[Record]:
    for payload in orphan.outcomes():
        if (record := decode_record(payload)) is not None:
            yield record
        else:
            unreadable["adopted"] += 1


def _terminated(orphan: Orphan, unreadable: Counter[str], pricer: Pricer, stats: Stats) -> Iterator[Record]:
    for payload, ended in orphan.intents():
        if (intent := decode_intent(payload)) is not None:
            with forks.held_off():
                record = _record_of(intent, decode_ending(ended) if ended else None, pricer, stats)
            yield record
        else:
            unreadable["terminated"] += 1


def _record_of(intent: Intent, ending: Ending | None, pricer: Pricer, stats: Stats) -> Record:
    if ending is not None:
        try:
            return unread(intent, ending, pricer)
        except Exception as error:  # it came from a file: that there was a call is certain all the same
            stats.error("unread", error)
    return terminated(intent)


def _batches(records: Iterable[Record], size: int) -> Iterator[list[Record]]:
    remaining = iter(records)
    while batch := list(islice(remaining, size)):
        yield batch

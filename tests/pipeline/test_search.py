"""Looking for what is not stored yet: found wherever it waits, and left there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from otel_llmlog.pipeline.record import Record
from otel_llmlog.pipeline.source import Source
from otel_llmlog.pipeline.spool import Spool
from tests.store.records import records


def anything(_record: Record) -> bool:
    return True


@pytest.fixture(params=["disk", "memory"])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    made = Source(Spool(tmp_path, segment_bytes=4096) if request.param == "disk" else None, 100)
    yield made
    made.close()


def test_what_waits_what_is_under_way_and_what_came_last_is_found(source: Source) -> None:
    batch = records(20, session_id="chat-ü")
    for each in batch[:10]:
        source.put([(each, 0)])
    under_way = source.take(7)
    for each in batch[10:]:
        source.put([(each, 0)])
    found = source.search("chat-ü".encode(), anything)
    assert {each.span_id for each in found} == {each.span_id for each in batch}
    assert source.waiting() == 13
    source.settle(under_way)
    left = {each.span_id for each in source.search(b"chat", anything)}
    assert left >= {each.span_id for each in batch[7:]}
    assert [each.span_id for each in source.take(100).records] == [each.span_id for each in batch[7:]]


def test_only_what_is_wanted_is_found(source: Source) -> None:
    batch = records(5)
    for each in batch:
        source.put([(each, 0)])
    (found,) = source.search(b"", lambda record: record.span_id == batch[3].span_id)
    assert found.attributes == batch[3].attributes


def test_what_does_not_hold_the_text_is_not_even_decoded(tmp_path: Path) -> None:
    source = Source(Spool(tmp_path), 100)
    for each in (*records(5, session_id="a"), *records(1, session_id="needle")):
        source.put([(each, 0)])
    seen = []
    assert source.search(b"needle", lambda record: bool(seen.append(record))) == []
    assert len(seen) == 1
    source.close()


def test_a_spool_whose_file_is_damaged_gives_the_rest(tmp_path: Path) -> None:
    source = Source(Spool(tmp_path), 100)
    for each in records(3, session_id="s"):
        source.put([(each, 0)])
    (segment,) = tmp_path.glob("*.seg")
    data = bytearray(segment.read_bytes())
    data[100] ^= 255
    segment.write_bytes(data)
    assert len(source.search(b"s", anything)) == 2
    source.close()

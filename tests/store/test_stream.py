"""Batches that follow one another: each is answered for in order and after its COMMIT, whatever befalls its neighbours."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest

from otel_llmlog.errors import StoreUnavailable
from otel_llmlog.pipeline.record import Delivery, Record
from otel_llmlog.store.postgres import CHUNK_ROWS, PostgresExporter
from tests.store.records import record, records

CUT = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'llmlog'"


def outcome(delivery: Delivery) -> tuple[int, int, int]:
    return delivery.written, delivery.duplicates, len(delivery.rejected)


def count(query: Any, table: str = "spend_logs") -> int:
    return query(f"SELECT count(*) FROM llmlog.{table}")[0][0]


def absurd() -> Record:
    """Only the database knows that this one cannot be stored."""
    return record(attributes={"llmlog.total_tokens": 10**16})


def test_each_batch_is_answered_for_in_order(exporter: PostgresExporter, query: Any) -> None:
    first, second = records(700), records(300, messages="hello")
    large = records(CHUNK_ROWS * 2 + 5)
    broken = replace(record(), attributes={"llmlog.call_id": "c"})
    batches = [
        first,
        [],
        first[:100] + second,
        [broken, *records(3)],
        [*records(20), absurd(), *records(20)],
        large,
        second[:1],
        records(1),
    ]
    assert [outcome(delivery) for delivery in exporter.export_all(batches)] == [
        (700, 0, 0),
        (0, 0, 0),
        (300, 100, 0),
        (3, 0, 1),
        (40, 0, 1),
        (len(large), 0, 0),
        (0, 1, 0),
        (1, 0, 0),
    ]
    assert count(query) == 700 + 300 + 3 + 40 + len(large) + 1
    assert count(query, "spend_log_contents") == 300
    assert count(query, "dead_letters") == 2


def test_an_answer_is_given_only_once_the_rows_can_be_seen(exporter: PostgresExporter, query: Any) -> None:
    for answered, _ in enumerate(exporter.export_all([records(100) for _ in range(5)]), 1):
        assert count(query) >= answered * 100


def test_the_next_batch_is_taken_while_the_one_before_is_under_way(exporter: PostgresExporter) -> None:
    said = []

    def batches() -> Iterator[Sequence[Record]]:
        for number in range(3):
            said.append(f"taken {number}")
            yield records(10)

    for number, _ in enumerate(exporter.export_all(batches())):
        said.append(f"answered {number}")
    assert said == ["taken 0", "taken 1", "answered 0", "taken 2", "answered 1", "answered 2"]


@pytest.mark.parametrize("at", range(1, 4))
def test_what_was_not_answered_for_can_be_tried_again_when_the_connection_breaks(
    exporter: PostgresExporter, query: Any, at: int
) -> None:
    batches = [records(300) for _ in range(4)]
    answered = []

    def cut_at() -> Iterator[Sequence[Record]]:
        for number, batch in enumerate(batches):
            if number == at:
                query(CUT)
            yield batch

    exporter.export([])
    with pytest.raises(StoreUnavailable):
        answered.extend(exporter.export_all(cut_at()))
    assert len(answered) <= at
    rest = list(exporter.export_all(batches[len(answered) :]))
    assert len(answered) + len(rest) == 4
    assert all(sum(outcome(delivery)) == 300 for delivery in (*answered, *rest))
    assert count(query) == 1200


def test_who_goes_away_in_the_middle_leaves_an_exporter_that_works(exporter: PostgresExporter, query: Any) -> None:
    under_way = exporter.export_all([records(100), records(100)])
    next(under_way)
    under_way.close()

    def broken() -> Iterator[Sequence[Record]]:
        yield records(100)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(exporter.export_all(broken()))
    assert outcome(exporter.export(records(5))) == (5, 0, 0)
    assert 105 <= count(query) <= 305

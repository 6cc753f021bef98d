"""Dead letters: what cannot be stored is kept once, with the reason, and can be tried again."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from otel_llmlog.pipeline.record import Record
from otel_llmlog.store import check
from otel_llmlog.store.dead_letters import DeadLetters
from otel_llmlog.store.postgres import PostgresExporter
from tests.store.records import record, records

REFUSED = {"llmlog.messages": "[1e200000]"}


def test_a_dead_letter_holds_the_record_and_the_reason(exporter: PostgresExporter, database_url: str) -> None:
    bad = record(start_ns=1_700_000_000 * 10**9, attributes=REFUSED, model="gpt-4o")
    exporter.export([bad, *records(3)])
    (letter,) = DeadLetters(database_url).entries()
    assert (letter.trace_id, letter.span_id, letter.reason, letter.retried_at) == (
        bad.trace_id, bad.span_id, "the database refuses it: numeric_value_out_of_range", None
    )  # fmt: skip
    assert letter.start_time == datetime.fromtimestamp(1_700_000_000, UTC)
    assert letter.record["start_ns"] == bad.start_ns
    assert letter.record["attributes"] == json.loads(json.dumps(dict(bad.attributes)))


class Odd:
    def __str__(self) -> str:
        raise RuntimeError


HOSTILE = {
    "NUL and surrogates": record(attributes={"llmlog.spend": "-1", "a\0b\ud800": "c\0d\udfff"}),
    "numbers JSON has not": record(attributes={"llmlog.spend": float("nan"), "x": float("inf"), "y": 10**30}),
    "a number of thousands of digits": record(attributes={"llmlog.spend": "-1", "x": 10**9000}),
    "objects": record(attributes={"llmlog.spend": "-1", "x": Odd(), "y": b"\xff", "z": {1: (2, {3})}}),
    "attributes that are none": Record("t", "s", None, 1, 2, "x", 7),  # type: ignore[arg-type]
    "times that are none": Record(["t"], {"s": 1}, None, "now", None, None, {}),  # type: ignore[arg-type]
    "a time beyond time": record(start_ns=10**40),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_keeping_a_dead_letter_does_not_fail_for_what_it_holds(
    exporter: PostgresExporter, database_url: str, name: str
) -> None:
    delivery = exporter.export([HOSTILE[name], *records(5)])
    assert (delivery.written, len(delivery.rejected)) == (5, 1)
    (letter,) = DeadLetters(database_url).entries()
    assert letter.reason == delivery.rejected[0][1]


def test_a_record_is_kept_once_however_often_it_is_delivered(exporter: PostgresExporter, query: Any) -> None:
    batch = records(5, attributes=REFUSED)
    exporter.export(batch + records(5))
    exporter.export(batch[::-1] + batch)
    assert query("SELECT count(*) FROM llmlog.dead_letters") == [(5,)]


def test_a_rejected_record_is_reported_even_if_it_cannot_be_kept(exporter: PostgresExporter, query: Any) -> None:
    query("ALTER TABLE llmlog.dead_letters ADD CHECK (trace_id = 'never')")
    delivery = exporter.export([record(attributes=REFUSED), *records(3)])
    assert delivery.written == 3
    assert [reason for _, reason in delivery.rejected] == [
        "the database refuses it: numeric_value_out_of_range; dead_letters refuses it, too"
    ]
    assert exporter.export(records(2)).written == 2


def test_a_connection_that_breaks_before_the_dead_letter_is_kept_is_made_anew(
    exporter: PostgresExporter, query: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    exporter.export(records(1))
    session = exporter._session
    keep = session.keep_aside

    def cut(rejected: Any) -> None:
        session._connection.close()
        keep(rejected)

    monkeypatch.setattr(session, "keep_aside", cut, raising=False)
    assert exporter.export([record(attributes=REFUSED)]).rejected[0][1].endswith("out_of_range")
    assert query("SELECT count(*) FROM llmlog.dead_letters") == [(1,)]


def test_retry_stores_what_can_be_stored_now_and_keeps_the_rest(
    exporter: PostgresExporter, query: Any, database_url: str
) -> None:
    query("ALTER TABLE llmlog.spend_logs ADD CONSTRAINT closed CHECK (model <> 'new')")
    good = records(
        700, model="new", session_id="s", request_tags=["a", "b"], messages=[{"role": "user", "content": "x"}]
    )
    exporter.export(good + records(2, attributes=REFUSED))
    letters = DeadLetters(database_url)
    assert [letter.reason.split(": ")[1] for letter in letters.entries(limit=1)] == ["check_violation"]
    query("ALTER TABLE llmlog.spend_logs DROP CONSTRAINT closed")
    exporter.export(good[:10])
    again = PostgresExporter(database_url, keep_rejected=False)

    chosen = [letter.id for letter in letters.entries()][:20]
    done = letters.retry(again, chosen)
    assert (done.written, done.duplicates, len(done.rejected)) == (10, 10, 0)
    done = letters.retry(again)
    assert (done.written, done.duplicates, len(done.rejected)) == (680, 0, 2)
    assert [(left.reason.split(": ")[1], left.retried_at is None) for left in letters.entries()] == [
        ("numeric_value_out_of_range", False)
    ] * 2
    assert query("SELECT count(*), min(request_tags) FROM llmlog.spend_logs") == [(700, ["a", "b"])]
    assert query("SELECT count(*) FROM llmlog.spend_log_contents") == [(700,)]
    assert check.check(database_url).differences == []
    again.close()

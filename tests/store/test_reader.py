"""The reader: each filter and each grouping, over the same few calls."""

from __future__ import annotations

import time
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import psycopg
import pytest

from otel_llmlog.errors import StoreUnavailable
from otel_llmlog.store import reader as reader_module
from otel_llmlog.store.postgres import PostgresExporter
from otel_llmlog.store.reader import GROUPINGS, Filter, Reader, SpendLine
from tests.store.records import record

NOON = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0)
HOSTILE = "'; DROP TABLE llmlog.spend_logs; --"


def at(hours: float) -> int:
    return int((NOON + timedelta(hours=hours)).timestamp()) * 10**9


def call(name: str, hours: float, **changes: Any) -> Any:
    return record(id=name, call_id=f"call-{name}", start_ns=at(hours), **changes)


CALLS = [
    call(
        "first", -25, spend=Decimal(1), response_cost=1.0, session_id="s1", end_user="eve", request_tags=["a", "b"],
        user_api_key_user_id="ann", user_api_key_team_id="t1", user_api_key_team_alias="Care", messages="question",
        response={"text": "answer"},
    ),
    call(
        "second", -1, spend=Decimal("2.5"), response_cost=2.5, model="claude", custom_llm_provider="anthropic",
        session_id="s1", request_tags=["a"], user_api_key_hash="f" * 64, user_api_key_alias="prod",
        user_api_key_user_id="bob", user_api_key_team_id="t1", user_api_key_team_alias="Care",
    ),
    call("third", 0, spend=None, response_cost=None, response_model="gpt-4o-2024", trace_id="0b" * 16),
    call("fourth", 1, spend=None, response_cost=None, status="failure", user_api_key_user_id="ann"),
]  # fmt: skip


@pytest.fixture(scope="module")
def reader(module_database_url: str) -> Reader:
    PostgresExporter(module_database_url).export(CALLS)
    made = Reader(module_database_url)
    yield made
    made.close()


def names(found: list[dict[str, Any]]) -> list[str]:
    return [row["request_id"] for row in found]


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ({}, ["fourth", "third", "second", "first"]),
        ({"since": NOON}, ["fourth", "third"]),
        ({"until": NOON}, ["second", "first"]),
        ({"model": "claude"}, ["second"]),
        ({"model": "gpt-4o-2024"}, ["third"]),
        ({"provider": "anthropic"}, ["second"]),
        ({"status": "failure"}, ["fourth"]),
        ({"user_id": "ann"}, ["fourth", "first"]),
        ({"user_id": "ann", "status": "success"}, ["first"]),
        ({"team": "t1"}, ["second", "first"]),
        ({"team": "Care"}, ["second", "first"]),
        ({"tag": "b"}, ["first"]),
        ({"session_id": "s1"}, ["second", "first"]),
        ({"end_user": "eve"}, ["first"]),
        ({"api_key": "f" * 64}, ["second"]),
        ({"api_key": "prod"}, ["second"]),
        ({"min_cost": Decimal("1.5")}, ["second"]),
        ({"trace_id": "0b" * 16}, ["third"]),
    ],
)
def test_a_filter_lets_the_right_calls_through(reader: Reader, where: dict[str, Any], expected: list[str]) -> None:
    assert names(reader.logs(Filter(**where))) == expected
    assert sum(line.calls for line in reader.spend("model", Filter(**where))) == len(expected)


@pytest.mark.parametrize("name", [f.name for f in fields(Filter) if f.type == "str | None"])
@pytest.mark.parametrize("value", [HOSTILE, "a\0b", "%(x)s :limit"])
def test_hostile_filters_find_nothing_and_do_nothing(reader: Reader, name: str, value: str) -> None:
    assert reader.logs(Filter(**{name: value})) == []
    assert reader.log(value) == []
    assert len(reader.logs()) == 4


def test_pages_follow_each_other(reader: Reader) -> None:
    first = reader.logs(limit=3)
    key = (first[-1]["start_time"], first[-1]["trace_id"], first[-1]["span_id"])
    assert names(reader.logs(limit=3, before=key)) == ["first"]
    assert names(reader.logs(limit=3, after=key)) == ["fourth", "third"]


@pytest.mark.parametrize("identifier", ["first", "call-first", CALLS[0].trace_id, CALLS[0].span_id,
                                        f"{CALLS[0].trace_id}:{CALLS[0].span_id}"])  # fmt: skip
def test_a_log_is_found_by_any_of_its_ids_with_its_contents(reader: Reader, identifier: str) -> None:
    (found,) = reader.log(identifier)
    assert (found["request_id"], found["messages"], found["response"]) == ("first", "question", {"text": "answer"})


def line(key: str | None, calls: int, spend: str | None, name: str | None = None, **counts: int) -> SpendLine:
    failures, unpriced = counts.get("failures", 0), counts.get("unpriced", 0)
    cost = None if spend is None else Decimal(spend)
    return SpendLine(key, name, calls, failures, 100 * calls, 20 * calls, 120 * calls, 40 * calls, cost, unpriced)


DAY = f"{NOON:%Y-%m-%d}"
EVE = f"{NOON - timedelta(hours=25):%Y-%m-%d}"
NOTHING = {"failures": 1, "unpriced": 1}
SPEND = {
    "model": [line("claude", 1, "2.5"), line("gpt-4o", 3, "1", **NOTHING)],
    "provider": [line("anthropic", 1, "2.5"), line("openai", 3, "1", **NOTHING)],
    "team": [line("t1", 2, "3.5", "Care"), line(None, 2, None, **NOTHING)],
    "user": [line("bob", 1, "2.5"), line("ann", 2, "1", failures=1), line(None, 1, None, unpriced=1)],
    "end_user": [line(None, 3, "2.5", **NOTHING), line("eve", 1, "1")],
    "tag": [line("a", 2, "3.5"), line("b", 1, "1"), line(None, 2, None, **NOTHING)],
    "key": [line("f" * 64, 1, "2.5", "prod"), line(None, 3, "1", **NOTHING)],
    "session": [line("s1", 2, "3.5"), line(None, 2, None, **NOTHING)],
    "day": [line(DAY, 3, "2.5", **NOTHING), line(EVE, 1, "1")],
}


@pytest.mark.parametrize("by", GROUPINGS)
def test_spend_is_summed_up_by_group(reader: Reader, by: Any) -> None:
    assert reader.spend(by) == SPEND[by]
    assert reader.spend(by, limit=1) == SPEND[by][:1]


def test_a_grouping_that_does_not_exist_is_told(reader: Reader) -> None:
    with pytest.raises(ValueError, match="by must be one of"):
        reader.spend(HOSTILE)  # type: ignore[arg-type]


def test_status_tells_size_and_revision(reader: Reader) -> None:
    status = reader.status()
    assert (status.revision, status.rows, status.newest) == (status.newest_revision, 4, NOON + timedelta(hours=1))
    assert status.log_bytes > 0
    assert status.content_bytes > 0


def test_status_of_an_empty_database_says_that_nothing_is_there(empty_database_url: str) -> None:
    status = Reader(empty_database_url).status()
    assert (status.revision, status.rows, status.newest) == (None, 0, None)


def test_reading_without_tables_says_what_to_do(empty_database_url: str) -> None:
    with pytest.raises(StoreUnavailable, match="llmlog db upgrade"):
        Reader(empty_database_url).logs()


def test_the_reader_cannot_write(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader_module.sql, "queries", lambda: {"logs": "DELETE FROM llmlog.spend_logs RETURNING *"})
    with pytest.raises(StoreUnavailable, match="standby"):
        Reader(database_url).logs()


def test_a_follower_shows_each_new_call_once_and_late_ones_too(database_url: str) -> None:
    exporter = PostgresExporter(database_url)
    exporter.export([record(id="old")])
    follower = Reader(database_url).follow(Filter(model="gpt-4o"))
    assert follower.poll() == []
    exporter.export([record(id="quick"), record(id="other", model="claude")])
    assert names(follower.poll()) == ["quick"]
    exporter.export([record(id="long", start_ns=time.time_ns() - 600 * 10**9)])
    assert names(follower.poll()) == ["long"]
    assert follower.poll() == []
    exporter.close()


def test_both_spellings_of_the_url_are_read(database_url: str) -> None:
    with psycopg.connect(database_url):
        pass
    assert Reader(database_url.replace("postgresql://", "postgresql+psycopg://")).logs() == []

"""Spend from the rollup is spend from the rows, whatever is asked."""

from __future__ import annotations

import random
import threading
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from otel_llmlog.store import check
from otel_llmlog.store.postgres import PostgresExporter
from otel_llmlog.store.reader import GROUPINGS, Filter, Reader
from tests.store.records import record

NOW = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
START = NOW - timedelta(hours=150)
MODELS, USERS, TEAMS = ("gpt-4o", "claude", ""), ("ann", "bob", None), ("t1", "t2", None)
ALIASES = {"t1": ("Care", "Customer care", None), "t2": ("Care",), None: (None,)}


def calls(count: int) -> list[Any]:
    choose = random.Random(11)
    made = []
    for _ in range(count):
        at = START + timedelta(microseconds=choose.randrange(150 * 3_600_000_000))
        if choose.random() < 0.1:
            at = at.replace(minute=0, second=0, microsecond=0)
        team, status = choose.choice(TEAMS), choose.choice(("success", "success", "failure"))
        model = choose.choice(MODELS)
        made.append(
            record(
                start_ns=int(at.timestamp()) * 10**9 + at.microsecond * 1000,
                model=model,
                response_model=choose.choice((model + "-2026", "gpt-4o", None)),
                custom_llm_provider=choose.choice(("openai", "azure", None)),
                user_api_key_user_id=choose.choice(USERS),
                user_api_key_team_id=team,
                user_api_key_team_alias=choose.choice(ALIASES[team]),
                user_api_key_hash=choose.choice(("f" * 64, None)),
                user_api_key_alias=choose.choice(("prod", "Probe", None)),
                user_api_key_org_id=choose.choice(("org", None)),
                end_user=choose.choice(("eve", None)),
                session_id=choose.choice(("s1", "s2", None)),
                request_tags=choose.choice((["a"], ["a", "b"], [])),
                cache_hit=choose.choice((True, False, None)),
                status=status,
                spend=choose.choice((None, Decimal(0), Decimal(choose.randrange(10**6)).scaleb(-choose.randrange(20)))),
                response_cost=None,
                prompt_tokens=choose.randrange(10**6),
            )
        )
    return made


@pytest.fixture(scope="module")
def reader(module_database_url: str) -> Reader:
    exporter = PostgresExporter(module_database_url)
    batch = calls(1200)
    exporter.export(batch[:600])
    # The days before yesterday are folded; what comes later is late.
    with psycopg.connect(module_database_url) as connection:
        connection.execute("UPDATE llmlog.maintenance SET folded_until = '-infinity'; TRUNCATE llmlog.spend_daily")
        assert connection.execute("SELECT llmlog.fold_rollups(), llmlog.fold_rollups()").fetchone() == (True, False)
    exporter.export(batch[300:])
    exporter.export(batch[::3])
    exporter.close()
    made = Reader(module_database_url)
    yield made
    made.close()


times = st.one_of(
    st.none(),
    st.integers(-2, 152).map(lambda hours: START + timedelta(hours=hours)),
    st.integers(0, 150 * 3_600_000_000).map(lambda moment: START + timedelta(microseconds=moment)),
)
filters = st.builds(
    Filter,
    since=times,
    until=times,
    model=st.sampled_from((None, None, None, "gpt-4o", "claude-2026", "nothing")),
    provider=st.sampled_from((None, None, "azure")),
    status=st.sampled_from((None, None, "failure", "success")),
    user_id=st.sampled_from((None, None, "ann")),
    team=st.sampled_from((None, None, "t1", "Care", "Customer care")),
    api_key=st.sampled_from((None, None, "f" * 64, "prod")),
    tag=st.sampled_from((None,) * 9 + ("a",)),
    session_id=st.sampled_from((None,) * 9 + ("s1",)),
    end_user=st.sampled_from((None,) * 9 + ("eve",)),
    min_cost=st.sampled_from((None,) * 9 + (Decimal("0.5"),)),
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(by=st.sampled_from(GROUPINGS), where=filters, limit=st.sampled_from((None, None, 2)))
def test_spend_from_the_rollup_is_spend_from_the_rows(
    reader: Reader, by: Any, where: Filter, limit: int | None
) -> None:
    assert reader.spend(by, where, limit=limit) == reader.spend_of_rows(by, where, limit=limit)


def test_the_rollup_answers_when_the_rows_are_gone(database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        PostgresExporter(database_url).export(calls(100))
        made = Reader(database_url)
        whole = Filter(since=START - timedelta(hours=1))
        before = {by: made.spend(by, whole) for by in ("model", "provider", "team", "user", "key", "day")}
        connection.execute("TRUNCATE llmlog.spend_logs")
    assert all(before.values())
    assert {by: made.spend(by, whole) for by in before} == before  # type: ignore[arg-type]


def test_days_are_folded_once_by_many_while_others_write(database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        first, late = calls(600)[:300], calls(600)[300:]
        PostgresExporter(database_url).export(first)
        connection.execute("UPDATE llmlog.maintenance SET folded_until = '-infinity'; TRUNCATE llmlog.spend_daily")
        failed: list[BaseException] = []

        def write(number: int) -> None:
            try:
                # Connecting folds what is not folded yet.
                exporter = PostgresExporter(database_url, auto_migrate=False)
                for start in range(number * 50, number * 50 + 50, 10):
                    exporter.export(late[start : start + 10])
                exporter.close()
            except BaseException as error:
                failed.append(error)

        threads = [threading.Thread(target=write, args=(number,)) for number in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failed == []
        assert check.check(database_url).differences == []
        made = Reader(database_url)
        assert made.spend("model") == made.spend_of_rows("model")
        (days,) = connection.execute("SELECT sum(calls)::int FROM llmlog.spend_daily").fetchone()
        assert 300 < days < 600
        connection.execute("UPDATE llmlog.spend_daily SET calls = calls + 1")
        assert {line.table for line in check.check(database_url).differences} == {"spend_daily"}
        check.repair(database_url)
        assert check.check(database_url).differences == []


def test_check_finds_no_difference_in_random_data(reader: Reader, module_database_url: str) -> None:
    report = check.check(module_database_url)
    assert report.differences == []
    assert (report.since, report.sessions) == (None, 2)
    assert report.hours > 900

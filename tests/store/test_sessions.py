"""The view of sessions, and what is asked of it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from otel_llmlog.config import Settings
from otel_llmlog.store import retention
from otel_llmlog.store.postgres import PostgresExporter
from otel_llmlog.store.reader import Filter, Reader
from tests.store.test_chains import START, Turn, call, calls
from tests.store.test_commands import Command, command

__all__ = ["command"]  # a fixture


def test_the_view_shows_all_of_a_session(exporter: PostgresExporter, query: Any) -> None:
    exporter.export(
        [
            call(Turn("a", None, "s"), 0, user_api_key_user_id="bob", request_tags=["x", "y"], cache_hit=True),
            call(Turn("b", None, "s"), 10, model="claude", user_api_key_user_id="ada", end_user="eve"),
            call(Turn(None, None, "s"), 20, request_tags=["z", "x"], spend=None, response_cost=None),
        ]
    )
    first = datetime.fromtimestamp(START // 10**9, UTC)
    assert query(
        "SELECT first_call, last_call, ended, duration, calls, failures, cache_hits, unpriced, spend, total_tokens, models,"
        " users, end_users, teams, tags FROM llmlog.sessions"
    ) == [
        (
            first, first + timedelta(seconds=20), first + timedelta(seconds=21), timedelta(seconds=21), 3, 1, 1, 0,
            Decimal("0.025"), 360, ["claude", "gpt-4o"], ["ada", "bob"], ["eve"], [], ["x", "y", "z"],
        )
    ]  # fmt: skip


def test_sums_of_a_session_outlive_its_rows_and_its_links_do_not(
    exporter: PostgresExporter, database_url: str, query: Any
) -> None:
    old = 3 * 86_400
    exporter.export([call(Turn("a"), -old), call(Turn("b", "a"), 10 - old, request_tags=["x"]), call(Turn("c"), 0)])
    settings = Settings({"maximum_spend_logs_retention_period": "1d"}).retention
    assert retention.prune(database_url, settings) is not None
    assert query("SELECT response_id FROM llmlog.chain_links") == [("c",)]
    assert query("SELECT session_id, calls, models, users, tags FROM llmlog.sessions") == [("a", 2, ["gpt-4o"], [], [])]
    # A late follower finds the session by its name, which is that of the first response.
    exporter.export([call(Turn("d", "a"), 30)])
    assert query("SELECT session_id, calls, models FROM llmlog.sessions") == [("a", 3, ["gpt-4o"])]


FOUND = {
    "dear enough": ({"min_cost": Decimal("0.02")}, ["dear", "many"]),
    "who": ({"user_id": "ada"}, ["late", "dear"]),
    "both in one call": ({"user_id": "ada", "model": "claude"}, ["late"]),
    "tag": ({"tag": "x"}, ["late"]),
    "failed": ({"status": "failure"}, ["dear"]),
    "sound": ({"status": "success"}, ["late", "many"]),
    "since": ({"since": datetime.fromtimestamp(START // 10**9 + 100, UTC)}, ["late"]),
    "until": ({"until": datetime.fromtimestamp(START // 10**9 + 5, UTC)}, ["many"]),
    "none": ({"team": "nobody\0"}, []),
    "one": ({"session_id": "many"}, ["many"]),
}


@pytest.fixture
def reader(exporter: PostgresExporter, database_url: str) -> Reader:
    exporter.export(
        [
            *(call(Turn(f"m{n}", None, "many"), n) for n in range(4)),
            call(Turn("d1", None, "dear"), 10, spend=Decimal(5), user_api_key_user_id="ada", status="failure"),
            call(Turn("l1", None, "late"), 50, model="claude", user_api_key_user_id="ada", spend=Decimal("0.001")),
            call(Turn("l2", None, "late"), 200, request_tags=["x"], spend=Decimal("0.001")),
        ]
    )
    return Reader(database_url)


@pytest.mark.parametrize("name", FOUND)
def test_sessions_are_found_by(reader: Reader, name: str) -> None:
    where, expected = FOUND[name]
    assert [line["session_id"] for line in reader.sessions(Filter(**where))] == expected


def test_sessions_are_sorted_as_asked_and_cut(reader: Reader) -> None:
    def names(**options: Any) -> list[str]:
        return [line["session_id"] for line in reader.sessions(**options)]

    assert names() == ["late", "dear", "many"]
    assert names(sort="spend") == ["dear", "many", "late"]
    assert names(sort="calls") == ["many", "late", "dear"]
    assert names(sort="spend", limit=1) == ["dear"]
    with pytest.raises(ValueError, match="last-seen, spend, calls"):
        names(sort="colour")


def test_the_list_of_a_user_on_the_view_looks_up_names_for_the_shown_lines_alone(
    exporter: PostgresExporter, query: Any
) -> None:
    exporter.export([call(Turn(f"r{n}", None, f"s{n}"), n) for n in range(300)])
    query("ANALYZE llmlog.session_totals")
    (plan,) = query(
        "EXPLAIN (ANALYZE, FORMAT JSON, TIMING off) SELECT * FROM llmlog.sessions ORDER BY spend DESC NULLS LAST LIMIT 3"
    )
    looked_up = [node for node in _nodes(plan[0][0]["Plan"]) if node.get("Parent Relationship") == "SubPlan"]
    assert looked_up
    assert {node["Actual Loops"] for node in looked_up} == {3}


def _nodes(plan: dict[str, Any]) -> list[dict[str, Any]]:
    return [plan, *(node for below in plan.get("Plans", ()) for node in _nodes(below))]


def test_the_commands_list_sessions_and_show_one(command: Command, exporter: PostgresExporter) -> None:
    assert "No sessions there" in command("sessions").stdout
    text = [{"role": "user", "content": "Hi\x1b[31m\nthere"}]
    first, second, third = calls([Turn("a"), Turn("b", "a"), Turn(None, "b")])
    exporter.export([first, second])
    exporter.export([third, call(Turn("x", None, "other"), 9, messages=text, response=_chat("Hello."))])
    shown = command("sessions", COLUMNS="200").stdout
    assert [line.split()[0] for line in shown.splitlines()[3:] if line.strip()] == ["other", "a"]
    assert command("sessions", "--sort", "calls", "-n", "1", COLUMNS="80").stdout.splitlines()[3].startswith(" a ")
    listed = [json.loads(line) for line in command("sessions", "--json", "--since", "2020-01-01").stdout.splitlines()]
    assert [(line["session_id"], line["calls"], line["spend"], line["duration"]) for line in listed] == [
        ("other", 1, "0.0125", 1.0), ("a", 3, "0.0375", 3.0)
    ]  # fmt: skip
    assert "must be one of" in command("sessions", "--sort", "colour", code=2).stderr

    told = json.loads(command("session", "a", "--json").stdout)
    assert (told["session_id"], told["calls"], told["conversation"]) == ("a", 3, [])
    assert [(row["request_id"], row["status"]) for row in told["log"]][:2] == [("a", "success"), ("b", "success")]
    assert "What was said is not kept" in command("session", "a").stdout
    said = command("session", "other", COLUMNS="200").stdout
    assert "user: Hi\ufffd[31m\nthere\n" in said
    assert "assistant: Hello.\n" in said
    assert "\x1b" not in said
    assert command("session", "nobody", code=1).stderr.startswith("There is no session 'nobody'")


def _chat(text: str) -> dict[str, Any]:
    return {"choices": [{"message": {"role": "assistant", "content": text}}]}


def test_a_session_and_a_chain_of_many_calls_are_read_whole(exporter: PostgresExporter, database_url: str) -> None:
    exporter.export([call(Turn(f"r{n}", f"r{n - 1}" if n else None), n) for n in range(50)])
    calls_ = Reader(database_url).session("r0")
    assert [row["request_id"] for row in calls_] == [f"r{n}" for n in range(50)]
    assert len(Reader(database_url).chain("r49")) == 50

"""The view of sessions, what is asked of it, and LiteLLM's names for the tables of spend."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import psycopg
import pytest

from otel_llmlog.config import Settings
from otel_llmlog.store import retention
from otel_llmlog.store.postgres import PostgresExporter
from otel_llmlog.store.reader import Filter, Reader
from tests.store.records import record, records
from tests.store.test_chains import START, Turn, call, calls
from tests.store.test_commands import Command, command

__all__ = ["command"]  # a fixture

# LiteLLM's schema.prisma (1.106) as Prisma makes it in Postgres: String text, Int int4, BigInt int8, Float float8,
# DateTime timestamp(3), Json jsonb.
SPEND_LOGS = {
    "request_id": "text", "call_type": "text", "api_key": "text", "spend": "float8", "total_tokens": "int4",
    "prompt_tokens": "int4", "completion_tokens": "int4", "startTime": "timestamp", "endTime": "timestamp",
    "request_duration_ms": "int4", "completionStartTime": "timestamp", "model": "text", "model_id": "text",
    "model_group": "text", "custom_llm_provider": "text", "api_base": "text", "user": "text", "metadata": "jsonb",
    "cache_hit": "text", "cache_key": "text", "request_tags": "jsonb", "team_id": "text", "organization_id": "text",
    "end_user": "text", "requester_ip_address": "text", "messages": "jsonb", "response": "jsonb", "session_id": "text",
    "status": "text", "mcp_namespaced_tool_name": "text", "billing_agent_id": "text", "agent_id": "text",
    "proxy_server_request": "jsonb", "litellm_call_id": "text", "created_at": "timestamp", "updated_at": "timestamp",
}  # fmt: skip
DAILY = {
    "date": "text", "api_key": "text", "model": "text", "model_group": "text", "custom_llm_provider": "text",
    "mcp_namespaced_tool_name": "text", "endpoint": "text", "prompt_tokens": "int8", "completion_tokens": "int8",
    "cache_read_input_tokens": "int8", "cache_creation_input_tokens": "int8", "spend": "float8", "api_requests": "int8",
    "successful_requests": "int8", "failed_requests": "int8", "created_at": "timestamp", "updated_at": "timestamp",
}  # fmt: skip
LITELLM = {
    "LiteLLM_SpendLogs": SPEND_LOGS,
    "LiteLLM_DailyUserSpend": {"id": "text", "user_id": "text", **DAILY},
    "LiteLLM_DailyTeamSpend": {"id": "text", "team_id": "text", **DAILY},
    "LiteLLM_DailyOrganizationSpend": {"id": "text", "organization_id": "text", **DAILY},
    "LiteLLM_DailyEndUserSpend": {"id": "text", "end_user_id": "text", **DAILY},
    "LiteLLM_DailyTagSpend": {"id": "text", "request_id": "text", "tag": "text", **DAILY},
}


@pytest.mark.parametrize("view", LITELLM)
def test_a_view_has_litellms_columns_in_its_order_and_of_its_types(query: Any, view: str) -> None:
    found = query(
        "SELECT attname, typname, atttypmod FROM pg_attribute JOIN pg_type t ON t.oid = atttypid"
        " WHERE attrelid = CAST(%s AS regclass) AND attnum > 0 ORDER BY attnum",
        (f'llmlog."{view}"',),
    )
    assert {name: kind for name, kind, _ in found} == LITELLM[view]
    assert [name for name, _, _ in found] == list(LITELLM[view])
    assert {digits for _, kind, digits in found if kind == "timestamp"} == {3}  # timestamp(3)


def test_litellms_views_say_of_a_call_what_its_rows_would(
    exporter: PostgresExporter, database_url: str, query: Any
) -> None:
    known = {
        "user_api_key_user_id": "ada", "user_api_key_team_id": "red", "user_api_key_org_id": "org", "end_user": "eve",
        "user_api_key_hash": "h", "request_tags": ["a", "b"], "start_ns": START + 1_234_567_000, "cache_hit": False,
        "prompt_tokens": 10**11, "total_tokens": 10**11 + 20,
    }  # fmt: skip
    exporter.export(
        [
            record(**known, messages=[{"role": "user", "content": "hi"}], response={"x": 1}),
            record(**known | {"status": "failure", "spend": None, "response_cost": None}),
            record(start_ns=START),
        ]
    )
    day = datetime.fromtimestamp(START // 10**9, UTC)
    (row,) = query(
        'SELECT spend, prompt_tokens, "startTime", cache_hit, request_tags, messages, response, "user" FROM'
        " llmlog.\"LiteLLM_SpendLogs\" WHERE status = 'success' AND \"user\" = 'ada'"
    )
    began = day.replace(tzinfo=None) + timedelta(seconds=1, milliseconds=235)
    assert row == (
        0.0125, 2**31 - 1, began, "False", ["a", "b"], [{"role": "user", "content": "hi"}], {"x": 1}, "ada"
    )  # fmt: skip
    assert query('SELECT api_key, spend, cache_hit FROM llmlog."LiteLLM_SpendLogs" WHERE "user" = \'\'') == [
        ("", 0.0125, "")
    ]
    for kind, who, names in (
        ("User", "user_id", ["ada"]),
        ("Team", "team_id", ["red"]),
        ("Organization", "organization_id", ["org"]),
        ("EndUser", "end_user_id", ["eve"]),
        ("Tag", "tag", ["a", "b"]),
    ):
        assert query(
            f"SELECT {who}, date, api_key, model, custom_llm_provider, prompt_tokens, cache_read_input_tokens, spend,"
            f' api_requests, successful_requests, failed_requests FROM llmlog."LiteLLM_Daily{kind}Spend" ORDER BY 1'
        ) == [
            (name, f"{day:%Y-%m-%d}", "h", "gpt-4o", "openai", 2 * 10**11, 80, 0.0125, 2, 1, 1) for name in names
        ]  # fmt: skip


def test_litellms_daily_views_count_folded_days_and_open_ones_once(exporter: PostgresExporter, query: Any) -> None:
    days = [record(start_ns=START - day * 86_400 * 10**9, user_api_key_user_id="ada") for day in (0, 1, 2, 3, 400)]
    exporter.export(days)
    query("UPDATE llmlog.maintenance SET folded_until = '-infinity'; TRUNCATE llmlog.spend_daily")
    query("SELECT llmlog.fold_rollups()")
    assert query("SELECT count(*) FROM llmlog.spend_daily") == [(3,)]
    assert query(
        'SELECT count(*), sum(api_requests)::int, count(DISTINCT date) FROM llmlog."LiteLLM_DailyUserSpend"'
    ) == [(5, 5, 5)]


def test_sql_written_for_litellm_runs_with_the_search_path(exporter: PostgresExporter, database_url: str) -> None:
    exporter.export(records(3, user_api_key_user_id="ada"))
    with psycopg.connect(database_url, options="-c search_path=llmlog") as connection:
        found = connection.execute(
            'SELECT "user", SUM(spend) FROM "LiteLLM_SpendLogs" WHERE "startTime" >= NOW() - INTERVAL \'1 day\''
            ' GROUP BY "user"'
        ).fetchall()
    assert found == [("ada", pytest.approx(0.0375))]


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

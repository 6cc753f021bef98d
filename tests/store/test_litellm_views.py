"""LiteLLM's names for our tables: what its queries find there, who may read them, and how they are answered."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from otel_llmlog.payload import StandardLoggingPayloadErrorInformation
from otel_llmlog.store.postgres import PostgresExporter
from tests.store.records import record, records
from tests.store.test_chains import START

# LiteLLM's schema.prisma (1.110) as Prisma makes it in Postgres: String text, Int int4, BigInt int8, Float float8,
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
    "compression_saved_tokens": "int8", "compression_savings_spend": "float8", "prompt_caching_savings_spend": "float8",
    "gateway_injected_caching_savings_spend": "float8", "autorouter_savings_spend": "float8",
    "total_response_time_ms": "int8", "timed_requests": "int8",
}  # fmt: skip
LITELLM = {
    "LiteLLM_SpendLogs": SPEND_LOGS,
    "LiteLLM_DailyUserSpend": {"id": "text", "user_id": "text", **DAILY},
    "LiteLLM_DailyTeamSpend": {"id": "text", "team_id": "text", **DAILY, "ptu_flat_cost": "float8"},
    "LiteLLM_DailyOrganizationSpend": {"id": "text", "organization_id": "text", **DAILY},
    "LiteLLM_DailyEndUserSpend": {"id": "text", "end_user_id": "text", **DAILY},
    "LiteLLM_DailyTagSpend": {"id": "text", "request_id": "text", "tag": "text", **DAILY},
    "LiteLLM_DailyGlobalSpend": {"id": "text", **{name: kind for name, kind in DAILY.items() if name != "api_key"}},
}


@pytest.mark.parametrize("view", LITELLM)
def test_a_view_has_litellms_columns_and_types(query: Any, view: str) -> None:
    found = query(
        "SELECT attname, typname, atttypmod FROM pg_attribute JOIN pg_type t ON t.oid = atttypid"
        " WHERE attrelid = CAST(%s AS regclass) AND attnum > 0 ORDER BY attnum",
        (f'llmlog."{view}"',),
    )
    assert {name: kind for name, kind, _ in found} == LITELLM[view]
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
            f' api_requests, successful_requests, failed_requests FROM llmlog."LiteLLM_Daily{kind}Spend"'
            " WHERE api_key <> '' ORDER BY 1"
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


# What LiteLLM makes for itself, in its names.
MADE = (
    "MonthlyGlobalSpend", "MonthlyGlobalSpendPerKey", "MonthlyGlobalSpendPerUserPerKey", "Last30dKeysBySpend",
    "Last30dModelsBySpend", "Last30dTopEndUsersSpend", "DailyTagSpend",
)  # fmt: skip


def test_calls_without_a_user_are_in_litellms_sums_by_user(exporter: PostgresExporter, query: Any) -> None:
    exporter.export([record(user_api_key_user_id="ada"), *records(3), record(user_api_key_user_id="")])
    found = query('SELECT user_id, api_requests::int, spend FROM llmlog."LiteLLM_DailyUserSpend" ORDER BY 1')
    assert found == [("", 4, pytest.approx(0.05)), ("ada", 1, 0.0125)]
    assert query('SELECT sum(api_requests)::int FROM llmlog."LiteLLM_DailyGlobalSpend"') == [(5,)]


def test_metadata_holds_what_litellms_queries_filter_and_count_by(exporter: PostgresExporter, query: Any) -> None:
    error = StandardLoggingPayloadErrorInformation(
        error_code="429", error_class="RateLimitError", error_message="slow down"
    )
    exporter.export(
        [
            record(
                status="failure", error_information=error, user_api_key_alias="web", user_api_key_team_id="red",
                user_api_key_team_alias="Red", user_api_key_user_id="ada", user_api_key_org_id="org",
            ),
            record(),
        ]
    )  # fmt: skip
    failed, done = (
        found for (found,) in query('SELECT metadata FROM llmlog."LiteLLM_SpendLogs" ORDER BY status, request_id')
    )
    assert failed["error_information"] == {
        "error_code": "429", "error_class": "RateLimitError", "error_message": "slow down",
    }  # fmt: skip
    assert {name: failed[f"user_api_key_{name}"] for name in ("alias", "team_id", "team_alias", "user_id", "org_id")} == {
        "alias": "web", "team_id": "red", "team_alias": "Red", "user_id": "ada", "org_id": "org",
    }  # fmt: skip
    assert (done["error_information"], done["user_api_key_alias"]) == (None, None)
    usage = done["usage_object"]
    assert (usage["prompt_tokens"], usage["cache_read_input_tokens"], usage["input_tokens"]) == (100, 40, 100)


def test_odd_metadata_of_a_writer_does_not_break_the_view(exporter: PostgresExporter, query: Any) -> None:
    exporter.export([record(status="failure")])
    for odd in ('{"error_information": null, "usage_object": 1}', '{"error_information": [1]}'):
        query("UPDATE llmlog.spend_logs SET usage = NULL, metadata = CAST(%s AS jsonb)", (odd,))
        [(found,)] = query('SELECT metadata FROM llmlog."LiteLLM_SpendLogs"')
        assert found["error_information"]["error_code"] == ""
        assert found["usage_object"]["prompt_tokens"] == 100


def test_whoever_may_read_the_views_and_nothing_else_can_read_all_of_them(
    exporter: PostgresExporter, database_url: str, query: Any
) -> None:
    exporter.export(records(3, end_user="eve", request_tags=["a"]))
    role = f"reader_{query('SELECT current_database()')[0][0]}"
    # Functions of ours are not everybody's, so no view may need one.
    query(f"REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA llmlog FROM PUBLIC; CREATE ROLE {role}")
    try:
        query(f"GRANT USAGE ON SCHEMA llmlog TO {role}")
        views = query("SELECT 'llmlog.' || quote_ident(viewname) FROM pg_views WHERE schemaname = 'llmlog'")
        assert len(views) >= len(LITELLM) + len(MADE)
        with psycopg.connect(database_url, autocommit=True) as connection:
            for (view,) in views:
                query(f"GRANT SELECT ON {view} TO {role}")
                connection.execute(f"SET ROLE {role}")
                assert (
                    connection.execute(f"SELECT * FROM {view}").fetchall()
                    or "Audit" in view
                    or view.endswith(('TeamSpend"', 'OrganizationSpend"', "sessions"))
                ), view
                connection.execute("RESET ROLE")
    finally:
        query(f"DROP OWNED BY {role}; DROP ROLE {role}")


def _plan_for_many(query: Any, statement: str) -> str:
    """How it is answered where there is much: a table of a few rows would be sorted faster than an index is read."""
    query("SET enable_sort = off; SET enable_seqscan = off; SET enable_bitmapscan = off")
    return "\n".join(line for (line,) in query(f"EXPLAIN {statement}"))


@pytest.mark.parametrize("zone", ["UTC", "America/New_York"])
@pytest.mark.parametrize(
    "asked",
    [
        "",
        """WHERE "startTime" >= (now() AT TIME ZONE 'UTC') - interval '1 hour' """,
        "WHERE api_key = 'h' ",
    ],
)
def test_the_newest_rows_are_found_by_index_and_in_order(
    exporter: PostgresExporter, query: Any, asked: str, zone: str
) -> None:
    exporter.export(records(20, user_api_key_hash="h"))
    query(f"SET TimeZone = '{zone}'")
    statement = f'SELECT request_id FROM llmlog."LiteLLM_SpendLogs" {asked}ORDER BY "startTime" DESC LIMIT 5'
    plan = _plan_for_many(query, statement)
    assert "Sort  (" not in plan
    assert "Scan Backward" in plan
    assert query(statement) == query("SELECT request_id FROM llmlog.spend_logs ORDER BY start_time DESC LIMIT 5")


def test_the_newest_audit_events_are_found_by_index(query: Any) -> None:
    plan = _plan_for_many(query, 'SELECT * FROM llmlog."LiteLLM_AuditLog" ORDER BY updated_at DESC LIMIT 50')
    assert "Sort  (" not in plan
    assert "Index Scan Backward using audit_logs_litellm_time" in plan


def test_the_last_thirty_days_are_those_of_the_rows(exporter: PostgresExporter, query: Any) -> None:
    day = 86_400 * 10**9
    midnight = int(query("SELECT extract(epoch FROM CURRENT_DATE)::bigint")[0][0]) * 10**9
    exporter.export(
        [
            record(start_ns=midnight - 30 * day, end_user="eve", user_api_key_hash="h", user_api_key_alias="web"),
            record(start_ns=midnight - 30 * day - 1000, end_user="old", user_api_key_hash="old", model="old"),
            record(start_ns=midnight - day, end_user="", request_tags=["a", "a"]),
        ]
    )
    counted = {
        view: query(f'SELECT count(*)::int, sum({spend}) FROM llmlog."{view}"')[0]
        for view, spend in (*((view, "spend") for view in MADE[:3]), *((view, "total_spend") for view in MADE[3:]))
    }
    assert counted == {
        "MonthlyGlobalSpend": (2, 0.025),
        "MonthlyGlobalSpendPerKey": (2, 0.025),
        "MonthlyGlobalSpendPerUserPerKey": (2, 0.025),
        "Last30dKeysBySpend": (2, 0.025),
        "Last30dModelsBySpend": (1, 0.025),
        "Last30dTopEndUsersSpend": (1, 0.0125),
        "DailyTagSpend": (1, 0.025),
    }
    assert query("SELECT key_alias FROM llmlog.\"Last30dKeysBySpend\" WHERE api_key = 'h'") == [("web",)]
    assert query('SELECT tag, api_requests::int FROM llmlog."LiteLLM_DailyTagSpend"') == [("a", 1)]


def test_the_page_names_every_view_and_its_sql_runs(exporter: PostgresExporter, query: Any) -> None:
    page = (Path(__file__).parents[2] / "docs" / "litellm.md").read_text(encoding="utf-8")
    views = query("SELECT viewname FROM pg_views WHERE schemaname = 'llmlog' AND viewname ~ '[A-Z]'")
    assert {view for (view,) in views} == {*LITELLM, *MADE, "LiteLLM_AuditLog"}
    assert [view for (view,) in views if f"`{view}`" not in page] == []
    [block] = re.findall(r"```sql\n(.*?)```", page, re.DOTALL)
    exporter.export(records(1))
    for statement in block.split(";"):
        query(statement)

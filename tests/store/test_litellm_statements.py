"""LiteLLM's own reads, taken from its installed package, find the same figures in our views as in its tables.

Both sides hold the same calls: ours as the exporter stores them, LiteLLM's in tables made of its schema file, written
down here as its proxy would write them. A read that is new in LiteLLM is in none of the lists below, and fails.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import product
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from otel_llmlog.payload import StandardLoggingPayloadErrorInformation, Usage
from otel_llmlog.store.postgres import PostgresExporter
from tests.store.records import record
from tests.store.test_litellm_views import MADE

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow  # LiteLLM is slow to import

TABLES = (
    "LiteLLM_SpendLogs", "LiteLLM_AuditLog", "LiteLLM_DailyUserSpend", "LiteLLM_DailyTeamSpend",
    "LiteLLM_DailyOrganizationSpend", "LiteLLM_DailyEndUserSpend", "LiteLLM_DailyTagSpend", "LiteLLM_DailyGlobalSpend",
)  # fmt: skip
# As Prisma makes them in Postgres.
TYPES = {
    "String": "text", "Int": "integer", "BigInt": "bigint", "Float": "double precision", "DateTime": "timestamp(3)",
    "Json": "jsonb", "Boolean": "boolean",
}  # fmt: skip

NOW = datetime.now(UTC).replace(microsecond=0)
FIRST, LAST = f"{NOW - timedelta(days=9):%Y-%m-%d}", f"{NOW:%Y-%m-%d}"
BEGIN, END = f"{FIRST}T00:00:00+00:00", f"{LAST}T00:00:00+00:00"  # statements add the last day themselves
UNTIL = f"{NOW + timedelta(days=1):%Y-%m-%d}T00:00:00+00:00"
KEYS = ["key-0", "key-1", "key-2"]
SPEND = "proxy/spend_tracking/spend_management_endpoints.py"
VIEWS = "proxy/db/create_views.py:create_missing_views"

# Reads that are run: what stands in their holes, and their parameters.
Run = tuple[dict[str, str], Sequence[Any]]
PERIOD: Run = ({}, (BEGIN, END))
RUN: dict[str, list[Run]] = {
    "integrations/SlackAlerting/user_spend_alerts.py:USER_SPEND_QUERY": [({}, (LAST, FIRST, FIRST))],
    "proxy/analytics_endpoints/cache_activity.py:MODEL_OPTIONS_SQL": [
        ({}, (BEGIN, END, "[]", True, "", "[]")), ({}, (BEGIN, END, '["embedding"]', False, "ada", '["red"]')),
    ],
    "proxy/db/budget_window_spend_writer.py:_SEED_FROM_SPEND_LOGS_KEY_SQL": [({}, (KEYS[0], BEGIN, END))],
    "proxy/db/budget_window_spend_writer.py:_SEED_FROM_SPEND_LOGS_TEAM_SQL": [({}, ("red", BEGIN, END))],
    "proxy/db/budget_window_spend_writer.py:_SEED_FROM_SPEND_LOGS_KEY_UNBOUNDED_SQL": [({}, (KEYS[0], BEGIN))],
    "proxy/db/budget_window_spend_writer.py:_SEED_FROM_SPEND_LOGS_TEAM_UNBOUNDED_SQL": [({}, ("red", BEGIN))],
    VIEWS: [({}, ())],
    **{f"{VIEWS}#{number}": [({}, ())] for number in (3, 5, 7, 9, 11, 13)},
    "proxy/db/db_transaction_queue/spend_log_cleanup.py:_size_step_cutoff": [({}, (7,))],
    "proxy/db/db_transaction_queue/spend_log_cleanup.py:_count_remaining": [
        (
            {"{table_name}": "LiteLLM_SpendLogs", "{time_column}": "startTime", "{_cutoff_cast(cutoff_date)}": "timestamp"},
            (UNTIL, 20),
        )
    ],
    "proxy/management_endpoints/auto_router_endpoints.py:_recorded_autorouter_savings": [
        ({"{where}": "date >= $1"}, (FIRST,))
    ],
    "proxy/management_endpoints/management_v1/spend_logs.py:_list_spend_log_facet": [
        (
            {
                "{column_sql}": column, "{' AND '.join(where_parts)}": "spend >= $1", "{scan_idx}": "2",
                "{scan_idx + 1}": "3", "{scan_idx + 2}": "4",
            },
            (0, 100, 50, 0),
        )
        for column in ("model", "model_group", "end_user", "session_id")
    ],
    "proxy/management_endpoints/user_agent_analytics_endpoints.py:get_distinct_user_agent_tags": [({}, ())],
    "proxy/proxy_server.py:model_streaming_metrics#2": [({}, ("gpt-4o", BEGIN, UNTIL))],
    "proxy/proxy_server.py:model_metrics": [
        ({}, ("gpt-4o", BEGIN, UNTIL, "null", "null")), ({}, ("gpt-4o", BEGIN, UNTIL, KEYS[0], "eve")),
    ],
    "proxy/proxy_server.py:model_metrics_slow_responses": [({}, (1, "gpt-4o", BEGIN, UNTIL, "null", "null"))],
    "proxy/roi_calculator/branch_spend.py:read_branch_spend": [({}, (BEGIN, UNTIL, '["shop"]', True))],
    "proxy/spend_tracking/key_metadata_recovery.py:_DAILY_USER_SPEND_OWNER_SQL": [({}, (KEYS,))],
    "proxy/spend_tracking/spend_capture_rate.py:_CAPTURED_SPEND_BY_DAY_SQL": [({}, (FIRST, LAST, ["openai"]))],
    f"{SPEND}:_spend_logs_daily_summary_sql": [
        ({"{filter_sql}": ""}, (BEGIN, UNTIL)), ({"{filter_sql}": 'AND "user" = $3'}, (BEGIN, UNTIL, "ada")),
    ],
    f"{SPEND}:_find_spend_log_owners": [({}, ("chat-3",)), ({}, ("call-3",))],
    f"{SPEND}:get_global_activity_internal_user": [({}, (BEGIN, END, "ada"))],
    f"{SPEND}:get_global_activity": [PERIOD],
    f"{SPEND}:get_global_activity_model_internal_user": [({}, (BEGIN, END, ""))],
    f"{SPEND}:get_global_activity_model": [PERIOD],
    f"{SPEND}:get_global_spend_provider": [({}, (BEGIN, END, "ada"))],
    f"{SPEND}:get_global_spend_provider#2": [PERIOD],
    f"{SPEND}:get_global_spend_report": [({}, (BEGIN, END, KEYS[1]))],
    f"{SPEND}:get_global_spend_report#2": [({}, (BEGIN, END, "ada"))],
    f"{SPEND}:get_global_spend_report#3": [PERIOD],
    f"{SPEND}:get_global_spend_report#4": [PERIOD],
    f"{SPEND}:_scoped_spend_report_sql": [
        ({"{scope_column}": column}, (BEGIN, END, value)) for column, value in (("team_id", "red"), ("end_user", "eve"))
    ],
    f"{SPEND}:_ORG_SPEND_REPORT_SQL": [({}, (BEGIN, END, "org", ["red"]))],
    f"{SPEND}:global_get_all_tag_names": [({}, ())],
    f"{SPEND}:get_spend_report_for_time_range#2": [PERIOD],
    f"{SPEND}:_fetch_session_representatives": [
        (
            {"{where_clause}": "spend >= $1", "{next_param_index}": "2", "{next_param_index + 1}": "3"},
            (0, ["s-1", "s-2"], [KEYS[0], KEYS[1]]),
        )
    ],
    f"{SPEND}:_count_grouped_sessions": [({"{where_clause}": "spend >= $1", "{next_param_index}": "2"}, (0, 100))],
    f"{SPEND}:_ui_session_grouped_spend_logs": [
        (
            {
                "{where_clause}": "spend >= $1", "{having_clause}": "", "{direction}": "DESC", "{limit_index}": "2",
                "{offset_clause}": "",
            },
            (0, 7),
        )
    ],
    f"{SPEND}:global_spend_for_internal_user": [({}, (KEYS[0], "ada"))],
    f"{SPEND}:global_spend_for_internal_user#2": [({}, ("ada",))],
    f"{SPEND}:global_spend_logs": [({}, ())],
    f"{SPEND}:global_spend_logs#2": [({}, (KEYS[0],))],
    f"{SPEND}:global_spend": [({}, ())],
    f"{SPEND}:global_spend_keys": [({}, ())],
    f"{SPEND}:global_spend_keys#2": [({}, (20,))],
    f"{SPEND}:global_view_all_end_users": [({}, ())],
    f"{SPEND}:global_spend_end_users": [({}, (BEGIN, UNTIL, None)), ({}, (BEGIN, UNTIL, KEYS[0]))],
    f"{SPEND}:global_spend_models_internal_user": [({}, ("ada", 20))],
    f"{SPEND}:global_spend_models": [({}, (20,))],
    f"{SPEND}:get_spend_by_tags": [({"{where_sql}": ""}, ()), ({"{where_sql}": ' WHERE "startTime" >= $1::timestamp'}, (BEGIN,))],
    f"{SPEND}:ui_get_spend_by_tags": [({}, (FIRST, LAST))],
    f"{SPEND}:ui_get_spend_by_tags#2": [({}, (FIRST, LAST, ["a", "repo:shop"]))],
    f"{SPEND}:ui_view_session_spend_logs": [({"{scope_sql}": ""}, ("s-1", 50, 0))],
    f"{SPEND}:_build_ui_spend_logs_response": [({}, (["s-1", "s-2"], KEYS, 40, 5))],
    f"{SPEND}:_spend_log_payload_query": [({"{scope_sql}": ""}, ("chat-3",)), ({"{scope_sql}": ""}, ("call-4",))],
    "responses/litellm_completion_transformation/session_handler.py:get_all_spend_logs_for_previous_response_id": [
        ({}, (["chat-3"],))
    ],
}  # fmt: skip
ALONE: dict[str, Sequence[Any]] = {
    "prompt_caching_requests all": (BEGIN, UNTIL, 50, None, None),
    "prompt_caching_requests hits": (BEGIN, UNTIL, 50, UNTIL, "z"),
    "key_metadata_recovery": (KEYS, BEGIN, UNTIL),
}
# The list of logs: every filter is put in, one at a time.
LOGS, LOGS_COUNT, LOGS_SESSIONS = (
    f"{SPEND}:ui_view_spend_logs#4",
    f"{SPEND}:ui_view_spend_logs#2",
    f"{SPEND}:ui_view_spend_logs#3",
)

# Reads and writes that are not run, by reason.
LEFT_OUT = {
    "reads tables that we have nothing of (keys, teams, users, guardrails …)": {
        "integrations/cloudzero/database.py:get_usage_data", "integrations/focus/database.py:get_usage_data",
        "proxy/analytics_endpoints/cache_activity.py:GROUPS_SQL",
        "proxy/analytics_endpoints/cache_activity.py:ERROR_BREAKDOWN_SQL",
        "proxy/analytics_endpoints/cache_activity.py:KEY_ALIAS_OPTIONS_SQL",
        "proxy/common_utils/reset_budget_job.py:page_query", "proxy/db/baseline_accounting.py:project",
        "proxy/db/master_key_migration.py:_rows_of",
        "proxy/management_endpoints/request_error_endpoints.py:_ENTITY_SQL",
        "proxy/management_endpoints/request_error_endpoints.py:_ENTITY_STATUS_SQL",
        "proxy/management_endpoints/team_endpoints.py:_team_user_spend_sql",
        *(f"proxy/management_endpoints/user_agent_analytics_endpoints.py:get_{name}"
          for name in ("daily_active_users", "weekly_active_users", "monthly_active_users", "tag_summary")),
        f"{SPEND}:get_spend_report_for_time_range", f"{SPEND}:global_spend_key_internal_user",
        f"{SPEND}:global_spend_per_team",
        "proxy/spend_tracking/spend_tracking_utils.py:get_spend_by_team",
        "proxy/spend_tracking/spend_tracking_utils.py:get_spend_by_team_and_customer",
        "repositories/daily_activity_sql.py:build_guardrail_spend_sql",
        "repositories/daily_activity_sql.py:build_key_search_sql",
    },
    "writes": {
        "proxy/db/baseline_accounting.py:_UPDATE_LOGS",
        "proxy/db/db_transaction_queue/spend_log_cleanup.py:_delete_old_rows_batched",
        "proxy/db/db_transaction_queue/spend_logs_partition_manager.py:ensure_partitions",
    },
    "makes a view: run here on its tables, for the reads of that view to be compared": {
        f"{VIEWS}#{number}" for number in (2, 4, 6, 8, 10, 12, 14)
    },
    "asks the catalogue how large a table is, which a view is not": {
        "proxy/db/create_views.py:should_create_missing_views", "proxy/utils.py:_fetch_row_count",
    },
    "groups by a primary key alone, which Postgres allows for tables only": {
        "proxy/proxy_server.py:model_streaming_metrics",
    },
    "part of a read that is run whole": {
        f"{SPEND}:ui_view_spend_logs", LOGS, LOGS_COUNT, LOGS_SESSIONS,
        "proxy/management_endpoints/prompt_caching_requests.py:prompt_caching_requests_sql",
        *(f"proxy/spend_tracking/key_metadata_recovery.py:{name}" for name in
          ("_named_spend_log_edge_row_sql", "_OLDEST_PROBE_STOPPED_AT_SQL", "_SPEND_LOG_ALIAS_SQL")),
        *(f"repositories/daily_activity_sql.py:{name}" for name in
          ("_top_api_keys_sql", "build_aggregated_sql", "build_entity_rollup_sql", "build_key_page_sql",
           "build_user_page_sql", "build_model_top_keys_sql", "build_cache_leakage_keys_sql", "build_export_sql")),
    },
}  # fmt: skip
# Of what is built, the same: these read other tables, for any or for some of their tables.
BUILT_LEFT_OUT = {"build_guardrail_spend_sql", "build_key_search_sql"}
# Not compared: what each side makes up, and times of requests, which sums by hour do not know.
UNCOMPARED = {"id", "created_at", "updated_at", "total_response_time_ms", "timed_requests", "cost_breakdown"}
# Of these objects, what its proxy writes and its queries look at; ours tell more.
TOLD = {
    "metadata": {
        "status", "user_api_key", "user_api_key_alias", "user_api_key_team_id", "user_api_key_user_id",
        "user_api_key_org_id", "error_information", "usage_object",
    },
    "usage_object": {"prompt_tokens", "completion_tokens", "prompt_tokens_details"},
}  # fmt: skip


@dataclass(frozen=True)
class Call:
    """One call, in the terms of neither side."""

    number: int
    began: datetime
    model: str
    provider: str
    key: str
    user: str | None
    team: str | None
    organization: str | None
    end_user: str | None
    session: str
    tags: tuple[str, ...]
    failed: bool
    spend: Decimal | None
    cached: int

    @property
    def alias(self) -> str:
        return f"alias of {self.key}"


def _calls() -> list[Call]:
    made = []
    cases = product(("ada", None, "bob"), ("red", None), ("gpt-4o", "claude"), KEYS, (False, True))
    for number, (user, team, model, key, failed) in enumerate(cases):
        made.append(
            Call(
                number, NOW - timedelta(days=number % 7, hours=1, seconds=number, microseconds=437), model,
                "openai" if model == "gpt-4o" else "anthropic", key, user, team, "org" if team else None,
                (None, "eve", "")[number % 3], f"s-{number % 4}",
                (("a", "b"), (), ("repo:shop", f"branch:{number % 2}"), ("a",))[number % 4], failed,
                None if number % 11 == 0 else Decimal(number) / 1000, number % 5 * 10,
            )
        )  # fmt: skip
    return made


@pytest.fixture(scope="module")
def package() -> Path:
    found = list((ROOT / ".venv-litellm").glob("lib/python*/site-packages/litellm"))
    assert found, "LiteLLM has an environment of its own: make test-slow builds it"
    return found[0]


@pytest.fixture(scope="module")
def litellm(package: Path) -> dict[str, Any]:
    """Its statements."""
    names = ",".join((*TABLES, *MADE))
    script = str(Path(__file__).with_name("litellm_statements.py"))
    answer = subprocess.run(
        [ROOT / ".venv-litellm" / "bin" / "python", script, names, str(package), FIRST, LAST],
        capture_output=True, text=True, check=False, timeout=300, env=os.environ | {"LITELLM_LOCAL_MODEL_COST_MAP": "True"},
    )  # fmt: skip
    assert answer.returncode == 0, answer.stderr
    found: dict[str, Any] = json.loads(answer.stdout)
    return found


def _schema(package: Path) -> dict[str, dict[str, str]]:
    """Columns and types of each table, from its schema file."""
    text = (package / "proxy" / "schema.prisma").read_text()
    return {
        table: {
            name: TYPES[kind]
            for name, kind in re.findall(
                r"^\s+(\w+)\s+(String|Int|BigInt|Float|DateTime|Json|Boolean)\b", body, re.MULTILINE
            )
        }
        for table, body in re.findall(r"^model (\w+) \{(.*?)^\}", text, re.MULTILINE | re.DOTALL)
        if table in TABLES
    }


@pytest.fixture(scope="module")
def sides(module_database_url: str, package: Path, litellm: dict[str, Any]) -> Iterator[psycopg.Connection[Any]]:
    """A connection to a database with both: our schema, and one that holds LiteLLM's tables and views."""
    exporter = PostgresExporter(module_database_url, auto_migrate=False)
    calls = _calls()
    exporter.export([_ours(call) for call in calls])
    exporter.close()
    with psycopg.connect(module_database_url, autocommit=True, row_factory=dict_row) as connection:
        connection.execute("CREATE SCHEMA theirs; SET search_path = theirs; SET TimeZone = 'America/New_York'")
        for table, columns in _schema(package).items():
            listed = ", ".join(f'"{name}" {kind}' for name, kind in columns.items())
            connection.execute(f'CREATE TABLE "{table}" ({listed})')
        # The one other table that a view of its joins.
        connection.execute('CREATE TABLE "LiteLLM_VerificationToken" (token text, key_alias text, key_name text)')
        for key in KEYS:
            connection.execute('INSERT INTO "LiteLLM_VerificationToken" VALUES (%s, %s)', (key, f"alias of {key}"))
        _write(connection, "LiteLLM_SpendLogs", [_theirs(call) for call in calls])
        for table, rows in _daily(calls).items():
            _write(connection, table, rows)
        for name in LEFT_OUT["makes a view: run here on its tables, for the reads of that view to be compared"]:
            connection.execute(litellm["found"][name])
        yield connection


def _write(connection: psycopg.Connection[Any], table: str, rows: list[dict[str, Any]]) -> None:
    for row in rows:
        names, marks = ", ".join(f'"{name}"' for name in row), ", ".join(["%s"] * len(row))
        values = [Jsonb(value) if isinstance(value, dict | list) else value for value in row.values()]
        connection.execute(f'INSERT INTO "{table}" ({names}) VALUES ({marks})', values)


def _ours(call: Call) -> Any:
    error = StandardLoggingPayloadErrorInformation(
        error_code="429", error_class="RateLimitError", error_message="slow down"
    )
    return record(
        start_ns=int(call.began.timestamp()) * 10**9 + call.began.microsecond * 1000,
        id=f"chat-{call.number}", call_id=f"call-{call.number}", model=call.model, custom_llm_provider=call.provider,
        user_api_key_hash=call.key, user_api_key_alias=call.alias, user_api_key_user_id=call.user,
        user_api_key_team_id=call.team, user_api_key_org_id=call.organization, end_user=call.end_user,
        session_id=call.session, request_tags=list(call.tags), spend=call.spend,
        response_cost=None if call.spend is None else float(call.spend), status="failure" if call.failed else "success",
        usage=Usage(input_tokens=100, output_tokens=20, cache_read_tokens=call.cached, source="provider"),
        **({"error_information": error, "error_str": "slow down"} if call.failed else {}),
    )  # fmt: skip


def _theirs(call: Call) -> dict[str, Any]:
    began = call.began.replace(tzinfo=None)
    error = {"error_code": "429", "error_class": "RateLimitError", "error_message": "slow down"}
    return {
        "request_id": f"chat-{call.number}", "call_type": "completion", "api_key": call.key, "spend": float(call.spend or 0),
        "total_tokens": 120, "prompt_tokens": 100, "completion_tokens": 20, "startTime": began,
        "endTime": began + timedelta(seconds=1), "request_duration_ms": 1000, "completionStartTime": None,
        "model": call.model, "model_id": "", "model_group": call.model, "custom_llm_provider": call.provider,
        "api_base": "", "user": call.user or "", "cache_hit": "", "cache_key": "", "request_tags": list(call.tags),
        "team_id": call.team, "organization_id": call.organization, "end_user": call.end_user, "messages": {},
        "response": {}, "session_id": call.session, "status": "failure" if call.failed else "success",
        "proxy_server_request": {}, "litellm_call_id": f"call-{call.number}",
        "metadata": {
            "status": "failure" if call.failed else "success", "user_api_key": call.key, "user_api_key_alias": call.alias,
            "user_api_key_team_id": call.team, "user_api_key_user_id": call.user, "user_api_key_org_id": call.organization,
            "error_information": error if call.failed else None,
            "usage_object": {
                "prompt_tokens": 100, "completion_tokens": 20, "prompt_tokens_details": {"cached_tokens": call.cached},
            },
        },
    }  # fmt: skip


def _daily(calls: list[Call]) -> dict[str, list[dict[str, Any]]]:
    """Its daily tables: a line for each who, day, key, model and provider; what is missing is '', except for a team and the like."""
    who = {
        "User": ("user_id", lambda call: [call.user or ""]),
        "Team": ("team_id", lambda call: [call.team] if call.team else []),
        "Organization": ("organization_id", lambda call: [call.organization] if call.organization else []),
        "EndUser": ("end_user_id", lambda call: [call.end_user] if call.end_user else []),
        "Tag": ("tag", lambda call: dict.fromkeys(call.tags)),
        "Global": (None, lambda call: [None]),
    }
    made: dict[str, list[dict[str, Any]]] = {}
    for kind, (column, names) in who.items():
        lines: dict[tuple[Any, ...], dict[str, Any]] = {}
        for call in calls:
            for name in names(call):
                key = call.key if column else None
                line = lines.setdefault(
                    (name, call.began.date(), key, call.model),
                    {
                        **({column: name, "api_key": key} if column else {}), "date": f"{call.began:%Y-%m-%d}",
                        "model": call.model, "model_group": call.model, "custom_llm_provider": call.provider,
                        "mcp_namespaced_tool_name": "", "endpoint": "", "prompt_tokens": 0, "completion_tokens": 0,
                        "cache_read_input_tokens": 0, "cache_creation_input_tokens": 0, "compression_saved_tokens": 0,
                        "compression_savings_spend": 0, "prompt_caching_savings_spend": 0,
                        "gateway_injected_caching_savings_spend": 0, "autorouter_savings_spend": 0, "spend": 0.0,
                        "api_requests": 0, "successful_requests": 0, "failed_requests": 0,
                        **({"ptu_flat_cost": 0} if kind == "Team" else {}),
                    },
                )  # fmt: skip
                line["prompt_tokens"] += 100
                line["completion_tokens"] += 20
                line["cache_read_input_tokens"] += call.cached
                line["spend"] += float(call.spend or 0)
                line["api_requests"] += 1
                line["failed_requests" if call.failed else "successful_requests"] += 1
        made[f"LiteLLM_Daily{kind}Spend"] = list(lines.values())
    return made


def _plain(value: Any, known: set[str] | None = None) -> Any:
    """Comparable: money to nine digits, lists in one order, of open objects what is `known` of them."""
    if isinstance(value, float | Decimal):
        return round(float(value), 9)
    if isinstance(value, dict):
        return {
            name: _plain(inner, TOLD.get(name))
            for name, inner in sorted(value.items())
            if name not in UNCOMPARED and (known is None or name in known)
        }
    if isinstance(value, list):
        return sorted(map(_plain, value), key=repr)
    return value


def _ask(connection: psycopg.Connection[Any], side: str, statement: str, parameters: Sequence[Any]) -> Any:
    connection.execute(f"SET search_path = {side}")
    cursor = psycopg.RawCursor(connection, row_factory=dict_row)
    return _plain(cursor.execute(statement, parameters).fetchall())


def _compare(connection: psycopg.Connection[Any], what: str, statement: str, parameters: Sequence[Any]) -> int:
    ours = _ask(connection, "llmlog", statement, parameters)
    assert ours == _ask(connection, "theirs", statement, parameters), what
    return len(ours)


def _filled(statement: str, holes: dict[str, str]) -> str:
    for hole, text in holes.items():
        assert hole in statement, hole
        statement = statement.replace(hole, text)
    return statement


def test_every_statement_is_run_or_listed_with_a_reason(litellm: dict[str, Any]) -> None:
    listed = set(RUN).union(*LEFT_OUT.values())
    assert set(litellm["found"]) == listed
    assert set(litellm["alone"]) == set(ALONE)
    views = {*TABLES, *MADE}
    for name in LEFT_OUT["reads tables that we have nothing of (keys, teams, users, guardrails …)"]:
        named = set(re.findall(r'"(LiteLLM_\w+)"', litellm["found"][name]))
        assert named - views or "{self.table}" in litellm["found"][name] or "column.table" in litellm["found"][name], (
            name
        )


def test_columns_have_the_names_and_types_of_its_schema_file(package: Path, sides: psycopg.Connection[Any]) -> None:
    asked = (
        "SELECT relname, attname, format_type(atttypid, atttypmod) AS kind FROM pg_attribute"
        " JOIN pg_class c ON c.oid = attrelid WHERE relnamespace = 'llmlog'::regnamespace AND attnum > 0"
    )
    ours: dict[str, dict[str, str]] = {}
    for line in sides.execute(asked).fetchall():
        ours.setdefault(line["relname"], {})[line["attname"]] = line["kind"].replace(" without time zone", "")
    expected = _schema(package)
    assert set(expected) == set(TABLES)
    for table, columns in expected.items():
        assert ours[table] == columns, table
    # The views that it makes itself: the same columns, of the same types.
    sides.execute("SET search_path = theirs")
    for view in MADE:
        kinds = [
            [
                (column.name, column.type_code)
                for column in sides.execute(f'SELECT * FROM {side}."{view}"').description or ()
            ]
            for side in ("llmlog", "theirs")
        ]
        assert kinds[0] == kinds[1], view


@pytest.mark.parametrize("name", RUN)
def test_a_read_finds_the_same_in_our_views(litellm: dict[str, Any], sides: psycopg.Connection[Any], name: str) -> None:
    for holes, parameters in RUN[name]:
        found = _compare(sides, name, _filled(litellm["found"][name], holes), parameters)
        # An answer without rows would show nothing. We tell no model ids and no first tokens here, nor does its side.
        assert found or name.endswith(("get_global_spend_provider", "provider#2", "streaming_metrics#2"))


def test_what_its_builders_make_finds_the_same(litellm: dict[str, Any], sides: psycopg.Connection[Any]) -> None:
    known = {*TABLES, *MADE}
    run = 0
    for name, (statement, parameters) in litellm["built"].items():
        if set(re.findall(r'"(LiteLLM_\w+)"', statement)) <= known:
            assert _compare(sides, name, statement, parameters), name
            run += 1
        else:
            # Exports of teams and organisations ask for their names, too.
            assert name.split()[0] in BUILT_LEFT_OUT or name in (
                "build_export_sql TEAM",
                "build_export_sql ORGANIZATION",
            )
    assert run >= 6 * 5
    for name, values in ALONE.items():
        assert _compare(sides, name, litellm["alone"][name], values)


def _example(condition: str) -> list[Any]:
    """Values for a filter of the list of logs, by what it looks at."""
    looked_at = {
        "session_outcomes": ["failure"], '"startTime" >=': [BEGIN], '"startTime" <=': [UNTIL], "request_id =": ["chat-3"],
        "session_id LIKE": ["%s-1%"], "NOT IN (": [KEYS[0], KEYS[1]], "spend >=": [0.01], "spend <=": [0.05],
        "user_api_key_alias": ["%key-1%"], "error_code": ["429"], "error_message": ["%slow%"],
        "used_client_oauth_token": ["true"], "(status =": [], "status =": ["failure"], "LOWER(cache_hit)": [],
    }  # fmt: skip
    return next(values for part, values in looked_at.items() if part in condition)


def test_the_list_of_logs_finds_the_same_by_each_of_its_filters(
    litellm: dict[str, Any], sides: psycopg.Connection[Any]
) -> None:
    columns = {
        "team_id": "red",
        '"user"': "ada",
        "api_key": KEYS[0],
        "model": "claude",
        "model_group": "gpt-4o",
        "end_user": "eve",
    }
    filters: list[tuple[str, list[Any]]] = [("TRUE", [])]
    for condition in litellm["conditions"]:
        if condition.startswith("{sql_col}"):
            filters += [(condition.replace("{sql_col}", column), [value]) for column, value in columns.items()]
        elif condition not in ("{search_condition.sql}", "{scope_clause}", "{span_type_condition}"):
            filters.append((condition.replace("{session_filter_conditions}", "TRUE"), _example(condition)))
    assert len(filters) > 20
    empty = []
    for condition, values in filters:
        joined = condition.replace("{p}", "1").replace("{p + 1}", "2")
        count = len(values)
        paging = {"{p}": str(count + 1), "{p + 1}": str(count + 2)}
        for column, direction in (("startTime", "DESC"), ("endTime", "ASC"), ("spend", "DESC")):
            holes = {
                "{joined_conditions}": joined, "{exact_request_id_first}": "", "{_order_expr}": f'"{column}"',
                "{_sql_dir}": direction, "{_nulls_clause}": "", **paging,
            }  # fmt: skip
            for name in (LOGS, LOGS_SESSIONS):
                found = _compare(sides, condition, _filled(litellm["found"][name], holes), [*values, 500, 0])
                empty += [] if found else [condition]
        holes = {"{joined_conditions}": joined, "{count_group_clause}": "", "{p}": paging["{p}"]}
        _compare(sides, condition, _filled(litellm["found"][LOGS_COUNT], holes), [*values, 500])
    # Neither side has a hit of a response cache or a client's token.
    assert {condition.split("=")[0].strip() for condition in empty} == {
        "LOWER(cache_hit)",
        "metadata->>'used_client_oauth_token'",
    }

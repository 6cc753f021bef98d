"""LiteLLM's callback, on the real package: every field it tells is in the row, and its audit log is ours."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

from otel_llmlog.demo.provider import LocalProvider
from otel_llmlog.redact import is_credential
from tests.e2e.conftest import ROOT, SCRIPTS

PYTHON = ROOT / ".venv-litellm" / "bin" / "python"
# These take a minute: LiteLLM is slow to import.
pytestmark = pytest.mark.slow

# Where a row has what LiteLLM tells: fields with a column, and those within `metadata`.
COLUMNS = {
    "id": "request_id", "call_type": "call_type", "stream": "stream", "status": "status", "model": "model", "model_id": "model_id",
    "model_group": "model_group", "custom_llm_provider": "provider", "cache_hit": "cache_hit", "cache_key": "cache_key",
    "prompt_tokens": "prompt_tokens", "completion_tokens": "completion_tokens", "total_tokens": "total_tokens",
    "request_tags": "request_tags", "requester_ip_address": "requester_ip_address", "user_agent": "user_agent",
    "litellm_call_id": "call_id", "cost_breakdown": "cost_breakdown",
}  # fmt: skip
OF_METADATA = {
    "user_api_key_hash": "api_key", "user_api_key_alias": "api_key_alias", "user_api_key_team_id": "team_id", "user_api_key_user_id": "user_id",
    "user_api_key_team_alias": "team_alias", "user_api_key_org_id": "organization_id",
}  # fmt: skip
# Compared one by one below.
BY_HAND = {
    "trace_id", "session_id", "startTime", "endTime", "completionStartTime", "response_time", "response_cost", "saved_cache_cost",
    "response_cost_failure_debug_info", "model_map_information", "api_base", "metadata", "messages", "response", "error_str",
    "end_user", "error_information", "model_parameters", "hidden_params", "guardrail_information",
}  # fmt: skip


def _nothing(value: Any) -> bool:
    return value in (None, "", [], {}) or (isinstance(value, dict) and all(map(_nothing, value.values())))


def _money(value: float) -> Decimal:
    return Decimal(f"{value:.15g}")


def _same_time(value: float, column: datetime) -> bool:
    return abs(datetime.fromtimestamp(value, UTC) - column).total_seconds() < 2e-6


def _check(told: dict[str, Any], row: dict[str, Any], *, content: bool) -> None:
    leftovers = row["metadata"]["spend_logs_metadata"]["litellm"]
    for field, value in told.items():
        if field in COLUMNS:
            assert (_nothing(value) and _nothing(row[COLUMNS[field]])) or row[COLUMNS[field]] == value, field
        elif field not in BY_HAND:
            assert _nothing(value) or leftovers[field] == value, field
    assert row["end_user"] == (told["end_user"] or told["model_parameters"].get("user"))
    assert leftovers["trace_id"] == told["trace_id"]
    assert _same_time(told["startTime"], row["start_time"])
    assert _same_time(told["endTime"], row["end_time"])
    assert row["completion_start_time"] is None if not told["stream"] else _same_time(
        told["completionStartTime"], row["completion_start_time"]
    )  # fmt: skip
    assert row["metadata"]["response_time"] == pytest.approx(told["response_time"])
    if told["response_cost"]:
        assert (row["spend"], row["cost_source"]) == (_money(told["response_cost"]), "litellm")
    else:
        assert row["spend"] is None
        assert row["metadata"]["response_cost_failure_debug_info"]["error_str"]
    assert row["saved_cache_cost"] == _money(told["saved_cache_cost"])
    given = told["model_map_information"]
    kept = row["metadata"].get("model_map_information", {})
    assert kept.get("model_map_key", "") == given["model_map_key"]
    if given["model_map_value"]:
        assert kept["model_map_value"] == {n: v for n, v in given["model_map_value"].items() if v is not None}
    hidden = told["hidden_params"]
    assert (row["api_base"] or "") == (told["api_base"] or hidden["api_base"] or "")
    for name, value in hidden.items():
        if not _nothing(value):
            found = row["hidden_params"].get(name, leftovers.get(f"hidden_params.{name}"))
            assert found == (str(value) if name == "response_cost" else value), name
    for name, value in told["metadata"].items():
        if _nothing(value):
            continue
        if name in OF_METADATA:
            assert row[OF_METADATA[name]] == value, name
        elif name == "spend_logs_metadata":
            masked = {n: "[redacted]" if is_credential(n) else v for n, v in value.items()}
            assert {n: v for n, v in row["metadata"][name].items() if n != "litellm"} == masked
        else:
            assert leftovers.get(f"metadata.{name}", row["metadata"].get(name)) == value, name
    failed = told["status"] == "failure"
    error = told["error_information"] or {}
    assert (row["error_class"] or "") == (error.get("error_class", "") if failed else "")
    assert (row["error_code"] or "") == (error.get("error_code", "") if failed else "")
    assert row["status"] == ("failure" if failed else "success")
    if content:
        assert row["messages"] == told["messages"]
        assert row["response"] == told["response"] or (_nothing(row["response"]) and _nothing(told["response"]))
        assert row["model_parameters"] == told["model_parameters"]
        assert (row["error_str"] or "") == (told["error_str"] or "")
    else:
        assert (row["messages"], row["response"]) == (None, None)
        kept = {n: v for n, v in told["model_parameters"].items() if isinstance(v, bool | int | float)}
        assert {n: v for n, v in row["model_parameters"].items() if n != "tool_count"} == kept
        assert "canary" not in str(row)


@pytest.mark.parametrize("content", [False, True], ids=["content off", "content on"])
def test_every_field_that_litellm_tells_is_in_the_row(
    app_environment: dict[str, str], database_url: str, content: bool
) -> None:
    environment = {**app_environment, "LLMLOG_STORE_PROMPTS_IN_SPEND_LOGS": str(content).lower()}
    command = [str(PYTHON), str(SCRIPTS / "litellm_app.py")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=150, check=False)
    assert done.returncode == 0, done.stderr
    told = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    with psycopg.connect(database_url, row_factory=dict_row) as connection:
        rows = connection.execute(
            "SELECT l.*, c.messages, c.response FROM llmlog.spend_logs l LEFT JOIN llmlog.spend_log_contents c "
            "USING (start_time, trace_id, span_id)"
        ).fetchall()
        events = connection.execute("SELECT * FROM llmlog.audit_logs ORDER BY seq").fetchall()
    assert len(told) == len(rows) == 7
    by_id = {row["request_id"]: row for row in rows}
    for one in told:
        _check(one, by_id[one["id"]], content=content)
    assert sorted(row["session_id"] for row in rows if row["session_id"]) == ["session-1", "session-2"]
    _check_audit(events)


def test_beside_wire_capture_the_callback_adds_cache_hits_only(
    app_environment: dict[str, str], provider: LocalProvider, rows: Callable[[], list[dict[str, Any]]]
) -> None:
    command = [str(PYTHON), str(SCRIPTS / "litellm_wire.py")]
    done = subprocess.run(command, env=app_environment, capture_output=True, text=True, timeout=150, check=False)
    assert done.returncode == 0, done.stderr
    assert len(provider.requests) == 1
    assert sorted((row["cost_source"], row["cache_hit"]) for row in rows()) == [
        ("genai-prices", None),
        ("litellm", True),
    ]


def _check_audit(events: list[dict[str, Any]]) -> None:
    assert [(e["id"], e["operation"], e["changed_by"], e["source"]) for e in events] == [
        ("audit-1", "key.rotate", "ada", "litellm"),
        ("audit-2", "team.create", "bob", "litellm"),
        ("audit-3", "team.update", "bob", "litellm"),
        ("audit-4", "team.delete", "bob", "litellm"),
        ("audit-5", "team.block", "bob", "litellm"),
        ("audit-6", "team.unblock", "bob", "litellm"),
    ]
    first, second = events[:2]
    assert first["updated_at"] == datetime(2026, 11, 1, 12, 0, 0, 123456, tzinfo=UTC)
    assert (first["table_name"], first["action"]) == ("LiteLLM_VerificationToken", "rotated")
    assert (first["object_id"], first["changed_by_api_key"]) == ("cd" * 32, "ab" * 32)
    assert first["before_value"] == {"token": "[redacted]", "spend": 1}
    assert (second["before_value"], second["updated_values"]) == ({"n": 1}, {"n": 2})

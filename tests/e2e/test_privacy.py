"""Content is stored when it is asked for, and is nowhere when it is not; keys are nowhere, ever."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.e2e.conftest import Run

Rows = Callable[[], list[dict[str, Any]]]
KEYS = ("sk-openai-canary-0123456789", "sk-ant-canary-0123456789")


def _dump(database_url: str) -> str:
    """Every value of every table, as text."""
    with psycopg.connect(database_url) as connection:
        tables = connection.execute(
            "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables WHERE schemaname = 'llmlog'"
        ).fetchall()
        return "\n".join(
            str(row)
            for (table,) in tables
            for row in connection.execute(f"SELECT t::text FROM {table} t").fetchall()  # type: ignore[arg-type]
        )


def test_with_content_off_no_canary_is_in_the_spool(run: Run, tmp_path: Path) -> None:
    away = "postgresql://127.0.0.1:9/none"
    run("canaries.py", LLMLOG_DATABASE_URL=away, LLMLOG_SHUTDOWN_TIMEOUT="0.5")
    spooled = b"".join(path.read_bytes() for path in (tmp_path / "spool").rglob("*") if path.is_file())
    assert spooled.count(b"gpt-4o-mini") >= 10
    assert b"canary7" not in spooled
    for key in KEYS:
        assert key.encode() not in spooled


@pytest.mark.parametrize("traces", ["console,llmlog", "none"])
def test_with_content_off_no_canary_is_in_any_table_span_or_log_line(
    run: Run, rows: Rows, database_url: str, traces: str
) -> None:
    done = run("canaries.py", OTEL_TRACES_EXPORTER=traces)
    assert len(rows()) == 10
    everything = _dump(database_url) + done.stdout + done.stderr
    assert "gpt-4o-mini" in everything
    assert "canary7" not in everything
    for key in KEYS:
        assert key not in everything


def test_with_content_on_messages_and_response_are_stored_but_no_key(run: Run, rows: Rows, database_url: str) -> None:
    run("canaries.py", LLMLOG_STORE_PROMPTS_IN_SPEND_LOGS="true")
    assert len(rows()) == 10
    with psycopg.connect(database_url) as connection:
        contents = connection.execute(
            "SELECT messages, response FROM llmlog.spend_log_contents ORDER BY start_time"
        ).fetchall()
    plain, streamed = contents[0], contents[1]
    assert plain[0][0] == {"role": "system", "content": "canary7prompt"}
    for reply in (plain[1], streamed[1]):
        assert "canary7prompt" in reply["choices"][0]["message"]["content"]
    assert "canary7error" in json.dumps([row["metadata"] for row in rows()])
    everything = _dump(database_url)
    for key in KEYS:
        assert key not in everything

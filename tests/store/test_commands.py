"""The commands that keep the store in order, run for real: check, prune, dead letters."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from otel_llmlog.store.postgres import PostgresExporter
from tests.store.records import record, records

LLMLOG = str(Path(sys.executable).parent / "llmlog")
PERIOD = "LLMLOG_MAXIMUM_SPEND_LOGS_RETENTION_PERIOD"
REFUSED = {"llmlog.messages": "[1e200000]"}

Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def command(database_url: str, tmp_path: Path) -> Command:
    def run(*arguments: str, code: int = 0, **variables: str) -> subprocess.CompletedProcess[str]:
        environment = {"PATH": "", "HOME": str(tmp_path), "LLMLOG_DATABASE_URL": database_url, **variables}
        done = subprocess.run(
            [LLMLOG, *arguments], env=environment, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == code, done.stderr
        return done

    return run


def test_db_check_agrees_with_sound_sums(command: Command, exporter: PostgresExporter) -> None:
    exporter.export(records(7, session_id="s"))
    assert command("db", "check").stdout == "1 sums by hour and 1 by session of all time: all equal their rows\n"
    assert json.loads(command("db", "check", "--json").stdout) == {
        "since": None, "hours": 1, "sessions": 1, "differences": []
    }  # fmt: skip


def test_db_check_names_wrong_sums_fails_and_repairs_them(
    command: Command, exporter: PostgresExporter, query: Any
) -> None:
    exporter.export(records(7, session_id="s"))
    query("UPDATE llmlog.session_totals SET spend = 1")
    (wrong,) = json.loads(command("db", "check", "--json", code=1).stdout)["differences"]
    assert (wrong["table"], wrong["key"]) == ("session_totals", {"session_id": "s"})
    assert (wrong["found"]["spend"], wrong["expected"]["spend"]) == (1, "0.0875")
    said = command("db", "check", code=1).stdout
    assert 'session_totals {"session_id": "s"}' in said
    assert "1 differ from their rows" in said
    assert "all equal" in command("db", "check", "--repair").stdout
    assert "all equal" in command("db", "check").stdout


def test_db_prune_shows_what_would_go_and_then_removes_it(
    command: Command, exporter: PostgresExporter, query: Any
) -> None:
    days = [record(start_ns=time.time_ns() - day * 86_400 * 10**9) for day in (0, 5, 30)]
    exporter.export(days)
    planned = command("db", "prune", "--dry-run", **{PERIOD: "2"}).stdout
    assert "2 partitions" in planned
    assert "would go" in planned
    assert "spend_logs_default  1 rows" in planned
    assert query("SELECT count(*) FROM llmlog.spend_logs") == [(3,)]
    done = json.loads(command("db", "prune", "--json", **{PERIOD: "2d"}).stdout)
    assert (len(done["partitions"]), done["strays"]) == (2, {"spend_logs": 1, "spend_log_contents": 0})
    assert query("SELECT count(*) FROM llmlog.spend_logs") == [(1,)]
    assert "0 partitions" in command("db", "prune", **{PERIOD: "2d"}).stdout


def test_db_prune_without_a_period_removes_nothing_and_says_so(command: Command) -> None:
    assert f"{PERIOD} is not set" in command("db", "prune", code=2).stderr
    assert "must be a period" in command("db", "prune", code=2, **{PERIOD: "soon"}).stderr


def test_dead_letters_are_listed_and_retried(command: Command, exporter: PostgresExporter, query: Any) -> None:
    assert command("dead-letters", "list").stdout == "No dead letters.\n"
    query("ALTER TABLE llmlog.spend_logs ADD CONSTRAINT closed CHECK (model <> 'new')")
    exporter.export([record(model="new"), record(attributes=REFUSED, model="gpt-5\x1b[31m")])
    shown = command("dead-letters", "list", COLUMNS="200").stdout
    assert "check_violation" in shown
    assert "numeric_value_out_of_range" in shown
    assert "\x1b" not in shown
    listed = [json.loads(line) for line in command("dead-letters", "list", "--json").stdout.splitlines()]
    assert [letter["record"]["attributes"]["llmlog.model"] for letter in listed] == ["new", "gpt-5\x1b[31m"]

    query("ALTER TABLE llmlog.spend_logs DROP CONSTRAINT closed")
    first, second = (str(letter["id"]) for letter in listed)
    assert "0 stored, 0 were there already, 1 refused again" in command("dead-letters", "retry", second, code=1).stdout
    assert "1 stored" in command("dead-letters", "retry", first).stdout
    retried = json.loads(command("dead-letters", "retry", "--json", code=1).stdout)
    assert retried == {"written": 0, "duplicates": 0, "rejected": 1}
    assert query("SELECT model FROM llmlog.spend_logs") == [("new",)]
    assert query("SELECT id::text FROM llmlog.dead_letters WHERE retried_at IS NOT NULL") == [(second,)]

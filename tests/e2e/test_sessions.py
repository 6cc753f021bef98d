"""Conversations of real SDKs: each call in the right session, each answer remembered at once."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from otel_llmlog.demo.provider import LocalProvider
from otel_llmlog.store import check
from tests.e2e.conftest import OLDER, SCRIPTS, Run

CONTENT = {"LLMLOG_STORE_PROMPTS_IN_SPEND_LOGS": "true"}
Rows = Callable[[], list[dict[str, Any]]]


def said(*texts: str) -> list[dict[str, str]]:
    """A conversation with somebody who repeats what they hear."""
    roles = ("user", "assistant")
    return [{"role": role, "content": text} for text in texts for role in roles]


@pytest.mark.parametrize("python", [Path(sys.executable), OLDER], ids=["openai3", "openai2"])
def test_two_calls_back_to_back_are_one_session_and_each_answer_is_remembered_at_once(
    run: Run, rows: Rows, database_url: str, python: Path
) -> None:
    told = _told(run("sessions_app.py", "back to back", python=python, **CONTENT))
    assert [each["remembered"] for each in told] == [said("one"), said("one", "two"), said("one", "two")]
    assert [row["session_id"] for row in rows()] == [told[0]["id"]] * 2
    assert check.check(database_url).differences == []


def _told(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("spool", ["", "/dev/null/nowhere"], ids=["on disk", "in memory"])
def test_a_chain_is_remembered_while_the_database_is_away(run: Run, spool: str) -> None:
    away = {
        "LLMLOG_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/nowhere",
        "LLMLOG_SHUTDOWN_TIMEOUT": "0",
        **({"LLMLOG_SPOOL_DIR": spool} if spool else {}),
    }
    failed = run("sessions_app.py", "back to back", ok=False, **CONTENT, **away)
    assert [each["remembered"] for each in _told(failed)] == [said("one"), said("one", "two")]
    # Others may have spoken in a session: without the table nobody knows.
    assert "otel_llmlog.errors.StoreUnavailable: cannot read: nothing listens" in failed.stderr


def test_a_chat_is_remembered_without_what_is_sent_again_each_turn(run: Run) -> None:
    told = _told(run("sessions_app.py", "chat", "4", LLMLOG_FLUSH_INTERVAL="0.01", **CONTENT))
    assert len(told) == 4
    assert [each["remembered"] for each in told] == [each["said"] for each in told]


@contextmanager
def _speaker(environment: dict[str, str], mode: str, *previous: str) -> Iterator[dict[str, Any]]:
    command = [str(Path(sys.executable).parent / "opentelemetry-instrument"), sys.executable]
    process = subprocess.Popen(
        [*command, str(SCRIPTS / "sessions_app.py"), mode, *previous],
        env={**environment, **CONTENT},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    yield json.loads(process.stdout.readline())
    process.communicate("\n", timeout=60)
    assert process.returncode == 0


def test_a_conversation_that_goes_on_in_another_process_is_one_session(
    app_environment: dict[str, str], rows: Rows, database_url: str
) -> None:
    with _speaker(app_environment, "follow") as first:
        pass
    with _speaker(app_environment, "follow", first["id"]) as second:
        assert second["remembered"] == said("begin", "go on")
        # The second has not ended, and writes when it likes.
        with _speaker(app_environment, "follow at once", second["id"]) as third:
            pass
    assert third["id"]
    assert [row["session_id"] for row in rows()] == [first["id"]] * 3
    assert check.check(database_url).differences == []


def test_twenty_conversations_at_once_do_not_mix(
    run: Run, rows: Rows, provider: LocalProvider, database_url: str
) -> None:
    ids = json.loads(run("sessions_app.py", "load", "20", "5", LLMLOG_FLUSH_INTERVAL="0.01", **CONTENT).stdout)["ids"]
    names = {0: lambda n: ids[n][0], 1: lambda n: f"named-{n}", 2: lambda n: f"conv_{n}"}
    expected = {id_: names[number % 3](number) for number, each in enumerate(ids) for id_ in each}
    assert {row["request_id"]: row["session_id"] for row in rows()} == expected
    assert check.check(database_url).differences == []


def test_history_without_stored_content_names_the_setting(run: Run) -> None:
    failed = run("sessions_app.py", "back to back", ok=False)
    assert failed.stderr.splitlines()[-1] == (
        "otel_llmlog.errors.ContentNotStored: the conversation is not kept: "
        "set LLMLOG_STORE_PROMPTS_IN_SPEND_LOGS=true for calls from now on"
    )

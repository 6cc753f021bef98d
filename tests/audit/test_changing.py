"""`change` takes before and after itself, around blocks and functions of both kinds, and passes everything through."""

from __future__ import annotations

import copy
from typing import Any

import psycopg
import pytest

import otel_llmlog
from otel_llmlog import audit
from otel_llmlog.audit.diff import Difference, differences
from otel_llmlog.errors import AuditNotRecorded
from tests.audit.conftest import Auditing

TEAMS: dict[str, dict[str, Any]] = {}


@pytest.fixture(autouse=True)
def _teams() -> None:
    TEAMS.clear()
    TEAMS["t1"] = {"max_budget": 1, "members": ["ada"]}


def brief(row: dict[str, Any]) -> tuple[Any, ...]:
    return row["operation"], row["object_id"], row["outcome"], row["before_value"], row["updated_values"]


OLD, NEW = {"max_budget": 1, "members": ["ada"]}, {"max_budget": 2, "members": ["ada"]}


def raise_budget(team_id: str, by: int = 1) -> str:
    TEAMS[team_id]["max_budget"] += by
    return "done"


async def raise_budget_later(team_id: str) -> str:
    return raise_budget(team_id)


async def read_later(team_id: str) -> Any:
    return TEAMS[team_id]


def test_a_block_is_one_row_with_before_and_after_as_they_were(audited: Auditing) -> None:
    with audit.change(audit.TEAM_BUDGET, object_id="t1", read=lambda: TEAMS["t1"], changed_by="ada") as change:
        raise_budget("t1")
    (row,) = audited.new_rows()
    assert brief(row) == ("team.budget", "t1", "success", OLD, NEW)
    assert change.event is not None
    assert change.event.id == row["id"]


def test_a_block_may_say_before_and_after_itself(audited: Auditing) -> None:
    team = copy.deepcopy(TEAMS["t1"])
    with audit.change(audit.TEAM_BUDGET, before=team, changed_by="ada") as change:
        team["max_budget"] = 2
        change.after, change.object_id = team, "t1"
    (row,) = audited.new_rows()
    assert brief(row) == ("team.budget", "t1", "success", OLD, NEW)


def test_each_run_of_a_function_is_a_row_of_its_own(audited: Auditing) -> None:
    audited_raise = audit.change(
        audit.TEAM_BUDGET, object_id=lambda team_id, **_: team_id, read=lambda team_id, **_: TEAMS[team_id]
    )(raise_budget)
    with otel_llmlog.context(user="ada"):
        assert audited_raise("t1") == "done"
        assert audited_raise("t1", by=5) == "done"
    rows = audited.new_rows()
    assert [brief(row)[:3] for row in rows] == [("team.budget", "t1", "success")] * 2
    assert [(row["before_value"]["max_budget"], row["updated_values"]["max_budget"]) for row in rows] == [
        (1, 2),
        (2, 7),
    ]
    assert {row["changed_by"] for row in rows} == {"ada"}
    assert audited_raise.__name__ == "raise_budget"


async def test_coroutines_and_coroutine_readers_work_the_same(audited: Auditing) -> None:
    wrapped = audit.change(
        audit.TEAM_BUDGET, object_id=lambda team_id: team_id, read=read_later, changed_by="ada", sync=True
    )(raise_budget_later)
    assert await wrapped("t1") == "done"
    async with audit.change(audit.TEAM_BUDGET, object_id="t1", read=lambda: read_later("t1"), changed_by="ada"):
        raise_budget("t1")
    first, second = audited.new_rows()
    assert brief(first) == ("team.budget", "t1", "success", OLD, NEW)
    assert brief(second) == ("team.budget", "t1", "success", NEW, {**NEW, "max_budget": 3})


def test_what_a_function_returns_is_its_after_if_nothing_else_is(audited: Auditing) -> None:
    created = audit.change(audit.KEY_CREATE, changed_by="ada")(lambda: {"key": "sk-canary", "models": ["m"]})
    assert created()["key"] == "sk-canary"
    (row,) = audited.new_rows()
    assert row["updated_values"] == {"key": "[redacted]", "models": ["m"]}


class Forbidden(Exception):
    status_code = 403


@pytest.mark.parametrize(
    ("error", "outcome", "status"),
    [
        (PermissionError("canary"), "refused", None),
        (Forbidden("canary"), "refused", 403),
        (ValueError("canary"), "failure", None),
        (KeyboardInterrupt(), "failure", None),
    ],
)
def test_a_change_that_raises_is_recorded_and_raises_the_same(
    audited: Auditing, error: BaseException, outcome: str, status: int | None
) -> None:
    def fail() -> None:
        raise error

    for run in (fail, audit.change(audit.KEY_DELETE, object_id="k", read=lambda: {"n": 1}, changed_by="ada")(fail)):
        with pytest.raises(type(error)) as raised:
            run()
        assert raised.value is error
    (row,) = audited.new_rows()
    assert brief(row) == ("key.delete", "k", outcome, {"n": 1}, None)
    assert (row["error_class"], row["status_code"]) == (type(error).__name__, status)
    assert "canary" not in str(row)


def test_a_reader_that_fails_does_not_stop_the_change(audited: Auditing) -> None:
    def broken() -> Any:
        raise KeyError("canary")

    with audit.change(audit.TEAM_BUDGET, object_id="t1", read=broken, changed_by="ada"):
        raise_budget("t1")
    assert TEAMS["t1"]["max_budget"] == 2
    (row,) = audited.new_rows()
    assert row["notes"] == [
        "before_value: could not be told (KeyError)",
        "updated_values: could not be told (KeyError)",
    ]


def test_with_sync_a_change_that_is_not_recorded_raises(audited: Auditing) -> None:
    audited.writer._timeout = 0.2
    try:
        with psycopg.connect(audited.url) as holding:
            holding.execute("SELECT llmlog.take_locks('audit_logs', '{0}')")
            with pytest.raises(AuditNotRecorded):
                with audit.change(audit.KEY_DELETE, object_id="k", changed_by="ada", sync=True):
                    pass
            # What the change itself raises is not hidden by that.
            with pytest.raises(ZeroDivisionError):
                with audit.change(audit.KEY_DELETE, object_id="k", changed_by="ada", sync=True):
                    _ = 1 / 0
    finally:
        audited.writer._timeout = 10
    assert [row["outcome"] for row in audited.new_rows()] == ["success", "failure"]


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (None, None, []),
        ({"a": 1}, {"a": 1}, []),
        ({"a": 1}, {"a": 2}, [("a", "changed", 1, 2)]),
        ({"a": 1}, {"a": True}, [("a", "changed", 1, True)]),
        ({"a": 1}, {}, [("a", "removed", 1, None)]),
        (None, {"a": None}, [("a", "added", None, None)]),
        ({"a": {"b": {"c": 1, "d": 2}}}, {"a": {"b": {"c": 1, "d": 3}}}, [("a.b.d", "changed", 2, 3)]),
        ({"a": [1, 2]}, {"a": [1, 3]}, [("a", "changed", [1, 2], [1, 3])]),
        ({"a": {"b": 1}}, {"a": 5}, [("a", "changed", {"b": 1}, 5)]),
        ("x", "y", [("", "changed", "x", "y")]),
        (None, "y", [("", "added", None, "y")]),
    ],
)
def test_differences_are_told_field_by_field(before: Any, after: Any, expected: list[tuple[Any, ...]]) -> None:
    assert differences(before, after) == [Difference(*found) for found in expected]

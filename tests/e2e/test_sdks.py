"""Unmodified scripts on real SDKs, under auto-instrumentation, leave exactly one right row a wire request."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from otel_llmlog.demo.provider import LocalProvider
from tests.e2e.conftest import OLDER, Run

Rows = Callable[[], list[dict[str, Any]]]

# USD a million tokens, as the vendors' price pages have them: input, cached input, cache write, output.
_PRICES = {
    "gpt-4o-mini": ("0.15", "0.075", "0", "0.6"),
    "claude-sonnet-4-6": ("3", "0.3", "3.75", "15"),
    "llama-3.3-70b-versatile": ("0.59", "0", "0", "0.79"),
}


def _cost(model: str, plain: int, read: int, write: int, output: int) -> Decimal:
    return (
        sum(
            (Decimal(price) * count for price, count in zip(_PRICES[model], (plain, read, write, output), strict=True)),
            Decimal(0),
        )
        / 10**6
    )


def _check(row: dict[str, Any], provider: str, key: str) -> None:
    """What holds for every row of these scripts."""
    assert row["status"] == "success"
    assert row["provider"] == provider
    assert (row["prompt_tokens"], row["completion_tokens"], row["total_tokens"]) == (120, 40, 160)
    assert row["session_id"] == "session-1"
    assert row["api_key"] == hashlib.sha256(key.encode()).hexdigest()
    assert row["start_time"] <= row["end_time"]
    if row["stream"]:
        assert row["start_time"] < row["completion_start_time"] <= row["end_time"]
    else:
        assert row["completion_start_time"] is None


@pytest.mark.parametrize("python", [Path(sys.executable), OLDER], ids=["openai 3 on httpx2", "openai 2 on httpx"])
def test_openai_calls_leave_one_right_row_each(run: Run, rows: Rows, provider: LocalProvider, python: Path) -> None:
    run("openai_app.py", python=python)
    found = rows()
    assert len(found) == len(provider.requests) == 8
    for row in found:
        _check(row, "openai", "sk-openai-canary-0123456789")
        assert row["spend"] == _cost("gpt-4o-mini", 56, 64, 0, 40)
        assert (row["cache_read_tokens"], row["reasoning_tokens"]) == (64, 16)
    assert [(row["call_type"], row["stream"]) for row in found] == [
        ("completion", False),
        ("completion", True),
        ("completion", False),
        ("completion", False),
        ("responses", False),
        ("responses", True),
        ("acompletion", False),
        ("acompletion", True),
    ]


def test_anthropic_calls_leave_one_right_row_each(run: Run, rows: Rows, provider: LocalProvider) -> None:
    run("anthropic_app.py")
    found = rows()
    assert len(found) == len(provider.requests) == 4
    for row in found:
        _check(row, "anthropic", "sk-ant-canary-0123456789")
        assert row["spend"] == _cost("claude-sonnet-4-6", 36, 64, 20, 40)
        assert (row["cache_read_tokens"], row["cache_creation_tokens"]) == (64, 20)
    assert [row["stream"] for row in found] == [False, True, False, True]


def test_groq_calls_leave_one_right_row_each(run: Run, rows: Rows, provider: LocalProvider) -> None:
    run("groq_app.py")
    found = rows()
    assert len(found) == len(provider.requests) == 4
    for row in found:
        _check(row, "groq", "gsk_canary_0123456789")
        assert row["spend"] == _cost("llama-3.3-70b-versatile", 120, 0, 0, 40)
    assert [row["stream"] for row in found] == [False, True, False, True]

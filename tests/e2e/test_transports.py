"""Whole programs on aiohttp, requests and botocore, and on clients stacked on them: one right row a request."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import pytest

from otel_llmlog.demo.provider import LocalProvider
from tests.e2e.conftest import ROOT, Run
from tests.wires import ROUTES

SDKS = ROOT / ".venv-sdks" / "bin" / "python"
LITELLM = ROOT / ".venv-litellm" / "bin" / "python"
pytestmark = pytest.mark.slow

Rows = Callable[[], list[dict[str, Any]]]
MINI = Decimal(56 * 15 + 64 * 15 // 2 + 40 * 60) / 10**8
FLASH = (56 * Decimal("0.3") + 64 * Decimal("0.03") + 40 * Decimal("2.5")) / 10**6
SONNET = (56 * 3 + 64 * Decimal("0.3") + 40 * 15) / 10**6
# By script: environment, provider, call types, spend of each row; plain and streaming take turns.
EXPECTED: dict[str, tuple[Any, str, list[str], list[Decimal]]] = {
    "raw_requests": (SDKS, "openai", ["completion"] * 2, [MINI] * 2),
    "raw_aiohttp": (SDKS, "openai", ["acompletion"] * 2, [MINI] * 2),
    "google_genai": (SDKS, "gemini", ["agenerate_content", "agenerate_content_stream"], [FLASH] * 2),
    "openai_on_aiohttp": (SDKS, "openai", ["acompletion"] * 2, [MINI] * 2),
    "boto3": (SDKS, "bedrock", ["completion"] * 4, [SONNET * Decimal("1.1")] * 4),
    "litellm_on_aiohttp": (
        LITELLM,
        "",
        ["acompletion"] * 2 + ["anthropic_messages"] * 2,
        [MINI] * 2 + [SONNET] * 2,
    ),
}


@pytest.fixture(scope="module")
def wires() -> Iterator[LocalProvider]:
    with LocalProvider(routes=ROUTES) as running:
        yield running


@pytest.mark.parametrize("name", EXPECTED)
def test_calls_over_each_transport_leave_one_right_row_each(
    run: Run, rows: Rows, wires: LocalProvider, name: str
) -> None:
    python, provider, call_types, spend = EXPECTED[name]
    wires.clear()
    known = {"LLMLOG_PROVIDER_HOSTS": f"{wires.url.removeprefix('http://')}={provider}"} if provider else {}
    run("transports_app.py", name, wires.url, python=python, **known)
    found = rows()
    assert [row["call_type"] for row in found] == call_types
    assert len(wires.requests) == len(found)
    for row in found:
        assert (row["prompt_tokens"], row["completion_tokens"], row["cache_read_tokens"]) == (120, 40, 64)
        assert (row["status"], row["error_str"]) == ("success", None)
        assert (row["completion_start_time"] is not None) == row["stream"]
        assert row["api_key"] is not None
        assert "canary" not in str(row)
    assert [row["spend"] for row in found] == spend
    assert [row["stream"] for row in found] == [False, True] * (len(found) // 2)

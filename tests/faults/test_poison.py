"""Bad values from a provider, each alone in a batch of 512: it costs no other row, and has one of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from otel_llmlog.demo.provider import LocalProvider
from tests.faults.app import App

BATCH = 512
SCENARIOS = [
    "invalid_json",
    "nul",
    "surrogate",
    "nan field=all value=nan",
    "nan field=all value=negative",
    "nan field=all value=huge",
    "nan field=all value=bigint",
    "huge bytes=50000000",
    "nest depth=10000",
    "not_json",
]


@pytest.mark.slow
@pytest.mark.parametrize("content", ["true", "false"])
def test_a_bad_value_in_a_batch_has_its_row_and_costs_no_other(
    environment: dict[str, str], provider: LocalProvider, rows: Callable[[], list[dict[str, Any]]], content: str
) -> None:
    # A batch is full or it waits: what is sent between two flushes is one transaction.
    environment |= {
        "LLMLOG_STORE_PROMPTS_IN_SPEND_LOGS": content, "LLMLOG_BATCH_SIZE": str(BATCH), "LLMLOG_FLUSH_INTERVAL": "30"
    }  # fmt: skip
    app = App(environment)
    for scenario in SCENARIOS:
        app.call(BATCH // 2)
        assert app.ask(f"send {provider.url} {scenario}") > 0
        app.call(BATCH // 2 - 1)
        assert app.ask("flush")
    numbers = app.numbers()
    assert numbers["written"] == len(SCENARIOS) * BATCH
    assert not [name for name in numbers if name.startswith(("dead", "dropped.", "error."))]
    app.quit()
    # Nothing was stored that is not true: a count is one that a provider can have meant, a cost follows from it.
    found = rows()
    assert len(found) == len(SCENARIOS) * BATCH
    assert sum(row["total_tokens"] == 160 for row in found) == len(SCENARIOS) * (BATCH - 1)
    assert all(0 <= row["total_tokens"] <= 10**12 for row in found)

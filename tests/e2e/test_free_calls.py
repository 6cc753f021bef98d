"""What a provider does not bill has cost nothing; it is never a call whose price is not known."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from otel_llmlog.store.price_reader import PriceReader
from tests.e2e.conftest import Run
from tests.wires.media_server import MediaServer


def test_a_moderation_is_a_row_that_cost_nothing_and_a_count_of_tokens_is_none(
    run: Run, rows: Callable[[], list[dict[str, Any]]], database_url: str
) -> None:
    with MediaServer() as media:
        run("free_app.py", OPENAI_BASE_URL=f"{media.url}/v1")
    [row] = rows()
    assert (row["call_type"], row["status"]) == ("moderation", "success")
    assert (row["spend"], row["cost_source"]) == (0, "provider")
    assert PriceReader(database_url).unpriced_models(since=None) == []

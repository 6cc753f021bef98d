"""The page on prices is current, for the versions that are installed."""

from __future__ import annotations

import pytest

from tests.pricing import price_table


@pytest.mark.slow
def test_the_table_of_differences_is_current() -> None:
    page = price_table.PAGE.read_text(encoding="utf-8")
    assert price_table.between(page) == price_table.table(price_table.price_map()), (
        "run `python -m tests.pricing.price_table`"
    )

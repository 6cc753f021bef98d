"""What changed between two price lists is found, price by price."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from otel_llmlog.errors import ConfigError
from otel_llmlog.pricing import differences
from otel_llmlog.pricing.differences import Difference

AT = datetime(2026, 11, 24, tzinfo=UTC)


def litellm(**models: object) -> differences.PriceList:
    return differences.read(json.dumps(models).encode(), AT)


def genai(*models: dict[str, object]) -> differences.PriceList:
    listed = [{"match": {"equals": model["id"]}, **model} for model in models]
    provider = {"id": "x", "name": "X", "api_pattern": "x", "models": listed}
    return differences.read(json.dumps([provider]).encode(), AT)


def test_prices_that_changed_came_and_went_are_found_and_nothing_else() -> None:
    before = litellm(
        a={"input_cost_per_token": 1e-6, "output_cost_per_token": 2, "max_tokens": 9},
        b={"input_cost_per_token": 1},
        same={"input_cost_per_token": 1.0, "tiered_pricing": [{"range": [0, 10], "input_cost_per_token": 1}]},
    )
    after = litellm(
        a={
            "input_cost_per_token": 0.000001,
            "output_cost_per_token": 3,
            "cache_read_input_token_cost": 1,
            "max_tokens": 1,
        },
        c={"input_cost_per_token": 1},
        same={"input_cost_per_token": 1, "tiered_pricing": [{"range": [0, 10], "input_cost_per_token": 1.0}]},
    )
    assert differences.compare(before, after) == [
        Difference("a", "cache_read_input_token_cost", None, "1"),
        Difference("a", "output_cost_per_token", "2", "3"),
        Difference("b", "", "listed", None),
        Difference("c", "", None, "listed"),
    ]
    assert differences.compare(before, before) == []


def test_a_list_of_genai_prices_is_compared_as_it_is_now() -> None:
    old = {"prices": {"input_mtok": 1}, "constraint": None}
    new = {"prices": {"input_mtok": 3}, "constraint": {"type": "start_date", "start_date": "2026-11-01"}}
    later = {"prices": {"input_mtok": 5}, "constraint": {"type": "start_date", "start_date": "2027-11-01"}}
    before, after = genai({"id": "m", "prices": {"input_mtok": 1}}), genai({"id": "m", "prices": [old, new, later]})
    assert differences.compare(before, after) == [Difference("x/m", "input_mtok", "1", "3")]


def test_the_built_in_list_is_equal_to_itself_and_knows_tiers_and_variants() -> None:
    built_in = differences.built_in(AT)
    assert differences.compare(built_in, differences.built_in(AT)) == []
    assert built_in.models["google/gemini-2.5-pro"]["input_mtok.tiers[0].above"] == "200000"
    assert built_in.models["openai/gpt-4o"]["variants.processing=batch.input_mtok"] == "1.25"


def test_lists_of_two_formats_are_not_compared() -> None:
    with pytest.raises(ConfigError, match="cannot be compared"):
        differences.compare(litellm(a={}), differences.built_in(AT))


@pytest.mark.parametrize("data", [b"", b"no", b"1", b'"x"', b"[1]", b'[{"id": 1}]', b"[" * 100_000])
def test_a_file_that_is_no_price_list_is_told_in_one_line(data: bytes) -> None:
    with pytest.raises(ConfigError) as caught:
        differences.read(data, AT)
    assert "\n" not in str(caught.value)

"""Every class of usage in both price lists: what it costs, in which unit, and what is said when it has no price."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, strategies as st

from otel_llmlog.payload import COUNTS, Usage
from otel_llmlog.pricing import Pricer, tariff, units
from otel_llmlog.pricing.catalogue import CLASSES
from tests.payloads import models

NOON = 1_795_000_000.0
FULL = {
    "input_cost_per_token": 2,
    "output_cost_per_token": 8,
    "cache_read_input_token_cost": 0.2,
    "cache_read_input_audio_token_cost": 0.3,
    "cache_read_input_image_token_cost": 0.4,
    "cache_creation_input_token_cost": 2.5,
    "cache_creation_input_token_cost_above_1hr": 4,
    "input_cost_per_audio_token": 32,
    "input_cost_per_image_token": 5,
    "input_cost_per_video_token": 6,
    "output_cost_per_audio_token": 64,
    "output_cost_per_image_token": 30,
    "output_cost_per_video_token": 40,
    "output_cost_per_reasoning_token": 9,
    "search_context_cost_per_query": {"search_context_size_low": 1, "search_context_size_high": 3},
    "file_search_cost_per_1k_calls": 2.5,
    "code_interpreter_cost_per_session": 0.03,
}
TOKEN_CLASSES = {"input": "input_tokens", "output": "output_tokens"}


def cost(entry: dict[str, Any] | None, provider: str = "openai", model: str = "m", **counted: Any) -> Any:
    pricer = Pricer(None if entry is None else {"m": entry})
    usage = Usage(source="provider", **counted)
    found = pricer.price(
        usage, provider=provider, response_model=model, request_model=None, call_type="completion", at=NOON
    )
    if found.breakdown is None:
        assert found.failure is not None
        return found.failure.error_str
    parts = {name: part for name, part in found.breakdown.items() if name != "total"}
    assert sum(Decimal(part["cost"]) for part in parts.values()) == found.total == Decimal(found.breakdown["total"])
    return {name: (part["units"], part["unit_price"], part.get("per", 1)) for name, part in parts.items()}


def test_audio_images_and_video_cached_or_not_have_their_prices() -> None:
    assert cost(
        FULL, input_tokens=100, output_tokens=50, cache_read_tokens=30, cache_read_audio_tokens=10,
        cache_read_image_tokens=5, input_audio_tokens=20, input_image_tokens=15, input_video_tokens=7,
        output_audio_tokens=11, output_image_tokens=12, output_video_tokens=13, reasoning_tokens=4,
    ) == {
        "input": (43, "2", 1), "cache_read": (15, "0.2", 1), "cache_read_audio": (10, "0.3", 1),
        "cache_read_image": (5, "0.4", 1), "input_audio": (10, "32", 1), "input_image": (10, "5", 1),
        "input_video": (7, "6", 1), "output": (10, "8", 1), "reasoning": (4, "9", 1), "output_audio": (11, "64", 1),
        "output_image": (12, "30", 1), "output_video": (13, "40", 1),
    }  # fmt: skip


@pytest.mark.parametrize(("size", "unit"), [("low", "1"), ("high", "3"), ("huge", "1"), (None, "1")])
def test_searches_cost_by_how_much_they_bring(size: str | None, unit: str) -> None:
    entry = {**FULL, "search_context_cost_per_query": {"search_context_size_medium": 1, "search_context_size_high": 3}}
    found = cost(entry, output_image_tokens=1, output_tokens=1, web_search_requests=2, web_search_context_size=size)
    assert found["web_search"] == (2, unit, 1)


def test_tools_have_their_prices() -> None:
    found = cost(FULL, input_tokens=1, file_search_requests=4, code_interpreter_sessions=2)
    assert (found["file_search"], found["code_interpreter"]) == ((4, "2.5", 1000), (2, "0.03", 1))
    assert cost({"input_cost_per_token": 1}, input_tokens=1, file_search_requests=1).endswith(
        "has no price for file searches"
    )


def test_a_container_for_code_is_listed_apart() -> None:
    pricer = Pricer({"m": {"input_cost_per_token": 1}, "openai/container": {"code_interpreter_cost_per_session": 0.03}})
    usage = Usage(input_tokens=1, code_interpreter_sessions=1)
    found = pricer.price(
        usage, provider="openai", response_model="m", request_model=None, call_type="responses", at=NOON
    )
    assert found.total == Decimal("1.03")


@pytest.mark.parametrize(
    ("provider", "unit", "searches"),
    [("gemini", None, 1), ("gemini", "per_query", 3), ("vertex_ai-language-models", None, 1), ("openai", None, 3)],
)
def test_google_bills_the_prompt_that_searches_unless_it_bills_each_search(
    provider: str, unit: str | None, searches: int
) -> None:
    entry = {"input_cost_per_token": 1, "search_context_cost_per_query": 0.035, "litellm_provider": provider}
    entry |= {"web_search_billing_unit": unit} if unit else {}
    assert cost(entry, provider.partition("-")[0], input_tokens=1, web_search_requests=3)["web_search"][0] == searches


@pytest.mark.parametrize(("model", "searches"), [("gemini-2.5-flash", 1), ("gemini-3-pro-preview", 3)])
def test_built_in_prices_of_google_too(model: str, searches: int) -> None:
    assert cost(None, "gemini", model, input_tokens=1, web_search_requests=3)["web_search"][0] == searches


@pytest.mark.parametrize(
    ("mode", "keys", "counted", "expected"),
    [
        (
            "audio_transcription",
            {"input_cost_per_second": 0.1, "output_cost_per_second": 0.0},
            "input_audio_ms",
            (1500, "0.1", 1000),
        ),
        (
            "audio_transcription",
            {"input_cost_per_second": 0.1, "output_cost_per_second": 0.2},
            "input_audio_ms",
            (1500, "0.2", 1000),
        ),
        ("audio_speech", {"output_cost_per_second": 0.2}, "output_audio_ms", (1500, "0.2", 1000)),
        ("audio_speech", {"input_cost_per_character": 0.2}, "input_characters", (1500, "0.2", 1)),
        ("embedding", {"input_cost_per_image": 0.2}, "input_images", (1500, "0.2", 1)),
        ("ocr", {"ocr_cost_per_page": 0.2}, "pages", (1500, "0.2", 1)),
        ("rerank", {"input_cost_per_query": 0.2}, "query", (1500, "0.2", 1)),
        ("image_generation", {"output_cost_per_image": 0.2}, "output_images", (1500, "0.2", 1)),
        ("image_generation", {"input_cost_per_image": 0.2}, "output_images", (1500, "0.2", 1)),
    ],
)
def test_what_is_no_token_has_its_unit(mode: str, keys: dict[str, float], counted: str, expected: Any) -> None:
    field = "search_units" if counted == "query" else counted
    assert cost({"mode": mode, **keys}, **{field: 1500}) == {counted: expected}


@pytest.mark.parametrize(
    "counted", ["input_audio_ms", "output_audio_ms", "input_characters", "output_characters", "input_images",
                "output_images", "search_units", "pages"],
)  # fmt: skip
def test_what_has_no_price_is_named_where_nothing_else_stands_for_it(counted: str) -> None:
    entry = {"input_cost_per_token": 1, "output_cost_per_token": 1}
    assert "has no price for" in cost(entry, **{counted: 3})
    # What a call counts in tokens as well is billed in tokens.
    if counted != "pages":
        assert cost(entry, **{counted: 3}, input_tokens=2) == {"input": (2, "1", 1)}


def test_a_second_of_a_rented_machine_is_not_one_of_audio() -> None:
    assert "has no price for" in cost({"mode": "chat", "input_cost_per_second": 1}, input_tokens=1)


def test_audio_counted_in_tokens_and_seconds_is_billed_once() -> None:
    entry = {"input_cost_per_token": 1, "input_cost_per_audio_token": 5, "input_cost_per_audio_per_second": 2}
    assert cost(entry, input_tokens=10, input_audio_tokens=4, input_audio_ms=3000) == {
        "input": (6, "1", 1), "input_audio_ms": (3000, "2", 1000)
    }  # fmt: skip


def test_annotated_pages_are_billed_as_such() -> None:
    entry = {"ocr_cost_per_page": 0.002, "annotation_cost_per_page": 0.003}
    assert cost(entry, pages=10, annotated_pages=4) == {"pages": (6, "0.002", 1), "annotated_pages": (4, "0.003", 1)}
    assert cost({"ocr_cost_per_page": 0.002}, pages=10, annotated_pages=4) == {"pages": (10, "0.002", 1)}


@pytest.mark.parametrize(
    ("quality", "size", "expected"),
    [
        ("hd", "1024x1024", "3"),
        ("low", "1024x1024", "2"),
        (None, "1024x1024", "2"),
        ("hd", "512x512", "1"),
        (None, None, "1"),
    ],
)
def test_images_cost_by_quality_and_size(quality: str | None, size: str | None, expected: str) -> None:
    piece = {"mode": "image_generation"}
    pricer = Pricer(
        {
            "hd/1024-x-1024/m": {**piece, "output_cost_per_image": 3},
            "1024-x-1024/m": {**piece, "input_cost_per_image": 2},
            "m": {**piece, "output_cost_per_image": 1},
        }
    )
    usage = Usage(output_images=2, image_quality=quality, image_size=size)
    found = pricer.price(usage, provider="openai", response_model="m", request_model=None, call_type="image", at=NOON)
    assert found.breakdown is not None
    assert found.breakdown["output_images"]["unit_price"] == expected


def test_pixels_have_a_price_where_the_size_is_known() -> None:
    entry = {"mode": "image_generation", "input_cost_per_pixel": 0.001}
    assert cost(entry, output_images=2, image_size="100x200") == {"output_images": (2, "20", 1)}
    assert "no price for images made" in cost(entry, output_images=2)


def test_images_at_a_price_a_piece_are_not_free_because_their_tokens_are() -> None:
    entry = {"input_cost_per_token": 0, "output_cost_per_token": 0, "output_cost_per_image": 0.04}
    assert cost(entry, input_tokens=5, output_images=1) == {"output_images": (1, "0.04", 1)}
    assert "has no price for input tokens" in cost(entry, input_tokens=5)


@pytest.mark.parametrize(
    ("geo", "tier", "expected"),
    [
        ("us", None, "2.2"),
        ("US", None, "2.2"),
        ("global", None, "2"),
        ("not_available", None, "2"),
        (None, "fast", "12"),
        ("us", "fast", "13.2"),
    ],
)
def test_places_and_fast_modes_multiply_the_prices_of_tokens(geo: str | None, tier: str | None, expected: str) -> None:
    entry = {
        "input_cost_per_token": 2,
        "provider_specific_entry": {"us": 1.1, "fast": 6},
        "search_context_cost_per_query": 1,
    }
    found = cost(entry, input_tokens=1, web_search_requests=1, inference_geo=geo, service_tier=tier)
    assert (found["input"][1], found["web_search"][1]) == (expected, "1")


@pytest.mark.parametrize(
    ("provider", "model", "geo", "dearer"),
    [
        ("anthropic", "claude-opus-4-6", "us", True), ("anthropic", "claude-opus-4-6", "global", False),
        ("openai", "gpt-5.4", "eu", True), ("openai", "gpt-4o", "eu", False), ("openai", "gpt-5.4", None, False),
        ("vertex_ai", "claude-sonnet-4-5", "europe-west1", True), ("vertex_ai", "claude-sonnet-4-5", "global", False),
        ("vertex_ai", "claude-3-haiku", "europe-west1", False), ("groq", "llama-3.3-70b-versatile", "us", False),
    ],
)  # fmt: skip
def test_a_place_costs_a_tenth_more_where_the_price_pages_say_so(
    provider: str, model: str, geo: str | None, dearer: bool
) -> None:
    plain = Decimal(cost(None, provider, model, input_tokens=10)["input"][1])
    found = Decimal(cost(None, provider, model, input_tokens=10, inference_geo=geo)["input"][1])
    assert found == (plain * Decimal("1.1") if dearer else plain)


def test_an_hour_is_rounded_to_the_last_digit_that_counts() -> None:
    assert cost(None, "groq", "whisper-large-v3", input_audio_ms=1000) == {"input_audio_ms": (1000, "0.111", 3_600_000)}
    found = Pricer().price(
        Usage(input_audio_ms=1000), provider="groq", response_model="whisper-large-v3", request_model=None,
        call_type="transcription", at=NOON,
    )  # fmt: skip
    assert found.total == Decimal("0.000030833333333333")


def test_every_class_of_the_built_in_list_is_one_that_a_usage_can_have() -> None:
    known = {*units._INSTEAD, *units._EXTRAS, "query", "request", "pages", "annotated_pages", "output_images"}
    known |= {name for pair in units._PARTS for name in pair}
    assert {name for name, _ in CLASSES.values()} <= known


PRICES = st.dictionaries(
    st.sampled_from(sorted({name for name, _ in CLASSES.values()} | {"output_images", "output_characters"})),
    st.builds(
        tariff.unit_price, st.decimals(0, 100, places=9), st.just(0), st.sampled_from([1, 1000, 3_600_000])
    ),
)  # fmt: skip


@given(models(Usage), PRICES, st.booleans())
def test_parts_are_never_negative_and_add_up_to_their_totals(usage: Usage, prices: Any, one_search: bool) -> None:
    found = dict(units.split(usage, prices, one_search=one_search))
    assert all(count > 0 for count in found.values())
    inputs = ("input", "cache_read", "cache_read_audio", "cache_read_image", "cache_write", "cache_write_1h",
              "input_audio", "input_image", "input_video")  # fmt: skip
    outputs = ("output", "reasoning", "output_audio", "output_image", "output_video")
    total_in, total_out = (sum(found.get(name, 0) for name in names) for names in (inputs, outputs))
    assert total_in <= usage.input_tokens
    assert total_out <= usage.output_tokens
    if not any(name in found for name in (*units._INSTEAD, "output_images")):
        # Nothing stands for tokens: every one of them is billed.
        assert (total_in, total_out) == (usage.input_tokens, usage.output_tokens)
    cached = sum(found.get(name, 0) for name in ("cache_read", "cache_read_audio", "cache_read_image"))
    assert cached <= min(usage.cache_read_tokens, usage.input_tokens)


@given(models(Usage), PRICES)
def test_a_breakdown_sums_to_its_total_exactly(usage: Usage, prices: Any) -> None:
    information = tariff.StandardLoggingModelInformation()
    found = tariff.Tariff("t", "price_map", None, information, (), (prices,), free=True).price(usage)
    if isinstance(found, str):
        assert "has no price for" in found
        return
    parts = {name: part for name, part in found.breakdown.items() if name != "total"}
    exact = tariff._EXACT
    total = Decimal(0)
    for part in parts.values():
        total = exact.add(total, Decimal(part["cost"]))
        whole = exact.multiply(Decimal(part["unit_price"]), part["units"])
        off = exact.subtract(exact.multiply(Decimal(part["cost"]), part.get("per", 1)), whole)
        assert abs(off) <= part.get("per", 1) * tariff._LAST_DIGIT / 2
        assert part.get("per", 1) != 1 or off == 0
    assert total == found.total == Decimal(found.breakdown["total"])


@given(models(Usage))
def test_any_usage_has_an_exact_cost_or_a_reason_in_both_lists(usage: Usage) -> None:
    for pricer, provider, model in (
        (Pricer({"m": FULL}), "openai", "m"), (Pricer(), "openai", "gpt-4o"), (Pricer(), "gemini", "gemini-2.5-flash"),
        (Pricer(), "groq", "whisper-large-v3"),
    ):  # fmt: skip
        found = pricer.price(
            usage, provider=provider, response_model=model, request_model=None, call_type="completion", at=NOON
        )
        assert (found.total is None) == (found.failure is not None)
        assert found.total is None or found.total >= 0


def test_every_count_has_a_class_or_is_no_unit_of_a_price() -> None:
    """A new count must be priced, or be said here to cost nothing of its own."""
    free = {"web_fetch_requests", "accepted_prediction_tokens", "rejected_prediction_tokens"}
    for name in set(COUNTS) - free:
        whole = "input_tokens" if name.startswith(("input", "cache")) else "output_tokens"
        parents = {"cache_write_1h_tokens": ["cache_write_tokens"], "annotated_pages": ["pages"],
                   "cache_read_audio_tokens": ["cache_read_tokens", "input_audio_tokens"],
                   "cache_read_image_tokens": ["cache_read_tokens", "input_image_tokens"]}.get(name, [])  # fmt: skip
        counted = {name: 3, **dict.fromkeys(parents, 3)} | (
            {whole: 20} if name.endswith("_tokens") and name != whole else {}
        )
        every = {name for name, _ in CLASSES.values()} | {"output_images", "output_characters", "query"}
        dear = {name: tariff.unit_price(Decimal(1)) for name in every - {"request"}}
        without = Usage(**{n: c for n, c in counted.items() if n != name})
        assert units.split(Usage(**counted), dear) != units.split(without, dear), name

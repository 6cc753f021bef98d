"""One entry of a price file -> unit prices by class, at each number of input tokens from where they change.

Always true: only what an entry says is a price; a malformed one is an error that names it.

Source of the keys and of what a missing one falls back to: LiteLLM's price file and its cost calculator (1.109).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Any, NamedTuple

from otel_llmlog.pricing.tariff import UnitPrice, is_sane, times, unit_price

# US dollars per token of each class. Each key may also end with `_above_<N>k_tokens`, a tier's suffix, or both.
_TOKENS = {
    "input": "input_cost_per_token",
    "cache_read": "cache_read_input_token_cost",
    "cache_read_audio": "cache_read_input_audio_token_cost",
    "cache_read_image": "cache_read_input_image_token_cost",
    "cache_write": "cache_creation_input_token_cost",
    "cache_write_1h": "cache_creation_input_token_cost_above_1hr",
    "input_audio": "input_cost_per_audio_token",
    "input_image": "input_cost_per_image_token",
    "input_video": "input_cost_per_video_token",
    "output": "output_cost_per_token",
    "reasoning": "output_cost_per_reasoning_token",
    "output_audio": "output_cost_per_audio_token",
    "output_image": "output_cost_per_image_token",
    "output_video": "output_cost_per_video_token",
}
# Anything else: key, and the number of our units that it prices. A key may also end with a tier's suffix.
_OTHERS = {
    "query": ("input_cost_per_query", 1),
    "request": ("input_cost_per_request", 1),
    "input_characters": ("input_cost_per_character", 1),
    "output_characters": ("output_cost_per_character", 1),
    "input_audio_ms": ("input_cost_per_audio_per_second", 1000),
    "output_audio_ms": ("output_cost_per_audio_per_second", 1000),
    "input_images": ("input_cost_per_image", 1),
    "output_images": ("output_cost_per_image", 1),
    "pages": ("ocr_cost_per_page", 1),
    "annotated_pages": ("annotation_cost_per_page", 1),
    "file_search": ("file_search_cost_per_1k_calls", 1000),
    "code_interpreter": ("code_interpreter_cost_per_session", 1),
}
# What a second means depends on what the model does; for others it is one of a rented machine.
_SECONDS = {
    "audio_transcription": ("input_audio_ms", ("output_cost_per_second", "input_cost_per_second")),
    "audio_speech": ("output_audio_ms", ("output_cost_per_second",)),
}
_PER_SEARCH = "search_context_cost_per_query"
_PER_PIXEL = ("input_cost_per_pixel", "output_cost_per_pixel")
# The size a search has when the request names none: https://platform.openai.com/docs/pricing
_SEARCH_SIZE = "medium"
_ABOVE = re.compile(r"(.+)_above_(\d{1,9})(k?)_tokens(_[a-z]+)?")
BATCH = "_batches"
_HALF = Decimal("0.5")
# Fireworks bills cached input at half the price where it names none: https://docs.fireworks.ai/serverless/pricing
_CACHED_AT_HALF = "fireworks_ai"
# https://docs.x.ai/docs/models: the higher price from the threshold on, not only above it.
_INCLUSIVE = "xai"

Prices = dict[str, UnitPrice]


class BadPriceError(Exception):
    """The message names the key and what stands there."""


class Terms(NamedTuple):
    """What of a call its unit prices depend on."""

    suffix: str = ""
    """Of the keys of its service tier."""
    search_size: str | None = None
    geo: str | None = None
    pixels: int = 0
    """Of each image made."""
    fast: bool = False
    """Asked for a model's fast mode."""


class Brackets(NamedTuple):
    """Ascending numbers of input tokens, and the prices up to, between and above them."""

    thresholds: tuple[int, ...]
    prices: tuple[Prices, ...]
    gaps: Mapping[str, str]
    """Why a class that is counted in something else than tokens has no price, where it is malformed."""


def brackets(entry: Mapping[str, Any], terms: Terms) -> Brackets:
    """The prices of an entry. Raises BadPriceError."""
    suffix = terms.suffix
    owner, listed = entry.get("litellm_provider"), entry.get("tiered_pricing")
    marks = _marks(entry, suffix)
    if isinstance(listed, list):
        thresholds, found = _by_range(entry, listed)
        if suffix == BATCH:
            found = [_halved(prices) for prices in found]
    else:
        thresholds = sorted(marks)
        found = []
        for crossed in range(len(thresholds) + 1):
            # The highest threshold crossed first.
            found.append(_tokens(entry, [*(marks[mark] for mark in reversed(thresholds[:crossed])), ""], suffix))
    common, gaps = _others(entry, terms)
    factor = _factor(entry, terms)
    for prices in found:
        if owner == _CACHED_AT_HALF and "cache_read" not in prices and "input" in prices:
            prices["cache_read"] = times(prices["input"], _HALF)
        if "output_images" in common and not any(price.amount for price in prices.values()):
            # Billed by the piece; that its tokens cost nothing is only said for form's sake.
            prices.clear()
        if factor != 1:
            prices.update({name: times(price, factor) for name, price in prices.items()})
        prices.update(common)
    if owner == _INCLUSIVE:
        thresholds = [threshold - 1 for threshold in thresholds]
    return Brackets(tuple(thresholds), tuple(found), gaps)


def off_peak(found: Brackets, block: Mapping[str, Any]) -> Brackets:
    """The same with the prices of an `off_peak_pricing`, which hold whatever the number of tokens."""
    cheaper = {name: unit_price(amount(key, block[key])) for name, key in _TOKENS.items() if block.get(key) is not None}
    return found._replace(prices=tuple({**prices, **cheaper} for prices in found.prices))


def amount(key: str, value: Any) -> Decimal:
    """The number under a key, exact. Raises BadPriceError."""
    if type(value) is float:
        # The shortest text that reads back as this float is what stood in the file.
        value = Decimal(repr(value))
    elif type(value) is int:
        value = Decimal(value)
    if not isinstance(value, Decimal) or not is_sane(value):
        found = f"a {type(value).__name__}" if isinstance(value, (Mapping, list)) else repr(value)[:40]
        raise BadPriceError(f"bad {key}: {found}")
    return value


def _marks(entry: Mapping[str, Any], suffix: str) -> dict[int, str]:
    marks: dict[int, str] = {}
    endings = {BATCH} if suffix == BATCH and _TOKENS["input"] + BATCH in entry else {"", suffix}
    for key in entry:
        match = _ABOVE.fullmatch(key) if isinstance(key, str) else None
        if match and match[1] in _TOKENS.values() and (match[4] or "") in endings:
            marks[int(match[2]) * (1000 if match[3] else 1)] = f"_above_{match[2]}{match[3]}_tokens"
    return marks


def _tokens(entry: Mapping[str, Any], marks: list[str], suffix: str) -> Prices:
    if suffix == BATCH:
        return _batch(entry, marks)
    # At each threshold, the tier's own price before the plain one.
    endings = [mark + end for mark in marks for end in dict.fromkeys((suffix, ""))]
    found = _first(entry, endings)
    # A plain reasoning price says nothing about reasoning in a tier or above a threshold that output has prices for.
    if "reasoning" in found and "output" in found and found["reasoning"][0] > found["output"][0]:
        del found["reasoning"]
    return _with_writes({name: unit_price(price) for name, (_, price) in found.items()})


def _first(entry: Mapping[str, Any], endings: Iterable[str]) -> dict[str, tuple[int, Decimal]]:
    """The first price of each class under these endings, and which of them it was."""
    found: dict[str, tuple[int, Decimal]] = {}
    for name, base in _TOKENS.items():
        for rank, ending in enumerate(endings):
            value = entry.get(base + ending)
            if value is not None:
                found[name] = rank, amount(base + ending, value)
                break
    return found


def _batch(entry: Mapping[str, Any], marks: list[str]) -> Prices:
    """Prices in a batch: its own; where there are none, half the plain ones, as all who sell batches have it.

    An entry that has batch prices has them for every part of text that is billed apart.
    """
    halves = _halved(_tokens(entry, marks, ""))
    own = {name: unit_price(price) for name, (_, price) in _first(entry, [mark + BATCH for mark in marks]).items()}
    if "input" not in own:
        return {**halves, **own}
    apart = {name: price for name, price in halves.items() if name.rpartition("_")[2] in {"audio", "image", "video"}}
    return _with_writes({"output": halves["output"], **apart, **own} if "output" in halves else {**apart, **own})


def _halved(prices: Prices) -> Prices:
    return {name: times(price, _HALF) for name, price in prices.items()}


def _with_writes(prices: Prices) -> Prices:
    """An hour's cache writes without a price for short ones: those cost what input costs."""
    if "cache_write_1h" in prices and "cache_write" not in prices and "input" in prices:
        prices["cache_write"] = prices["input"]
    return prices


def _by_range(entry: Mapping[str, Any], listed: list[Any]) -> tuple[list[int], list[Prices]]:
    """Prices by lists of ranges: the one that the input falls into prices the whole request."""
    ranges = []
    for tier in listed:
        bounds = tier.get("range") if isinstance(tier, Mapping) else None
        if not isinstance(bounds, list) or not bounds or "input_cost_per_token" not in tier:
            raise BadPriceError("bad tiered_pricing: a tier without its range or its price of input")
        ranges.append((amount("tiered_pricing range", bounds[0]), tier))
    if not ranges:
        raise BadPriceError("bad tiered_pricing: it is empty")
    ranges.sort(key=lambda found: found[0])
    output = {key: entry[key] for key in (_TOKENS["output"], _TOKENS["reasoning"]) if entry.get(key) is not None}
    found = []
    for _, tier in ranges:
        told = tier if _TOKENS["output"] in tier else {**output, **tier}
        found.append(_with_writes({name: unit_price(price) for name, (_, price) in _first(told, [""]).items()}))
    return [int(start) for start, _ in ranges[1:]], found


def _others(entry: Mapping[str, Any], terms: Terms) -> tuple[Prices, dict[str, str]]:
    """Prices of what is no token. A bad one is no reason against the others: who uses it is told."""
    prices: Prices = {}
    gaps: dict[str, str] = {}
    for name, key, value, per in _told(entry, terms):
        try:
            price = unit_price(amount(key, value), per=per)
        except BadPriceError as error:
            gaps.setdefault(name, f"has a {error}")
        else:
            prices.setdefault(name, times(price, Decimal(terms.pixels)) if key in _PER_PIXEL else price)
    return prices, {name: why for name, why in gaps.items() if name not in prices}


def _told(entry: Mapping[str, Any], terms: Terms) -> Iterator[tuple[str, str, Any, int]]:
    """(class, key, price, units that it is for), the first of a class wins."""
    for name, (base, per) in _OTHERS.items():
        key = next((key for key in (base + terms.suffix, base) if entry.get(key) is not None), None)
        if key is not None:
            yield name, key, entry[key], per
    named, keys = _SECONDS.get(str(entry.get("mode")), ("", ()))
    for key in keys:
        # A zero stands where the other key has the price.
        if entry.get(key):
            yield named, key, entry[key], 1000
    if entry.get("mode") == "image_generation" and entry.get("input_cost_per_image") is not None:
        # Images that are made are often listed as if they were sent.
        yield "output_images", "input_cost_per_image", entry["input_cost_per_image"], 1
    if terms.pixels:
        for key in _PER_PIXEL:
            if entry.get(key):
                yield "output_images", key, entry[key], 1
    search = entry.get(_PER_SEARCH)
    if isinstance(search, Mapping):
        sizes = (f"search_context_size_{size}" for size in (terms.search_size, _SEARCH_SIZE))
        search = next((search[size] for size in sizes if search.get(size) is not None), None)
    if search is not None:
        yield "web_search", _PER_SEARCH, search, 1


def _factor(entry: Mapping[str, Any], terms: Terms) -> Decimal:
    """What all token prices are multiplied by: for where the model runs, and for its fast mode."""
    special = entry.get("provider_specific_entry")
    special = special if isinstance(special, Mapping) else {}
    factor = Decimal(1)
    if terms.geo is not None:
        keys = {key: entry.get(key) for key in (f"regional_processing_uplift_multiplier_{terms.geo}",)}
        keys |= {key: special.get(key) for key in (terms.geo,)}
        if str(entry.get("litellm_provider")).startswith("vertex_ai") and terms.geo != "global":
            keys["regional_endpoint_uplift_multiplier"] = entry.get("regional_endpoint_uplift_multiplier")
        for key, value in keys.items():
            if value is not None:
                factor *= amount(key, value)
    if terms.fast and special.get("fast") is not None:
        factor *= amount("fast", special["fast"])
    return factor

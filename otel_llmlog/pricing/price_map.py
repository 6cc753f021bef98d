"""The user's own price file, in the format of LiteLLM's model_prices_and_context_window.json.

Always true: litellm itself is never imported; a malformed entry gives a reason and no cost; an entry that names its
provider prices that provider's calls only.

Source of the keys and of what a missing one falls back to: LiteLLM's price file and its cost calculator (1.106).
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

from otel_llmlog.errors import ConfigError
from otel_llmlog.payload import StandardLoggingModelInformation
from otel_llmlog.pricing.names import Names, Tier, forms
from otel_llmlog.pricing.tariff import Tariff, UnitPrice, is_sane, plain, unit_price

# US dollars per token of each class. Each key may also end with `_above_<N>k_tokens`, a tier's suffix, or both.
_KEYS = {
    "input": "input_cost_per_token",
    "cache_read": "cache_read_input_token_cost",
    "cache_read_audio": "cache_read_input_audio_token_cost",
    "cache_write": "cache_creation_input_token_cost",
    "cache_write_1h": "cache_creation_input_token_cost_above_1hr",
    "input_audio": "input_cost_per_audio_token",
    "output": "output_cost_per_token",
    "reasoning": "output_cost_per_reasoning_token",
    "output_audio": "output_cost_per_audio_token",
}
_PER_QUERY = "input_cost_per_query"
_PER_SEARCH = "search_context_cost_per_query"
# The size a search has when the request names none: https://platform.openai.com/docs/pricing
_SEARCH_SIZE = "search_context_size_medium"
_IMAGE_OUTPUT = "output_cost_per_image_token"
# Prices by time of day or by lists of ranges. Read without them, such an entry would give a wrong cost.
_UNREAD = ("off_peak_pricing", "tiered_pricing")
_ABOVE = re.compile(r"(.+)_above_(\d{1,9})(k?)_tokens(_[a-z]+)?")
_IMAGE_GAP = "prices image output apart, and the usage does not count it"


def parse_price_map(data: bytes) -> tuple[dict[str, Any], str]:
    """The models of a price file and the file's version, `sha256:` and 12 hex digits. Raises ConfigError."""
    try:
        models = json.loads(data, parse_float=_parse_float)
    except (ValueError, RecursionError) as error:
        reason = str(error).splitlines()[0] if isinstance(error, ValueError) else "it is nested too deep"
        raise ConfigError(f"LLMLOG_PRICE_MAP must name a JSON file of model prices: {reason}") from None
    if not isinstance(models, dict):
        raise ConfigError(
            f"LLMLOG_PRICE_MAP must hold one JSON object with a key for each model, found a {type(models).__name__}"
        )
    for model, entry in models.items():
        if not isinstance(entry, dict):
            raise ConfigError(
                f"LLMLOG_PRICE_MAP must hold an object of prices for each model, found a {type(entry).__name__}"
                f" for {model!r}"
            )
    return models, f"sha256:{hashlib.sha256(data).hexdigest()[:12]}"


def _parse_float(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation:
        # More exponent than a number can have: one bad entry is no reason to refuse the file.
        return Decimal("NaN")


class PriceMap:
    """A price file that has been read."""

    def __init__(self, models: Mapping[str, Any], version: str | None) -> None:
        self._models = models
        self._version = version

    def find(self, names: Names | None, models: Iterable[str], tier: Tier) -> tuple[Tariff | str | None, str]:
        """The tariff of the first of `models` that has an entry, or the reason why that entry cannot be used.

        None when there is no entry for this call; then the text names the entry that was passed over, if one was.
        """
        note = ""
        for model in models:
            for form in forms(model):
                for key in (form, *(f"{prefix}/{form}" for prefix in (names.litellm if names else ()))):
                    if key not in self._models:
                        continue
                    entry = self._models[key]
                    owner = _other_owner(entry, names)
                    if owner is not None:
                        note = note or f"its entry {key!r} there is for provider {owner!r}"
                        continue
                    unread = next((name for name in _UNREAD if isinstance(entry, Mapping) and name in entry), None)
                    if unread is not None:
                        # A less exact name may be another model's: better the built-in prices.
                        return None, f"its entry {key!r} there has {unread}, which is not read"
                    return self._tariff(key, entry, tier), ""
        return None, note

    def _tariff(self, key: str, entry: Any, tier: Tier) -> Tariff | str:
        name = f"price map entry {key!r}"
        if not isinstance(entry, Mapping):
            return f"{name} is no object of prices"
        try:
            thresholds, brackets = _brackets(entry, tier.suffix)
        except _BadPriceError as error:
            return f"{name} has a {error}"
        gaps = {}
        image = entry.get(_IMAGE_OUTPUT)
        for bracket in brackets:
            if image is not None and "output" in bracket and image != entry.get(_KEYS["output"]):
                del bracket["output"]
                gaps["output"] = _IMAGE_GAP
        information = StandardLoggingModelInformation(model_map_key=key, model_map_value=_excerpt(entry))
        return Tariff(name, "price_map", self._version, information, thresholds, brackets, gaps)


class _BadPriceError(Exception):
    """The message names the key and what stands there."""


def _other_owner(entry: Any, names: Names | None) -> str | None:
    """The provider that an entry is for, when that is not the call's."""
    owner = entry.get("litellm_provider") if isinstance(entry, Mapping) else None
    if not isinstance(owner, str) or not owner:
        return None
    # "vertex_ai-language-models" and its like are Vertex AI; other names have no dash, or are listed with it.
    if names and (owner in names.litellm or owner.partition("-")[0] in names.litellm):
        return None
    return owner


def _amount(key: str, value: Any) -> Decimal:
    if type(value) is float:
        # The shortest text that reads back as this float is what stood in the file.
        value = Decimal(repr(value))
    elif type(value) is int:
        value = Decimal(value)
    if not isinstance(value, Decimal) or not is_sane(value):
        found = f"a {type(value).__name__}" if isinstance(value, (Mapping, list)) else repr(value)[:40]
        raise _BadPriceError(f"bad {key}: {found}")
    return value


def _brackets(entry: Mapping[str, Any], suffix: str) -> tuple[tuple[int, ...], tuple[dict[str, UnitPrice], ...]]:
    marks: dict[int, str] = {}
    for key in entry:
        match = _ABOVE.fullmatch(key) if isinstance(key, str) else None
        if match and match[1] in _KEYS.values() and (match[4] or "") in {"", suffix}:
            marks[int(match[2]) * (1000 if match[3] else 1)] = f"_above_{match[2]}{match[3]}_tokens"
    thresholds = tuple(sorted(marks))
    brackets = []
    for crossed in range(len(thresholds) + 1):
        # The highest threshold crossed first; at each, the tier's own price before the plain one.
        marks_down = [*(marks[threshold] for threshold in reversed(thresholds[:crossed])), ""]
        endings = [mark + end for mark in marks_down for end in dict.fromkeys((suffix, ""))]
        brackets.append(_prices(entry, endings))
    return thresholds, tuple(brackets)


def _prices(entry: Mapping[str, Any], endings: list[str]) -> dict[str, UnitPrice]:
    found: dict[str, tuple[int, Decimal]] = {}
    for name, base in _KEYS.items():
        for rank, ending in enumerate(endings):
            value = entry.get(base + ending)
            if value is not None:
                found[name] = rank, _amount(base + ending, value)
                break
    # A plain reasoning price says nothing about reasoning in a tier or above a threshold that output has prices for.
    if "reasoning" in found and "output" in found and found["reasoning"][0] > found["output"][0]:
        del found["reasoning"]
    if "cache_write_1h" in found and "cache_write" not in found and "input" in found:
        found["cache_write"] = found["input"]
    prices = {name: unit_price(amount) for name, (_, amount) in found.items()}
    per_query = entry.get(_PER_QUERY)
    if per_query is not None:
        prices["query"] = unit_price(_amount(_PER_QUERY, per_query))
    per_search = entry.get(_PER_SEARCH)
    if isinstance(per_search, Mapping):
        per_search = per_search.get(_SEARCH_SIZE)
    if per_search is not None:
        prices["web_search"] = unit_price(_amount(_PER_SEARCH, per_search))
    return prices


def _excerpt(entry: Mapping[str, Any]) -> dict[str, Any]:
    """The parts of an entry that say what it is and what it costs, as JSON; money as text."""
    kept: dict[str, Any] = {}
    for key, value in entry.items():
        if key in {"litellm_provider", "mode"} and isinstance(value, str):
            kept[key] = value
        elif isinstance(key, str) and "cost" in key:
            if isinstance(value, Mapping):
                kept[key] = {str(size): _text(price) for size, price in value.items()}
            else:
                kept[key] = _text(value)
    return kept


def _text(value: Any) -> str | None:
    if value is None:
        return None
    try:
        return plain(_amount("", value))
    except _BadPriceError:
        return repr(value)[:40]

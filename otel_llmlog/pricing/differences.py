"""What changed between two lists of prices of one format: LiteLLM's price file, or genai-prices' data.

Always true: a price is compared as the number it is, not as it is written; a list is named by what it says, never
guessed from a file's name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, NamedTuple

from otel_llmlog.errors import ConfigError
from otel_llmlog.pricing import catalogue
from otel_llmlog.pricing.price_map import excerpt, read_json

# Of each model (provider/model, or the key of a price file), its prices by their path in the list.
Prices = dict[str, dict[str, str]]


class PriceList(NamedTuple):
    """A list of prices."""

    format: str
    """litellm or genai-prices."""
    models: Prices


class Difference(NamedTuple):
    """One price that is not what it was."""

    model: str
    price: str
    """Its path in the list, such as `input_mtok` or `input_cost_per_token`; empty: the whole model."""
    before: str | None
    """None: it was not there."""
    after: str | None


def built_in(at: datetime) -> PriceList:
    """The built-in prices as they are `at`."""
    return PriceList(catalogue.SOURCE, {name: dict(_flat(prices)) for name, prices in catalogue.everything(at)})


def read(data: bytes, at: datetime) -> PriceList:
    """A file in either format; of prices that change, those `at`. Raises ConfigError."""
    found = read_json(data, "a price list")
    if isinstance(found, list):
        return PriceList(
            catalogue.SOURCE, {name: dict(_flat(prices)) for name, prices in catalogue.everything(at, found)}
        )
    if not isinstance(found, dict):
        raise ConfigError(
            "a price list is a JSON object of models (LiteLLM's) or an array of providers (genai-prices')"
        )
    models = {key: entry for key, entry in found.items() if isinstance(entry, Mapping)}
    return PriceList("litellm", {key: dict(_flat(excerpt(entry))) for key, entry in models.items()})


def compare(before: PriceList, after: PriceList) -> list[Difference]:
    """All differences, by model and price. Raises ConfigError for lists of two formats."""
    if before.format != after.format:
        raise ConfigError(
            f"a list of {before.format} cannot be compared with one of {after.format}: their names differ"
        )
    return list(_differences(before.models, after.models))


def _differences(before: Prices, after: Prices) -> Iterator[Difference]:
    for model in sorted(before.keys() | after.keys()):
        old, new = before.get(model), after.get(model)
        if old is None or new is None:
            yield Difference(model, "", None if old is None else "listed", None if new is None else "listed")
            continue
        for price in sorted(old.keys() | new.keys()):
            if old.get(price) != new.get(price):
                yield Difference(model, price, old.get(price), new.get(price))


def _flat(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield from _flat(inner, f"{path}.{name}" if path else str(name))
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            yield from _flat(inner, f"{path}[{place}]")
    elif value is not None:
        yield path, str(value)

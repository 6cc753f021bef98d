"""The built-in prices: genai-prices' data as it is installed.

Always true: nothing is fetched, and prices that the app itself updated at run time are left aside, so that a version
always means the same prices; a model is looked up at the call's own provider only; totals equal those of
`genai_prices.calc_price` to the last digit.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from otel_llmlog.payload import StandardLoggingModelInformation
from otel_llmlog.pricing.names import Names, Tier, forms
from otel_llmlog.pricing.tariff import Tariff, UnitPrice, plain, unit_price

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, ModelPrice, Provider, TieredPrices

SOURCE = "genai-prices"
# Our class, by genai-prices' price key, and how many decimal places its unit is away from one of ours: `mtok` is a
# million tokens, `kcount` a thousand of something. Other keys price things that a Usage does not count.
CLASSES: Mapping[str, tuple[str, int]] = MappingProxyType(
    {
        "input_mtok": ("input", 6),
        "cache_read_mtok": ("cache_read", 6),
        "cache_audio_read_mtok": ("cache_read_audio", 6),
        "cache_write_mtok": ("cache_write", 6),
        "cache_write_1h_mtok": ("cache_write_1h", 6),
        "input_audio_mtok": ("input_audio", 6),
        "output_mtok": ("output", 6),
        "output_reasoning_mtok": ("reasoning", 6),
        "output_audio_mtok": ("output_audio", 6),
        "web_searches_kcount": ("web_search", 3),
        "requests_kcount": ("request", 3),
    }
)
# Output of a kind that a Usage does not tell from text, at up to twelve times its price.
_OTHER_OUTPUT = {"output_image_mtok": "image", "output_video_mtok": "video"}


@dataclass(frozen=True, slots=True, eq=False)
class Listed:
    """One model as a provider sells it. Prices may depend on the time, to the minute."""

    model: ModelInfo
    provider: str
    context: Mapping[str, str] | None
    timed: bool

    def tariff(self, at: datetime) -> Tariff:
        """Prices for a request made `at`."""
        prices = self.model.get_prices(at, self.context)
        key = f"{self.provider}/{self.model.id}"
        thresholds, brackets = _brackets(prices)
        gaps = {}
        kind = next((kind for name, kind in _OTHER_OUTPUT.items() if vars(prices).get(name) is not None), None)
        if kind is not None:
            for bracket in brackets:
                bracket.pop("output", None)
            gaps["output"] = f"prices {kind} output apart, and the usage does not count it"
        free = self.model.id.endswith(":free") and not any(brackets)
        if free:
            brackets = ({"input": unit_price(Decimal(0)), "output": unit_price(Decimal(0))},)
        value = {"provider": self.provider, "model": self.model.id, "prices": _as_json(prices)}
        return Tariff(
            f"genai-prices entry {key!r}",
            SOURCE,
            version(),
            StandardLoggingModelInformation(model_map_key=key, model_map_value=value),
            thresholds,
            brackets,
            gaps,
            free,
        )


# Imported at the first use, which is on a background thread: it takes half a second of the app's start otherwise.
@functools.cache
def _providers() -> dict[str, Provider]:
    from genai_prices.data import providers

    return {provider.id: provider for provider in providers}


@functools.cache
def version() -> str:
    """Version of the installed prices."""
    from genai_prices import __version__

    return __version__


def find(names: Names, models: Iterable[str], tier: Tier) -> Listed | None:
    """The first of `models` that the provider sells."""
    providers = _providers()
    provider = providers.get(names.genai or "")
    if provider is None:
        return None
    everyone = list(providers.values())
    for name in models:
        for form in forms(name):
            model = provider.find_model(form, all_providers=everyone)
            if model is not None:
                return _listed(provider, model, tier)
    return None


def _listed(provider: Provider, model: ModelInfo, tier: Tier) -> Listed:
    # A model that one provider resells for another has its owner's plain price, not the owner's tiers.
    own = any(model is candidate for candidate in provider.models)
    context = tier.context if own and tier.context else None
    timed = isinstance(model.prices, list) or (
        context is not None and any(variant.constraint is not None for variant in model.price_variants or ())
    )
    return Listed(model, provider.id, context, timed)


def moment(minute: int) -> datetime:
    """The start of a minute counted from the epoch. Raises OverflowError, OSError or ValueError."""
    return datetime.fromtimestamp(minute * 60, UTC)


def _brackets(prices: ModelPrice) -> tuple[tuple[int, ...], tuple[dict[str, UnitPrice], ...]]:
    known = [(*CLASSES[key], value) for key, value in vars(prices).items() if value is not None and key in CLASSES]
    starts = {tier.start for _, _, value in known if not isinstance(value, Decimal) for tier in value.tiers}
    thresholds = tuple(sorted(starts))
    brackets: list[dict[str, UnitPrice]] = []
    for crossed in range(len(thresholds) + 1):
        reached = thresholds[crossed - 1] if crossed else -1
        brackets.append({name: unit_price(_at(value, reached), places) for name, places, value in known})
    return thresholds, tuple(brackets)


def _at(price: Decimal | TieredPrices, reached: int) -> Decimal:
    if isinstance(price, Decimal):
        return price
    return next((tier.price for tier in reversed(price.tiers) if tier.start <= reached), price.base)


def _as_json(prices: ModelPrice) -> dict[str, Any]:
    listed: dict[str, Any] = {}
    for key, value in vars(prices).items():
        if isinstance(value, Decimal):
            listed[key] = plain(value)
        elif value is not None:
            tiers = [{"above": tier.start, "price": plain(tier.price)} for tier in value.tiers]
            listed[key] = {"base": plain(value.base), "tiers": tiers}
    return listed

"""Usage, model and time -> exact cost, with its source.

Always true: money is Decimal and exact; the order of trust is what the provider itself stated, the user's price file,
the built-in prices, and they are never mixed; an unknown cost is None with a reason, never a silent 0. No I/O, no
clock. A `Pricer` may be called from several threads.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from otel_llmlog.payload import (
    StandardLoggingModelCostFailureDebugInformation,
    StandardLoggingModelInformation,
    Usage,
)
from otel_llmlog.pricing import catalogue
from otel_llmlog.pricing.call import PLAIN, Call, call_of
from otel_llmlog.pricing.hours import Hourly
from otel_llmlog.pricing.names import MAX_NAME, provider_names
from otel_llmlog.pricing.price_map import PriceMap, parse_price_map
from otel_llmlog.pricing.tariff import Tariff, is_sane, plain

__all__ = ["NO_USAGE", "Call", "Cost", "Pricer", "Tariff", "parse_price_map"]

NO_USAGE = "the response carried no usage"
# Distinct (provider, models, terms) and (model, minute) that are remembered, found or not. An app calls a few dozen.
CACHE_SIZE = 1024
_NOTHING = StandardLoggingModelInformation()


@dataclass(frozen=True, slots=True)
class Cost:
    """What one call cost, where that is known from, and what it is made of."""

    total: Decimal | None
    """US dollars, exact; None when they are not known."""
    source: str | None
    """`provider`, `price_map` or `genai-prices`; None when the cost is not known."""
    version: str | None
    """Of the price data: the package's version, or `sha256:` and 12 hex digits of the price file."""
    breakdown: dict[str, Any] | None
    """For each class of tokens: units, US dollars for one, US dollars for all, money as text; and the total."""
    model_information: StandardLoggingModelInformation
    """The price entry that was used, its prices as they stand in the list (genai-prices: per million tokens)."""
    failure: StandardLoggingModelCostFailureDebugInformation | None
    """Why the cost is not known."""


class Pricer:
    """Prices calls from one price file, if there is one, and the built-in prices."""

    def __init__(self, price_map: Mapping[str, Any] | None = None, price_map_version: str | None = None) -> None:
        """Take what `parse_price_map` returned; without it, only the built-in prices are used."""
        self._map = None if price_map is None else PriceMap(price_map, price_map_version)
        # Only what repeats is remembered: looking a model up takes 10 to 200 µs, and a miss takes longest.
        self._find = functools.lru_cache(CACHE_SIZE)(self._look_up)
        self._tariff_at = functools.lru_cache(CACHE_SIZE)(_tariff_at)

    def price(
        self,
        usage: Usage,
        *,
        provider: str | None,
        response_model: str | None,
        request_model: str | None,
        call_type: str,
        at: float,
        cache_hit: bool | None = None,
    ) -> Cost:
        """Cost of one call made `at` (epoch seconds). `call_type` and `cache_hit` only describe a failure."""
        stated = usage.stated_cost
        if stated is not None:
            if is_sane(stated):
                return Cost(stated, "provider", None, {"total": plain(stated)}, _NOTHING, None)
            reason = "the provider stated a cost that cannot be one"
        elif usage.source is None and usage.is_empty:
            reason = NO_USAGE
        else:
            found = self._find(_short(provider), _short(response_model), _short(request_model), call_of(usage))
            if isinstance(found, (catalogue.Listed, Hourly)):
                found = self._timed(found, at)
            if isinstance(found, Tariff):
                priced = found.price(usage)
                if not isinstance(priced, str):
                    total, breakdown = priced
                    return Cost(total, found.source, found.version, breakdown, found.information, None)
                reason = priced
            else:
                reason = found
        failure = StandardLoggingModelCostFailureDebugInformation(
            error_str=reason,
            model=_short(response_model) or _short(request_model) or "",
            cache_hit=cache_hit,
            custom_llm_provider=_short(provider),
            call_type=call_type,
            custom_pricing=self._map is not None,
        )
        return Cost(None, None, None, None, _NOTHING, failure)

    def tariff(self, *, provider: str | None, model: str, at: float, call: Call = PLAIN) -> Tariff | str:
        """Unit prices of a model for a call made `at` (epoch seconds) on these terms, or why there are none."""
        found = self._find(_short(provider), _short(model), None, call)
        return self._timed(found, at) if isinstance(found, (catalogue.Listed, Hourly)) else found

    def known(self, provider: str | None) -> list[str]:
        """Names of the models that have prices at this provider, sorted; of all providers for None."""
        names = provider_names(provider) if provider else None
        found = set(catalogue.models(names)) | (self._map.models(names) if self._map is not None else set())
        return sorted(found)

    def sellers(self, model: str) -> list[str]:
        """Providers that have a price for this very model, those of the price file first."""
        own = self._map.owners(model) if self._map is not None else []
        return list(dict.fromkeys([*own, *catalogue.sellers(model)]))

    def _timed(self, listed: catalogue.Listed | Hourly, at: float) -> Tariff | str:
        try:
            return self._tariff_at(listed, int(at // 60))
        except (OverflowError, OSError, ValueError):
            return f"the price of {listed.name} depends on the time, and the call has no valid one"

    def _look_up(
        self, provider: str | None, response_model: str | None, request_model: str | None, call: Call
    ) -> Tariff | catalogue.Listed | Hourly | str:
        """Prices of what was called: to be used, to be asked for a time, or the reason why there are none."""
        models = [model for model in dict.fromkeys((response_model, request_model)) if model]
        if not models:
            return "neither request nor response names a model"
        names = provider_names(provider) if provider else None
        note = ""
        if self._map is not None:
            mapped, note = self._map.find(names, models, call)
            if mapped is not None:
                return mapped
        listed = catalogue.find(names, models, call) if names else None
        if listed is not None:
            # Without dates and hours in its prices, any moment gives the same tariff.
            return listed if listed.timed else _tariff_at(listed, 0)
        hint = f" ({note})" if note else ""
        if names is None:
            return (
                f"no price for model {models[0]!r}: its provider is not known, name it in LLMLOG_PROVIDER_HOSTS or "
                f"add the model to LLMLOG_PRICE_MAP{hint}"
            )
        return f"no price for model {models[0]!r} of provider {provider!r}: add it to LLMLOG_PRICE_MAP{hint}"


def _tariff_at(listed: catalogue.Listed | Hourly, minute: int) -> Tariff | str:
    return listed.tariff(catalogue.moment(minute))


def _short(name: str | None) -> str | None:
    """A name that may be kept in a cache and a sentence: names come from outside."""
    return name if name is None or len(name) <= MAX_NAME else name[:MAX_NAME]

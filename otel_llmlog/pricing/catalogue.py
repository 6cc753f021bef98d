"""The built-in prices: genai-prices' data as it is installed.

Always true: nothing is fetched, and prices that the app itself updated at run time are left aside, so that a version
always means the same prices; a model is looked up at the call's own provider only; totals equal those of
`genai_prices.calc_price` to the last digit.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

# Here and not at the first use: it brings in an HTTP client, httpx2, and the first use is on a background thread. An
# SDK that looks for that client in `sys.modules` would find half of it there.
import genai_prices

from otel_llmlog.errors import ConfigError
from otel_llmlog.payload import StandardLoggingModelInformation
from otel_llmlog.pricing.call import Call
from otel_llmlog.pricing.names import Names, forms, tier
from otel_llmlog.pricing.tariff import Tariff, UnitPrice, plain, times, unit_price

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, ModelPrice, Provider, TieredPrices

SOURCE = "genai-prices"
# Our class, by genai-prices' price key, and how many of our units that prices. Other keys price things that a Usage
# does not count.
CLASSES: Mapping[str, tuple[str, int]] = MappingProxyType(
    {
        "input_mtok": ("input", 10**6),
        "cache_read_mtok": ("cache_read", 10**6),
        "cache_audio_read_mtok": ("cache_read_audio", 10**6),
        "cache_image_read_mtok": ("cache_read_image", 10**6),
        "cache_write_mtok": ("cache_write", 10**6),
        "cache_write_1h_mtok": ("cache_write_1h", 10**6),
        "input_audio_mtok": ("input_audio", 10**6),
        "input_image_mtok": ("input_image", 10**6),
        "input_video_mtok": ("input_video", 10**6),
        "output_mtok": ("output", 10**6),
        "output_reasoning_mtok": ("reasoning", 10**6),
        "output_audio_mtok": ("output_audio", 10**6),
        "output_image_mtok": ("output_image", 10**6),
        "output_video_mtok": ("output_video", 10**6),
        "input_mchars": ("input_characters", 10**6),
        # Hours of audio, whichever way it goes; the next line is more exact.
        "audio_hours": ("input_audio_ms", 3_600_000),
        "input_audio_hours": ("input_audio_ms", 3_600_000),
        "output_audio_hours": ("output_audio_ms", 3_600_000),
        "input_document_kpages": ("pages", 1000),
        "input_annotated_document_kpages": ("annotated_pages", 1000),
        "rerank_searches_kcount": ("query", 1000),
        "web_searches_kcount": ("web_search", 1000),
        "storage_searches_kcount": ("file_search", 1000),
        "code_executions_kcount": ("code_interpreter", 1000),
        "requests_kcount": ("request", 1000),
    }
)
# Output of a kind that may be billed at up to twelve times the price of text.
_APART = {"output_image_mtok": "output_image", "output_video_mtok": "output_video"}
_TOKEN_KEYS = frozenset(key for key in CLASSES if key.endswith("_mtok"))
# Who sells batches at half the price of everything, by their own price pages; not each model is listed with it.
_HALF_IN_BATCHES = frozenset(
    {"openai", "azure", "anthropic", "google", "aws", "mistral", "groq", "together", "fireworks"}
)
_HALF = Decimal("0.5")
# What it costs that a model runs in one place: a tenth more, for models that the price pages say so of.
_IN_ONE_PLACE = Decimal("1.1")
_BY_PLACE: Mapping[str, re.Pattern[str]] = MappingProxyType(
    {
        # Only models that can be kept in one place say where they ran:
        # https://platform.claude.com/docs/en/build-with-claude/data-residency
        "anthropic": re.compile(""),
        # Said on the pages of these models and none before: https://developers.openai.com/api/docs/models/gpt-5.4-pro
        "openai": re.compile(r"gpt-(5\.[4-9]|[6-9]|realtime-2\.[1-9])"),
        # Claude 4.5 and later, at every endpoint but the global one:
        # https://platform.claude.com/docs/en/build-with-claude/claude-on-vertex-ai
        "google": re.compile(r"claude-[a-z]+-(4-[5-9]|[5-9])"),
    }
)
# Google bills a prompt that is grounded in a search, and from Gemini 3 on each search:
# https://ai.google.dev/gemini-api/docs/pricing
_ONE_SEARCH = ("gemini-1", "gemini-2")


@dataclass(frozen=True, slots=True, eq=False)
class Listed:
    """One model as a provider sells it. Prices may depend on the time, to the minute."""

    model: ModelInfo
    provider: str
    context: Mapping[str, str] | None
    timed: bool
    batch: bool
    """The call is one of a batch."""
    factor: Decimal
    """What every token price is multiplied by."""

    @property
    def name(self) -> str:
        """What the model is called in a sentence."""
        return f"model {self.model.id!r}"

    def tariff(self, at: datetime) -> Tariff | str:
        """Prices for a request made `at`, or why it has none."""
        prices = self.model.get_prices(at, self.context)
        key = f"{self.provider}/{self.model.id}"
        factor = self.factor
        if self.batch and not self._has_batch_prices(at):
            if self.provider not in _HALF_IN_BATCHES:
                return f"genai-prices entry {key!r} has no price for batches"
            factor *= _HALF
        thresholds, brackets = _brackets(prices, factor)
        free = self.model.id.endswith(":free") and not any(brackets)
        if free:
            brackets = ({"input": unit_price(Decimal(0)), "output": unit_price(Decimal(0))},)
        value = {"provider": self.provider, "model": self.model.id, "prices": _as_json(prices)}
        if factor != 1:
            value["factor"] = plain(factor)
        return Tariff(
            f"genai-prices entry {key!r}",
            SOURCE,
            version(),
            StandardLoggingModelInformation(model_map_key=key, model_map_value=value),
            thresholds,
            brackets,
            apart=tuple(name for key, name in _APART.items() if vars(prices).get(key) is not None),
            one_search=self.provider == "google" and self.model.id.startswith(_ONE_SEARCH),
            free=free,
        )

    def _has_batch_prices(self, at: datetime) -> bool:
        """Most are listed from some day on; batches were sold before."""
        return any(
            variant.when == self.context and (variant.constraint is None or variant.constraint.active(at))
            for variant in self.model.price_variants or ()
        )


# The data itself is imported at the first use: a megabyte and a half that not every program with us in it needs.
@functools.cache
def _providers() -> dict[str, Provider]:
    from genai_prices.data import providers

    return {provider.id: provider for provider in providers}


def version() -> str:
    """Version of the installed prices."""
    return genai_prices.__version__


def find(names: Names, models: Iterable[str], call: Call) -> Listed | None:
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
                return _listed(provider, model, call)
    return None


def models(names: Names | None) -> Iterable[str]:
    """Names of the models that a provider sells; of all there are for None."""
    providers = _providers()
    found = [providers.get(names.genai or "")] if names else list(providers.values())
    return [model.id for provider in found if provider is not None for model in provider.models]


def sellers(model: str) -> list[str]:
    """Providers that list this model themselves."""
    return [name for name, provider in _providers().items() if any(provider.find_model(form) for form in forms(model))]


def everything(at: datetime, raw: Any = None) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every model as provider/model, with its prices `at`; of the built-in data or of genai-prices' JSON, decoded.

    Raises ConfigError for JSON that is not that.
    """
    for provider in _providers().values() if raw is None else _read(raw):
        for model in provider.models:
            variants = {
                " ".join(f"{name}={value}" for name, value in variant.when.items()): _as_json(variant.prices)
                for variant in model.price_variants or ()
                if variant.constraint is None or variant.constraint.active(at)
            }
            yield (
                f"{provider.id}/{model.id}",
                _as_json(model.get_prices(at)) | ({"variants": variants} if variants else {}),
            )


def _read(raw: Any) -> list[Provider]:
    from genai_prices import types

    try:
        # What its own updater reads a newer list with; there is no public name for it.
        return types._providers_from_raw(raw)  # noqa: SLF001 - it has no public way
    except (ValueError, TypeError) as error:
        raise ConfigError(f"this is no price list of genai-prices {version()}: {str(error).splitlines()[0]}") from None


def _listed(provider: Provider, model: ModelInfo, call: Call) -> Listed:
    # A model that one provider resells for another has its owner's plain price, not the owner's tiers.
    own = any(model is candidate for candidate in provider.models)
    terms = tier(call.tier).context
    context = terms if own and terms else None
    factor = Decimal(1)
    variants = model.price_variants or ()
    if call.geo is not None and provider.id in _BY_PLACE and _BY_PLACE[provider.id].match(model.id):
        factor *= _IN_ONE_PLACE
    timed = isinstance(model.prices, list) or (
        context is not None and any(variant.constraint is not None for variant in variants)
    )
    return Listed(model, provider.id, context, timed, call.tier == "batch", factor)


def moment(minute: int) -> datetime:
    """The start of a minute counted from the epoch. Raises OverflowError, OSError or ValueError."""
    return datetime.fromtimestamp(minute * 60, UTC)


def _brackets(prices: ModelPrice, factor: Decimal) -> tuple[tuple[int, ...], tuple[dict[str, UnitPrice], ...]]:
    # In the order of CLASSES: of two keys for one class the later is the more exact.
    known = [(key, value) for key in CLASSES if (value := vars(prices).get(key)) is not None]
    starts = {tier.start for _, value in known if not isinstance(value, Decimal) for tier in value.tiers}
    thresholds = tuple(sorted(starts))
    brackets: list[dict[str, UnitPrice]] = []
    for crossed in range(len(thresholds) + 1):
        reached = thresholds[crossed - 1] if crossed else -1
        brackets.append({CLASSES[key][0]: _unit(key, _at(value, reached), factor) for key, value in known})
    return thresholds, tuple(brackets)


def _unit(key: str, amount: Decimal, factor: Decimal) -> UnitPrice:
    count = CLASSES[key][1]
    places = len(str(count)) - 1
    price = unit_price(amount, places) if count == 10**places else unit_price(amount, per=count)
    return times(price, factor) if factor != 1 and key in _TOKEN_KEYS else price


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

"""The user's own price file, in the format of LiteLLM's model_prices_and_context_window.json.

Always true: litellm itself is never imported; a malformed entry gives a reason and no cost; an entry that names its
provider prices that provider's calls only.

What stands in an entry is read in `entry`, the hours of its prices in `hours`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

from otel_llmlog.errors import ConfigError
from otel_llmlog.payload import StandardLoggingModelInformation
from otel_llmlog.pricing import hours
from otel_llmlog.pricing.call import Call
from otel_llmlog.pricing.entry import BadPriceError, Brackets, Terms, amount, brackets, off_peak
from otel_llmlog.pricing.names import Names, forms, tier
from otel_llmlog.pricing.tariff import Tariff, plain

# Containers for code have no model: LiteLLM lists them under a name of their own.
_CONTAINER = "container"
# Google bills a prompt that is grounded in a search, unless the entry says that it bills each search:
# https://ai.google.dev/gemini-api/docs/pricing
_GROUNDING = ("gemini", "vertex_ai")


def parse_price_map(data: bytes, name: str = "LLMLOG_PRICE_MAP") -> tuple[dict[str, Any], str]:
    """The models of a price file and the file's version, `sha256:` and 12 hex digits. Raises ConfigError."""
    models = read_json(data, name)
    if not isinstance(models, dict):
        raise ConfigError(
            f"{name} must hold one JSON object with a key for each model, found a {type(models).__name__}"
        )
    for model, entry in models.items():
        if not isinstance(entry, dict):
            raise ConfigError(
                f"{name} must hold an object of prices for each model, found a {type(entry).__name__} for {model!r}"
            )
    return models, f"sha256:{hashlib.sha256(data).hexdigest()[:12]}"


def read_json(data: bytes, name: str) -> Any:
    """The JSON of a file of prices, its numbers exact. Raises ConfigError."""
    try:
        return json.loads(data, parse_float=_parse_float)
    except (ValueError, RecursionError) as error:
        reason = str(error).splitlines()[0] if isinstance(error, ValueError) else "it is nested too deep"
        raise ConfigError(f"{name} must name a JSON file of model prices: {reason}") from None


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

    def find(
        self, names: Names | None, models: Iterable[str], call: Call
    ) -> tuple[Tariff | hours.Hourly | str | None, str]:
        """The tariff of the first of `models` that has an entry, or the reason why that entry cannot be used.

        None when there is no entry for this call; then the text names the entry that was passed over, if one was.
        """
        note = ""
        for model in models:
            for form in forms(model):
                for key in _keys(form, names, call):
                    if key not in self._models:
                        continue
                    entry = self._models[key]
                    owner = _other_owner(entry, names)
                    if owner is None:
                        return self._tariff(key, entry, names, call), ""
                    note = note or f"its entry {key!r} there is for provider {owner!r}"
        return None, note

    def models(self, names: Names | None) -> set[str]:
        """Keys of entries for calls of this provider; all for None."""
        return {key for key, entry in self._models.items() if names is None or _other_owner(entry, names) is None}

    def owners(self, model: str) -> list[str]:
        """Providers that entries of exactly this name, or with a provider before it, are for."""
        found = [
            entry.get("litellm_provider")
            for key, entry in self._models.items()
            if isinstance(entry, Mapping) and (key == model or key.partition("/")[2] == model)
        ]
        return [owner for owner in found if isinstance(owner, str)]

    def _tariff(self, key: str, entry: Any, names: Names | None, call: Call) -> Tariff | hours.Hourly | str:
        name = f"price map entry {key!r}"
        if not isinstance(entry, Mapping):
            return f"{name} is no object of prices"
        block = entry.get("off_peak_pricing")
        try:
            entry = self._with_container(entry, names)
            found = brackets(entry, _terms(call))
            if block is None:
                return self._of(name, key, entry, found)
            if not isinstance(block, Mapping):
                return f"{name} has a bad off_peak_pricing: a {type(block).__name__}"
            peak, cheap = self._of(name, key, entry, found), self._of(name, key, entry, off_peak(found, block))
            return hours.Hourly(name, peak, cheap, hours.rules(block))
        except BadPriceError as error:
            return f"{name} has a {error}"

    def _of(self, name: str, key: str, entry: Mapping[str, Any], found: Brackets) -> Tariff:
        # Where output of another kind has the price of text, nobody needs to tell one from the other.
        kinds = ("output_image", "output_video")
        apart = tuple(
            kind
            for kind in kinds
            if any(kind in prices and prices.get("output") not in {None, prices[kind]} for prices in found.prices)
        )
        owner = entry.get("litellm_provider")
        grounded = isinstance(owner, str) and owner.startswith(_GROUNDING)
        return Tariff(
            name,
            "price_map",
            self._version,
            StandardLoggingModelInformation(model_map_key=key, model_map_value=excerpt(entry)),
            *found,
            apart=apart,
            one_search=grounded and entry.get("web_search_billing_unit") != "per_query",
        )

    def _with_container(self, entry: Mapping[str, Any], names: Names | None) -> Mapping[str, Any]:
        """The entry with the price of a container for code, where that is listed apart."""
        price = "code_interpreter_cost_per_session"
        if price in entry:
            return entry
        for prefix in names.litellm if names else ():
            container = self._models.get(f"{prefix}/{_CONTAINER}")
            if isinstance(container, Mapping) and container.get(price) is not None:
                return {**entry, price: container[price]}
        return entry


def _terms(call: Call) -> Terms:
    return Terms(tier(call.tier).suffix, call.search_size, call.geo, call.pixels, call.tier == "fast")


def _keys(form: str, names: Names | None, call: Call) -> Iterator[str]:
    """What a model may be listed under: images by their quality and size first."""
    prefixes = names.litellm if names else ()
    size = call.image_size and call.image_size.replace("x", "-x-")
    if size:
        bare = form.rpartition("/")[2]
        for start in (f"{call.image_quality}/{size}", size) if call.image_quality else (size,):
            yield f"{start}/{bare}"
            for prefix in prefixes:
                yield f"{prefix}/{start}/{bare}"
                yield f"{start}/{prefix}/{bare}"
    yield form
    for prefix in prefixes:
        yield f"{prefix}/{form}"


def _other_owner(entry: Any, names: Names | None) -> str | None:
    """The provider that an entry is for, when that is not the call's."""
    owner = entry.get("litellm_provider") if isinstance(entry, Mapping) else None
    if not isinstance(owner, str) or not owner:
        return None
    # "vertex_ai-language-models" and its like are Vertex AI; other names have no dash, or are listed with it.
    if names and (owner in names.litellm or owner.partition("-")[0] in names.litellm):
        return None
    return owner


def excerpt(entry: Mapping[str, Any]) -> dict[str, Any]:
    """The parts of an entry that say what it is and what it costs, as JSON; money as text."""
    kept: dict[str, Any] = {}
    for key, value in entry.items():
        if key in {"litellm_provider", "mode"} and isinstance(value, str):
            kept[key] = value
        elif isinstance(key, str) and ("cost" in key or "pricing" in key or "multiplier" in key):
            kept[key] = _texts(value)
    return kept


def _texts(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(name): _texts(part) for name, part in value.items()}
    return [_texts(part) for part in value] if isinstance(value, list) else _text(value)


def _text(value: Any) -> str | None:
    if value is None:
        return None
    try:
        return plain(amount("", value))
    except BadPriceError:
        return repr(value)[:40]

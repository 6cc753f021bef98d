"""Unit prices of one model, and the exact cost of one usage under them.

Always true: a cost is exact to its last digit, whatever decimal context the app has set; the parts of a breakdown
add up to its total; a class with units and no price gives a reason, never a zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Context, Decimal, Inexact, InvalidOperation, Overflow
from typing import Any, NamedTuple

from otel_llmlog.payload import StandardLoggingModelInformation, Usage

# Dollars per unit have at most 6 digits before the point and MAX_DECIMALS after it; times a count of 13 digits,
# summed over a dozen classes, that needs 60. Inexact is trapped: rounding here would be a bug, not a result.
MAX_DECIMALS = 40
MAX_PRICE_DIGITS = 6
_EXACT = Context(prec=80, traps=[Inexact, InvalidOperation, Overflow])

# Parts that stay in their whole when a price list has no price for them; the deepest first.
_PARTS = (
    ("cache_read_audio", "cache_read"),
    ("cache_write_1h", "cache_write"),
    ("input_audio", "input"),
    ("reasoning", "output"),
    ("output_audio", "output"),
)
# Classes that are counted in something else than tokens.
_NOT_TOKENS = {"web_search": "web searches", "query": "queries", "request": "requests"}


class UnitPrice(NamedTuple):
    """US dollars for one unit, and the same as text."""

    amount: Decimal
    text: str


class Priced(NamedTuple):
    """Exact US dollars, with what they are made of."""

    total: Decimal
    breakdown: dict[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class Tariff:
    """Unit prices of one model at one time and service tier."""

    name: str
    """What the entry is called in a sentence, such as `price map entry 'gpt-4o'`."""
    source: str
    version: str | None
    information: StandardLoggingModelInformation
    thresholds: tuple[int, ...]
    """Ascending numbers of input tokens; a request with more of them is billed wholly at the next bracket."""
    brackets: tuple[Mapping[str, UnitPrice], ...]
    """Prices by class, one mapping more than thresholds."""
    gaps: Mapping[str, str] = field(default_factory=dict)
    """Why a class has no price, where there is more to say than that it is missing."""
    free: bool = False
    """The price list says in so many words that the model costs nothing."""

    def price(self, usage: Usage) -> Priced | str:
        """Cost of `usage`, or one sentence why there is none."""
        number = 0
        for threshold in self.thresholds:
            if usage.input_tokens <= threshold:
                break
            number += 1
        prices = self.brackets[number]
        total = _ZERO
        breakdown: dict[str, Any] = {}
        for name, units in _split(usage, prices):
            if not units:
                continue
            price = prices.get(name)
            if price is None:
                return f"{self.name} {self.gaps.get(name) or f'has no price for {_plural(name)}'}"
            cost = _EXACT.multiply(price.amount, units)
            total = _EXACT.add(total, cost)
            breakdown[name] = {"units": units, "unit_price": price.text, "cost": plain(cost)}
        if not total and breakdown and not self.free and not ("input" in prices and "output" in prices):
            return f"{self.name} gives a price of 0 without saying that both input and output are free"
        text = plain(total)
        breakdown["total"] = text
        return Priced(Decimal(text), breakdown)


_ZERO = Decimal(0)


def _plural(name: str) -> str:
    return _NOT_TOKENS.get(name) or f"{name} tokens"


def _split(usage: Usage, prices: Mapping[str, UnitPrice]) -> list[tuple[str, int]]:
    """Units of each class, every token in exactly one: a part without a price of its own stays in its whole."""
    read, write = usage.cache_read_tokens, usage.cache_write_tokens
    audio_in, audio_out, reasoning = usage.input_audio_tokens, usage.output_audio_tokens, usage.reasoning_tokens
    output = usage.output_tokens
    searches = usage.web_search_requests
    if read or write or audio_in or audio_out or reasoning:
        if read + write > usage.input_tokens or audio_out + reasoning > output:
            usage = usage.bounded()
            read, write = usage.cache_read_tokens, usage.cache_write_tokens
            audio_out = usage.output_audio_tokens
            reasoning = min(usage.reasoning_tokens, output - audio_out)
        if "cache_read" not in prices:
            read = 0
        if "cache_write" not in prices:
            write = 0
        hour = min(usage.cache_write_1h_tokens, write)
        uncached = usage.input_tokens - read - write
        # Nobody reports how much of the audio was cached: only what cannot have been sent afresh counts as such.
        fresh_audio = min(audio_in, uncached)
        read_audio = min(audio_in - fresh_audio, read)
        units = {
            "input": uncached - fresh_audio,
            "cache_read": read - read_audio,
            "cache_read_audio": read_audio,
            "cache_write": write - hour,
            "cache_write_1h": hour,
            "input_audio": fresh_audio,
            "output": output - reasoning - audio_out,
            "reasoning": reasoning,
            "output_audio": audio_out,
        }
        for part, whole in _PARTS:
            if units[part] and part not in prices:
                units[whole] += units.pop(part)
        classes = list(units.items())
    else:
        classes = [("input", usage.input_tokens), ("output", output)]
    if "request" in prices:
        # A fee for each request stands for the searches that the request makes.
        classes.append(("request", 1))
        if "web_search" not in prices:
            searches = 0
    if "query" in prices:
        classes.append(("query", 1))
    if searches:
        classes.append(("web_search", searches))
    return classes


def is_sane(amount: Decimal) -> bool:
    """Whether `amount` is a finite, non-negative number of dollars that can be written out without filling memory."""
    return (
        amount.is_finite()
        and not amount.is_signed()
        and amount.adjusted() < MAX_PRICE_DIGITS
        and int(amount.as_tuple().exponent) >= -MAX_DECIMALS
    )


def unit_price(amount: Decimal, places: int = 0) -> UnitPrice:
    """`amount` US dollars for 10 ** `places` units."""
    # A shift of the decimal point is exact where a division may round.
    amount = _EXACT.scaleb(amount, -places)
    return UnitPrice(amount, plain(amount))


def plain(amount: Decimal) -> str:
    """`amount` in digits, without an exponent and without zeros that say nothing."""
    text = format(amount, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text

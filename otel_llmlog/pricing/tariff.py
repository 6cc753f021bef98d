"""Unit prices of one model, and the exact cost of one usage under them.

Always true: a cost is exact to its last digit, whatever decimal context the app has set (a price for an hour may have
no end of digits for a millisecond: then it is rounded to DECIMALS); the parts of a breakdown add up to its total; a
class with units and no price gives a reason, never a zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import ROUND_HALF_EVEN, Context, Decimal, Inexact, InvalidOperation, Overflow
from typing import Any, NamedTuple

from otel_llmlog.payload import StandardLoggingModelInformation, Usage
from otel_llmlog.pricing.units import plural, split

# Dollars per unit have at most 6 digits before the point and MAX_DECIMALS after it; times a count of 13 digits,
# summed over a dozen classes, that needs 60. Inexact is trapped: rounding here would be a bug, not a result.
MAX_DECIMALS = 40
MAX_PRICE_DIGITS = 6
_EXACT = Context(prec=80, traps=[Inexact, InvalidOperation, Overflow])
# Digits after the point of the cost of one class, where a division has no end.
DECIMALS = 18
_ROUNDED = Context(prec=80, rounding=ROUND_HALF_EVEN, traps=[InvalidOperation, Overflow])
_LAST_DIGIT = Decimal(1).scaleb(-DECIMALS)


class UnitPrice(NamedTuple):
    """US dollars for `per` units, and the same as text."""

    amount: Decimal
    text: str
    per: int = 1


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
    apart: tuple[str, ...] = ()
    """Classes of output at another price than text: a usage that tells none of them from text is no usage to bill."""
    one_search: bool = False
    """A call that searches is billed for one search, however many it makes."""
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
        classes = split(usage, prices, one_search=self.one_search)
        if self.apart and usage.output_tokens and not any(name in self.apart for name, _ in classes):
            kinds = " and ".join(name.removeprefix("output_") for name in self.apart)
            return f"{self.name} prices {kinds} output apart, and the usage does not count it"
        for name, units in classes:
            price = prices.get(name)
            if price is None:
                return f"{self.name} {self.gaps.get(name) or f'has no price for {plural(name)}'}"
            cost = _EXACT.multiply(price.amount, units)
            part = {"units": units, "unit_price": price.text}
            if price.per != 1:
                cost = _divided(cost, price.per)
                part["per"] = price.per
            total = _EXACT.add(total, cost)
            part["cost"] = plain(cost)
            breakdown[name] = part
        if not total and breakdown and not self.free and not ("input" in prices and "output" in prices):
            return f"{self.name} gives a price of 0 without saying that both input and output are free"
        text = plain(total)
        breakdown["total"] = text
        return Priced(Decimal(text), breakdown)


_ZERO = Decimal(0)


def _divided(amount: Decimal, per: int) -> Decimal:
    try:
        return _EXACT.divide(amount, Decimal(per))
    except Inexact:
        return _ROUNDED.quantize(_ROUNDED.divide(amount, Decimal(per)), _LAST_DIGIT)


def is_sane(amount: Decimal) -> bool:
    """Whether `amount` is a finite, non-negative number of dollars that can be written out without filling memory."""
    return (
        amount.is_finite()
        and not amount.is_signed()
        and amount.adjusted() < MAX_PRICE_DIGITS
        and int(amount.as_tuple().exponent) >= -MAX_DECIMALS
    )


def unit_price(amount: Decimal, places: int = 0, per: int = 1) -> UnitPrice:
    """`amount` US dollars for 10 ** `places` times `per` units."""
    # A shift of the decimal point is exact where a division may round.
    amount = _EXACT.scaleb(amount, -places)
    return UnitPrice(amount, plain(amount), per)


def times(price: UnitPrice, factor: Decimal) -> UnitPrice:
    """`factor` times the price."""
    return unit_price(_EXACT.multiply(price.amount, factor), per=price.per)


def plain(amount: Decimal) -> str:
    """`amount` in digits, without an exponent and without zeros that say nothing."""
    text = format(amount, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text

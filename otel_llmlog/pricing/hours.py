"""Prices by time of day: `off_peak_pricing` of a price file.

Always true: a moment is off peak or it is not, by UTC hours, on weekdays of the time zone that the block names; a
block that cannot be read is an error, not a price.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from otel_llmlog.pricing.entry import BadPriceError
from otel_llmlog.pricing.tariff import Tariff

_WINDOW = re.compile(r"\s*(\d\d):(\d\d)\s*-\s*(\d\d):(\d\d)\s*")
_DAY = 24 * 60
_WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_EVERY_DAY = frozenset(range(1, 8))


@dataclass(frozen=True, slots=True)
class Rule:
    """Hours on some days of the week. Minutes from midnight UTC, the end not included; ISO days, Monday is 1."""

    start: int
    end: int
    days: frozenset[int]
    zone: ZoneInfo

    def holds(self, at: datetime) -> bool:
        """Whether `at` (UTC) is in these hours. A window that ends before it starts goes on past midnight."""
        minute = at.hour * 60 + at.minute
        inside = self.start <= minute < self.end
        if self.start >= self.end:
            inside = minute >= self.start or minute < self.end
        return inside and at.astimezone(self.zone).isoweekday() in self.days


@dataclass(frozen=True, slots=True, eq=False)
class Hourly:
    """A tariff for most of the time and one for the hours off peak."""

    name: str
    peak: Tariff
    off_peak: Tariff
    rules: tuple[Rule, ...]

    def tariff(self, at: datetime) -> Tariff:
        """Prices for a request made `at` (UTC)."""
        return self.off_peak if any(rule.holds(at) for rule in self.rules) else self.peak


def rules(block: Mapping[str, Any]) -> tuple[Rule, ...]:
    """The hours of an `off_peak_pricing`. Raises BadPriceError."""
    zone = _zone(block.get("weekday_timezone"))
    windows = block.get("windows") or []
    if not isinstance(windows, list) or not all(isinstance(window, Mapping) for window in windows):
        raise BadPriceError("bad off_peak_pricing: its windows are no list of objects")
    found = [rule for text in _texts(block.get("hours_utc")) for rule in (_rule(text, _EVERY_DAY, zone),)]
    for window in windows:
        days = _days(window.get("weekdays"))
        found += [_rule(text, days, zone) for text in _texts(window.get("hours_utc"))]
    if not found:
        raise BadPriceError("bad off_peak_pricing: it names no hours")
    return tuple(found)


def _texts(value: Any) -> list[Any]:
    return [] if value is None else value if isinstance(value, list) else [value]


def _rule(text: Any, days: frozenset[int], zone: ZoneInfo) -> Rule:
    match = _WINDOW.fullmatch(text) if isinstance(text, str) else None
    hours = [int(part) for part in match.groups()] if match else []
    if not hours or hours[0] > 24 or hours[2] > 24 or hours[1] > 59 or hours[3] > 59:
        raise BadPriceError(f"bad off_peak_pricing: hours {str(text)[:40]!r}")
    return Rule((hours[0] * 60 + hours[1]) % _DAY, (hours[2] * 60 + hours[3]) % _DAY, days, zone)


def _days(value: Any) -> frozenset[int]:
    if value is None:
        return _EVERY_DAY
    found = set()
    for day in value if isinstance(value, list) else [value]:
        named = day[:3].lower() if isinstance(day, str) else None
        number = _WEEKDAYS.index(named) + 1 if named in _WEEKDAYS else day
        if type(number) is not int or number not in _EVERY_DAY:
            raise BadPriceError(f"bad off_peak_pricing: weekday {str(day)[:40]!r}")
        found.add(number)
    return frozenset(found)


def _zone(name: Any) -> ZoneInfo:
    try:
        return ZoneInfo(name or "UTC")
    except (ValueError, TypeError, OSError, LookupError):
        raise BadPriceError(f"bad off_peak_pricing: time zone {str(name)[:40]!r}") from None

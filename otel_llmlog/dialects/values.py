"""Values of attributes from anybody: numbers that may be text, JSON that may be none, names that may be anything.

Always true: nothing here raises, whatever it is given; a count is never negative; names are clean and short.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

import msgspec

from otel_llmlog import redact
from otel_llmlog.payload import MAX_COUNT

# Characters of a JSON text or of a Python repr that is looked into for numbers and names, not for content.
MAX_JSON = 1 << 20
# What may be believed of a cost: US dollars, less than any single token costs, and less than any call.
_LEAST, _MOST = Decimal("1e-12"), Decimal(10**6)
# An enum value as APIs write them. Anything else in its place could be content.
_WORD = re.compile(r"[A-Za-z]+(?:[_.-][A-Za-z0-9]+)*")
# A name of a class, such as `openai.RateLimitError`, or an HTTP status.
_CLASS = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*|[1-5]\d\d")
_decode = msgspec.json.Decoder().decode


def count(value: Any) -> int | None:
    """A number of tokens; None for whatever is none."""
    if value.__class__ is int:
        return value if 0 <= value <= MAX_COUNT else None
    if value.__class__ is float:
        return count(int(value)) if math.isfinite(value) and value.is_integer() else None
    if value.__class__ is str and len(value) <= 20:
        return count(int(value)) if value.isascii() and value.isdigit() else None
    return None


def seconds(value: Any) -> float | None:
    """A span of time, or a time, in seconds; None for whatever is none."""
    if value.__class__ is str and len(value) <= 40:
        try:
            value = float(value)
        except ValueError:
            return None
    if value.__class__ is int or value.__class__ is float:
        return float(value) if 0 <= value < 1e11 else None
    return None


def cost(value: Any) -> Decimal | None:
    """US dollars that somebody states. A zero often means "not priced", so it says nothing."""
    if value.__class__ is float:
        # Fifteen digits are what a float holds for certain; the rest is dust of its additions.
        value = f"{value:.15g}"
    elif value.__class__ is int:
        value = str(value) if 0 < value < 10**9 else ""
    if value.__class__ is not str or len(value) > 64:
        return None
    try:
        stated = Decimal(value)
    except InvalidOperation:
        return None
    return stated if stated.is_finite() and _LEAST <= stated < _MOST else None


def flag(value: Any) -> bool | None:
    """A truth value, which some write as text."""
    if value.__class__ is bool:
        return bool(value)
    if value.__class__ is str:
        return {"true": True, "false": False}.get(value.lower()) if len(value) < 8 else None
    return None


def word(value: Any) -> str | None:
    """An enum value such as `end_turn`; None for anything that could be content."""
    if value.__class__ is str and len(value) <= 64 and _WORD.fullmatch(value):
        return str(value)
    return None


def class_name(value: Any) -> str | None:
    """The name of an error's class, without its module; None for anything that could be content."""
    if value.__class__ is int:
        value = str(value) if 100 <= value < 600 else None
    if value.__class__ is str and len(value) <= 200 and _CLASS.fullmatch(value):
        return str(value).rpartition(".")[2]
    return None


def json_of(value: Any) -> Any:
    """JSON text as data; data as it is; None when it is no JSON."""
    if value.__class__ is not str:
        return value if isinstance(value, Mapping | list | tuple) else None
    if len(value) > MAX_JSON:
        return None
    try:
        return _decode(value)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        return None


def mapping(value: Any) -> Mapping[str, Any]:
    """The object, or the JSON text of one; an empty one for anything else."""
    found = value if isinstance(value, Mapping) else json_of(value) if value.__class__ is str else None
    return found if isinstance(found, Mapping) else {}


def items(value: Any) -> list[Any]:
    """The list, or the JSON text of one, or a single value as one; empty for nothing."""
    if value.__class__ is str:
        found = json_of(value) if value[:1] in '["' else None
        value = found if found is not None else value
    if isinstance(value, list | tuple):
        return list(value)
    return [] if value is None else [value]


def words(value: Any) -> list[str]:
    """Enum values, such as finish reasons: a list, or the JSON text of one."""
    return [found for one in items(value)[:64] if (found := word(one))]


def names(value: Any, most: int = 64) -> list[str]:
    """Names, such as tags: a list, or the JSON text of one."""
    return [found for one in items(value)[:most] if (found := redact.name(one))]

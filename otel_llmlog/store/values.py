"""Values from outside -> the text that Postgres reads for one column.

Always true: what is returned is readable for that column type; anything else raises Odd, whose words quote no value.
"""

from __future__ import annotations

import json
import time
from decimal import Decimal
from functools import lru_cache
from typing import Any

import msgspec

from otel_llmlog.redact import MAX_NAME, short, storable

# Digits before and after the point of an amount: more than any currency, few enough to add up fast.
_DIGITS = 40
_YEAR_1, _YEAR_10000 = -62_135_596_800, 253_402_300_800


class Odd(Exception):  # noqa: N818 - it says what is odd
    """A value is not as our own emitter writes it; the argument says which."""


_raw = msgspec.json.Decoder(msgspec.Raw)


def document(text: Any) -> str:
    """JSON text from outside, checked without building it; made storable where Postgres would refuse it."""
    return safe(checked(text))


def checked(text: Any) -> str:
    """As `document`, but for escapes of NUL, which jsonb refuses: see `safe`."""
    if text.__class__ is not str:
        raise Odd("JSON text is not text")
    try:
        _raw.decode(text)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        return _storable(text)
    return text


def safe(text: str) -> str:
    """JSON text without escapes of NUL. What looks like one may be a backslash and five letters: the slow way tells."""
    return _storable(text) if "\\u0000" in text else text


def _storable(text: str) -> str:
    try:
        return json.dumps(storable(json.loads(text)), ensure_ascii=False, allow_nan=False)
    except (ValueError, RecursionError):
        raise Odd("JSON text is not JSON") from None


def money(value: Any) -> str:
    """An amount as a plain decimal; negative, absurd and non-finite ones are odd."""
    if value.__class__ is float:
        value = repr(value)
    elif value.__class__ is not str:
        raise Odd("an amount is not a number")
    if len(value) <= _DIGITS and value.replace(".", "", 1).isdecimal() and value.isascii():
        return value  # type: ignore[no-any-return]
    try:
        amount = Decimal(value)
    except ArithmeticError:
        raise Odd("an amount is not a number") from None
    if not amount.is_finite() or amount < 0 or amount.adjusted() > _DIGITS:
        raise Odd("an amount is negative, too large or no number")
    # Dust that a computation with floats left behind is cut off.
    text = f"{amount:f}"
    return text if len(text) <= 2 * _DIGITS else f"{amount:.{_DIGITS}f}".rstrip("0").rstrip(".")


def tags(value: Any) -> str:
    if not value:
        return "{}"
    if value.__class__ is not tuple and value.__class__ is not list:
        raise Odd("request_tags is no list")
    try:
        joined = '","'.join(value)
    except TypeError:
        raise Odd("request_tags holds something else than text") from None
    if len(joined) > MAX_NAME and max(map(len, value)) > MAX_NAME:
        return tags([*map(short, value)])
    if "\\" in joined or joined.count('"') != 2 * len(value) - 2:
        joined = '","'.join(tag.replace("\\", "\\\\").replace('"', '\\"') for tag in value)
    return '{"' + joined + '"}'


@lru_cache(maxsize=4096)
def _second(text: str) -> str:
    # Rows of one batch share their seconds, so this is called far less often than once a row.
    second = int(text)
    if not _YEAR_1 <= second < _YEAR_10000:
        raise Odd("a time is not between the years 1 and 9999")
    t = time.gmtime(second)
    return f"{t[0]:04d}-{t[1]:02d}-{t[2]:02d} {t[3]:02d}:{t[4]:02d}:{t[5]:02d}."


def timestamp(microseconds: int) -> str:
    if microseconds.__class__ is int and microseconds >= 1_000_000:
        # Its digits are there already. Cutting them is cheaper than computing.
        text = str(microseconds)
        return f"{_second(text[:-6])}{text[-6:]}+00"
    second, fraction = divmod(microseconds, 1_000_000)
    return f"{_second(str(second))}{fraction:06d}+00"

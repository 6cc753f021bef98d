"""Reading JSON that nobody vouches for.

Always true: no input raises; time is linear in the size; what cannot be read whole is read in part, and the note
says so. Four readers are tried, from the fastest and strictest to a search for the few fields that money needs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import msgspec
from pydantic_core import from_json

_TOP_LEVEL = msgspec.json.Decoder(dict[str, msgspec.Raw])
# An enum value as APIs write them. Anything else in its place could be content.
_WORDS = re.compile(r"[a-z]+(?:[_-][a-z]+)*")
_FIELD_NAME = re.compile(r"[a-z][A-Za-z0-9_]{0,63}")
# How names of counts end.
_COUNTS = ("_tokens", "TokenCount", "_count", "_units", "_processed")
# Fields named in a note. No usage object has more counts.
_NAMED = 20
# Bytes after a field's name in which the search for it ends: usage objects are below 2 KB.
_FIELD_BYTES = 8192
_SALVAGED = ("usage", "usageMetadata", "usage_info", "meta", "error", "prompt_eval_count", "eval_count")
_NAMES = ("id", "model")
_LEADING = re.compile(
    rb'\s*+\{?\s*+"([A-Za-z_]{1,48})"\s*+:\s*+("[^"\\\n]{0,512}"|-?[0-9][0-9.eE+-]{0,24}|null|true|false)\s*+,?'
)
# Strings, which end at the end of a line at the latest because JSON escapes those; braces; and the brace in the first
# column with which Google begins each element of an array.
_BRACES = re.compile(rb'"(?:[^"\\\n]|\\.)*+(?:"|\\?\Z|\\?(?=\n))|\n\{|[{}]')


class Reading(NamedTuple):
    """One JSON object, its fields decoded when asked for, and what was wrong with it."""

    fields: Mapping[str, Any]
    note: str | None = None

    def get(self, name: str) -> Any:
        """A field's value; None when it is missing or cannot be read."""
        value = self.fields.get(name)
        return value_of(value) if isinstance(value, msgspec.Raw) else value

    def whole(self) -> dict[str, Any]:
        """All fields."""
        return {name: self.get(name) for name in self.fields}


def value_of(raw: bytes | msgspec.Raw) -> Any:
    """One JSON value; None when it cannot be read."""
    try:
        return msgspec.json.decode(raw)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return _tolerant(bytes(raw))


def _tolerant(data: bytes) -> Any:
    """As the standard library reads it: NaN, lone surrogates and broken UTF-8 are let through."""
    try:
        return json.loads(data.decode("utf-8", "replace"))
    except (ValueError, RecursionError):
        return None


def read_object(data: bytes) -> Reading:
    """The JSON object in `data`. Never raises: an unreadable one is empty, with a note."""
    try:
        return Reading(_TOP_LEVEL.decode(data))
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        pass
    if not data.strip():
        return Reading({}, "the body is empty")
    found = _tolerant(data)
    if isinstance(found, dict):
        return Reading(found)
    if found is not None:
        return Reading({}, "the body is no JSON object")
    return Reading(*_partial(data))


def _partial(data: bytes) -> tuple[dict[str, Any], str]:
    try:
        found = from_json(data, allow_partial=True)
        if isinstance(found, dict) and found:
            return found, "the body is cut off: read in part"
    except (ValueError, RecursionError):
        pass
    salvaged = _names(data)
    salvaged |= {name: value for name in _SALVAGED if (value := _salvage(data, name)) is not None}
    return salvaged, "the body is no readable JSON" + (": read in part" if salvaged else "")


def _names(data: bytes) -> dict[str, Any]:
    """Those before which nothing but names, numbers and words stands: further down, one could be anybody's content."""
    found: dict[str, Any] = {}
    at = 0
    while (field := _LEADING.match(data, at)) is not None:
        if (name := field[1].decode()) in _NAMES:
            found[name] = value_of(field[2])
        at = field.end()
    return found


def _salvage(data: bytes, name: str) -> Any:
    """The last value that follows `"name":` anywhere in the bytes."""
    at = data.rfind(b'"%b"' % name.encode())
    if at < 0:
        return None
    text = data[at + len(name) + 2 : at + _FIELD_BYTES].decode("utf-8", "replace").lstrip()
    if not text.startswith(":"):
        return None
    try:
        return json.JSONDecoder().raw_decode(text[1:].lstrip())[0]
    except (ValueError, RecursionError):
        return None


def integer(value: Any) -> int:
    """A token count; 0 for whatever is none (the model bounds it)."""
    if isinstance(value, bool):
        return 0
    if isinstance(value, int):
        return value
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) < 1e18 else 0


def word(value: Any) -> str | None:
    """An enum value such as `rate_limit_error`; None for anything that could be content."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 100_000:
        return str(value)
    return value if isinstance(value, str) and len(value) <= 64 and _WORDS.fullmatch(value) else None


def enum(value: Any) -> str | None:
    """An enum value such as `MAX_TOKENS`, in lower case; None for anything that could be content."""
    return word(value.lower() if isinstance(value, str) and len(value) <= 64 else value)


def encoded(value: Any) -> bytes:
    """Data that was read as JSON, as JSON again."""
    return json.dumps(value).encode()


def unwrapped(data: bytes) -> bytes:
    """An object without the array of one around it, as Google answers where a stream was asked for."""
    bare = data.strip()
    return bare[1:-1] if bare.startswith(b"[") and bare.endswith(b"]") else data


def elements(array: bytes) -> Iterator[tuple[bytes, int]]:
    """The objects of an array, and the offset at which each ended. The last one comes also when it was cut off."""
    depth, start = 0, 0
    for token in _BRACES.finditer(array):
        brace = token[0]
        if brace == b"{" or (brace == b"\n{" and depth == 0):
            if depth == 0:
                start = token.end() - 1
            depth += 1
        elif brace == b"\n{":
            # Only an element begins in the first column: the one before it has lost its end.
            yield array[start : token.start()], token.start()
            depth, start = 1, token.end() - 1
        elif brace == b"}" and depth:
            depth -= 1
            if depth == 0:
                yield array[start : token.end()], token.end()
    if depth:
        yield array[start:], len(array)


def mapping(value: Any) -> Mapping[str, Any]:
    """The value if it is an object, else an empty one."""
    return value if isinstance(value, dict) else {}


def items(value: Any) -> list[Any]:
    """The value if it is an array, else an empty one."""
    return value if isinstance(value, list) else []


def text(value: Any) -> str:
    """The value if it is a string, else the empty one."""
    return value if isinstance(value, str) else ""


def odd_counts(usage: Mapping[str, Any]) -> tuple[str, ...]:
    """A note when a usage object holds numbers that are no counts (NaN, negative, absurd, text)."""
    flat = list(usage.items())
    for value in usage.values():
        if isinstance(value, dict):
            flat.extend(value.items())
    odd = {n for n, v in flat if n.endswith(_COUNTS) and v is not None and not _is_count(v)}
    # A name that no API would give to a field could be content.
    names = sorted({n if _FIELD_NAME.fullmatch(n) else "(a name that is none)" for n in odd})
    return (f"usage has fields that are no counts: {', '.join(names[:_NAMED])}",) if odd else ()


def _is_count(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return 0 <= value <= 10**12 and value == int(value)

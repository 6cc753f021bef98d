"""Credentials in whatever holds them: JSON-like data, and text that is JSON, YAML, an environment, a command, a header.

Always true: time is linear in the size (what is encoded in what is encoded is followed a few levels down), nesting is
bounded, and what was masked once is not changed again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any, NamedTuple

from otel_llmlog.redact.assignments import mask_assignments
from otel_llmlog.redact.names import Holds, holds, is_credential
from otel_llmlog.redact.shapes import MASK, decoded, longest_word, mask_shapes
from otel_llmlog.redact.text import MAX_DEPTH, MAX_NAME, TOO_DEEP, clean
from otel_llmlog.redact.urls import mask_urls, unescaped

# Levels of what is encoded: JSON as a string of JSON, in base64, in a URL.
_LEVELS = 4
# Shorter ones hold no name and value: `pin=1`.
_SHORTEST = 5
# Short names of nothing but letters, digits and what joins them: no credential is so short, but for `sk-1234`.
_SHORT = 12
_PLAIN = re.compile(r"(?:[A-Za-rt-z0-9_.@+/]|s(?!k-)|-(?!-))*+")
# Ids of replies, traces and spans, which are new with each call.
_ID = re.compile(r"(?:chatcmpl|cmpl|gen|msg|req|resp|run)[-_][A-Za-z0-9]{8,64}|[0-9a-f-]{12,64}")
# Text without any of these holds no structure.
_MARKS = ("=", ":", '"', "'", "<", "--", " -p", " -u", "password")
_SHORTEST_BASE64 = 16
_BASE64 = re.compile(r"(?<![\w+/=-])[A-Za-z0-9+/_-]{16,}+(?:\r?\n[A-Za-z0-9+/_-]++)*+={0,2}(?![\w+/=-])", re.ASCII)
_ESCAPED = re.compile(r"(?<!\S)[^\s%]*+%[0-9A-Fa-f]{2}\S*+")
_LINE_ENDS = str.maketrans("", "", "\r\n")
# What name and value are called where each has a field of its own.
_NAMES = frozenset({
    "name", "Name", "NAME", "key", "Key", "KEY", "field", "Field", "header", "Header", "variable", "env", "id", "label",
    "param", "parameter", "property", "setting", "k",
})  # fmt: skip
_VALUES = frozenset({
    "value", "Value", "VALUE", "val", "v", "values", "content", "data", "default", "new_value", "newValue", "old_value",
    "oldValue", "new", "old", "to", "from", "after", "before", "secretValue", "string_value", "stringValue",
})  # fmt: skip
_PLAIN_NAME = re.compile(r"[A-Za-z]+(?:[_.-]?[A-Za-z]+){0,12}\d{0,2}")
_PLAIN_WORD = re.compile(r"[A-Za-z_]{1,40}")
_USER = frozenset({"-u", "--user"})


def mask(text: str, level: int = 0) -> str:
    """The text with everything masked that has the shape of a credential, or stands behind the name of one."""
    if len(text) < _SHORTEST or (_PLAIN if len(text) < _SHORT else _ID).fullmatch(text):
        return text
    if any(map(text.__contains__, _MARKS)):
        if level < _LEVELS:
            text = _mask_json(text, level)
        if "://" in text:
            text = mask_urls(text)
        text = mask_assignments(text)
    text = mask_shapes(text)
    if level < _LEVELS and longest_word(text) >= _SHORTEST_BASE64:
        text = _BASE64.sub(lambda found: _mask_base64(found[0], level), text)
    if level < _LEVELS and "%" in text:
        text = _ESCAPED.sub(lambda found: _mask_escaped(found[0], level), text)
    return text


def masked(value: Any, level: int = 0, depth: int = MAX_DEPTH) -> Any:
    """JSON-like data with credentials masked, by the name of their field and by their shape."""
    if isinstance(value, str):
        return mask(value, level)
    if isinstance(value, dict | list | tuple) and depth <= 0:
        return TOO_DEEP
    if isinstance(value, dict):
        return _mask_fields(value, level, depth - 1)
    if isinstance(value, list | tuple):
        return _mask_items(value, level, depth - 1)
    return value


def _mask_fields(fields: dict[Any, Any], level: int, depth: int) -> dict[str, Any]:
    named = _named(fields)
    kept: dict[str, Any] = {}
    for field, value in fields.items():
        name = str(field)
        if named is not None and name in _VALUES:
            hidden = named.is_secret and value is not None and not isinstance(value, bool)
        elif named is not None and name == named.field and named.is_plain:
            hidden = False
        else:
            hidden = is_credential(name, value)
        shown = mask(name, level) if len(name) > _SHORTEST else name
        if shown in kept:
            shown = f"{shown} {len(kept)}"
        kept[shown] = MASK if hidden else masked(value, level, depth)
    return kept


class _Named(NamedTuple):
    """An object that holds a name and its value: `{"key": "region", "value": …}`."""

    field: str
    """Which field holds the name."""
    is_secret: bool
    is_plain: bool
    """It looks like a name, whatever its field is called."""


def _named(fields: dict[Any, Any]) -> _Named | None:
    if _NAMES.isdisjoint(fields) or _VALUES.isdisjoint(fields):
        return None
    given = [
        _Named(field, is_secret, is_secret or _PLAIN_NAME.fullmatch(name) is not None)
        for field in fields
        if field in _NAMES and isinstance(name := fields[field], str)
        for is_secret in (holds(name) is not Holds.NOTHING,)
    ]
    return next((one for one in given if one.is_secret), given[0] if given else None)


def _mask_items(items: Iterable[Any], level: int, depth: int) -> list[Any]:
    """A list, in which one item may be the name of the next: `["--password", "…"]`, `["Authorization", "…"]`."""
    given = list(items)
    kept: list[Any] = []
    before: Any = None
    for item in given:
        hidden = (
            isinstance(before, str)
            and isinstance(item, str | int)
            and not isinstance(item, bool)
            and (
                (before in _USER and ":" in str(item))
                or (
                    len(before) <= MAX_NAME
                    and "=" not in before
                    and is_credential(before, str(item))
                    and (len(given) == 2 or before.startswith("-") or not _PLAIN_WORD.fullmatch(str(item)))
                )
            )
        )
        kept.append(MASK if hidden else masked(item, level, depth))
        before = None if hidden else item
    return kept


def _mask_json(text: str, level: int) -> str:
    bare = text.strip()
    if bare[:1] not in '{["' or bare[-1:] not in '}]"' or len(bare) < 2:
        return text
    try:
        found = json.loads(bare)
    except (ValueError, RecursionError):
        return text
    try:
        hidden = masked(found, level + 1)
        return text if hidden == found else clean(json.dumps(hidden, ensure_ascii=text.isascii()))
    except (ValueError, RecursionError):
        return MASK


def _mask_base64(run: str, level: int) -> str:
    said = decoded(run.translate(_LINE_ENDS))
    return MASK if said is not None and mask(said, level + 1) != said else run


def _mask_escaped(run: str, level: int) -> str:
    said = unescaped(run)
    # In a form, a plus is a space; elsewhere it is itself.
    ways = (said, unescaped(run.replace("+", " "))) if "+" in run else (said,)
    return MASK if any(mask(way, level + 1) != way for way in ways) else run

"""Text and data made fit to store: no NUL or lone surrogate (Postgres and OTLP refuse both), bounded in size."""

from __future__ import annotations

import math
import re
from hashlib import sha256
from typing import Any

# Levels of nested content that are kept. Real messages and tool schemas stay below 20.
MAX_DEPTH = 64
TOO_DEEP = "[nested too deep]"
# Characters of a name (model, id, user, tag, …) that are kept. The longest real ones are Bedrock ARNs, below 300.
MAX_NAME = 512
# A longer one ends in a mark and half a SHA-256 of all of it, in hex.
_MARK = "…"
_CUT = MAX_NAME - len(_MARK) - 32

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


def clean(text: str) -> str:
    """The text with every NUL and lone surrogate replaced by U+FFFD."""
    if text.isascii() and "\0" not in text:
        return text
    return _UNSTORABLE.sub("\ufffd", text)


def short(text: str, whole: str | None = None) -> str:
    """A name as clean text of at most `MAX_NAME` characters, which every index takes.

    A longer one is cut, and says so: equal names stay equal, others stay others, and what was cut before stays as it
    is. `whole`: the name, if `text` is what may be shown of it.
    """
    whole = text if whole is None else whole
    if len(whole) <= MAX_NAME:
        return clean(text)[:MAX_NAME]
    return clean(text[:MAX_NAME])[:_CUT] + _MARK + sha256(clean(whole).encode()).hexdigest()[:32]


def beginning(name: str) -> str:
    """What a name and the same name made `short` begin with."""
    return name[:_CUT] if len(name) >= MAX_NAME else name


def storable(value: Any, limit: int | None = None, depth: int = MAX_DEPTH) -> Any:
    """JSON-like data made fit to store: clean strings, each cut to `limit` characters, depth bounded.

    What JSON does not know, an app's own object in its metadata say, becomes text.
    """
    if isinstance(value, str):
        return clean(value if limit is None else cut(value, limit))
    if isinstance(value, dict | list | tuple) and depth <= 0:
        return TOO_DEEP
    if isinstance(value, dict):
        return {
            clean((k if isinstance(k, str) else _shown(k))[:MAX_NAME]): storable(v, limit, depth - 1)
            for k, v in value.items()
        }
    if isinstance(value, list | tuple):
        return [storable(item, limit, depth - 1) for item in value]
    if value is None or isinstance(value, int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    return storable(_shown(value), limit)


def _shown(value: Any) -> str:
    try:
        return str(value)
    except Exception:  # an object of the app's may fail in its own ways
        return f"[{type(value).__name__}]"


def cut(text: str, limit: int) -> str:
    """At most `limit` characters of a string: 35 % head, 65 % tail and between them how much was left out.

    The proportion is LiteLLM's, whose users know it: the end of a prompt is what was asked.
    """
    if len(text) <= limit:
        return text
    marker = f"... [{len(text) - limit} characters skipped] ..."
    head = limit * 35 // 100
    return text[:head] + marker + text[len(text) - (limit - head) :]

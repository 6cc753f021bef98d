"""What an app hands over as before and after -> plain JSON data without secrets, and notes on what was left out.

Always true: `snapshot` never raises and never runs for longer than its limits allow; what it returns is JSON, shares
nothing with what it was given, and credentials in it are masked as `redact` knows them. An object that is no data is
kept as the name of its type: its text could quote anything.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import math
import string
from collections.abc import Iterable, Mapping, Sequence, Set as AbstractSet
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from typing import Any
from uuid import UUID

from pydantic import BaseModel, SecretBytes, SecretStr

from otel_llmlog.redact import MASK, MAX_DEPTH, MAX_NAME, TOO_DEEP, clean, mask, masked

# Characters of one text, items of one value and characters of all of it that are kept: a row stays below 2 MB.
MAX_TEXT = 32_768
MAX_ITEMS = 20_000
MAX_CHARACTERS = 1 << 20
MAX_NOTES = 20
LEFT_OUT = "[left out]"
CYCLE = "[contains itself]"
_INTEGERS = range(-(10**30), 10**30)
# What keys are made of, and the characters of the longest.
_KEY_CHARACTERS = string.ascii_letters + string.digits + "_.+/=-"
_LONGEST_KEY = 4_096
# Characters of one text that are looked through for credentials; of a longer one as many, from both its ends.
_MAX_MASKED = 1 << 20


def snapshot(value: Any, name: str) -> tuple[Any, list[str]]:
    """The value as it is now, and notes that begin with `name` and the place in it."""
    taken = _Snapshot()
    try:
        kept = masked(taken.take(value, name))
    except Exception as error:  # whatever an app's own container does when it is read
        return LEFT_OUT, [f"{name}: could not be read ({type(error).__name__})"]
    return kept, taken.notes()


class _Snapshot:
    def __init__(self) -> None:
        self._inside: set[int] = set()
        self._items = 0
        self._characters = 0
        self._notes: dict[str, None] = {}

    def notes(self) -> list[str]:
        given = list(self._notes)
        more = len(given) - MAX_NOTES
        return [*given[:MAX_NOTES], f"and {more} notes like these"] if more > 0 else given

    def _note(self, place: str, said: str) -> None:
        if len(self._notes) <= 10 * MAX_NOTES:
            self._notes[f"{clean(mask(place[:MAX_NAME]))}: {said}"] = None

    def take(self, value: Any, place: str) -> Any:
        self._items += 1
        if self._items > MAX_ITEMS or self._characters > MAX_CHARACTERS:
            self._note(place.partition(".")[0], "is too large; the rest is left out")
            return LEFT_OUT
        plain, done = self._scalar(value, place)
        if done:
            return plain
        if id(value) in self._inside:
            self._note(place, "contains itself")
            return CYCLE
        if len(self._inside) >= MAX_DEPTH:
            self._note(place, "is nested too deep")
            return TOO_DEEP
        self._inside.add(id(value))
        try:
            return self._container(value, place)
        except Exception as error:  # the app's own class fails in its own ways
            self._note(place, f"could not be read ({type(error).__name__})")
            return LEFT_OUT
        finally:
            self._inside.discard(id(value))

    def _scalar(self, value: Any, place: str) -> tuple[Any, bool]:
        if value is None or value is True or value is False:
            return value, True
        if isinstance(value, Enum):
            return self._scalar(value.value, place)
        if isinstance(value, str):
            return self._text(str(value), place), True
        if isinstance(value, int):
            if value in _INTEGERS:
                return int(value), True
            self._note(place, "is a number of too many digits")
            return LEFT_OUT, True
        if isinstance(value, float):
            if math.isfinite(value):
                return float(value), True
            self._note(place, "is no finite number, kept as text")
            return repr(float(value)), True
        if isinstance(value, SecretStr | SecretBytes):
            return MASK, True
        if isinstance(value, bytes | bytearray | memoryview):
            self._note(place, "is bytes, kept as their number")
            return f"[{len(value)} bytes]", True
        if isinstance(value, Decimal | UUID | dt.datetime | dt.date | dt.time | dt.timedelta | PurePath):
            text = value.isoformat() if isinstance(value, dt.datetime | dt.date | dt.time) else str(value)
            return self._text(text, place), True
        return None, False

    def _text(self, text: str, place: str) -> str:
        if len(text) > MAX_TEXT:
            self._note(place, f"is cut, {len(text)} characters")
            # What is masked afterwards could have lost its name, or its beginning, at the cut.
            text = _cut(mask(_cut(text, _MAX_MASKED)), MAX_TEXT)
        text = clean(text)
        self._characters += len(text)
        return text

    def _container(self, value: Any, place: str) -> Any:
        if (fields := _fields(value)) is not None:
            return self._mapping(fields, place)
        if isinstance(value, Sequence | AbstractSet):
            items: Iterable[Any] = value
            if isinstance(value, AbstractSet):
                items = sorted(value, key=repr) if len(value) <= MAX_ITEMS else value
            kept = []
            for number, item in enumerate(items):
                kept.append(self.take(item, f"{place}.{number}"))
                if kept[-1] is LEFT_OUT and self._items > MAX_ITEMS:
                    break
            return kept
        self._note(place, f"is a {type(value).__name__}, which is no data")
        return clean(f"[{type(value).__name__}]")

    def _mapping(self, fields: Iterable[tuple[Any, Any]], place: str) -> dict[str, Any]:
        kept: dict[str, Any] = {}
        for key, item in fields:
            field = self._field(key, kept)
            if self._items > MAX_ITEMS:
                self._note(place.partition(".")[0], "is too large; the rest is left out")
                break
            below = f"{place}.{field}"
            kept[field] = self.take(item, below)
        return kept

    def _field(self, key: Any, kept: Mapping[str, Any]) -> str:
        text = key if isinstance(key, str) else self._scalar(key, "")[0]
        field = clean(str(text if text is not None else type(key).__name__)[:MAX_NAME])
        if field not in kept:
            return field
        return f"{field} {len(kept)}"


def _cut(text: str, most: int) -> str:
    """A third of it from its beginning, the rest from its end. Half a key has no key's shape: words at the cut go."""
    if len(text) <= most:
        return text
    head, tail = text[: most // 3], text[-(most - most // 3) :]
    head = head[:-_LONGEST_KEY] + head[-_LONGEST_KEY:].rstrip(_KEY_CHARACTERS)
    tail = tail[:_LONGEST_KEY].lstrip(_KEY_CHARACTERS) + tail[_LONGEST_KEY:]
    return f"{head}... [{len(text) - most} characters skipped] ...{tail}"


def _fields(value: Any) -> Iterable[tuple[Any, Any]] | None:
    """Names and values of what has such: mappings, models, dataclasses, rows. None: it has none."""
    if isinstance(value, Mapping):
        return value.items()
    if isinstance(value, type):
        return None
    if isinstance(value, BaseModel):
        return {
            **{name: getattr(value, name) for name in type(value).model_fields},
            **(value.model_extra or {}),
        }.items()
    if dataclasses.is_dataclass(value):
        return [(field.name, getattr(value, field.name, None)) for field in dataclasses.fields(value)]
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return value._asdict().items()  # type: ignore[no-any-return] # a named tuple
    if (mapper := getattr(type(value), "__mapper__", None)) is not None:
        # Of a mapped object, what is loaded: reading the rest would ask its database.
        loaded = vars(value)
        return [(c.key, loaded[c.key]) for c in mapper.column_attrs if c.key in loaded]
    return None

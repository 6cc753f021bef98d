"""What changed between before and after, field by field. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

_ABSENT = object()


class Difference(NamedTuple):
    """One field that is not what it was. A field that is not there is None, and `change` says so."""

    field: str
    """Dotted place, such as `metadata.limits.rpm`; empty for the value as a whole."""
    change: str
    """added, removed or changed."""
    before: Any
    after: Any


def differences(before: Any, after: Any) -> list[Difference]:
    """All fields that differ, in the order of their names. Lists are compared as a whole."""
    absent = {} if isinstance(before, dict) or isinstance(after, dict) else _ABSENT
    return list(_compare("", absent if before is None else before, absent if after is None else after))


def _compare(place: str, before: Any, after: Any) -> Iterator[Difference]:
    if isinstance(before, dict) and isinstance(after, dict):
        for name in sorted(before.keys() | after.keys()):
            below = f"{place}.{name}" if place else str(name)
            yield from _compare(below, before.get(name, _ABSENT), after.get(name, _ABSENT))
    elif before is _ABSENT and after is not _ABSENT:
        yield Difference(place, "added", None, after)
    elif after is _ABSENT and before is not _ABSENT:
        yield Difference(place, "removed", before, None)
    elif type(before) is not type(after) or before != after:
        yield Difference(place, "changed", before, after)

"""Texts of a stream that arrive in parts: put together once, at the end, so that time stays linear."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class Parts(list[str]):
    """Pieces of a text that deltas make longer; any other list is content as it came."""


def joined(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields, with each text in one piece."""
    return {name: "".join(value) if isinstance(value, Parts) else value for name, value in fields.items()}

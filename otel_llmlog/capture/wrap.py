"""Wrap: one method of a client's class, and ours in its place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple


class Wrap(NamedTuple):
    """Where ours goes."""

    cls: type[Any]
    method: str
    ours: Callable[..., Any]

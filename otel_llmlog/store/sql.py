"""The .sql files: migrations by name, queries by their `-- name --` header.

Always true: SQL text comes from the `sql/` directory that ships with the package and from nowhere else.
"""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

_HEADER = re.compile(r"^-- ([a-z][a-z0-9_]*) --$", re.MULTILINE)


def directory() -> Traversable:
    """`otel_llmlog/sql` in an installed package, `sql` beside the package in a checkout."""
    installed = files("otel_llmlog") / "sql"
    if installed.is_dir():
        return installed
    return Path(__file__).resolve().parents[2] / "sql"


def migrations() -> dict[str, str]:
    """Revision -> SQL text, oldest first. `0001_spend_logs.sql` is revision 0001."""
    found = sorted((directory() / "migrations").iterdir(), key=lambda file: file.name)
    return {f.name.partition("_")[0]: f.read_text("utf-8") for f in found if f.name.endswith(".sql")}


@cache
def known() -> frozenset[str]:
    """The revisions this package knows."""
    return frozenset(migrations())


def newest() -> str:
    """The newest of them."""
    return max(known())


def before(revision: str) -> str:
    """The revision that this one follows: the files alone say in which order they are."""
    return max(known for known in migrations() if known < revision)


@cache
def queries() -> dict[str, str]:
    """Name -> SQL text of every named query."""
    named: dict[str, str] = {}
    for file in sorted((directory() / "queries").iterdir(), key=lambda file: file.name):
        if not file.name.endswith(".sql"):
            continue
        _, *parts = _HEADER.split(file.read_text("utf-8"))
        for name, text in zip(parts[::2], parts[1::2], strict=True):
            if name in named:
                raise ValueError(f"two queries are called {name}")
            named[name] = text.strip()
    return named

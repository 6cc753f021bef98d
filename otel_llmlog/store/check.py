"""Checking the sums against the rows, exactly, and putting them right.

Always true: both sides are read in one snapshot, so writers at work are no difference; only sums whose rows are all
kept are compared or replaced.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple

from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from otel_llmlog.errors import StoreUnavailable
from otel_llmlog.store import connect, rights, sql

# In this order: days are summed up from hours.
_TABLES = {"spend_hourly": ("hour", "key"), "spend_daily": ("day", "key"), "session_totals": ("session_id",)}


class Difference(NamedTuple):
    """A line of a rollup that is not what its rows add up to."""

    table: str
    key: dict[str, Any]
    found: dict[str, Any] | None
    """None: the line is missing."""
    expected: dict[str, Any] | None
    """None: there are no such rows."""


class Report(NamedTuple):
    """What was compared and what differs."""

    since: datetime | None
    """Rows that began earlier may be gone, so sums are compared from here on. None: from the beginning."""
    hours: int
    """Lines of spend_hourly that were compared."""
    sessions: int
    differences: list[Difference]


def check(url: str, *, limit: int = 1000, connect_timeout: int = 10) -> Report:
    """Sum up the rows anew and compare; tells `limit` differences of each table at most. Raises StoreUnavailable."""
    with _connected(url, connect_timeout, "reader") as connection:
        connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))
        extent = connection.execute(text(sql.queries()["check_extent"])).mappings().one()
        differences = [
            Difference(table, {name: row[name] for name in key}, _line(row["found"]), _line(row["expected"]))
            for table, key in _TABLES.items()
            for row in connection.execute(text(sql.queries()[f"check_{table}"]), {"limit": limit}).mappings()
        ]
        return Report(extent["since"], extent["hours"], extent["sessions"], differences)


def repair(url: str, *, connect_timeout: int = 10) -> None:
    """Sum up the rows anew and keep that. Writers wait meanwhile, readers do not. Raises StoreUnavailable."""
    with _connected(url, connect_timeout, "owner") as connection:
        connection.execute(text(sql.queries()["repair_lock"]))
        for table in _TABLES:
            connection.execute(text(sql.queries()[f"repair_{table}_remove"]))
            connection.execute(text(sql.queries()[f"repair_{table}_add"]))
        connection.commit()


def _line(text: str | None) -> dict[str, Any] | None:
    # Not as the driver reads JSON: money stays exact.
    return None if text is None else json.loads(text, parse_float=Decimal)


@contextmanager
def _connected(url: str, connect_timeout: int, work: rights.Work) -> Iterator[Connection]:
    try:
        with connect.engine(url, connect_timeout=connect_timeout).connect() as connection:
            yield connection
    except DBAPIError as error:
        told = rights.told(error.orig, connect.conninfo(url, connect_timeout=connect_timeout), work)
        raise StoreUnavailable(f"cannot check the sums: {told}") from None

"""Points in time as people type them."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

import typer

_AGO = re.compile(r"(\d{1,6})\s*([smhdw])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def point(text: str | None, now: datetime) -> datetime | None:
    """`7d` (ago), `2026-01-31` or `2026-01-31T12:00` (UTC unless it says otherwise). Raises typer.BadParameter."""
    if text is None:
        return None
    if found := _AGO.fullmatch(text.strip()):
        return now - timedelta(**{_UNITS[found[2]]: int(found[1])})
    try:
        given = datetime.fromisoformat(text.strip())
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no time: write 30m, 24h, 7d or 2026-01-31") from None
    return given if given.tzinfo else given.replace(tzinfo=UTC)

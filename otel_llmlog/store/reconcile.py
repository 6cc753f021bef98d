"""A provider's export and the table side by side, by day and model.

Always true: both sides of a line cover the same day and the same calls; days that the export does not speak of are not
compared; nothing is written.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, NamedTuple

from otel_llmlog.pricing.exports import Amounts, Export
from otel_llmlog.pricing.names import forms
from otel_llmlog.store.price_reader import PriceReader

AGREES = "agrees"
DIFFERS = "differs"
NOT_LOGGED = "not in the table"
NOT_BILLED = "not in the export"


class Line(NamedTuple):
    """A day of a model on both sides."""

    day: date
    model: str | None
    """None: all models."""
    theirs: Amounts
    ours: Amounts
    unpriced: int
    """Calls in the table that have no cost."""
    finding: str

    def flat(self) -> dict[str, Any]:
        """As one level of names."""
        found: dict[str, Any] = {"day": self.day, "model": self.model, "finding": self.finding}
        for name in dict.fromkeys([*self.theirs, *self.ours]):
            found |= {f"{name}_theirs": self.theirs.get(name), f"{name}_ours": self.ours.get(name)}
        return found | {"unpriced": self.unpriced}


def reconcile(
    url: str, export: Export, providers: Sequence[str], *, tolerance: Decimal, connect_timeout: int = 10
) -> list[Line]:
    """Lines by day and model. `tolerance`: share of their amount that is no difference. Raises StoreUnavailable."""
    days = sorted(export.days)
    since = datetime.combine(days[0], time(), UTC)
    until = datetime.combine(days[-1] + timedelta(days=1), time(), UTC)
    rows = PriceReader(url, connect_timeout=connect_timeout).by_day_and_model(since, until, providers)
    return compare(export, [row for row in rows if row["day"] in export.days], tolerance)


def compare(export: Export, rows: Iterable[dict[str, Any]], tolerance: Decimal) -> list[Line]:
    """The lines of an export and of rows by day and model."""
    theirs: dict[date, set[str | None]] = {day: set() for day in export.days}
    for day, model in export.amounts:
        theirs[day].add(model)
    ours: dict[tuple[date, str | None], tuple[Amounts, int]] = {}
    for row in rows:
        day = row["day"]
        models = {_named(row["model"], theirs[day])}
        if None in theirs[day]:
            # What the export says of all models, beside what it says of some.
            models.add(None)
        for model in models:
            amounts, unpriced = ours.get((day, model), ({}, 0))
            for name in export.measures:
                amounts[name] = amounts.get(name, Decimal(0)) + Decimal(row[name] or 0)
            ours[day, model] = amounts, unpriced + row["unpriced"]
    lines = []
    for at in sorted(export.amounts.keys() | ours.keys(), key=lambda at: (at[0], at[1] or "")):
        said, (found, unpriced) = export.amounts.get(at), ours.get(at, ({}, 0))
        finding = _finding(said, found, tolerance)
        lines.append(Line(at[0], at[1], said or {}, found, unpriced, finding))
    return lines


def _named(model: str | None, theirs: set[str | None]) -> str | None:
    """What the export calls this model: by its name, by that without a date; None where it sums up all models."""
    if theirs == {None}:
        return None
    names = forms(model) if model else ()
    return next((name for name in names if name in theirs), model)


def _finding(theirs: Amounts | None, ours: Amounts, tolerance: Decimal) -> str:
    some, own = any((theirs or {}).values()), any(ours.values())
    if not some and not own:
        return AGREES
    if not own:
        return NOT_LOGGED
    if theirs is None or not some:
        return NOT_BILLED
    apart = (abs(ours.get(name, Decimal(0)) - amount) > abs(amount) * tolerance for name, amount in theirs.items())
    return DIFFERS if any(apart) else AGREES

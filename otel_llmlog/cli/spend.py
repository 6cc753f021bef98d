"""`llmlog spend`: who spent what on what."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, cast

import typer
from rich.console import Console
from rich.text import Text

from otel_llmlog.cli import database, filters, render
from otel_llmlog.store.reader import GROUPINGS, Filter, Grouping, Reader, SpendLine

_COLUMNS = ("calls", "failed", "input", "output", "cached", "spend", "", "unpriced")
_WIDE_ONLY = {"failed", "cached"}


def spend(
    by: Annotated[str, typer.Option(help=f"One of {', '.join(GROUPINGS)}.")] = "model",
    since: filters.Since = "7d",
    until: filters.Until = None,
    model: filters.Model = None,
    provider: filters.Provider = None,
    status: filters.Status = None,
    user: filters.User = None,
    team: filters.Team = None,
    tag: filters.Tag = None,
    session: filters.Session = None,
    end_user: filters.EndUser = None,
    key: filters.Key = None,
    min_cost: filters.MinCost = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Show so many lines at most.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, a line a group.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="As CSV.")] = False,
) -> None:
    """Sum up cost and tokens of the last 7 days, or since --since, per model, team, user, tag, key, session or day."""
    if by not in GROUPINGS:
        raise typer.BadParameter(f"--by must be one of {', '.join(GROUPINGS)}, found {by!r}")
    where = filters.where(
        since=since,
        until=until,
        model=model,
        provider=provider,
        status=status,
        user=user,
        team=team,
        tag=tag,
        session=session,
        end_user=end_user,
        key=key,
        min_cost=min_cost,
    )
    reader = database.reader()
    if not (as_json or as_csv):
        show(Console(), reader, by, where, limit)
        return
    lines = [line._asdict() for line in reader.spend(cast("Grouping", by), where, limit=limit)]
    if as_csv:
        render.say(render.as_csv(lines))
    else:
        for line in lines:
            render.say(render.as_json(line))


def show(console: Console, reader: Reader, by: str, where: Filter | None = None, limit: int | None = None) -> None:
    """Print the groups as a table with bars."""
    lines = reader.spend(cast("Grouping", by), where or Filter(), limit=limit)
    if not lines:
        console.print("No calls there. Is the app switched on? `llmlog doctor` tells.")
        return
    most = max((line.spend or Decimal(0) for line in lines), default=Decimal(0))
    narrow = console.width < render.NARROW
    rows = [
        [
            render.text(line.name or line.key or "(none)", "" if line.key else "dim"),
            render.number(line.calls),
            render.number(line.failures),
            render.number(line.prompt_tokens),
            render.number(line.completion_tokens),
            render.number(line.cache_read_tokens),
            render.money(line.spend) if line.unpriced or line.spend is not None else render.money(Decimal(0)),
            render.bar(float(line.spend / most) if line.spend and most else 0, 6 if narrow else render.BAR_CELLS),
            render.number(line.unpriced or None),
        ]
        for line in lines
    ]
    # A call with two tags is in two groups: their sum would count it twice.
    footer = None if by == "tag" else _total(lines)
    columns = [by, *_COLUMNS]
    shown = [at for at, name in enumerate(columns) if not (narrow and name in _WIDE_ONLY)]
    console.print(
        render.table(
            [columns[at] for at in shown],
            [[row[at] for at in shown] for row in rows],
            [footer[at] for at in shown] if footer else None,
        )
    )


def _total(lines: list[SpendLine]) -> list[Text]:
    return [
        render.text("total", "bold"),
        render.number(sum(line.calls for line in lines)),
        render.number(sum(line.failures for line in lines)),
        render.number(sum(line.prompt_tokens for line in lines)),
        render.number(sum(line.completion_tokens for line in lines)),
        render.number(sum(line.cache_read_tokens for line in lines)),
        render.money(sum((line.spend or Decimal(0) for line in lines), Decimal(0))),
        render.text(""),
        render.number(sum(line.unpriced for line in lines) or None),
    ]

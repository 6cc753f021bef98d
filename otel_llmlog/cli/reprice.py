"""`llmlog reprice`: what calls cost under the prices of today."""

from __future__ import annotations

import getpass
import sys
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.console import Console

from otel_llmlog.cli import database, price_lists, render, when
from otel_llmlog.store import reprice as repricing
from otel_llmlog.store.reprice import Report


def reprice(
    since: Annotated[str, typer.Option(help="Calls that began then or later: 24h, 7d ago, or 2026-01-31.")],
    until: Annotated[str | None, typer.Option(help="Calls that began before; else all until now.")] = None,
    price_map: price_lists.PriceMap = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show the difference, and leave it.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Write without asking.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="As one JSON object; writes only with --yes.")] = False,
) -> None:
    """Work out anew what calls cost, show the difference, then write it. Stated costs and cache hits stay as they are.

    The old costs go into the audit log, the sums stay exact, and a second run finds nothing to do.
    """
    now = datetime.now(UTC)
    start, end = when.point(since, now), when.point(until, now) or now
    assert start is not None
    prices, url = price_lists.pricer(price_map), database.url(changes=not dry_run)
    found = repricing.plan(url, prices, start, end)
    writes = not dry_run and found.changed > 0 and (yes or (not as_json and _confirmed(found)))
    if writes:
        found = repricing.reprice(url, prices, start, end, changed_by=_who())
    if as_json:
        told = {name: value for name, value in vars(found).items() if name != "lines"}
        lines = [line._asdict() for line in found.lines]
        render.say(render.as_json({**told, "difference": found.difference, "written": writes, "lines": lines}))
        return
    if not writes and (dry_run or not found.changed):
        _show(found)
    render.say(f"{found.changed:,} calls {'have' if writes else 'would have'} another cost: {found.difference:+f} USD")
    if found.kept:
        render.say(f"{found.kept:,} calls keep their cost: these prices do not know their models")
    if found.unknown or found.unreadable:
        render.say(f"{found.unknown + found.unreadable:,} calls stay without a cost: `llmlog prices check` tells why")
    if found.overtaken:
        render.say(f"{found.overtaken:,} calls were changed by somebody else meanwhile: run it again for those")


def _show(found: Report) -> None:
    rows = [
        [
            render.text(" ".join(filter(None, (line.provider, line.model))) or "(none)"),
            render.number(line.calls),
            render.number(line.newly_priced or None),
            render.money(line.before),
            render.money(line.after),
            render.text(f"{line.after - line.before:+f}"),
        ]
        for line in found.lines
    ]
    if rows:
        Console().print(render.table(("model", "calls", "new", "before", "after", "difference"), rows))


def _confirmed(found: Report) -> bool:
    _show(found)
    if not sys.stdin.isatty():
        render.say("Nothing is written without --yes where nobody can be asked.", err=True)
        raise typer.Exit(2)
    return typer.confirm(f"Change {found.changed:,} calls, {found.difference:+f} USD?", default=False)


def _who() -> str | None:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return None

"""`llmlog logs`: the calls, newest first, or as they come."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from otel_llmlog import config
from otel_llmlog.cli import database, filters, render
from otel_llmlog.config import TraceSettings

# Seconds between two looks for new rows.
_FOLLOW_SECONDS = 1.0
_COLUMNS = ("time", "model", "provider", "status", "in", "out", "cost", "first", "total", "user", "team", "session")
_NARROW_COLUMNS = ("time", "model", "status", "in", "out", "cost", "total")


def logs(
    since: filters.Since = None,
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
    trace: filters.Trace = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="Show so many calls at most.")] = 20,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with calls as they come.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, all columns, a line a call.")] = False,
) -> None:
    """Show LLM calls, newest first."""
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
        trace=trace,
    )
    settings = config.load()
    traces = settings.traces
    reader, console = database.reader(settings), Console()
    follower = reader.follow(where) if follow else None
    found = reader.logs(where, limit=limit)
    _print(console, list(reversed(found)) if follow else found, traces, as_json=as_json)
    try:
        while follower is not None:
            time.sleep(_FOLLOW_SECONDS)
            _print(console, follower.poll(), traces, as_json=as_json, header=False)
    except KeyboardInterrupt:
        raise typer.Exit from None


def _print(
    console: Console, rows: Sequence[Mapping[str, Any]], traces: TraceSettings, *, as_json: bool, header: bool = True
) -> None:
    if as_json:
        for row in rows:
            render.say(render.as_json(with_url(row, traces)))
    elif rows or not header:
        show(console, rows, traces, header=header)
    else:
        console.print("No calls there. Is the app switched on? `llmlog doctor` tells.")


def with_url(row: Mapping[str, Any], traces: TraceSettings) -> dict[str, Any]:
    """The row, and where its trace is looked at if that is known."""
    url = traces.trace_url(row["trace_id"], row["span_id"])
    return {**row} if url is None else {**row, "trace_url": url}


def show(
    console: Console, rows: Sequence[Mapping[str, Any]], traces: TraceSettings | None = None, *, header: bool = True
) -> None:
    """Print the calls as a table."""
    if not rows:
        return
    names = _NARROW_COLUMNS if console.width < render.NARROW else _COLUMNS
    time_of_day = "%H:%M:%S" if names is _NARROW_COLUMNS else "%m-%d %H:%M:%S"
    cells = [dict(zip(_COLUMNS, _cells(row, traces, time_of_day), strict=True)) for row in rows]
    table = render.table(names, [[row[name] for name in names] for row in cells])
    table.show_header = header
    console.print(table)


def _cells(row: Mapping[str, Any], traces: TraceSettings | None, time_of_day: str) -> Sequence[Text]:
    failed = row["status"] == "failure"
    first = row["completion_start_time"]
    began = render.text(row["start_time"].strftime(time_of_day), "dim")
    return (
        render.linked(began, traces.trace_url(row["trace_id"], row["span_id"]) if traces else None),
        render.text(row["model"]),
        render.text(row["provider"]),
        render.text(row["error_class"] if failed else "ok", "red" if failed else "green"),
        render.number(row["prompt_tokens"]),
        render.number(row["completion_tokens"]),
        # A failed call has no price to be known.
        render.text("") if failed and row["spend"] is None else render.money(row["spend"]),
        render.seconds(first and (first - row["start_time"]).total_seconds()),
        render.seconds((row["end_time"] - row["start_time"]).total_seconds()),
        render.text(row["user_id"] or row["end_user"]),
        render.text(row["team_alias"] or row["team_id"]),
        render.text(row["session_id"]),
    )

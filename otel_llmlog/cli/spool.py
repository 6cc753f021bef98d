"""`llmlog spool …`: what waits on disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import reduce
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from otel_llmlog import config, destination, waiting
from otel_llmlog.cli import render
from otel_llmlog.pipeline import spool
from otel_llmlog.pipeline.spool import SpoolStatus, folder

app = typer.Typer(help="Look at what waits on disk, and deliver it.", no_args_is_help=True)


@app.command()
def status(as_json: Annotated[bool, typer.Option("--json", help="As one JSON object.")] = False) -> None:
    """Show what waits on disk for the configured database, whether its processes live, and what waits for others."""
    settings = config.load()
    places = waiting.folders(settings)
    found: dict[str, Any] = {
        "directory": places.own,
        "destination": places.destination,
        **render.plain(of_all(places.all)),
    }
    others = waiting.unserved(settings)
    if as_json:
        render.say(render.as_json({**found, "unserved": plain(others)}))
        return
    Console().print(render.facts({**found, "refused": ", ".join(found["refused"]) or None}))
    for line in told(others, places.destination):
        render.say(render.line(line))


@app.command()
def drain(
    source: Annotated[
        str | None,
        typer.Option("--from", help="Another folder, by its name or path: its records go to today's database."),
    ] = None,
) -> None:
    """Deliver what dead processes left. Processes that live deliver theirs themselves."""
    settings = config.load()
    places = waiting.folders(settings)
    place = None if source is None else _meant(settings, source)
    if place is not None:
        there = spool.status(place)
        if there.refused and not (there.live or there.orphans):
            raise typer.BadParameter(f"{', '.join(there.refused)}: run this as the user whose records they are")
        render.say(
            f"{there.orphaned + there.intents} record(s) in {place}, meant for "
            f"{waiting.words_of(place) or 'a destination that it does not name'}, go to {places.destination}"
        )
        if there.live:
            render.say(f"{there.live} process(es) that live keep theirs")
    delivered = destination.drain(settings, None if place is None else str(place))
    render.say(f"{delivered} record(s) delivered")
    left = of_all(places.all if place is None else [str(place)])
    for what in left.refused:
        render.say(f"refused: {render.line(what)}", err=True)
    if left.orphans:
        render.say("Some could not be delivered: `llmlog doctor` tells whether the database is there.")
        raise typer.Exit(1)


def _meant(settings: config.Settings, name: str) -> Path:
    found = waiting.find(settings, name)
    if len(found) != 1:
        many = f"{len(found)} folders begin with" if found else "no folder of records is called"
        raise typer.BadParameter(f"{many} {name!r}: `llmlog spool status` lists them")
    try:
        folder.check(found[0])
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise typer.BadParameter(f"{reason}: run this as the user whose records they are") from None
    return found[0]


def of_all(places: Sequence[str]) -> SpoolStatus:
    """Several folders as one."""
    return reduce(_and, map(spool.status, places))


def _and(one: SpoolStatus, other: SpoolStatus) -> SpoolStatus:
    return replace(
        one,
        **{
            name: getattr(one, name) + getattr(other, name)
            for name in ("live", "orphans", "bytes", "outcomes", "orphaned", "intents", "corrupt", "set_aside_bytes")
        },
        written_at=max((at for at in (one.written_at, other.written_at) if at is not None), default=None),
        refused=one.refused + other.refused,
    )


def plain(others: Sequence[waiting.Unserved]) -> list[dict[str, Any]]:
    """Folders that nobody serves, for JSON."""
    return [one._asdict() | {"written_at": datetime.fromtimestamp(one.written_at, UTC)} for one in others]


def told(others: Sequence[waiting.Unserved], today: str) -> list[str]:
    """The same in words: what to do about each."""
    now = datetime.now(UTC).timestamp()
    return [
        f"{one.records} record(s) for {one.destination or 'a destination that is not named'} wait in {one.folder}, "
        f"which nobody serves; the last was put there {_age(now - one.written_at)} ago. "
        f"`llmlog spool drain --from {Path(one.folder).name}` delivers them to {today}"
        for one in others
    ]


def _age(seconds: float) -> str:
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{int(seconds // size)} {unit}"
    return f"{max(0, int(seconds))} s"

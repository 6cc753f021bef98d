"""`llmlog spool …`: what waits on disk."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from otel_llmlog import config, destination
from otel_llmlog.cli import render
from otel_llmlog.pipeline import spool

app = typer.Typer(help="Look at what waits on disk, and deliver it.", no_args_is_help=True)


@app.command()
def status(as_json: Annotated[bool, typer.Option("--json", help="As one JSON object.")] = False) -> None:
    """Show what waits on disk for the configured database, and whether its processes live."""
    directory = destination.spool_directory(config.load())
    found = {"directory": directory, **render.plain(spool.status(directory))}
    if as_json:
        typer.echo(render.as_json(found))
    else:
        Console().print(render.facts(found))


@app.command()
def drain() -> None:
    """Deliver what dead processes left. Processes that live deliver theirs themselves."""
    delivered = destination.drain(config.load())
    typer.echo(f"{delivered} record(s) delivered")
    left = spool.status(destination.spool_directory(config.load()))
    if left.orphans:
        typer.echo("Some could not be delivered: `llmlog doctor` tells whether the database is there.")
        raise typer.Exit(1)

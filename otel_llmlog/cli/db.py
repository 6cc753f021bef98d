"""`llmlog db …`: the tables."""

from __future__ import annotations

import typer
from rich.console import Console

from otel_llmlog.cli import database, render
from otel_llmlog.store import migrate

app = typer.Typer(help="Create, upgrade and look at the tables.", no_args_is_help=True)


@app.command()
def upgrade() -> None:
    """Create the tables, or bring them to this version. Safe to run at any time, from several places at once."""
    url = database.url()
    before, head = migrate.status(url)
    migrate.upgrade(url)
    typer.echo(f"tables are at {head}" + ("" if before == head else f" (before: {before or 'none'})"))


@app.command()
def status(as_json: bool = typer.Option(False, "--json", help="As one JSON object.")) -> None:
    """Show how far the tables are, how much is in them and since when."""
    found = database.reader().status()
    if as_json:
        typer.echo(render.as_json(found))
        return
    Console().print(render.facts(found))
    if found.revision != found.newest_revision:
        typer.echo("The tables are not up to date: run `llmlog db upgrade`.")
        raise typer.Exit(1)

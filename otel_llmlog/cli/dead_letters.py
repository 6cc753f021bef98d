"""`llmlog dead-letters …`: records that could not be stored, and another try."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from otel_llmlog.cli import database, render
from otel_llmlog.store.dead_letters import DeadLetters, Letter
from otel_llmlog.store.postgres import PostgresExporter

app = typer.Typer(help="Records that could not be stored, each with the reason.", no_args_is_help=True)
_COLUMNS = ("id", "put aside", "call began", "trace", "model", "reason")


@app.command("list")
def list_(
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="Show so many at most.")] = 100,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, the whole record, a line each.")] = False,
) -> None:
    """Show dead letters, oldest first."""
    letters = DeadLetters(database.url()).entries(limit=limit)
    if as_json:
        for letter in letters:
            render.say(render.as_json(letter._asdict()))
    elif letters:
        Console().print(render.table(_COLUMNS, map(_cells, letters)))
    else:
        render.say("No dead letters.")


def _cells(letter: Letter) -> list[Text]:
    attributes = letter.record.get("attributes") or {}
    return [
        render.number(letter.id),
        render.text(f"{letter.created_at:%Y-%m-%d %H:%M:%S}", "dim"),
        render.text(letter.start_time and f"{letter.start_time:%Y-%m-%d %H:%M:%S}"),
        render.text(letter.trace_id),
        render.text(attributes.get("llmlog.model")),
        render.text(letter.reason, "red"),
    ]


@app.command()
def retry(
    ids: Annotated[list[int] | None, typer.Argument(help="Their ids; without any, all.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As one JSON object.")] = False,
) -> None:
    """Try to store dead letters again. What is stored leaves the list. Exit code 1 if any is refused again."""
    url = database.url()
    exporter = PostgresExporter(url, auto_migrate=False, keep_rejected=False)
    try:
        done = DeadLetters(url).retry(exporter, ids)
    finally:
        exporter.close()
    if as_json:
        render.say(
            render.as_json({"written": done.written, "duplicates": done.duplicates, "rejected": len(done.rejected)})
        )
    else:
        render.say(f"{done.written} stored, {done.duplicates} were there already, {len(done.rejected)} refused again")
    if done.rejected:
        raise typer.Exit(1)

"""`llmlog reconcile`: a provider's own usage or cost export beside the table, by day and model."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from otel_llmlog import files
from otel_llmlog.cli import database, render
from otel_llmlog.pricing.exports import FORMATS, read
from otel_llmlog.store import reconcile as reconciling

# Bytes of an export: a year of the largest customers' days and models is a tenth of it.
_MAX_EXPORT = 1 << 30


def reconcile(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="The export.")],
    provider: Annotated[str, typer.Option(help=f"Whose export it is: {', '.join(FORMATS)}.")],
    of: Annotated[
        list[str] | None, typer.Option("--of", help="Provider in the table; may be given again. Needed for csv.")
    ] = None,
    tolerance: Annotated[float, typer.Option(min=0, help="Difference that does not count, in percent.")] = 0.5,
    all_lines: Annotated[bool, typer.Option("--all", help="Show what agrees, too.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, a line a day and model.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="As CSV.")] = False,
) -> None:
    """Compare a provider's usage or cost export with the table, and show what is missing on either side.

    Exit code 1 if anything is.
    """
    if provider not in FORMATS:
        raise typer.BadParameter(f"--provider must be one of {', '.join(FORMATS)}, found {provider!r}")
    names = of or list(FORMATS[provider])
    if not names:
        raise typer.BadParameter("--of must name the provider whose calls the CSV lists, such as --of openai")
    try:
        data = files.read(file, _MAX_EXPORT, pipes=True)
    except OSError as error:
        raise typer.BadParameter(f"the export {str(file)!r} cannot be read: {files.reason(error)}") from None
    export = read(provider, data)
    lines = reconciling.reconcile(database.url(), export, names, tolerance=Decimal(str(tolerance)) / 100)
    apart = [line for line in lines if line.finding != reconciling.AGREES]
    shown = lines if all_lines else apart
    if as_csv:
        render.say(render.as_csv([line.flat() for line in shown]))
    elif as_json:
        for line in shown:
            render.say(render.as_json(line.flat()))
    else:
        _show(shown, export.measures)
        render.say(
            f"{len(lines):,} days and models compared by {', '.join(export.measures)}: "
            + (f"{len(apart):,} do not agree" if apart else "all agree")
        )
        for note in export.notes:
            render.say(render.line(note))
    if apart:
        raise typer.Exit(1)


def _show(lines: list[reconciling.Line], measures: tuple[str, ...]) -> None:
    if not lines:
        return
    heads = ["day", "model", *(f"{name} {side}" for name in measures for side in ("theirs", "ours")), "finding"]
    rows = [
        [
            render.text(line.day.isoformat()),
            render.text(line.model or "(all)"),
            *(
                render.text("-" if value is None else f"{value:f}")
                for name in measures
                for value in (line.theirs.get(name), line.ours.get(name))
            ),
            render.text(line.finding),
        ]
        for line in lines
    ]
    Console().print(render.table(heads, rows))

"""`llmlog db …`: the tables, what is removed from them, and whether their sums are right."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from otel_llmlog import config
from otel_llmlog.cli import database, render
from otel_llmlog.store import check as checking, migrate, retention, roles

app = typer.Typer(help="Create, upgrade, look at, check and prune the tables.", no_args_is_help=True)


@app.command()
def upgrade() -> None:
    """Create the tables, or bring them to this version. Safe to run at any time, from several places at once."""
    url = database.url(changes=True)
    before, head = migrate.status(url)
    migrate.upgrade(url)
    render.say(f"tables are at {head}" + ("" if before == head else f" (before: {before or 'none'})"))


@app.command()
def status(as_json: bool = typer.Option(False, "--json", help="As one JSON object.")) -> None:
    """Show how far the tables are, how much is in them and since when."""
    found = database.reader().status()
    if as_json:
        render.say(render.as_json(found))
        return
    Console().print(render.facts(found))
    if found.newer:
        raise typer.Exit(1)
    if found.revision != found.newest_revision:
        render.say("The tables are not up to date: run `llmlog db upgrade`.")
        raise typer.Exit(1)


@app.command("roles")
def make_roles(
    owner: Annotated[str, typer.Option(help="Owns the tables: upgrades, prunes, repairs, works costs out again.")] = (
        roles.DEFAULTS.owner
    ),
    writer: Annotated[str, typer.Option(help="Stores calls and audit events.")] = roles.DEFAULTS.writer,
    reader: Annotated[str, typer.Option(help="Reads everything, and changes nothing.")] = roles.DEFAULTS.reader,
    print_: Annotated[bool, typer.Option("--print", help="Print the SQL instead, for `psql`.")] = False,
) -> None:
    """Make three roles, each with the rights that its work needs and no other. Grant them to those who log in.

    Needs tables that are there, and a role that may create roles and owns the tables. Safe to run again.
    """
    names = roles.Names(owner, writer, reader)
    if print_:
        render.say(roles.statements(names))
        return
    roles.make(database.url(), names)
    render.say(f"{owner} owns the tables, {writer} writes, {reader} reads. Let logins in by: GRANT {writer} TO …")


@app.command()
def check(
    repair: bool = typer.Option(False, "--repair", help="Sum up anew what differs. Writers wait meanwhile."),
    as_json: bool = typer.Option(False, "--json", help="As one JSON object."),
) -> None:
    """Sum up the rows that are kept and compare with spend_hourly and session_totals. Exit code 1 if they differ."""
    url = database.url(changes=repair)
    found = checking.check(url)
    if repair and found.differences:
        checking.repair(url)
        found = checking.check(url)
    if as_json:
        render.say(render.as_json(found._asdict() | {"differences": [line._asdict() for line in found.differences]}))
    else:
        for line in found.differences:
            render.say(f"{line.table} {render.as_json(line.key)}")
            render.say(f"    found    {render.as_json(line.found)}")
            render.say(f"    expected {render.as_json(line.expected)}")
        since = f"since {found.since:%Y-%m-%d}" if found.since else "of all time"
        render.say(
            f"{found.hours:,} sums by hour and {found.sessions:,} by session {since}: "
            + (f"{len(found.differences):,} differ from their rows" if found.differences else "all equal their rows")
        )
    if found.differences:
        raise typer.Exit(1)


@app.command()
def prune(
    dry_run: bool = typer.Option(False, "--dry-run", help="Show what would go, and leave it."),
    as_json: bool = typer.Option(False, "--json", help="As one JSON object."),
) -> None:
    """Remove rows older than their LLMLOG_MAXIMUM_…_RETENTION_PERIOD now. Sums by hour and by session stay."""
    settings = config.load()
    if not retention.wanted(settings.retention):
        render.say("LLMLOG_MAXIMUM_SPEND_LOGS_RETENTION_PERIOD is not set: rows are kept for ever.", err=True)
        raise typer.Exit(2)
    url = database.url(settings, changes=not dry_run)
    found = (retention.plan if dry_run else retention.prune)(url, settings.retention)
    if found is None:
        render.say("Another process is removing old rows just now.", err=True)
        raise typer.Exit(1)
    if as_json:
        partitions = [partition._asdict() for partition in found.partitions]
        render.say(render.as_json(found._asdict() | {"partitions": partitions}))
        return
    for partition in found.partitions:
        render.say(f"{render.line(partition.name)}  {partition.bytes / (1 << 20):,.1f} MB")
    for table, rows in found.strays.items():
        if rows:
            render.say(f"{table}_default  {rows:,} rows")
    if found.audit_logs:
        render.say(f"audit_logs  {found.audit_logs:,} rows")
    size = sum(partition.bytes for partition in found.partitions) / (1 << 20)
    render.say(f"{len(found.partitions)} partitions, {size:,.1f} MB {'would go' if dry_run else 'are gone'}")

"""`llmlog audit …`: who changed what, and whether the record of it is whole."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from otel_llmlog import config, config_values
from otel_llmlog.audit.catalogue import OPERATIONS
from otel_llmlog.audit.diff import differences
from otel_llmlog.cli import database, render, when
from otel_llmlog.redact import key_id
from otel_llmlog.store import audit_chain
from otel_llmlog.store.audit_reader import AuditFilter, AuditReader

app = typer.Typer(help="Who changed what; whether the audit logs are whole.", no_args_is_help=True)
_COLUMNS = ("seq", "time", "actor", "what", "object", "outcome", "changed")
_NARROW_COLUMNS = ("seq", "time", "actor", "what", "object", "outcome")
# LiteLLM's long names of tables, short.
_TABLES = {operation.table_name: name.partition(".")[0] for name, operation in OPERATIONS.items()}
# Fields named in a line of the list.
_FIELDS_SHOWN = 4

Since = Annotated[str | None, typer.Option(help="Operations since: 30m, 24h, 7d ago, or 2026-01-31 (UTC).")]
Until = Annotated[str | None, typer.Option(help="Operations before: the same forms.")]
Actor = Annotated[str | None, typer.Option(help="Who did it.")]
Key = Annotated[str | None, typer.Option(help="API key it was done with, as its SHA-256 or raw.")]
Action = Annotated[
    str | None, typer.Option(help="created, updated, deleted, …, or finer: key.rotate, team.member_add.")
]
Table = Annotated[str | None, typer.Option(help="Table, by its name; user, key, team and model mean LiteLLM's.")]
Object = Annotated[str | None, typer.Option("--object", help="Object id.")]
Outcome = Annotated[str | None, typer.Option(help="success, failure or refused.")]
AsJson = Annotated[bool, typer.Option("--json", help="As JSON, all columns, a line each.")]


class Format(StrEnum):
    """What `export` writes."""

    jsonl = "jsonl"
    csv = "csv"


def _where(
    since: str | None,
    until: str | None,
    actor: str | None,
    key: str | None,
    action: str | None,
    table: str | None,
    object_id: str | None,
    outcome: str | None,
) -> AuditFilter:
    if outcome not in {None, "success", "failure", "refused"}:
        raise typer.BadParameter(f"--outcome must be success, failure or refused, found {outcome!r}")
    now = datetime.now(UTC)
    return AuditFilter(
        since=when.point(since, now),
        until=when.point(until, now),
        actor=actor,
        api_key=key_id(key) if key else None,
        action=action,
        table_name={short: long for long, short in _TABLES.items()}.get(table, table) if table else None,
        object_id=object_id,
        outcome=outcome,
    )


@app.command("list")
def list_(
    since: Since = None,
    until: Until = None,
    actor: Actor = None,
    key: Key = None,
    action: Action = None,
    table: Table = None,
    object_id: Object = None,
    outcome: Outcome = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="Show so many at most.")] = 20,
    as_json: AsJson = False,
) -> None:
    """Show audit logs, the last first."""
    where = _where(since, until, actor, key, action, table, object_id, outcome)
    found = AuditReader(database.url()).audit_logs(where, limit=limit)
    if as_json:
        for row in found:
            render.say(render.as_json(_plain(row)))
    elif found:
        console = Console()
        names = _NARROW_COLUMNS if console.width < render.NARROW else _COLUMNS
        console.print(render.table(names, [_cells(row)[: len(names)] for row in found]))
    else:
        render.say("No audit logs there.")


@app.command()
def show(
    identifier: Annotated[str, typer.Argument(help="Its id, or its place in the chain.")],
    as_json: Annotated[bool, typer.Option("--json", help="As one JSON object.")] = False,
) -> None:
    """Show one audit log and what it changed, field by field. Exit code 1 if there is none."""
    row = AuditReader(database.url()).audit_log(identifier)
    if row is None:
        render.say(f"No audit log is called {render.line(identifier)}.", err=True)
        raise typer.Exit(1)
    changes = differences(row["before_value"], row["updated_values"])
    if as_json:
        render.say(render.as_json(_plain(row) | {"changes": [change._asdict() for change in changes]}))
        return
    console = Console()
    facts = {name: value for name, value in _plain(row).items() if name not in {"before_value", "updated_values"}}
    console.print(render.facts({name: value for name, value in facts.items() if value not in (None, [], "")}))
    for change in changes:
        place = change.field or "value"
        if change.change != "added":
            console.print(render.text(f"- {place}: {render.as_json(change.before)}", "red"))
        if change.change != "removed":
            console.print(render.text(f"+ {place}: {render.as_json(change.after)}", "green"))


@app.command()
def export(
    since: Since = None,
    until: Until = None,
    actor: Actor = None,
    key: Key = None,
    action: Action = None,
    table: Table = None,
    object_id: Object = None,
    outcome: Outcome = None,
    form: Annotated[Format, typer.Option("--format", help="A JSON object a line, or CSV.")] = Format.jsonl,
) -> None:
    """Write all audit logs that pass the filters to stdout, hashes included, the last first."""
    where = _where(since, until, actor, key, action, table, object_id, outcome)
    header = False
    for row in AuditReader(database.url()).every_audit_log(where):
        plain = _plain(row)
        if form is Format.jsonl:
            render.say(render.as_json(plain))
            continue
        if not header:
            render.say(render.csv_line(plain))
            header = True
        render.say(render.csv_line(plain.values()))


@app.command()
def verify(
    checkpoint: Annotated[
        Path | None,
        typer.Option(help="A file outside the database: compared with if it is there, renewed if all is well."),
    ] = None,
    kept_for: Annotated[
        str | None,
        typer.Option(
            "--retention", help="The shortest period that was ever set, if not today's: 30d. Removals are compared."
        ),
    ] = None,
    save: Annotated[bool, typer.Option("--save", help="Keep what was found as a checkpoint in the database.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="As one JSON object.")] = False,
) -> None:
    """Check that no audit log was edited, removed, put in or moved, and that nothing keeps new ones out.

    The end can only be compared with what was known before: a checkpoint. What retention removed is compared with
    LLMLOG_MAXIMUM_AUDIT_LOGS_RETENTION_PERIOD. Exit code 1 if anything is wrong.
    """
    settings = config.load()
    retention = settings.retention
    if kept_for is not None:
        try:
            period = config_values.period(kept_for)
        except ValueError as error:
            raise typer.BadParameter(f"--retention {error}, found {kept_for!r}") from None
        retention = retention.model_copy(update={"maximum_audit_logs_retention_period": period})
    url = database.url(settings)
    known = audit_chain.read_file(checkpoint) if checkpoint else None
    found = audit_chain.verify(url, checkpoint=known, retention=retention)
    if not found.findings and found.last is not None:
        if checkpoint:
            audit_chain.write_file(checkpoint, found.last)
        if save:
            audit_chain.save(url, found.last)
    if as_json:
        last = found.last and found.last._asdict() | {"hash": found.last.hash.hex()}
        plain = {name: [one._asdict() for one in getattr(found, name)] for name in ("findings", "removals")}
        render.say(render.as_json(found._asdict() | {"last": last} | plain))
    else:
        for finding in found.findings:
            name = f"row {finding.seq}" if finding.seq is not None else "the tables:"
            render.say(render.line(f"{name}{f' ({finding.id})' if finding.id else ''} {finding.what}"))
        for note in found.notes:
            render.say(render.line(f"note: {note}"))
        render.say(_verdict(found))
    if found.findings:
        raise typer.Exit(1)


def _verdict(found: audit_chain.Report) -> str:
    extent = f"{found.rows:,} audit logs"
    if found.last is not None:
        extent += f", {found.first} to {found.last.seq}"
    if found.removals:
        last = found.removals[-1]
        extent += (
            f"; up to {found.pruned} removed by retention, last by {last.made_by} at {last.made_at:%Y-%m-%d %H:%M:%S}"
        )
    compared = f"{found.compared} checkpoint{'' if found.compared == 1 else 's'} compared"
    verdict = "nothing is wrong, see the notes" if found.notes else "all is well"
    return f"{extent}; {compared}: " + (f"{len(found.findings)} findings" if found.findings else verdict)


def _plain(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value.hex() if isinstance(value, bytes | memoryview) else value for name, value in row.items()}


def _short(object_id: str) -> str:
    """A key's hash by its beginning; `--object` takes the whole one, which `show` tells."""
    return f"{object_id[:12]}…" if len(object_id) == 64 else object_id


def _cells(row: Mapping[str, Any]) -> list[Text]:
    fields = [change.field for change in differences(row["before_value"], row["updated_values"])]
    more = f" +{len(fields) - _FIELDS_SHOWN}" if len(fields) > _FIELDS_SHOWN else ""
    done = row["outcome"] == "success"
    key = row["changed_by_api_key"]
    return [
        render.number(row["seq"]),
        render.text(f"{row['updated_at']:%m-%d %H:%M:%S}", "dim"),
        render.text(row["changed_by"] or (f"key {key[:8]}" if key else "?")),
        render.text(row["operation"] or f"{_TABLES.get(row['table_name'], row['table_name'])} {row['action']}"),
        render.text(_short(row["object_id"])),
        render.text(row["outcome"], "green" if done else "red"),
        render.text(", ".join(fields[:_FIELDS_SHOWN]) + more),
    ]

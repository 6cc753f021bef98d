"""`llmlog status`: what became of every call captured on this machine."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Any

import typer
from rich.console import Console

from otel_llmlog import config, configure
from otel_llmlog.cli import render
from otel_llmlog.pipeline import report, spool


def status(as_json: Annotated[bool, typer.Option("--json", help="As one JSON object.")] = False) -> None:
    """Show the counters of the processes that log to the configured database from this machine."""
    directory = configure.spool_directory(config.load())
    found = summary(directory)
    if as_json:
        typer.echo(render.as_json(found))
    else:
        Console().print(render.facts(found))


def summary(directory: str) -> dict[str, Any]:
    """The counters of all processes that reported in the last day, and what waits in their spool."""
    reports, waits = report.read(directory), spool.status(directory)
    total: Counter[str] = Counter()
    for one in reports:
        total.update({name: number for name, number in one.counts.items() if not name.endswith("_ms")})
    return {
        "processes": len(reports),
        "live": sum(one.live for one in reports),
        "captured": total["captured"],
        "audited": total["audited"],
        "audited_at_once": total["audit.stored_at_once"],
        "written": total["written"],
        "duplicates_ignored": total["duplicates"],
        "adopted": total["adopted"],
        "dead_letters": total["dead"],
        "waiting": sum(one.waiting for one in reports if one.live),
        "orphaned": waits.outcomes if not waits.live else None,
        **{
            name: number for name, number in sorted(total.items()) if name.startswith(("dropped.", "error.", "retries"))
        },
        "spool_bytes": waits.bytes,
        "last_write_ms": max((one.counts.get("write.last_ms", 0) for one in reports if one.live), default=None),
        "longest_write_ms": max((one.counts.get("write.longest_ms", 0) for one in reports), default=None),
    }

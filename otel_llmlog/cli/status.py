"""`llmlog status`: what became of every call captured on this machine."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from rich.console import Console

from otel_llmlog import config, destination, waiting
from otel_llmlog.cli import render, spool as spool_commands
from otel_llmlog.errors import LLMLogError
from otel_llmlog.pipeline import report
from otel_llmlog.store import embedded
from otel_llmlog.store.dead_letters import DeadLetters

# Seconds that the counters wait for the database, which may be away.
_PATIENCE = 3

# Counters that are shown as they are, where there are any.
_TOLD = ("dropped.", "error.", "passed_over.", "retries", "sink.connections.", "sink.refused.")


def status(as_json: Annotated[bool, typer.Option("--json", help="As one JSON object.")] = False) -> None:
    """Show the counters of the processes that log to the configured database from this machine."""
    settings = config.load()
    places, others = waiting.folders(settings), waiting.unserved(settings)
    found = summary(places.all, _dead_letters(settings))
    if as_json:
        render.say(render.as_json({**found, "unserved": spool_commands.plain(others)}))
        return
    Console().print(render.facts({**found, "refused": ", ".join(found["refused"]) or None}))
    for line in spool_commands.told(others, places.destination):
        render.say(render.line(line))


def _dead_letters(settings: config.Settings) -> int | None:
    """How many the table holds; None, and a word on it, when the database does not tell."""
    where = settings.store.embedded_dir or embedded.default_path()
    if settings.pipeline.exporter != "postgres":
        return None  # they are where the collector delivers to
    if settings.store.database_url is None and not (embedded.installed() and where.exists()):
        return 0  # a server that was never started is not started for this
    try:
        return DeadLetters(destination.database_url(settings), connect_timeout=_PATIENCE).count()
    except LLMLogError as error:
        sys.stderr.write(f"llmlog: the dead letters are not counted: {error}\n")
        return None


def summary(directories: Sequence[str], dead_letters: int | None) -> dict[str, Any]:
    """The counters of all processes that reported in the last day, and what waits in their spool.

    At any quiet moment `captured` is, exactly, `written` + `duplicates_ignored` + `spooled` + `dropped` + `rejected` +
    `not_logged`. A process that is killed takes what it did in its last seconds out of the counters, though not out of
    the spool. `dead_letters` is what the table of them holds now, whoever put it there.
    """
    looked, waits = [report.look(directory) for directory in directories], spool_commands.of_all(directories)
    reports = [one for found, _ in looked for one in found]
    unreadable = [name for _, names in looked for name in names]
    total: Counter[str] = Counter()
    for one in reports:
        total.update({name: number for name, number in one.counts.items() if not name.endswith("_ms")})

    def all_of(kind: str) -> int:
        return sum(number for name, number in total.items() if name.startswith(kind))

    return {
        "processes": len(reports),
        "live": sum(one.live for one in reports),
        # A call whose process went before the outcome was on disk is captured by who finds the intent.
        "captured": total["captured"] - total["unended"] + total["terminated"],
        "audited": total["audited"],
        "audited_at_once": total["audit.stored_at_once"],
        "written": total["written"],
        "duplicates_ignored": total["duplicates"],
        "spooled": sum(one.waiting for one in reports if one.live) + waits.orphaned,
        "dropped": all_of("dropped."),
        "rejected": total["dead"],
        "dead_letters": dead_letters,
        "not_logged": all_of("not_logged."),
        "passed_over": all_of("passed_over."),
        "booked_on_other": total["sink.other_line"],
        "adopted": total["adopted"],
        "terminated": total["terminated"],
        **{name: number for name, number in sorted(total.items()) if name.startswith(_TOLD)},
        "spool_bytes": waits.bytes,
        "refused": [*waits.refused, *unreadable],
        "last_write_ms": max((one.counts.get("write.last_ms", 0) for one in reports if one.live), default=None),
        "longest_write_ms": max((one.counts.get("write.longest_ms", 0) for one in reports), default=None),
    }

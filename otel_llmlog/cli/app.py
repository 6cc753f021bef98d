"""The command's root: puts the commands together and turns our errors into one line and an exit code."""

from __future__ import annotations

import sys

import typer
from typer import rich_utils

from otel_llmlog.cli import (
    audit,
    db,
    dead_letters,
    demo,
    doctor,
    logs,
    prices,
    reconcile,
    render,
    reprice,
    run,
    sessions,
    sink,
    spend,
    spool,
    status,
)
from otel_llmlog.configure import VERSION
from otel_llmlog.errors import ConfigError, LLMLogError

app = typer.Typer(
    name="llmlog",
    help="What your app's LLM calls did and cost, from your own Postgres.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command("run", context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(run.run)
app.command("demo")(demo.demo)
app.command("logs")(logs.logs)
app.command("spend")(spend.spend)
app.command("sessions")(sessions.sessions)
app.command("session")(sessions.session)
app.command("reprice")(reprice.reprice)
app.command("reconcile")(reconcile.reconcile)
app.command("doctor")(doctor.doctor)
app.command("status")(status.status)
app.add_typer(audit.app, name="audit")
app.add_typer(db.app, name="db")
app.add_typer(dead_letters.app, name="dead-letters")
app.add_typer(prices.app, name="prices")
app.add_typer(sink.app, name="sink")
app.add_typer(spool.app, name="spool")


def _version(asked: bool) -> None:
    if asked:
        render.say(f"llmlog {VERSION}")
        raise typer.Exit


@app.callback()
def root(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Show the version."),
) -> None:
    """What your app's LLM calls did and cost, from your own Postgres."""


def main() -> None:
    """Entry point. Exit codes: 0 done, 1 a check failed or the database is away, 2 wrong usage or setting."""
    try:
        sys.exit(app(standalone_mode=False))  # the exit code that a command asked for, or None
    except typer.Abort:
        render.say("Aborted.", err=True)
        sys.exit(1)
    except LLMLogError as error:
        render.say(f"llmlog: {render.line(error)}", err=True)
        sys.exit(2 if isinstance(error, ConfigError) else 1)
    except BrokenPipeError:
        # `llmlog logs | head` closes the pipe early: not an error, and Python must not complain at exit either.
        sys.stderr.close()
        sys.exit(0)
    except Exception as error:
        # What was typed may be quoted in it: an id from a row, say. Typer's classes have no public name that lasts.
        message = getattr(error, "format_message", None)
        if message is None:
            raise
        told = "\n".join(map(render.line, str(message()).split("\n")))
        error.format_message = lambda: told  # type: ignore[attr-defined] # the same
        rich_utils.rich_format_error(error)  # type: ignore[arg-type] # the same
        sys.exit(getattr(error, "exit_code", 2))

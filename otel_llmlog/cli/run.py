"""`llmlog run -- CMD`: run any Python program with every LLM call logged."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import typer
from opentelemetry.instrumentation import auto_instrumentation

from otel_llmlog import config, sdk


def run(context: typer.Context) -> None:
    """Run a program with its LLM calls logged: llmlog run -- python app.py"""
    if not context.args:
        raise typer.BadParameter("name the program to run: llmlog run -- python app.py")
    config.load()  # a wrong setting is told here, before anything is started
    command = context.args
    found = shutil.which(command[0])
    if found is None:
        raise typer.BadParameter(f"no such program: {command[0]}")
    os.execve(found, command, environment(dict(os.environ)))  # noqa: S606 - to run what is asked for is the purpose


def environment(environ: dict[str, str]) -> dict[str, str]:
    """The environment in which Python loads OpenTelemetry's auto-instrumentation at start, and us with it."""
    hook = str(Path(auto_instrumentation.__file__).parent)
    paths = [path for path in environ.get("PYTHONPATH", "").split(os.pathsep) if path and path != hook]
    # Some programs (Django's manage.py from its own executable) are found through the working directory.
    here = str(Path.cwd())
    return {
        **sdk.defaults(environ),
        **environ,
        "PYTHONPATH": os.pathsep.join([hook, *([] if here in paths else [here]), *paths]),
    }

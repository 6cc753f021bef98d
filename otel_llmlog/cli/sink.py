"""`llmlog sink`: receive OTLP from collectors and other apps, and store it."""

from __future__ import annotations

import importlib.util
import logging
import os
import secrets
from typing import Annotated

import typer

from otel_llmlog import config
from otel_llmlog.cli import render
from otel_llmlog.errors import ConfigError
from otel_llmlog.sink import senders, workers

_NEEDED = ("grpc", "google.rpc", "uvicorn")


app = typer.Typer(invoke_without_command=True)


@app.callback()
def sink(
    context: typer.Context,
    host: Annotated[str | None, typer.Option(help="Address to listen on: LLMLOG_SINK_HOST.")] = None,
    grpc_port: Annotated[int | None, typer.Option(help="Port of OTLP/gRPC: LLMLOG_SINK_GRPC_PORT.")] = None,
    http_port: Annotated[int | None, typer.Option(help="Port of OTLP/HTTP: LLMLOG_SINK_HTTP_PORT.")] = None,
    number: Annotated[
        int | None, typer.Option("--workers", help="Processes that receive: LLMLOG_SINK_WORKERS.")
    ] = None,
) -> None:
    """Receive OTLP traces and logs, and store the LLM calls and audit events among them. Ends at SIGTERM."""
    if context.invoked_subcommand is not None:
        return
    given = {"SINK_HOST": host, "SINK_GRPC_PORT": grpc_port, "SINK_HTTP_PORT": http_port, "SINK_WORKERS": number}
    # What the command line says wins, and is checked as settings are.
    os.environ.update({config.ENV_PREFIX + name: str(value) for name, value in given.items() if value is not None})
    settings = config.load()
    if missing := [name for name in _NEEDED if not _installed(name)]:
        raise ConfigError(f"{missing[0]} is not installed: pip install 'otel-llmlog[sink]'")
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s")
    raise typer.Exit(workers.run(settings, lambda *ports: _announce(settings.sink, *ports)))


@app.command("token")
def token(
    name: Annotated[str, typer.Argument(help="Name of the sender.")],
    team: Annotated[str | None, typer.Option(help="Team that all of its calls are booked on.")] = None,
) -> None:
    """Make a token for a sender: shown once, with its line for the file LLMLOG_SINK_TOKENS."""
    made = secrets.token_urlsafe(32)
    line = senders.line(name, made, team)
    render.say(f"token, for the sender alone: {made}", err=True)
    render.say(line)


def _installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def _announce(sink: config.SinkSettings, grpc_port: int, http_port: int) -> None:
    scheme = "https" if sink.sink_tls_cert else "http"
    host = f"[{sink.sink_host}]" if ":" in sink.sink_host else sink.sink_host
    render.say(f"llmlog sink: OTLP/gRPC on {scheme}://{host}:{grpc_port}, OTLP/HTTP on {scheme}://{host}:{http_port}")

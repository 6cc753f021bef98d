"""`llmlog doctor`: is everything in place, what is covered, what is switched on."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal, NamedTuple

import typer
from rich.console import Console

from otel_llmlog import config, destination, waiting
from otel_llmlog.cli import database, render, spool
from otel_llmlog.errors import LLMLogError
from otel_llmlog.pricing import parse_price_map
from otel_llmlog.store import tables

# SDKs and the HTTP client they speak through.
_COVERED = {
    "openai": "httpx2, in older versions httpx; aiohttp with its extra",
    "anthropic": "httpx2, its clients of Bedrock and Vertex AI, too",
    "boto3": "botocore: Bedrock's Converse and InvokeModel",
    "aiobotocore": "aiohttp: the same",
    "cohere": "httpx",
    "google-genai": "httpx2 or httpx, async also aiohttp",
    "groq": "httpx",
    "litellm": "httpx, over aiohttp or not; boto3",
    "mistralai": "httpx2",
    "ollama": "httpx",
    "together": "httpx",
}
_CLIENTS = ("httpx", "httpx2", "aiohttp", "requests", "botocore")
# Instrumentations that describe the same calls in spans of their own. Rows stay single: ours alone become rows.
_OTHERS = (
    "opentelemetry-instrumentation-genai-openai",
    "opentelemetry-instrumentation-openai-v2",
    "opentelemetry-instrumentation-openai",
    "openinference-instrumentation-openai",
    "openlit",
)

Mark = Literal["ok", "note", "bad"]
_LOOKS = {"ok": ("✓", "green"), "note": ("·", "yellow"), "bad": ("✗", "red")}


class Finding(NamedTuple):
    """One line of the report."""

    mark: Mark
    what: str
    says: str


def doctor(as_json: bool = typer.Option(False, "--json", help="As JSON, a finding a line.")) -> None:
    """Check database, tables, clients, SDKs, prices and settings. Exit code 1 if something must be fixed."""
    found = list(findings())
    if as_json:
        for finding in found:
            render.say(render.as_json(finding._asdict()))
    else:
        rows = [
            (render.text(*_LOOKS[finding.mark]), render.text(finding.what, "bold"), render.text(finding.says))
            for finding in found
        ]
        Console().print(render.table(("", "", ""), rows))
    if any(finding.mark == "bad" for finding in found):
        raise typer.Exit(1)


def findings() -> Iterator[Finding]:
    """All checks, in the order in which one would fix them."""
    try:
        settings = config.load()
    except LLMLogError as error:
        yield Finding("bad", "settings", str(error))
        return
    yield from _settings()
    yield from _database(settings)
    yield from _spool(settings)
    yield from _clients()
    yield from _sdks()
    yield from _prices(settings)
    yield from _switches(settings)
    yield from _telemetry()


def _settings() -> Iterator[Finding]:
    unknown = config.unknown_variables()
    for name, meant in unknown.items():
        yield Finding("note", "settings", f"{name} is no setting{f'; did you mean {meant}?' if meant else ''}")
    if not unknown:
        yield Finding("ok", "settings", "readable")


def _database(settings: config.Settings) -> Iterator[Finding]:
    try:
        where = "LLMLOG_DATABASE_URL" if settings.store.database_url else "the embedded Postgres"
        tables.look(database.url(settings), writes=True, connect_timeout=settings.store.connect_timeout)
        status = database.reader(settings).status()
    except LLMLogError as error:
        yield Finding("bad", "database", str(error))
        return
    yield Finding("ok", "database", f"reachable: {where}")
    if word := settings.store.left_out():
        yield Finding("note", "database", word)
    if status.newer:
        yield Finding("bad", "tables", tables.newer(status.revision))
    elif status.revision == status.newest_revision:
        yield Finding("ok", "tables", f"at {status.revision}")
    elif settings.store.auto_migrate:
        yield Finding("note", "tables", "not up to date: the first call, or `llmlog db upgrade`, brings them there")
    else:
        yield Finding("bad", "tables", "not up to date: run `llmlog db upgrade`")


def _spool(settings: config.Settings) -> Iterator[Finding]:
    places = waiting.folders(settings)
    there = spool.of_all(places.all)
    for what in there.refused:
        yield Finding("bad", "spool", f"{what}: it is neither read nor written; remove it, or ask who put it there")
    if above := _others_may_write(Path(places.own).parent):
        yield Finding(
            "note", "spool", f"everybody may rename what is in {above}: set LLMLOG_SPOOL_DIR to another place"
        )
    if not there.refused:
        yield Finding("ok", "spool", f"{places.own}, for {places.destination}")
    for line in spool.told(waiting.unserved(settings), places.destination):
        yield Finding("note", "spool", line)


def _others_may_write(directory: Path) -> Path | None:
    """The directory, if everybody may put something in its place or in the place of what is in it."""
    try:
        mode = directory.stat().st_mode
    except OSError:
        return None
    return directory if mode & stat.S_IWOTH and not mode & stat.S_ISVTX else None


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _clients() -> Iterator[Finding]:
    for name in _CLIENTS:
        if found := _installed(name):
            yield Finding("ok", name, f"{found}, covered")


def _sdks() -> Iterator[Finding]:
    for name, says in _COVERED.items():
        if found := _installed(name):
            yield Finding("ok", name, f"{found}, covered: {says}")


def _prices(settings: config.Settings) -> Iterator[Finding]:
    yield Finding("ok", "prices", f"genai-prices {version('genai-prices')}")
    if path := settings.pricing.price_map:
        try:
            entries, fingerprint = parse_price_map(destination.price_file(path))
        except LLMLogError as error:
            yield Finding("bad", "price map", str(error))
        else:
            yield Finding("ok", "price map", f"{len(entries)} entries, {fingerprint}: they win over the built-in ones")


def _switches(settings: config.Settings) -> Iterator[Finding]:
    content = settings.content.store_prompts_in_spend_logs
    yield Finding("ok", "content", "messages and responses ARE stored" if content else "not stored")
    if settings.pipeline.disable_spend_logs:
        yield Finding("note", "rows", "none are written: LLMLOG_DISABLE_SPEND_LOGS is on")
    elif settings.pipeline.disable_error_logs:
        yield Finding("note", "rows", "none for failed calls: LLMLOG_DISABLE_ERROR_LOGS is on")
    if settings.capture.inject_stream_usage:
        yield Finding("note", "streams", "requests are changed to ask for usage: LLMLOG_INJECT_STREAM_USAGE is on")
    counting = _installed("tiktoken")
    yield Finding(
        "ok" if counting or settings.capture.inject_stream_usage else "note",
        "streams without usage",
        f"counted by tiktoken {counting}" if counting else "stay unpriced: pip install 'otel-llmlog[tiktoken]'",
    )


def _telemetry() -> Iterator[Finding]:
    if os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        yield Finding("bad", "OpenTelemetry", "OTEL_SDK_DISABLED is set: nothing is captured")
    traces = os.environ.get("OTEL_TRACES_EXPORTER")
    endpoint = os.environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") or os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT")
    if traces or endpoint:
        yield Finding("ok", "traces", f"go to {traces or 'otlp'}{f' at {endpoint}' if endpoint else ''}")
    else:
        yield Finding("note", "traces", "go nowhere: set OTEL_EXPORTER_OTLP_ENDPOINT to see them in a tracing backend")
    if _installed("opentelemetry-distro") and not traces and not _installed("opentelemetry-exporter-otlp-proto-grpc"):
        yield Finding(
            "bad",
            "opentelemetry-distro",
            "its default exporter is not installed, and auto-instrumentation stops there: "
            "set OTEL_TRACES_EXPORTER, or uninstall opentelemetry-distro",
        )
    for name in _OTHERS:
        if found := _installed(name):
            yield Finding("note", name, f"{found} makes spans of the same calls, too; only ours become rows")

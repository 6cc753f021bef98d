"""Real servers and task queues in an environment of their own, a local provider, a real Postgres."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from otel_llmlog.demo.provider import LocalProvider

ROOT = Path(__file__).parents[2]
SCRIPTS = Path(__file__).parent / "scripts"
# See the Makefile.
BIN = ROOT / ".venv-servers" / "bin"


@pytest.fixture
def provider() -> Iterator[LocalProvider]:
    with LocalProvider() as running:
        yield running


@pytest.fixture
def environment(provider: LocalProvider, database_url: str, tmp_path: Path) -> dict[str, str]:
    outside = {name: value for name, value in os.environ.items() if not name.startswith(("LLMLOG_", "OTEL_"))}
    return {
        **outside,
        "LLMLOG_DATABASE_URL": database_url,
        "LLMLOG_SPOOL_DIR": str(tmp_path / "spool"),
        "PROVIDER_URL": provider.url,
        "QUEUE": str(tmp_path / "queue"),
        "PYTHONPATH": str(SCRIPTS),
        "XDG_RUNTIME_DIR": str(tmp_path),  # where gunicorn listens to its own control program
    }

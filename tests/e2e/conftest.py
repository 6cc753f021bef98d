"""Whole programs in processes of their own: real SDKs, a local provider, a real Postgres."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

from otel_llmlog.demo.provider import LocalProvider

ROOT = Path(__file__).parents[2]
SCRIPTS = Path(__file__).parent / "scripts"
# openai 3.x on httpx2 is in the tests' own environment; openai 2.x on httpx has one beside it (see the Makefile).
OLDER = ROOT / ".venv-openai2" / "bin" / "python"

# Run a program as `opentelemetry-instrument` does; `Run` gives back what it printed.
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def shared_provider() -> Iterator[LocalProvider]:
    with LocalProvider() as running:
        yield running


@pytest.fixture
def provider(shared_provider: LocalProvider) -> LocalProvider:
    shared_provider.clear()
    return shared_provider


@pytest.fixture
def app_environment(provider: LocalProvider, database_url: str, tmp_path: Path) -> dict[str, str]:
    """What a user sets: the database, and where the SDKs find their provider."""
    outside = {name: value for name, value in os.environ.items() if not name.startswith(("LLMLOG_", "OTEL_"))}
    return {
        **outside,
        "LLMLOG_DATABASE_URL": database_url,
        "LLMLOG_SPOOL_DIR": str(tmp_path / "spool"),
        "OPENAI_BASE_URL": f"{provider.url}/v1",
        "ANTHROPIC_BASE_URL": provider.url,
        "GROQ_BASE_URL": provider.url,
        "OPENAI_API_KEY": "sk-openai-canary-0123456789",
        "ANTHROPIC_API_KEY": "sk-ant-canary-0123456789",
        "GROQ_API_KEY": "gsk_canary_0123456789",
    }


@pytest.fixture
def run(app_environment: dict[str, str]) -> Run:
    def run_script(
        script: str, *arguments: str, python: Path = Path(sys.executable), ok: bool = True, **extra: str
    ) -> subprocess.CompletedProcess[str]:
        command = [str(python.parent / "opentelemetry-instrument"), str(python), str(SCRIPTS / script), *arguments]
        done = subprocess.run(
            command, env={**app_environment, **extra}, capture_output=True, text=True, timeout=120, check=False
        )
        if ok:
            assert done.returncode == 0, done.stderr
        return done

    return run_script


@pytest.fixture
def rows(database_url: str) -> Callable[[], list[dict[str, Any]]]:
    def all_rows() -> list[dict[str, Any]]:
        with psycopg.connect(database_url, row_factory=dict_row) as connection:
            return connection.execute("SELECT * FROM llmlog.spend_logs ORDER BY start_time").fetchall()

    return all_rows

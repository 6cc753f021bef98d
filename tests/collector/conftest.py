"""What is asked of the whole way: what Jaeger shows, and what is in the tables."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

from otel_llmlog.demo.provider import LocalProvider
from tests.collector.programs import BIN, clean

SCRIPTS = Path(__file__).parent / "scripts"
Rows = Callable[[], list[dict[str, Any]]]


@pytest.fixture
def provider() -> Iterator[LocalProvider]:
    with LocalProvider() as running:
        yield running


def rows_of(database_url: str) -> list[dict[str, Any]]:
    """All calls with what is kept of their contents, oldest first."""
    with psycopg.connect(database_url, row_factory=dict_row) as connection:
        return connection.execute(
            "SELECT l.*, c.messages, c.response FROM llmlog.spend_logs l"
            " LEFT JOIN llmlog.spend_log_contents c USING (start_time, trace_id, span_id) ORDER BY start_time"
        ).fetchall()


def until(found: Callable[[], Any], seconds: float = 120.0) -> Any:
    """What it answers, once that is something."""
    deadline = time.monotonic() + seconds
    while not (answer := found()):
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.05)
    return answer


def run_app(script: str, *arguments: str, provider: LocalProvider, endpoint: str, **environment: str) -> list[str]:
    """Run a script under auto-instrumentation, with its telemetry going to that endpoint. Answers its lines."""
    command = [str(BIN / "opentelemetry-instrument"), sys.executable, str(SCRIPTS / script), *arguments]
    done = subprocess.run(
        command,
        env={
            **clean(),
            "OPENAI_BASE_URL": f"{provider.url}/v1",
            "OPENAI_API_KEY": "sk-openai-canary-0123456789",
            "OTEL_SERVICE_NAME": "shop",
            "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
            **environment,
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Failed to export" not in done.stderr
    return done.stdout.splitlines()

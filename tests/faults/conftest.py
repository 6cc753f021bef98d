"""Programs under load that are broken for real, and what must be true of the table afterwards."""

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

BIN = Path(sys.executable).parent
SCRIPTS = Path(__file__).parent / "scripts"


@pytest.fixture
def provider() -> Iterator[LocalProvider]:
    with LocalProvider() as running:
        yield running


@pytest.fixture
def environment(database_url: str, tmp_path: Path) -> dict[str, str]:
    outside = {name: value for name, value in os.environ.items() if not name.startswith(("LLMLOG_", "OTEL_"))}
    return {**outside, "LLMLOG_DATABASE_URL": database_url, "LLMLOG_SPOOL_DIR": str(tmp_path / "spool")}


@pytest.fixture
def drain(environment: dict[str, str]) -> Callable[[], None]:
    """Deliver what dead processes left, as an operator would."""

    def run() -> None:
        command = [str(BIN / "llmlog"), "spool", "drain"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr

    return run


@pytest.fixture
def rows(database_url: str) -> Callable[[], list[dict[str, Any]]]:
    def all_rows() -> list[dict[str, Any]]:
        with psycopg.connect(database_url, row_factory=dict_row) as connection:
            return connection.execute("SELECT * FROM llmlog.spend_logs ORDER BY start_time").fetchall()

    return all_rows

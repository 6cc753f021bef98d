"""What the tests of the store share: an exporter on a fresh database, and a way to ask that database."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from otel_llmlog.store.postgres import PostgresExporter


@pytest.fixture
def exporter(database_url: str) -> Iterator[PostgresExporter]:
    made = PostgresExporter(database_url, auto_migrate=False)
    yield made
    made.close()


@pytest.fixture
def query(database_url: str) -> Iterator[Callable[..., list[tuple[Any, ...]]]]:
    """Runs a statement; answers its rows, if it is one that has any."""
    with psycopg.connect(database_url, autocommit=True) as connection:

        def run(*statement: Any) -> list[tuple[Any, ...]]:
            cursor = connection.execute(*statement)
            return cursor.fetchall() if cursor.description else []

        yield run

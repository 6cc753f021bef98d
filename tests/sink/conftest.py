"""What the tests of the sink share: one that runs for all of them, and a way to ask its database."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

from tests.conftest import _database
from tests.sink.receiving import Sink, environment

Query = Callable[..., list[dict[str, Any]]]


@pytest.fixture(scope="session")
def module_database_url(postgres_server: str, template_database: str) -> Iterator[str]:
    """One for all tests that use the running sink."""
    yield from _database(postgres_server, f"TEMPLATE {template_database}")


@pytest.fixture(scope="session")
def sink(module_database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sink]:
    """For tests that do not mind each other's rows."""
    with Sink(environment(module_database_url, tmp_path_factory.mktemp("spool"))) as running:
        running.wait_until_ready()
        yield running


@pytest.fixture(scope="session")
def query(module_database_url: str) -> Iterator[Query]:
    with psycopg.connect(module_database_url, autocommit=True, row_factory=dict_row) as connection:

        def run(statement: str, *values: Any) -> list[dict[str, Any]]:
            return connection.execute(statement, values).fetchall()  # type: ignore[arg-type]

        yield run


@pytest.fixture
def start(database_url: str, tmp_path: Path) -> Iterator[Callable[..., Sink]]:
    """Starts a sink of the test's own, with the settings and arguments it names."""
    running: list[Sink] = []

    def run(*arguments: str, url: str = database_url, **settings: str) -> Sink:
        running.append(Sink(environment(url, tmp_path, **settings), *arguments))
        return running[-1]

    yield run
    for one in running:
        one.__exit__()

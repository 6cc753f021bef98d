"""What the tests of the store share: an exporter on a fresh database, and a way to ask that database."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import psycopg
import pytest

from otel_llmlog.store import roles
from otel_llmlog.store.postgres import PostgresExporter

# "owner", "writer", "reader" or None -> the URL for somebody who logs in with that role, or with none.
Login = Callable[[str | None], str]
ROLES = roles.Names(*(f'Llmlog\'s {kind} "{os.getpid()}"' for kind in roles.Names._fields))


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


@pytest.fixture
def login(database_url: str) -> Iterator[Login]:
    """Somebody who logs in to a database on which `llmlog db roles` was run."""
    names = ROLES
    roles.make(database_url, names)
    made = {kind: f'Ann\'s "{kind}" {os.getpid()}' for kind in (*names._fields, None)}
    with psycopg.connect(database_url, autocommit=True) as connection:
        for kind, who in made.items():
            joins = f" IN ROLE {roles.identifier(getattr(names, kind))}" if kind else ""
            connection.execute(f"CREATE ROLE {roles.identifier(who)} LOGIN{joins}")
        yield lambda kind: database_url.replace("postgres:@", f"{quote(made[kind])}:@")
        connection.execute(f"REASSIGN OWNED BY {roles.identifier(names.owner)} TO CURRENT_USER")
        for who in map(roles.identifier, (*made.values(), *names)):
            connection.execute(f"DROP OWNED BY {who}")
            connection.execute(f"DROP ROLE {who}")

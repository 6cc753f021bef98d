"""A real Postgres for the tests that ask for one: a server a run, a fresh migrated database a test."""

from __future__ import annotations

import atexit
import itertools
import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest

from otel_llmlog.store import embedded, migrate

_numbers = itertools.count(1)

# What starts the tests may ignore SIGINT, as a shell does for what it runs in the background. Programs that the tests
# start would inherit that, and those that are to be interrupted would go on.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _sibling(server_url: str, database: str) -> str:
    """The URL of another database on the same server."""
    before, _, after = server_url.rpartition("/postgres?")
    return f"{before}/{quote(database)}?{after}"


@pytest.fixture(scope="session")
def postgres_server() -> str:
    """URL of the maintenance database of a server that lives as long as the test run."""
    # Not in pytest's own directory: as root the server is another user, and each run that starts closes that one anew.
    directory = tempfile.mkdtemp(prefix="llmlog-tests-")
    atexit.register(shutil.rmtree, directory, ignore_errors=True)  # runs after the server's own exit handler
    url = embedded.start(Path(directory) / "data")
    with psycopg.connect(url, autocommit=True) as connection:
        # Nothing here must survive a crash of the machine.
        for setting in ("fsync", "synchronous_commit", "full_page_writes"):
            connection.execute(f"ALTER SYSTEM SET {setting} = off")
        connection.execute("SELECT pg_reload_conf()")
    return url


@pytest.fixture(scope="session")
def template_database(postgres_server: str) -> str:
    """Name of a migrated database that is cloned for each test."""
    name = f"llmlog_template_{os.getpid()}"
    with psycopg.connect(postgres_server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    migrate.upgrade(_sibling(postgres_server, name))
    return name


@pytest.fixture
def database_url(postgres_server: str, template_database: str) -> Iterator[str]:
    """URL of a database with all tables and no rows, for this test alone."""
    yield from _database(postgres_server, f"TEMPLATE {template_database}")


@pytest.fixture(scope="module")
def module_database_url(postgres_server: str, template_database: str) -> Iterator[str]:
    """The same for all tests of a module, which must not mind each other's rows."""
    yield from _database(postgres_server, f"TEMPLATE {template_database}")


@pytest.fixture
def empty_database_url(postgres_server: str) -> Iterator[str]:
    """URL of a database without any table, for this test alone."""
    yield from _database(postgres_server, "")


def _database(server_url: str, options: str) -> Iterator[str]:
    name = f"llmlog_test_{os.getpid()}_{next(_numbers)}"
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} {options}")
    yield _sibling(server_url, name)
    with psycopg.connect(server_url, autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")

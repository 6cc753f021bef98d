"""Creating and upgrading the tables: Alembic runs the files in `sql/migrations`, in one transaction.

Always true: many processes may start at once and each change is made once; the app's logging is left as it is; a
failed upgrade leaves the database as it was.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from psycopg import errors
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError

from otel_llmlog.errors import StoreUnavailable
from otel_llmlog.store import connect, rights, roles, sql, tables
from otel_llmlog.store.failures import failure
from otel_llmlog.store.postgres import DAYS_AHEAD

SCHEMA = "llmlog"
VERSION_TABLE = "alembic_version"
# Any number, as long as it stays the same: it names the lock that upgrades hold.
_LOCK = 7_110_205_331_148_201
# For a lock that anybody may hold.
PATIENCE_SECONDS = 10.0
_LOGGERS = ("alembic.runtime.migration", "alembic.runtime.plugins")


def upgrade(target: str | Engine) -> None:
    """Bring the tables to the newest revision. Does nothing when they are there already.

    Raises StoreUnavailable, also when the tables are newer than that or the database cannot hold every text.
    """
    with _connected(target) as connection, connection.begin():
        # Before anything is made.
        tables.refuse_encoding(_driver(connection))
        tables.refuse_to_change(_current(connection))
        _one_at_a_time(connection)
        _become_owner(connection)
        if connection.scalar(text(f"SELECT to_regnamespace('{SCHEMA}')")) is None:
            connection.execute(text(f"CREATE SCHEMA {SCHEMA}"))
        found = _current(connection)
        tables.refuse_to_change(found)  # who was at it before may be of a later version
        if found != sql.newest():
            _run(connection)
            roles.hand_on_functions(connection)
        _make_partitions(connection)


def status(target: str | Engine) -> tuple[str | None, str]:
    """(revision of the database or None, newest revision)."""
    with _connected(target) as connection:
        return _current(connection), sql.newest()


def _one_at_a_time(connection: Connection) -> None:
    """Of ten processes that start at once, nine wait here and then find the work done."""
    # Where there are tables, a lock that only their owner can take. The other one is for a new database, and for
    # processes of the version before; anybody may hold it, so it is not waited for without end.
    until = time.monotonic() + PATIENCE_SECONDS
    while not connection.scalar(text("SELECT pg_try_advisory_xact_lock(:lock)"), {"lock": _LOCK}):
        if time.monotonic() > until:
            break
        time.sleep(0.1)
    if _current(connection) is not None:
        connection.execute(text(f"LOCK TABLE {SCHEMA}.{VERSION_TABLE} IN SHARE ROW EXCLUSIVE MODE"))


def _make_partitions(connection: Connection) -> None:
    """Those of the next days; where a reader stands in the way they are left to writers, who try again."""
    connection.execute(text("SET LOCAL lock_timeout = '1s'"))
    made = "SELECT llmlog.ensure_partition(CAST(now() AT TIME ZONE 'UTC' AS date) + :day)"
    try:
        with connection.begin_nested():
            for day in range(DAYS_AHEAD + 1):
                connection.execute(text(made), {"day": day})
    except DBAPIError as error:
        if not isinstance(error.orig, errors.LockNotAvailable):
            raise


def _become_owner(connection: Connection) -> None:
    """Let what is made belong to whom the tables belong, or else the schema, where this role may act for that one."""
    found = connection.execute(text(sql.queries()["owner_to_become"])).one_or_none()
    if found is not None:
        connection.execute(text(f"SET LOCAL ROLE {found.quoted}"))


def _current(connection: Connection) -> str | None:
    return tables.revision(_driver(connection))


def _driver(connection: Connection) -> psycopg.Connection[Any]:
    driver: psycopg.Connection[Any] = connection.connection.driver_connection  # type: ignore[assignment] # it is psycopg's
    return driver


@contextmanager
def _connected(target: str | Engine) -> Iterator[Connection]:
    engine = target if isinstance(target, Engine) else connect.engine(target)
    try:
        with engine.connect() as connection:
            yield connection
    except (DBAPIError, psycopg.Error) as error:
        # Alembic hands the driver's own on.
        found = error.orig if isinstance(error, DBAPIError) else error
        if isinstance(target, Engine):
            raise StoreUnavailable(f"cannot upgrade the tables: {failure(found).advice}") from None
        told = rights.told(found, connect.conninfo(target), "owner")
        raise StoreUnavailable(f"cannot upgrade the tables: {told}") from None


def _run(connection: Connection) -> None:
    with _quiet():
        from alembic.config import Config
        from alembic.runtime.environment import EnvironmentContext
        from alembic.script import ScriptDirectory

        config = Config()
        config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
        scripts = ScriptDirectory.from_config(config)

        def steps(revision: Any, _context: Any) -> Any:
            return scripts._upgrade_revs("head", revision)  # noqa: SLF001 - Alembic's own command does the same

        with EnvironmentContext(config, scripts, fn=steps) as environment:
            environment.configure(connection=connection, version_table=VERSION_TABLE, version_table_schema=SCHEMA)
            environment.run_migrations()


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Alembic's progress out of the app's log; other threads that use Alembic are heard as before."""
    here = threading.get_ident()

    def from_elsewhere(record: logging.LogRecord) -> bool:
        return record.thread != here or record.levelno >= logging.WARNING

    loggers = [logging.getLogger(name) for name in _LOGGERS]
    for logger in loggers:
        logger.addFilter(from_elsewhere)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeFilter(from_elsewhere)

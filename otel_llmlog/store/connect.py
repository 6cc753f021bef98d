"""How the database is reached, and what every transaction there begins with: the same for all that connect.

Always true: only `otel_llmlog.address` reads the URL; no statement depends on a setting of the user's role, database,
URL or pooler; nothing is set for longer than a transaction, because behind a pooler the next one is somebody else's;
no message holds the URL or a part of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import psycopg
from psycopg import pq
from psycopg.conninfo import make_conninfo

from otel_llmlog import address
from otel_llmlog.errors import ConfigError, StoreUnavailable
from otel_llmlog.store.failures import failure, note_statement

if TYPE_CHECKING:
    from sqlalchemy import Engine

# The least version that works. tests/databases tries every one from here on.
OLDEST = 12
# Seconds. A dead peer is noticed in about a minute instead of the kernel's two hours.
_KEEPALIVE = {"keepalives": 1, "keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3}

# What statements and the reading of their answers rely on, whatever the role, the database or PGOPTIONS say.
# default_transaction_read_only and synchronous_commit are missing: they are an operator's decision about writing.
_RELIED_ON = {
    "DateStyle": "ISO, MDY",  # the driver reads no other
    "IntervalStyle": "postgres",
    "TimeZone": "UTC",
    "search_path": "pg_catalog, pg_temp",  # all names of ours are written with their schema
    "standard_conforming_strings": "on",
    "array_nulls": "on",  # off makes texts "NULL" of them
    "bytea_output": "hex",
    "extra_float_digits": "1",
    "quote_all_identifiers": "off",  # names are compared
    "exit_on_error": "off",  # a refused row must not cost the connection
    "plpgsql.extra_errors": "none",  # functions of ours give a name of an outer block to an inner variable
    "client_min_messages": "warning",
}
# Of newer versions only.
_SINCE = {170000: {"transaction_timeout": "0"}}


class Limits(NamedTuple):
    """Seconds after which the server gives up. 0: never."""

    statement: float = 60.0
    lock: float = 10.0
    idle: float = 60.0
    """In a transaction, between two statements."""


# What any chunk needs on a healthy database; a sick one must not hold its locks for longer.
USUAL = Limits()
UNLIMITED = Limits(0, 0, 0)


def settings(version: int, limits: Limits = USUAL) -> str:
    """SQL for the beginning of a transaction on a server of this version, such as 160004."""
    newer = {name: value for since, names in _SINCE.items() if version >= since for name, value in names.items()}
    given = {
        # Before version 13 all statements of one message share the time that counts when it comes: 0 ends that.
        "statement_timeout": "0",
        **newer,
        "lock_timeout": _milliseconds(limits.lock),
        "idle_in_transaction_session_timeout": _milliseconds(limits.idle),
        **_RELIED_ON,
    }
    last = f"SET LOCAL statement_timeout = {_milliseconds(limits.statement)}"
    return "; ".join([*(f"SET LOCAL {name} = {value}" for name, value in given.items()), last])


def _milliseconds(seconds: float) -> str:
    return str(max(1, round(seconds * 1000)) if seconds else 0)


def begin(version: int, limits: Limits = USUAL) -> str:
    """SQL that begins a transaction."""
    return f"BEGIN ISOLATION LEVEL READ COMMITTED; {settings(version, limits)}"


@contextmanager
def transaction(connection: psycopg.Connection[Any], limits: Limits = USUAL) -> Iterator[None]:
    """A transaction, or a part of the one under way, that relies on nothing that it has not set."""
    with connection.transaction():
        connection.execute(settings(connection.info.server_version, limits).encode())
        yield


def conninfo(url: str, *, connect_timeout: int = 10) -> str:
    """The URL as libpq's connection string, what it leaves open filled in. Raises ConfigError."""
    try:
        given = address.read(url).parameters
    except ValueError as error:
        raise ConfigError(f"LLMLOG_DATABASE_URL {error}") from None
    known = {option.keyword.decode() for option in pq.Conninfo.get_defaults()}
    if unknown := sorted(given.keys() - known):
        raise ConfigError(
            f"LLMLOG_DATABASE_URL says {unknown[0]}, which this machine's libpq ({pq.version()}) is too old for"
        )
    defaults: dict[str, Any] = {"application_name": "llmlog", "connect_timeout": connect_timeout, **_KEEPALIVE}
    if "," in (given.get("host") or given.get("hostaddr") or ""):
        defaults["target_session_attrs"] = "read-write"  # the primary, wherever it is now
    return make_conninfo("", **{**defaults, **given, "client_encoding": "utf8"})


def connection(info: str) -> psycopg.Connection[tuple[object, ...]]:
    """A connection in autocommit mode, without prepared statements. Raises StoreUnavailable."""
    try:
        made = _made(info)
    except psycopg.Error as error:
        raise StoreUnavailable(f"no database: {failure(error).advice}") from None
    made.autocommit = True
    return made


class _NamingCursor(psycopg.Cursor[Any]):
    """Has errors remember which statement failed."""

    def execute(self, query: Any, *arguments: Any, **more: Any) -> Self:
        try:
            return super().execute(query, *arguments, **more)
        except psycopg.Error as error:
            note_statement(error, query.decode() if isinstance(query, bytes) else str(query))
            raise

    def executemany(self, query: Any, *arguments: Any, **more: Any) -> None:
        try:
            super().executemany(query, *arguments, **more)
        except psycopg.Error as error:
            note_statement(error, str(query))
            raise


def _made(info: str) -> psycopg.Connection[tuple[object, ...]]:
    # Prepared statements would break behind a pooler that gives each transaction another session.
    made = psycopg.connect(info, prepare_threshold=None, cursor_factory=_NamingCursor)
    made.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
    version = made.info.server_version
    if 0 < version < OLDEST * 10_000:
        made.close()
        found = f"{version // 10_000}.{version % 10_000}"
        raise StoreUnavailable(
            f"the database is PostgreSQL {found}; the oldest that otel-llmlog takes is {OLDEST}: upgrade the server"
        )
    return made


def ping(url: str, *, connect_timeout: int = 10) -> None:
    """Ask the database for an answer. Raises StoreUnavailable when there is none, ConfigError."""
    with connection(conninfo(url, connect_timeout=connect_timeout)) as asked:
        try:
            asked.execute("SELECT 1")
        except psycopg.Error as error:
            raise StoreUnavailable(f"no database: {failure(error).advice}") from None


def engine(url: str, *, connect_timeout: int = 10, limits: Limits = UNLIMITED) -> Engine:
    """SQLAlchemy's engine for the same URL. It keeps no connection open between uses."""
    # Imported late: a writer whose tables are up to date never needs it.
    from sqlalchemy import NullPool, create_engine, event

    info = conninfo(url, connect_timeout=connect_timeout)
    made = create_engine("postgresql+psycopg://", creator=lambda: _made(info), poolclass=NullPool)

    @event.listens_for(made, "begin")
    def _begin(connection: Any) -> None:
        connection.exec_driver_sql(settings(connection.connection.driver_connection.info.server_version, limits))

    return made

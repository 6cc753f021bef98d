"""How the database is reached: one reading of the URL for the writer, the migrations and the reader.

Always true: libpq parses the URL, so whatever psql takes is taken; no message holds the URL or a part of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from otel_llmlog.errors import ConfigError, StoreUnavailable
from otel_llmlog.store.failures import failure

if TYPE_CHECKING:
    from sqlalchemy import Engine

# Seconds. A dead peer is noticed in about a minute instead of the kernel's two hours.
_KEEPALIVE = {"keepalives": 1, "keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3}


def conninfo(url: str, *, connect_timeout: int = 10) -> str:
    """The URL as libpq's connection string, what it leaves open filled in. Raises ConfigError."""
    scheme, separator, rest = url.partition("://")
    try:
        given = conninfo_to_dict(scheme.replace("+psycopg", "") + separator + rest)
    except psycopg.Error:
        # The library's message repeats the URL, password and all.
        raise ConfigError("LLMLOG_DATABASE_URL must be like postgresql://user:password@host/database") from None
    defaults: dict[str, Any] = {"application_name": "llmlog", "connect_timeout": connect_timeout, **_KEEPALIVE}
    return make_conninfo("", **{**defaults, **given, "client_encoding": "utf8"})


def connection(info: str) -> psycopg.Connection[tuple[object, ...]]:
    """A connection in autocommit mode, without prepared statements. Raises StoreUnavailable."""
    try:
        # Prepared statements would break behind a pooler that gives each transaction another session.
        return psycopg.connect(info, autocommit=True, prepare_threshold=None)
    except psycopg.Error as error:
        raise StoreUnavailable(f"no database: {failure(error).advice}") from None


def ping(url: str, *, connect_timeout: int = 10) -> None:
    """Ask the database for an answer. Raises StoreUnavailable when there is none, ConfigError."""
    with connection(conninfo(url, connect_timeout=connect_timeout)) as asked:
        try:
            asked.execute("SELECT 1")
        except psycopg.Error as error:
            raise StoreUnavailable(f"no database: {failure(error).advice}") from None


def engine(url: str, *, connect_timeout: int = 10) -> Engine:
    """SQLAlchemy's engine for the same URL. It keeps no connection open between uses."""
    # Imported late: a writer whose tables are up to date never needs it.
    from sqlalchemy import NullPool, create_engine

    info = conninfo(url, connect_timeout=connect_timeout)
    return create_engine(
        "postgresql+psycopg://", creator=lambda: psycopg.connect(info, prepare_threshold=None), poolclass=NullPool
    )

"""What the tables are: of which version, and in what kind of database.

Always true: tables newer than this program are never changed by it. Rows are added to them, as every migration lets the
writers before it do, unless the database says which writers are too old for it.
"""

from __future__ import annotations

from typing import Any

import psycopg

from otel_llmlog.errors import StoreUnavailable
from otel_llmlog.store import connect, sql
from otel_llmlog.store.failures import failure

# Every text of a call fits into it, and into no other.
_ENCODING = "UTF8"
_UPGRADE_PROGRAM = "run `pip install --upgrade otel-llmlog`"


def revision(connection: psycopg.Connection[Any]) -> str | None:
    """The revision of the tables; None when there are none. Raises psycopg's errors."""
    found = connection.execute("SELECT to_regclass('llmlog.alembic_version') IS NOT NULL").fetchone()
    if found is None or not found[0]:
        return None
    version = connection.execute("SELECT version_num FROM llmlog.alembic_version").fetchone()
    return None if version is None else str(version[0])


def look(url: str, *, writes: bool = False, connect_timeout: int = 10) -> str | None:
    """The revision of the tables of this database. Raises ConfigError, StoreUnavailable.

    `writes`: StoreUnavailable also when the database cannot hold every text.
    """
    with connect.connection(connect.conninfo(url, connect_timeout=connect_timeout)) as connection:
        if writes:
            refuse_encoding(connection)
        try:
            with connect.transaction(connection):
                return revision(connection)
        except psycopg.Error as error:
            raise StoreUnavailable(f"cannot look at the tables: {failure(error).advice}") from None


def is_newer(found: str | None) -> bool:
    """Whether this program does not know this revision: the tables were made by a later one."""
    return found is not None and found not in sql.known()


def newer(found: str | None) -> str:
    """What to say of such tables."""
    return f"the llmlog tables are at {found}, this program knows {sql.newest()} at most: {_UPGRADE_PROGRAM}"


def refuse_to_change(found: str | None) -> None:
    """Raises StoreUnavailable when the tables are newer than this program."""
    if is_newer(found):
        raise StoreUnavailable(f"{newer(found)}; nothing was changed")


def refuse_to_write(connection: psycopg.Connection[Any], found: str | None) -> None:
    """Of tables that are newer, at `found`.

    Raises StoreUnavailable when they say that rows of this program do not fit into them.
    """
    try:
        with connect.transaction(connection):
            told = connection.execute("SELECT revision FROM llmlog.maintenance WHERE task = 'oldest_writer'").fetchone()
    except (psycopg.errors.UndefinedColumn, psycopg.errors.UndefinedTable):
        told = None  # they say it in another way, so this program cannot know
    if told is None or told[0] > sql.newest():
        raise StoreUnavailable(f"{newer(found)}; its rows do not fit into them")


def refuse_encoding(connection: psycopg.Connection[Any]) -> None:
    """Raises StoreUnavailable when the database cannot hold every text; says how to make one that can."""
    found = connection.info.parameter_status("server_encoding")
    if found in (None, _ENCODING):
        return
    name, owner = connection.info.dbname, connection.info.user
    made = (
        f"CREATE DATABASE {_quoted(f'{name}_utf8')} OWNER {_quoted(owner)} "
        f"TEMPLATE template0 ENCODING '{_ENCODING}' LC_COLLATE 'C' LC_CTYPE 'C'"
    )
    raise StoreUnavailable(
        f"the database's encoding is {found}, which cannot hold every text: run `{made}`, "
        "and name that database in LLMLOG_DATABASE_URL"
    )


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'

"""Who may do what in the database: three roles, owner, writer and reader, each with the rights that its work needs.

Always true: no function of schema llmlog can be called by everybody; who could write or read before an upgrade can
afterwards.
"""

from __future__ import annotations

from typing import NamedTuple

import psycopg
from sqlalchemy import Connection, text

from otel_llmlog.errors import ConfigError, StoreUnavailable
from otel_llmlog.store import connect, sql
from otel_llmlog.store.failures import failure

# What is called from outside of the database; all other functions are called by these, as the owner of the tables.
WRITER_FUNCTIONS = (
    "add_calls", "add_contents", "add_described", "add_to_rollups", "are_described", "ensure_partition",
    "expect_described", "fold_rollups",
)  # fmt: skip
# For `llmlog db check`.
READER_FUNCTIONS = ("session_totals_of_rows", "spend_daily_of_hours", "spend_hourly_key", "spend_hourly_of_rows")
# (table, right, columns or none). What a writer stores it cannot read back, but for the keys by which it knows what is
# there already.
WRITER_TABLES = (
    ("alembic_version", "SELECT", ""),
    ("maintenance", "SELECT", ""),
    ("spend_logs", "INSERT", ""),
    ("spend_logs", "SELECT", "start_time, trace_id, span_id"),
    ("spend_log_contents", "INSERT", ""),
    ("spend_log_contents", "SELECT", "start_time, trace_id, span_id"),
    ("audit_logs", "INSERT", ""),
    ("audit_logs", "SELECT", "id"),
    ("dead_letters", "INSERT", ""),
    ("dead_letters", "SELECT", "digest"),
)


class Names(NamedTuple):
    """What the roles are called."""

    owner: str
    writer: str
    reader: str


DEFAULTS = Names("llmlog_owner", "llmlog_writer", "llmlog_reader")


def statements(names: Names) -> str:
    """The SQL that makes these roles, for one that may create roles and owns the tables. Raises ConfigError."""
    if len(set(names)) < len(names) or not all(names) or "\0" in "".join(names):
        raise ConfigError("owner, writer and reader must be three roles: give each a name of its own")
    made = (sql.directory() / "roles.sql").read_text("utf-8")
    for place, name in names._asdict().items():
        made = made.replace(f':"{place}"', identifier(name)).replace(f":'{place}'", _literal(name))
    grants = [
        f"GRANT {right}{f' ({columns})' if columns else ''} ON llmlog.{table} TO {identifier(names.writer)};"
        for table, right, columns in WRITER_TABLES
    ]
    made = made.replace(":writer_tables", "\n".join(grants))
    for place, functions in (("writer", WRITER_FUNCTIONS), ("reader", READER_FUNCTIONS)):
        made = made.replace(f":{place}_functions", f"ARRAY[{', '.join(map(_literal, functions))}]")
    return made


def make(url: str, names: Names, *, connect_timeout: int = 10) -> None:
    """Make these roles, or give them their rights anew. Raises StoreUnavailable, ConfigError."""
    made = statements(names)
    with connect.connection(connect.conninfo(url, connect_timeout=connect_timeout)) as connection:
        begin = f"{connect.begin(connection.info.server_version, connect.UNLIMITED)};"
        try:
            connection.execute(made.replace("BEGIN;", begin, 1).encode())
        except psycopg.Error as error:
            raise StoreUnavailable(f"the roles were not made: {failure(error).advice}") from None


def hand_on_functions(connection: Connection) -> None:
    """After a migration: functions are for those who may insert or read, not for everybody."""
    connection.execute(text(sql.queries()["functions_closed"]))
    for right, names in (("INSERT", WRITER_FUNCTIONS), ("SELECT", READER_FUNCTIONS)):
        given = {"holding": right, "names": list(names)}
        for grant in connection.scalars(text(sql.queries()["functions_for"]), given).all():
            connection.exec_driver_sql(grant)


def identifier(name: str) -> str:
    """A name as it stands in SQL."""
    return '"' + name.replace('"', '""') + '"'


def _literal(name: str) -> str:
    # E'…': a backslash means the same whatever standard_conforming_strings says.
    return "E'" + name.replace("\\", "\\\\").replace("'", "''") + "'"

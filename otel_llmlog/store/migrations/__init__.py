"""Alembic's side of the migrations: one revision for each file in `sql/migrations`, upwards only."""

from __future__ import annotations

import psycopg
from alembic import op

from otel_llmlog.store import sql
from otel_llmlog.store.failures import note_statement


def run(revision: str) -> None:
    """Execute the SQL file of a revision in Alembic's transaction."""
    # The driver's own cursor, without parameters: `%` and `:` mean nothing to it, and many statements are fine.
    try:
        op.get_bind().connection.cursor().execute(sql.migrations()[revision])
    except psycopg.Error as error:
        note_statement(error, f"MIGRATION llmlog.{revision}")
        raise

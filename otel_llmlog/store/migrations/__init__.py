"""Alembic's side of the migrations: one revision for each file in `sql/migrations`, upwards only."""

from __future__ import annotations

from alembic import op

from otel_llmlog.store import sql


def run(revision: str) -> None:
    """Execute the SQL file of a revision in Alembic's transaction."""
    # The driver's own cursor, without parameters: `%` and `:` mean nothing to it, and many statements are fine.
    op.get_bind().connection.cursor().execute(sql.migrations()[revision])

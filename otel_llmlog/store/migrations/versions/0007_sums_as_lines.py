"""Sums come to the database as lines, not as columns."""

from __future__ import annotations

from otel_llmlog.store import sql
from otel_llmlog.store.migrations import run

revision = "0007"
down_revision = sql.before(revision)


def upgrade() -> None:
    run(revision)

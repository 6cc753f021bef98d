"""How old the audit logs were that a sign-off removes, and which writers are too old for the tables."""

from __future__ import annotations

from otel_llmlog.store import sql
from otel_llmlog.store.migrations import run

revision = "0011"
down_revision = sql.before(revision)


def upgrade() -> None:
    run(revision)

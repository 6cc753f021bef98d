"""Audit logs, append-only and chained, and the checkpoints of the chain."""

from __future__ import annotations

from otel_llmlog.store import sql
from otel_llmlog.store.migrations import run

revision = "0004"
down_revision = sql.before(revision)


def upgrade() -> None:
    run(revision)

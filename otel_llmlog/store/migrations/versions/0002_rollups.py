"""Sums by hour and by session, dead letters, and the notes of maintenance."""

from __future__ import annotations

from otel_llmlog.store import sql
from otel_llmlog.store.migrations import run

revision = "0002"
down_revision = sql.before(revision)


def upgrade() -> None:
    run(revision)

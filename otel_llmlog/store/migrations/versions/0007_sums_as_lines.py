"""Sums come to the database as lines, not as columns."""

from __future__ import annotations

from otel_llmlog.store.migrations import run

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    run(revision)

"""Audit logs, append-only and chained, and the checkpoints of the chain."""

from __future__ import annotations

from otel_llmlog.store.migrations import run

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    run(revision)

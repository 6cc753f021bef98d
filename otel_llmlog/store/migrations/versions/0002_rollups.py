"""Sums by hour and by session, dead letters, and the notes of maintenance."""

from __future__ import annotations

from otel_llmlog.store.migrations import run

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    run(revision)

"""Request logs and their contents, partitioned by day."""

from __future__ import annotations

from otel_llmlog.store.migrations import run

revision = "0001"
down_revision = None


def upgrade() -> None:
    run(revision)

"""Who removes old rows has a lease, no lock."""

from __future__ import annotations

from otel_llmlog.store import sql
from otel_llmlog.store.migrations import run

revision = "0015"
down_revision = sql.before(revision)


def upgrade() -> None:
    run(revision)

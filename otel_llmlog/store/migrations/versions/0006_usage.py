"""What a call used, as a column of its own."""

from __future__ import annotations

from otel_llmlog.store import sql
from otel_llmlog.store.migrations import run

revision = "0006"
down_revision = sql.before(revision)


def upgrade() -> None:
    run(revision)

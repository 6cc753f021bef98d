"""What writers may call adds to the sums, and nobody may call anything unasked."""

from __future__ import annotations

from otel_llmlog.store import sql
from otel_llmlog.store.migrations import run

revision = "0010"
down_revision = sql.before(revision)


def upgrade() -> None:
    run(revision)

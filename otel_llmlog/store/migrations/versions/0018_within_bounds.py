"""What a writer stores can be read and summed up; what it says of sums and chains is held against its rows."""

from __future__ import annotations

from otel_llmlog.store import sql
from otel_llmlog.store.migrations import run

revision = "0018"
down_revision = sql.before(revision)


def upgrade() -> None:
    run(revision)

"""Lines of spend_hourly that are there need no names to be added to."""

from __future__ import annotations

from otel_llmlog.store import sql
from otel_llmlog.store.migrations import run

revision = "0008"
down_revision = sql.before(revision)


def upgrade() -> None:
    run(revision)

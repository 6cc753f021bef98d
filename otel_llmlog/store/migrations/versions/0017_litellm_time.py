"""The newest rows by LiteLLM's "startTime" are found as fast as by our own start_time."""

from __future__ import annotations

from otel_llmlog.store import sql
from otel_llmlog.store.migrations import run

revision = "0017"
down_revision = sql.before(revision)


def upgrade() -> None:
    run(revision)

"""Sessions that follow their chains, the view of sessions, and LiteLLM's names for the tables of spend."""

from __future__ import annotations

from otel_llmlog.store import sql
from otel_llmlog.store.migrations import run

revision = "0003"
down_revision = sql.before(revision)


def upgrade() -> None:
    run(revision)

"""LiteLLM's names for the tables of spend, as its releases up to 1.110 ask for them."""

from __future__ import annotations

from otel_llmlog.store import sql
from otel_llmlog.store.migrations import run

revision = "0016"
down_revision = sql.before(revision)


def upgrade() -> None:
    run(revision)

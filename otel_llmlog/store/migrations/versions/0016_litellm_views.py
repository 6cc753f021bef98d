"""LiteLLM's names for the tables of spend, as its releases up to 1.110 ask for them."""

from __future__ import annotations

from otel_llmlog.store.migrations import run

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    run(revision)

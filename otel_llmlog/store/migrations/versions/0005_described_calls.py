"""One request is one row, however many spans describe it."""

from __future__ import annotations

from otel_llmlog.store.migrations import run

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    run(revision)

"""One request is one row, however many spans describe it."""

from __future__ import annotations

from otel_llmlog.store import sql
from otel_llmlog.store.migrations import run

revision = "0005"
down_revision = sql.before(revision)


def upgrade() -> None:
    run(revision)

"""A call that was hidden comes back beside columns that its user has added."""

from __future__ import annotations

from otel_llmlog.store import sql
from otel_llmlog.store.migrations import run

revision = "0012"
down_revision = sql.before(revision)


def upgrade() -> None:
    run(revision)

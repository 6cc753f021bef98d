"""Locks that only those can take who may write, and functions that only those can call."""

from __future__ import annotations

from otel_llmlog.store import sql
from otel_llmlog.store.migrations import run

revision = "0009"
down_revision = sql.before(revision)


def upgrade() -> None:
    run(revision)

"""Rows tell which sender of the sink they came from; days get their partitions although rows came early."""

from __future__ import annotations

from otel_llmlog.store import sql
from otel_llmlog.store.migrations import run

revision = "0013"
down_revision = sql.before(revision)


def upgrade() -> None:
    run(revision)

"""`watch`: SQLAlchemy models of the app whose changes are audited. SQLAlchemy is imported when the first one is named.

Always true: with the outbox, a change and its audit event are one transaction of the app's database: both are there or
neither, and the event is forwarded from there exactly once. Without it, what is committed is recorded after COMMIT.
"""

from __future__ import annotations

import sys
from typing import Any


def watch(*models: type[Any], table_name: str | None = None, outbox: bool = True) -> None:
    """Audit every insert, update and delete of these mapped classes, those of subclasses and bulk statements too.

    table_name: as it shall stand in the audit log; by default the model's own table. outbox: write the event into the
    table `llmlog_audit_outbox` of the app's database, in the transaction of the change; the table is added to the
    model's metadata, so that `create_all` and Alembic's autogenerate make it. Off: record it when the change is
    committed. The actor is the user of `otel_llmlog.context(...)`.
    """
    from otel_llmlog.audit import listening

    listening.watch(models, table_name, outbox=outbox)


def forward(engine: Any) -> int:
    """Forward what waits in the outbox of this engine's database; answers how many events.

    A watching process does it by itself after each COMMIT; this is for what a dead one left. Raises AuditNotRecorded
    when the audit logs cannot be reached: what was not forwarded stays.
    """
    from otel_llmlog.audit import outbox

    return outbox.forward(engine)


async def aforward(engine: Any) -> int:
    """The same for an async engine, whose driver no thread can use: call it after COMMIT, or now and then."""
    from otel_llmlog.audit import outbox

    return await outbox.aforward(engine)


def flush(timeout: float) -> bool:
    """Wait until what was committed into an outbox by this process is forwarded; False if that took longer."""
    used = sys.modules.get("otel_llmlog.audit.outbox")
    return True if used is None else bool(used.flush(timeout))

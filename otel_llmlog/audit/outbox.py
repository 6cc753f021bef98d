"""The outbox in the app's own database: audit events that were committed with what they tell of, until they are stored.

Always true: an event leaves the outbox only after it is committed in the audit logs, or taken by the spool where rows
go to a collector; forwarded twice it is stored once, because its id is its own.
"""

from __future__ import annotations

import os
import threading
import time
from typing import Any

from pydantic import ValidationError
from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    DateTime,
    Engine,
    Integer,
    MetaData,
    Table,
    Text,
    delete,
    func,
    select,
)

from otel_llmlog import emit
from otel_llmlog.audit import recording
from otel_llmlog.errors import AuditNotRecorded
from otel_llmlog.payload import AuditEvent

NAME = "llmlog_audit_outbox"
# Events in one transaction of the app's database.
_AT_ONCE = 100
# Seconds before what could not be forwarded is tried again: doubled each time.
_FIRST_RETRY, _LAST_RETRY = 0.25, 15.0

_forwarders: dict[Engine, _Forwarder] = {}
_lock = threading.Lock()


def _after_fork() -> None:
    global _lock  # noqa: PLW0603 - its owner may not exist here
    _lock = threading.Lock()
    _forwarders.clear()


# The threads, and who held their locks, stayed with the parent. What waits is in the database, for whoever comes.
os.register_at_fork(after_in_child=_after_fork)


def table(metadata: MetaData) -> Table:
    """The outbox table in this metadata."""
    found = metadata.tables.get(NAME)
    if found is not None:
        return found
    return Table(
        NAME,
        metadata,
        Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
        Column("event_id", Text, nullable=False),
        Column("created_at", DateTime(timezone=True), server_default=func.now(), nullable=False),
        Column("event", Text, nullable=False),
    )


def put(connection: Connection, metadata: MetaData, event: AuditEvent) -> None:
    """Write an event, in the transaction that is under way. Raises AuditNotRecorded when the table is not there."""
    written = table(metadata).insert().values(event_id=event.id, event=event.model_dump_json())
    try:
        connection.execute(written)
    except Exception as error:  # each database driver has its own; the app hears of ours
        raise AuditNotRecorded(
            f"no audit event can be written beside the change: create the table {NAME} ({type(error).__name__})",
            event.id,
        ) from None


def forward(engine: Engine) -> int:
    """Forward all that waits. Raises AuditNotRecorded."""
    total = 0
    while True:
        with engine.begin() as connection:
            found, left = _lot(connection)
        total += found
        if left is not None:
            raise left
        if found < _AT_ONCE:
            return total


async def aforward(engine: Any) -> int:
    """The same for an async engine."""
    total: int = 0
    while True:
        async with engine.begin() as connection:
            found, left = await connection.run_sync(_lot)
        total += found
        if left is not None:
            raise left
        if found < _AT_ONCE:
            return total


def _lot(connection: Connection) -> tuple[int, AuditNotRecorded | None]:
    """Forward some events and remove them; answers how many, and why it stopped early."""
    outlet = recording.outlet()
    if outlet is None:
        return 0, AuditNotRecorded("otel-llmlog is not switched on: call otel_llmlog.instrument()")
    outbox = table(MetaData())
    # Whoever forwards at the same time takes others.
    waiting = select(outbox).order_by(outbox.c.id).limit(_AT_ONCE).with_for_update(skip_locked=True)
    done, left = [], None
    for row in connection.execute(waiting).all():
        try:
            event = AuditEvent.model_validate_json(row.event)
        except ValidationError:
            recording.warn("outbox", f"row {row.id} of {NAME} is no audit event; it stays there")
            continue
        try:
            outlet.hand_over(event)
        except AuditNotRecorded as error:
            left = error
            break
        emit.audit_log(event)
        done.append(row.id)
    if done:
        connection.execute(delete(outbox).where(outbox.c.id.in_(done)))
    return len(done), left


class _Forwarder:
    """A thread that forwards for one engine while there is something to forward."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._changed = threading.Condition()
        self._wanted = self._done = 0
        self._thread: threading.Thread | None = None

    def kick(self) -> None:
        with self._changed:
            self._wanted += 1
            self._changed.notify_all()
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._run, name="llmlog-outbox", daemon=True)
                self._thread.start()

    def flush(self, timeout: float) -> bool:
        with self._changed:
            wanted = self._wanted
            return self._changed.wait_for(lambda: self._done >= wanted, timeout)

    def _run(self) -> None:
        delay = _FIRST_RETRY
        while True:
            with self._changed:
                wanted = self._wanted
            try:
                forward(self._engine)
            except Exception as error:  # the audit logs or the app's database are away: what waits is safe there
                why = str(error) if isinstance(error, AuditNotRecorded) else type(error).__name__
                recording.warn("outbox", f"audit events wait in {NAME}: {why}")
                with self._changed:
                    self._changed.wait(delay)
                delay = min(2 * delay, _LAST_RETRY)
                continue
            delay = _FIRST_RETRY
            with self._changed:
                self._done = wanted
                self._changed.notify_all()
                if not self._changed.wait_for(lambda: self._wanted > self._done, 1.0):
                    self._thread = None
                    return


def kick(engine: Engine) -> None:
    """Events were committed into the outbox of this engine's database."""
    if engine.dialect.is_async:
        return
    with _lock:
        forwarder = _forwarders.get(engine)
        if forwarder is None:
            forwarder = _forwarders[engine] = _Forwarder(engine)
    forwarder.kick()


def flush(timeout: float) -> bool:
    """Wait until what was committed so far is forwarded."""
    deadline = time.monotonic() + timeout
    flushed = [found.flush(max(0.0, deadline - time.monotonic())) for found in list(_forwarders.values())]
    return all(flushed)

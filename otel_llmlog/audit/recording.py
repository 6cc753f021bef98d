"""`record` and `arecord`: one management operation becomes one event, on its way to the table and to OpenTelemetry.

Always true: without `sync` nothing raises and nothing waits for the database; with `sync` the call returns only when
the row is committed. What an event holds was taken and masked before the call returned: later changes to the app's
objects do not reach it.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any, Protocol, TypedDict

from opentelemetry import baggage, trace
from typing_extensions import Unpack

from otel_llmlog import emit, redact
from otel_llmlog.audit.catalogue import Operation
from otel_llmlog.audit.values import snapshot
from otel_llmlog.capture import context
from otel_llmlog.errors import AuditNotRecorded
from otel_llmlog.payload import AuditEvent, AuditOutcome
from otel_llmlog.stats import Stats

_stats = Stats()
# A line in the log, at most once a minute for each kind.
warn = _stats.warn
# Times outside these years (epoch seconds) are no clock's.
_YEAR_2000, _YEAR_2100 = 946_684_800.0, 4_102_444_800.0


class Outlet(Protocol):
    """Where events go."""

    def accept(self, event: AuditEvent) -> None:
        """Queue it. Never waits, never raises."""
        ...

    def store(self, event: AuditEvent) -> None:
        """Return after COMMIT. Raises AuditNotRecorded; then the event is queued, if there is a queue."""
        ...

    def hand_over(self, event: AuditEvent) -> None:
        """Return when the caller may forget the event. Raises AuditNotRecorded; then nobody has it but the caller."""
        ...


class Details(TypedDict, total=False):
    """What else may be said of an operation."""

    action: str | None
    table_name: str | None
    object_id: object
    before: Any
    after: Any
    changed_by: str | None
    changed_by_api_key: str | None
    """Raw or hashed; a raw key is hashed at once."""
    outcome: AuditOutcome
    error_class: str | None
    status_code: int | None
    source: str
    route: str | None
    requester_ip_address: str | None
    at: float | None
    """When it was done, epoch seconds. None: now."""
    event_id: str | None
    """Names the event; a second one of the same name is not stored. None: a new name."""
    notes: list[str]


_outlet: Outlet | None = None
# Tables of which an operation was recorded inside a request that is being watched: see `asgi`.
recorded_tables: ContextVar[set[str] | None] = ContextVar("otel_llmlog_audit_recorded", default=None)


def install(outlet: Outlet | None) -> None:
    """Where events go from now on; None: nowhere but to OpenTelemetry."""
    global _outlet  # noqa: PLW0603 - one process, one outlet
    _outlet = outlet


def outlet() -> Outlet | None:
    """Where events go now."""
    return _outlet


def record(operation: Operation | None = None, *, sync: bool = False, **details: Unpack[Details]) -> AuditEvent:
    """Record one management operation, `audit.KEY_ROTATE` say, or one named by `action` and `table_name`.

    before, after: the object before and after, as any data; credentials in it are masked. changed_by: who did it;
    by default the user of `otel_llmlog.context(...)`. sync: return only after COMMIT. Raises AuditNotRecorded if
    `sync` and the row is not known to be stored; without `sync` nothing.
    """
    made = event(operation, details)
    submit(made, sync=sync)
    return made


async def arecord(operation: Operation | None = None, *, sync: bool = False, **details: Unpack[Details]) -> AuditEvent:
    """The same, for coroutines: with `sync` the event loop goes on while the database is waited for."""
    made = event(operation, details)
    if sync:
        await asyncio.to_thread(submit, made, sync=True)
    else:
        submit(made)
    return made


def submit(made: AuditEvent, *, sync: bool = False) -> None:
    """Send an event on its way. Raises AuditNotRecorded, with `sync` only."""
    if (tables := recorded_tables.get()) is not None:
        tables.add(made.table_name)
    to = _outlet
    try:
        emit.audit_log(made)
    except Exception as error:  # a logger provider of the app's; the row does not depend on it
        warn("audit.otel", f"an audit event could not be logged to OpenTelemetry: {type(error).__name__}")
    if sync:
        if to is None:
            raise AuditNotRecorded("otel-llmlog is not switched on: call otel_llmlog.instrument()", made.id)
        to.store(made)
    elif to is None:
        warn("audit.off", "an audit event has no row: otel-llmlog is not switched on, call otel_llmlog.instrument()")
    else:
        to.accept(made)


def event(operation: Operation | None, details: Mapping[str, Any]) -> AuditEvent:
    """The event, from what an app says of it. Never raises for what is said: what cannot be kept is noted."""
    said = dict(details)
    notes = [str(note) for note in said.pop("notes", ())]
    if operation is not None and not isinstance(operation, Operation):
        notes.append("what was given as the operation is none: it is kept as the action")
        said.setdefault("action", operation)
        operation = None
    before, before_notes = snapshot(said.pop("before", None), "before_value")
    after, after_notes = snapshot(said.pop("after", None), "updated_values")
    changed_by, key = _actor(said, notes)
    span = trace.get_current_span().get_span_context()
    return AuditEvent(
        id=_name(said.pop("event_id", None)) or str(uuid.uuid4()),
        updated_at=_time(said.pop("at", None), notes),
        changed_by=changed_by,
        changed_by_api_key=key,
        action=_required(said.pop("action", None), operation.action if operation else None, "action", notes),
        table_name=_required(
            said.pop("table_name", None), operation.table_name if operation else None, "table_name", notes
        ),
        object_id=_object_id(said.pop("object_id", None)),
        before_value=before,
        updated_values=after,
        operation=operation.name if operation else None,
        outcome=_outcome(said.pop("outcome", "success"), notes),
        error_class=_name(said.pop("error_class", None)),
        status_code=_status(said.pop("status_code", None)),
        source=_name(said.pop("source", None)) or "app",
        route=_name(said.pop("route", None)),
        requester_ip_address=_name(said.pop("requester_ip_address", None)),
        trace_id=trace.format_trace_id(span.trace_id) if span.is_valid else None,
        span_id=trace.format_span_id(span.span_id) if span.is_valid else None,
        notes=[*notes, *before_notes, *after_notes],
    )


def _actor(said: dict[str, Any], notes: list[str]) -> tuple[str | None, str | None]:
    """Who did it, and the hash of the key it was done with."""
    given = said.pop("changed_by", None)
    named = _name(given) or context.current().user or _name(baggage.get_baggage("llmlog.user"))
    named = _name(named) or _name(baggage.get_baggage("user.id"))
    key = said.pop("changed_by_api_key", None)
    hashed = redact.key_id(str(key)) if key else None
    if named is None and hashed is None:
        notes.append("who did it is not known")
    return named, hashed


def _time(given: Any, notes: list[str]) -> float:
    now = time.time_ns() // 1000 / 1e6
    if given is None:
        return now
    if isinstance(given, int | float) and _YEAR_2000 < given < _YEAR_2100:
        return float(given)
    notes.append("updated_at: what was given is no time, this is when it was recorded")
    return now


def _required(given: Any, known: str | None, field: str, notes: list[str]) -> str:
    name = _name(given) or known
    if name is None:
        notes.append(f"{field}: not given")
    return name or "unknown"


def _name(given: Any) -> str | None:
    if given is None:
        return None
    try:
        return redact.name(given if isinstance(given, str | int) else str(given))
    except Exception:  # an object of the app's whose text cannot be had
        return type(given).__name__


def _object_id(given: Any) -> str:
    if given is None:
        return ""
    return redact.object_id(given) if isinstance(given, str) else _name(given) or ""


def _outcome(given: Any, notes: list[str]) -> AuditOutcome:
    if given in ("success", "failure", "refused"):
        known: AuditOutcome = given
        return known
    notes.append("outcome: not success, failure or refused")
    return "failure"


def _status(given: Any) -> int | None:
    return given if isinstance(given, int) and 0 <= given < 1000 else None

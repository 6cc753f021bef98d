"""LLMLogLogProcessor: where audit events become records and enter the queue, beside the calls.

Events recorded in this process come in through `accept` or `store`: their rows must not depend on which logger
provider the app has. As a log processor it takes `llmlog.audit` log records that others made, and passes the
provider's flush on. OpenTelemetry's own batch processor is not used: it drops when full and forgets its queue after
fork.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from opentelemetry.sdk._logs import LogRecordProcessor, ReadWriteLogRecord

from otel_llmlog import redact
from otel_llmlog.config import AuditSettings
from otel_llmlog.dialects import audit
from otel_llmlog.emit import SCOPE
from otel_llmlog.errors import AuditNotRecorded, LLMLogError, RowRejected
from otel_llmlog.payload import AuditEvent
from otel_llmlog.pipeline.batch import BatchWorker
from otel_llmlog.pipeline.record import Record
from otel_llmlog.stats import Stats


class Writer(Protocol):
    """Stores one record at once."""

    def store(self, record: Record) -> None:
        """Return after COMMIT. Raises LLMLogError."""
        ...

    def close(self) -> None:
        """Give back the connection. Never raises."""
        ...


class LLMLogLogProcessor(LogRecordProcessor):
    """Turns audit events into records, and queues or stores them. `writer`: None where none can be waited for."""

    def __init__(
        self,
        worker: BatchWorker | None,
        writer: Writer | None,
        settings: AuditSettings,
        stats: Stats,
        service_name: Callable[[], str],
    ) -> None:
        self._worker = worker
        self._writer = writer
        self._settings = settings
        self._stats = stats
        self._service_name = service_name

    def accept(self, event: AuditEvent) -> None:
        """Queue an event recorded in this process."""
        self._put(record_of(event, self._service_name()))

    def store(self, event: AuditEvent) -> None:
        """Return after the event's row is committed. Raises AuditNotRecorded; then it waits in the queue."""
        if not self._settings.store_audit_logs:
            raise AuditNotRecorded("LLMLOG_STORE_AUDIT_LOGS is off: nothing is stored", event.id)
        if self._writer is None:
            self.accept(event)
            raise AuditNotRecorded("sync needs a database of this process's own: see LLMLOG_DATABASE_URL", event.id)
        record = record_of(event, self._service_name())
        try:
            self._writer.store(record)
        except LLMLogError as error:
            self._stats.count("audit.not_at_once")
            self._put(record)
            refused = isinstance(error, RowRejected)
            what = (
                f"refused: {error}; it is kept as a dead letter"
                if refused
                else f"not stored yet: {error}; it waits in the spool"
            )
            raise AuditNotRecorded(what, event.id) from None
        except BaseException:
            # Interrupted: whether it was committed cannot be known, and stored twice it is stored once.
            self._put(record)
            raise
        self._stats.count("audit.stored_at_once")

    def hand_over(self, event: AuditEvent) -> None:
        """Store an event that its caller keeps until then: in the table, or in the spool where that is all there is.

        Raises AuditNotRecorded.
        """
        if self._writer is None or not self._settings.store_audit_logs:
            self.accept(event)
            return
        record = record_of(event, self._service_name())
        try:
            self._writer.store(record)
        except RowRejected:
            # It would be refused again and again, and others wait behind it: let it become a dead letter.
            self._put(record)
            return
        except LLMLogError as error:
            raise AuditNotRecorded(str(error), event.id) from None
        self._stats.count("audit.stored_at_once")

    def _put(self, record: Record) -> None:
        if self._worker is None or not self._settings.store_audit_logs:
            self._stats.count("not_logged.audit_logs_off")
        else:
            self._stats.count("audited")
            self._worker.put(record)

    # What OpenTelemetry's logger provider calls.

    def on_emit(self, log_record: ReadWriteLogRecord) -> None:
        """Queue an audit event that another scope emitted."""
        try:
            given, scope = log_record.log_record, log_record.instrumentation_scope
            attributes = given.attributes or {}
            if given.event_name != audit.EVENT_NAME or audit.ID not in attributes or (scope and scope.name == SCOPE):
                return
            event = audit.decode(attributes)
            resource = log_record.resource
            service = str(resource.attributes.get("service.name", "")) if resource else ""
            self._put(record_of(masked(event), service or self._service_name()))
        except Exception as error:  # a log record of another shape is not ours
            self._stats.error("on_emit", error)

    def shutdown(self) -> None:
        """Nothing: the runtime ends the worker."""

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Wait until all events are stored."""
        return self._worker is None or self._worker.flush(timeout_millis / 1000)

    def close(self) -> None:
        """Give back the connection of `store`."""
        if self._writer is not None:
            self._writer.close()


_OPTIONAL_NAMES = ("changed_by", "operation", "error_class", "route", "requester_ip_address", "trace_id", "span_id")


def masked(event: AuditEvent) -> AuditEvent:
    """An event that was not made here, with the credentials masked that whoever made it left in."""
    before, after = (redact.masked(redact.storable(value)) for value in (event.before_value, event.updated_values))
    key = redact.key_id(event.changed_by_api_key) if event.changed_by_api_key else None
    names: dict[str, str | None] = {name: redact.name(getattr(event, name)) for name in _OPTIONAL_NAMES}
    names |= {name: redact.name(getattr(event, name)) or "unknown" for name in ("id", "action", "table_name", "source")}
    return event.model_copy(
        update={
            **names,
            "object_id": redact.object_id(event.object_id),
            "notes": [said for note in event.notes if (said := redact.name(note))],
            "before_value": before,
            "updated_values": after,
            "changed_by_api_key": key,
        }
    )


def record_of(event: AuditEvent, service_name: str) -> Record:
    """The event as the unit that is stored."""
    ns = round(event.updated_at * 1e6) * 1000
    return Record(
        event.trace_id or "", event.span_id or "", None, ns, ns, service_name, audit.encode(event), kind="log"
    )

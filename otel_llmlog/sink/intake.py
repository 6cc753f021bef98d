"""One request -> records to store, and what is wrong with the rest of it.

Always true: nothing raises but Unreadable and TooLarge, for a request as a whole; a record here has been through
`privacy`, so neither a row nor a dead letter can hold what must not be kept.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from otel_llmlog import destination, dialects, redact
from otel_llmlog.config import Settings
from otel_llmlog.dialects import audit, privacy
from otel_llmlog.dialects.call import Reading
from otel_llmlog.dialects.contents import contents_of
from otel_llmlog.dialects.llmlog import PREFIX
from otel_llmlog.dialects.log import Log
from otel_llmlog.dialects.span import Span
from otel_llmlog.errors import RowRejected
from otel_llmlog.pipeline.logs import masked, record_of
from otel_llmlog.pipeline.record import Record
from otel_llmlog.sink import otlp_json, ownership, protobuf
from otel_llmlog.sink.ownership import Lines
from otel_llmlog.sink.received import UNKNOWN_SERVICE, Received
from otel_llmlog.sink.senders import ANYBODY, Sender

_STATUS = f"{PREFIX}status"
_DOCUMENTS = tuple(audit.PREFIX + name for name in ("before_value", "updated_values"))


@dataclass(slots=True)
class Taken:
    """What a request holds for the tables."""

    count: int
    """Spans or log records of any kind."""
    records: list[Record] = field(default_factory=list)
    refused: dict[int, tuple[str, int]] = field(default_factory=dict)
    """Why a record cannot be stored, and for how many it stands, by its place in `records`.

    The store rejects it, too, but knows less.
    """
    not_logged: dict[str, int] = field(default_factory=dict)
    """Calls and events that settings keep out of the tables, by reason."""
    passed_over: dict[str, int] = field(default_factory=dict)
    """What is nothing that is stored, by kind: `metrics`, `spans`, `log_records`."""
    other: int = 0
    """Calls that are booked on `(other)`: their sender has named too much in this hour."""


class Intake:
    """Reads requests as the settings say. Any thread."""

    def __init__(self, settings: Settings) -> None:
        self._content = settings.content
        self._pipeline = settings.pipeline
        self._audit = settings.audit
        self._reading = Reading(
            settings.content.store_prompts_in_spend_logs,
            settings.content.max_string_length_prompt_in_db,
            settings.capture.provider_hosts,
            destination.pricer(settings),
        )
        self._lines = Lines(settings.sink.sink_max_lines)

    def take(self, signal: str, body: bytes, sender: Sender, *, as_json: bool) -> Taken:
        """What a request of traces, logs or metrics holds. Raises Unreadable, TooLarge."""
        if signal == "traces":
            return self.traces(body, sender, as_json=as_json)
        if signal == "logs":
            return self.logs(body, sender, as_json=as_json)
        # Senders that emit all three signals would print an error for each batch of these.
        number = (otlp_json.metrics if as_json else protobuf.metrics)(body)
        return Taken(number, passed_over={"metrics": number})

    def traces(self, body: bytes, sender: Sender = ANYBODY, *, as_json: bool) -> Taken:
        """The calls among the spans of a request. Raises Unreadable, TooLarge."""
        read = otlp_json.traces if as_json else protobuf.traces
        return self._taken(read(body, dialects.may_be_call), self._call, sender, "spans")

    def logs(self, body: bytes, sender: Sender = ANYBODY, *, as_json: bool) -> Taken:
        """The audit events among the log records of a request. Raises Unreadable, TooLarge."""
        read = otlp_json.logs if as_json else protobuf.logs
        return self._taken(read(body), self._event, sender, "log_records")

    def _taken(
        self, received: Received[Any], record: Callable[[Any, Taken, Sender], Record | None], sender: Sender, kind: str
    ) -> Taken:
        taken = Taken(received.count)
        for one in received.found:
            try:
                made = record(one, taken, sender)
            except Exception as error:  # hostile input may break any promise: it is set aside, the others are stored
                received.refuse(_service(one.resource), f"it is not readable: {type(error).__name__}")
                continue
            if made is not None:
                taken.records.append(made)
        stored = len(taken.records) + sum(taken.not_logged.values()) + received.unreadable.total()
        taken.passed_over[kind] = taken.count - stored
        for (service, reason), number in received.unreadable.items():
            taken.refused[len(taken.records)] = reason, number
            # Without ids and attributes the store sets it aside as what it is: nothing of it could be read.
            taken.records.append(Record("", "", None, 0, 0, service, {}))
        return taken

    def _call(self, span: Span, taken: Taken, sender: Sender) -> Record | None:
        call = dialects.call_of(span, self._reading)
        if call is None:
            return None
        if self._pipeline.disable_spend_logs:
            _keep_out(taken, "spend_logs_off")
            return None
        if self._pipeline.disable_error_logs and call.get(_STATUS) == "failure":
            _keep_out(taken, "error_logs_off")
            return None
        kept = privacy.kept(call, self._content)
        made = Record(
            span.trace_id,
            span.span_id,
            span.parent_span_id,
            span.start_ns,
            max(span.end_ns, span.start_ns),
            _service(span.resource),
            kept,
        )
        made = ownership.claim(made, kept, sender)
        taken.other += self._lines.bound(kept, span.start_ns, sender)
        return made

    def _event(self, log: Log, taken: Taken, sender: Sender) -> Record | None:
        if audit.ID not in log.attributes or log.event_name not in {audit.EVENT_NAME, ""}:
            return self._content_of(log, sender)
        if not self._audit.store_audit_logs:
            _keep_out(taken, "audit_logs_off")
            return None
        service = _service(log.resource)
        try:
            return record_of(ownership.claim_event(masked(audit.decode(log.attributes)), sender), service)
        except RowRejected as error:
            taken.refused[len(taken.records)] = str(error), 1
            return Record(log.trace_id, log.span_id, None, log.time_ns, log.time_ns, service, _readable(log), "log")

    def _content_of(self, log: Log, sender: Sender) -> Record | None:
        said = contents_of(log, self._reading)
        if said is None or self._pipeline.disable_spend_logs:
            return None
        times = log.time_ns, log.time_ns
        made = Record(log.trace_id, log.span_id, None, *times, _service(log.resource), said, "content")
        return ownership.claim_ids(made, sender)


def _keep_out(taken: Taken, reason: str) -> None:
    taken.not_logged[reason] = taken.not_logged.get(reason, 0) + 1


def _service(resource: Mapping[str, Any]) -> str:
    named = resource.get("service.name")
    return named if isinstance(named, str) and named else UNKNOWN_SERVICE


def _readable(log: Log) -> dict[str, Any]:
    """Of an event that is none, what can be kept without knowing what it holds."""
    return {
        name: redact.mask(value) if isinstance(value, str) else value
        for name, value in log.attributes.items()
        if name.startswith(audit.PREFIX) and name not in _DOCUMENTS and isinstance(value, str | bool | int | float)
    }

"""LLMLogSpanProcessor: where calls become records and enter the queue.

Calls captured in this process come in through `accept`, straight from the background reader: their rows must not
depend on the trace's sampler, attribute limits or other processors. As a span processor it takes spans of the
`llmlog.*` dialect that others made, and passes the provider's flush on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor
from opentelemetry.trace import format_span_id, format_trace_id

from otel_llmlog.config import ContentSettings, PipelineSettings
from otel_llmlog.dialects import privacy
from otel_llmlog.dialects.llmlog import CALL_ID, PREFIX, Attributes
from otel_llmlog.emit import SCOPE
from otel_llmlog.pipeline.batch import BatchWorker
from otel_llmlog.pipeline.record import Record
from otel_llmlog.pipeline.spool import Ending, Intent, encode_ending, encode_intent
from otel_llmlog.stats import Stats

_STATUS = PREFIX + "status"


def _digits(trace_id: int, span_id: int, parent: int | None) -> tuple[str, str, str | None]:
    return format_trace_id(trace_id), format_span_id(span_id), None if parent is None else format_span_id(parent)


class LLMLogSpanProcessor(SpanProcessor):
    """Turns finished calls into records and queues them. `flush` also flushes what comes before the queue."""

    def __init__(
        self,
        worker: BatchWorker | None,
        settings: PipelineSettings,
        content: ContentSettings,
        stats: Stats,
        service_name: Callable[[], str],
        flush: Callable[[float], bool],
    ) -> None:
        self._worker = worker
        self._settings = settings
        self._content = content
        self._stats = stats
        self._service_name = service_name
        self._flush = flush
        unwanted = settings.disable_spend_logs or settings.disable_error_logs
        self._intend = None if worker is None or unwanted else worker.intend
        self._end = None if worker is None or unwanted else worker.end

    def open(self) -> None:
        """Calls begin: what delivers them gets ready."""
        if self._intend is not None and self._worker is not None:
            self._worker.start()

    def intend(self, ids: tuple[int, int, int | None], start_ns: int, facts: dict[str, str]) -> int:
        """Note that a call begins, so that its row cannot be lost with this process. Answers a ticket for `accept`."""
        if self._intend is None:
            return 0
        trace_id, span_id, parent = ids
        intent = Intent(trace_id.to_bytes(16), span_id, parent, start_ns, self._service_name(), facts)
        return self._intend(encode_intent(intent))

    def end(self, ticket: int, end_ns: int, brief: bytes) -> bool:
        """Note that the call has ended (epoch ns): its reply can be read later. False: it should be read soon."""
        return self._end is None or self._end(ticket, encode_ending(Ending(end_ns, brief)))

    def accept(self, calls: Sequence[tuple[tuple[int, int, int | None], int, int, Attributes, int]]) -> None:
        """Take in calls captured in this process.

        Of each: ids of trace, span and parent span, start and end (epoch ns), attributes, ticket.
        """
        service = self._service_name()
        self._put([(Record(*_digits(*ids), start, end, service, given), t) for ids, start, end, given, t in calls])

    def forget(self, ticket: int) -> None:
        """The call that `intend` noted leaves no record."""
        if ticket and self._worker is not None:
            self._worker.forget(ticket)

    def on_end(self, span: ReadableSpan) -> None:
        """Queue a span of our dialect that was not captured here."""
        attributes, scope, context = span.attributes, span.instrumentation_scope, span.context
        if attributes is None or context is None or CALL_ID not in attributes or (scope and scope.name == SCOPE):
            return
        self._stats.count("captured")
        service = str(span.resource.attributes.get("service.name", "")) if span.resource else ""
        record = Record(
            *_digits(context.trace_id, context.span_id, span.parent.span_id if span.parent else None),
            span.start_time or 0,
            span.end_time or span.start_time or 0,
            service or self._service_name(),
            privacy.kept(attributes, self._content),
        )
        self._put([(record, 0)])

    def _put(self, records: Sequence[tuple[Record, int]]) -> None:
        if self._worker is None or self._settings.disable_spend_logs:
            self._stats.count("not_logged.spend_logs_off", len(records))
            return
        if self._settings.disable_error_logs:
            logged = [given for given in records if given[0].attributes.get(_STATUS) != "failure"]
            self._stats.count("not_logged.error_logs_off", len(records) - len(logged))
            records = logged
        self._worker.put_all(records)

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Wait until all calls that have ended are stored."""
        return self._flush(timeout_millis / 1000)

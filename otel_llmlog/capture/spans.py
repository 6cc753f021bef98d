"""Spans of calls: of each its ids on the app's thread, and the OpenTelemetry SDK's span once somebody needs it.

To start a span the SDK calls forty functions, as many as all the rest of a call on the app's thread, and what they make
waits for the reader like the call itself. What that thread needs is ids, for the context of the HTTP request. So where
nobody looks at spans that start, the SDK makes the span when the call has been read, or when somebody else touches it.

Where nobody looks at spans that end either, as where rows are all that is wanted, it is not made at all.

Always true: ids come from the tracer's own generator, and the span has the start, the parent and the context it would
have had. Where a sampler decides by more than the parent, or a span processor does something with spans that start, it
is started at once.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from functools import partial
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import SpanProcessor, Tracer as SdkTracer
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
from opentelemetry.sdk.trace.id_generator import IdGenerator
from opentelemetry.sdk.trace.sampling import DEFAULT_ON
from opentelemetry.trace import NonRecordingSpan, Span, SpanContext, SpanKind, TraceFlags, Tracer
from opentelemetry.util import types

from otel_llmlog.capture.ids import Ids, ids_of

# Where a context holds its span.
[SPAN_KEY] = trace.set_span_in_context(trace.INVALID_SPAN, Context())
# What these do when a span starts is nothing.
_IDLE = {SpanProcessor.on_start, BatchSpanProcessor.on_start, SimpleSpanProcessor.on_start}
_SAMPLED = TraceFlags.SAMPLED
_LAST_TRACE_ID, _LAST_SPAN_ID = (1 << 128) - 1, (1 << 64) - 1
# Not in every version that we run with.
_RANDOM = getattr(TraceFlags, "RANDOM_TRACE_ID", 0)


class Spans:
    """Starts the spans of calls, all of kind CLIENT, with one tracer."""

    def __init__(self, tracer: Tracer, own: object = None) -> None:
        """`own`: the span processor, if it is one, that has no use for these spans."""
        self.start_now = partial(tracer.start_span, kind=SpanKind.CLIENT)
        """The SDK's span at once: (name, context, start_time=…)."""
        self._tracer: Any = tracer
        # There is no public way to ask who looks at spans that start.
        found: Any = tracer.span_processor if type(tracer) is SdkTracer else None
        self._all = found if isinstance(getattr(found, "_span_processors", None), tuple) else None
        # Span processors that were looked at: spans may be late for these, and may not for those.
        self._idle: object = self
        self._watchful: object = self
        # The same for who looks at spans that end, and whether anybody does.
        self._own = own
        self._asked: object = self
        self._is_seen = True

    def start(self, name: str, outer: Context, start_ns: int) -> tuple[Span, Ids]:
        """A span that began at `start_ns` (epoch ns) in this context, and where it stands in its trace."""
        tracer = self._tracer
        processors = self._all and self._all._span_processors  # noqa: SLF001 - see above
        if processors is self._idle and tracer.sampler is DEFAULT_ON:
            above = outer.get(SPAN_KEY)
            # None is asked for first: a look at an abstract class is Python code.
            parent = None if above is None or not isinstance(above, Span) else above.get_span_context()
            generator = tracer.id_generator
            if parent is None or not parent.is_valid:
                trace_id, parent = generator.generate_trace_id(), None
            else:
                trace_id = parent.trace_id if parent.trace_flags & _SAMPLED else 0
            span_id = generator.generate_span_id()
            if 0 < trace_id <= _LAST_TRACE_ID and 0 < span_id <= _LAST_SPAN_ID:
                return (
                    LateSpan(self, name, outer, start_ns, trace_id, span_id, parent),
                    # As the class does it itself, but for its function.
                    tuple.__new__(Ids, (trace_id, span_id, None if parent is None else parent.span_id)),
                )
        span = self.start_now(name, outer, start_time=start_ns)
        if processors is not None and processors is not self._watchful:
            if not all(map(_is_idle, processors)):
                self._watchful = processors
            elif span.is_recording():  # else its trace is not sampled, or the tracer is switched off
                self._idle = processors
        return span, ids_of(span, outer)

    def is_seen(self) -> bool:
        """Whether anybody looks at spans that end."""
        processors = self._all and self._all._span_processors  # noqa: SLF001 - see above
        if processors is not self._asked and processors is not None:
            self._is_seen = not all(each is self._own or _is_blind(each) for each in processors)
            self._asked = processors
        return self._is_seen

    def make(self, late: LateSpan) -> Span:
        """The SDK's span, with the ids that were given out."""
        tracer = copy(self._tracer)
        tracer.id_generator = _Given(late, tracer.id_generator)
        span: Span = tracer.start_span(late.began_as, late.outer, SpanKind.CLIENT, start_time=late.start_ns)
        return span

    def flags(self, parent: SpanContext | None) -> TraceFlags:
        """Those of a sampled span under this parent."""
        if parent is not None:
            random = parent.trace_flags & _RANDOM
        else:
            random = _RANDOM if _RANDOM and self._tracer.id_generator.is_trace_id_random() else 0
        return TraceFlags(_SAMPLED | random)


class Untold(NonRecordingSpan):
    """Of a call that OpenTelemetry is not told of: it has a place in its trace, and nothing else."""


def untold(outer: Context) -> tuple[Untold, Ids]:
    """A place below the span of this context, or in a trace of its own."""
    ids = ids_of(trace.INVALID_SPAN, outer)
    return Untold(SpanContext(ids.trace_id, ids.span_id, is_remote=False)), ids


def _is_idle(processor: SpanProcessor) -> bool:
    """Whether a span processor does nothing with spans of calls that start."""
    return getattr(processor.on_start, "__func__", None) in _IDLE or getattr(processor, "ignores_calls", False)


def _is_blind(processor: SpanProcessor) -> bool:
    """Whether a span processor does nothing with spans of calls that end."""
    return getattr(processor, "ignores_calls", False) or all(
        getattr(getattr(processor, hook, None), "__func__", None) is getattr(SpanProcessor, hook, None)
        for hook in ("on_end", "_on_ending")
    )


class _Given(IdGenerator):
    """Gives out the ids that a late span has had all the time."""

    def __init__(self, late: LateSpan, own: IdGenerator) -> None:
        self._late = late
        self._own = own

    def generate_trace_id(self) -> int:
        return self._late.trace_id

    def generate_span_id(self) -> int:
        return self._late.span_id

    def is_trace_id_random(self) -> bool:
        return self._own.is_trace_id_random()


class LateSpan(Span):
    """Ids and a place in its trace; whatever else is asked of it, the SDK's span is made and does it."""

    def __init__(
        self,
        spans: Spans,
        began_as: str,
        outer: Context,
        start_ns: int,
        trace_id: int,
        span_id: int,
        parent: SpanContext | None,
    ) -> None:
        self._spans = spans
        self.began_as = began_as
        self.outer = outer
        self.start_ns = start_ns
        self.trace_id = trace_id
        self.span_id = span_id
        self._above = parent
        self._context: SpanContext | None = None
        self._span: Span | None = None

    @property
    def made(self) -> Span:
        """The SDK's span."""
        span = self._span
        if span is None:
            # Of two threads that need it at once, both get the span of one.
            span = vars(self).setdefault("_made", self._make())
            self._span = span
        return span

    def _make(self) -> Span:
        try:
            return self._spans.make(self)
        except Exception:  # of a span processor that came meanwhile: the app touches the span in the middle of its call
            return NonRecordingSpan(self.get_span_context())

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "_made":
            raise AttributeError(name)
        return getattr(self.made, name)

    def get_span_context(self) -> SpanContext:
        context = self._context
        if context is None:
            above = self._above
            state = None if above is None else above.trace_state
            context = SpanContext(self.trace_id, self.span_id, False, self._spans.flags(above), state)
            self._context = context
        return context

    def is_recording(self) -> bool:
        return self._spans.is_seen() if self._span is None else self._span.is_recording()

    def end(self, end_time: int | None = None) -> None:
        if self._span is not None or self._spans.is_seen():
            self.made.end(end_time)

    def set_attributes(self, attributes: Mapping[str, Any]) -> None:
        self.made.set_attributes(attributes)

    def set_attribute(self, key: str, value: Any) -> None:
        self.made.set_attribute(key, value)

    def add_event(self, name: str, attributes: types.Attributes = None, timestamp: int | None = None) -> None:
        self.made.add_event(name, attributes, timestamp)

    def add_link(self, context: SpanContext, attributes: types.Attributes = None) -> None:
        self.made.add_link(context, attributes)

    def update_name(self, name: str) -> None:
        self.made.update_name(name)

    def set_status(self, *args: Any, **kwargs: Any) -> None:
        self.made.set_status(*args, **kwargs)

    def record_exception(self, *args: Any, **kwargs: Any) -> None:
        self.made.record_exception(*args, **kwargs)

"""The span of a call is the one that the SDK would have started, though it is made when the call has been read."""

from __future__ import annotations

import threading

import httpx
import pytest
from opentelemetry import baggage, trace
from opentelemetry.context import Context
from opentelemetry.sdk.trace import RandomIdGenerator, ReadableSpan, SpanLimits, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, ParentBased, TraceIdRatioBased
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, TraceFlags, TraceState

from otel_llmlog.capture.spans import LateSpan, Spans
from tests.capture.clients import CHAT, chat_body

START = 1_700_000_000_000_000_000


class Watching(SpanProcessor):
    """Looks at spans that start."""

    def __init__(self):
        self.started = []

    def on_start(self, span, parent_context=None):
        self.started.append((span.name, threading.current_thread().name, parent_context))


class Numbers(RandomIdGenerator):
    def __init__(self):
        self._last = 0

    def generate_trace_id(self):
        self._last += 1
        return 0xA000 + self._last

    def generate_span_id(self):
        self._last += 1
        return 0xB000 + self._last


def provider(**given):
    exporter = InMemorySpanExporter()
    made = TracerProvider(**given)
    made.add_span_processor(SimpleSpanProcessor(exporter))
    return made, exporter


def under(context):
    return trace.set_span_in_context(NonRecordingSpan(context), Context())


def remote(flags=TraceFlags.SAMPLED):
    return SpanContext(
        0xABC, 0xDEF, is_remote=True, trace_flags=TraceFlags(flags), trace_state=TraceState([("a", "1")])
    )


def two(spans, *contexts):
    """The first span of these contexts, and another, which may be late."""
    return [spans.start("chat", context, START)[0] for context in contexts]


@pytest.mark.parametrize(
    "context",
    [Context(), under(remote()), under(remote(3)), baggage.set_baggage("user", "u", under(remote()))],
    ids=["a root", "a child", "a child in a trace of random ids", "with baggage"],
)
def test_a_late_span_is_the_span_that_the_sdk_would_have_started(context):
    made, exporter = provider()
    tracer = made.get_tracer("t", "1")
    spans = Spans(tracer)
    _, late = two(spans, context, context)
    assert isinstance(late, LateSpan)
    told = late.get_span_context()
    late.end(START + 7)
    own = tracer.start_span("chat", context, SpanKind.CLIENT, start_time=START)
    own.end(START + 7)
    found, expected = exporter.get_finished_spans()
    assert found.context == told
    for field in ("name", "kind", "parent", "start_time", "end_time", "resource", "instrumentation_scope", "status"):
        assert getattr(found, field) == getattr(expected, field)
    for field in ("is_remote", "trace_flags", "trace_state", "is_valid"):
        assert getattr(told, field) == getattr(expected.context, field)
    assert (found.parent is None) == (context == Context())


@pytest.mark.parametrize("context", [Context(), under(remote())], ids=["a root", "a child"])
def test_its_ids_are_the_generators_own_and_known_from_the_start(context):
    made, exporter = provider(id_generator=Numbers())
    spans = Spans(made.get_tracer("t"))
    spans.start("chat", context, START)
    late, ids = spans.start("chat", context, START)
    late.end()
    (span,) = exporter.get_finished_spans()
    assert (ids.trace_id, ids.span_id) == (span.context.trace_id, span.context.span_id)
    assert f"{late.span_id:x}".startswith("b00")
    assert ids.parent_span_id == (None if span.parent is None else span.parent.span_id)


def test_whatever_is_done_with_it_is_done_with_the_sdks_span():
    made, exporter = provider(span_limits=SpanLimits(max_attribute_length=3))
    late = two(Spans(made.get_tracer("t")), Context(), Context())[1]
    assert late.is_recording()
    late.update_name("renamed")
    late.set_attribute("a", "12345")
    late.set_attributes({"b": 1})
    late.add_event("happened", {"c": 2}, 5)
    late.add_link(remote())
    late.record_exception(ValueError("no"))
    late.set_status(trace.StatusCode.ERROR, "why")
    assert late.name == "renamed"  # of the SDK's interface alone
    late.end(START + 1)
    assert not late.is_recording()
    (span,) = exporter.get_finished_spans()
    assert (span.name, span.attributes, span.end_time) == ("renamed", {"a": "123", "b": 1}, START + 1)
    assert [event.name for event in span.events] == ["happened", "exception"]
    assert [link.context for link in span.links] == [remote()]
    assert span.status.description == "why"


def test_of_two_threads_that_need_it_both_get_the_same():
    made, _ = provider()
    late = two(Spans(made.get_tracer("t")), Context(), Context())[1]
    at_once, found = threading.Barrier(8), []

    def look():
        at_once.wait(10)
        found.append(late.made)

    threads = [threading.Thread(target=look) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len({id(span) for span in found}) == 1
    assert len(found) == 8


def test_with_a_processor_that_looks_at_starts_each_span_is_started_at_once():
    made, _ = provider()
    spans = Spans(made.get_tracer("t"))
    context = baggage.set_baggage("user", "u", Context())
    assert isinstance(two(spans, context, context)[1], LateSpan)
    watching = Watching()
    made.add_span_processor(watching)
    assert not any(isinstance(span, LateSpan) for span in two(spans, context, context))
    assert watching.started == [("chat", threading.current_thread().name, context)] * 2


def test_under_a_provider_with_a_processor_of_its_own_kind_each_span_is_started_at_once():
    watching = Watching()
    spans = Spans(TracerProvider(active_span_processor=watching).get_tracer("t"))
    assert not any(isinstance(span, LateSpan) for span in two(spans, Context(), Context()))
    assert len(watching.started) == 2


def test_the_usual_processors_do_not_look():
    made, exporter = provider()
    made.add_span_processor(BatchSpanProcessor(exporter))
    assert isinstance(two(Spans(made.get_tracer("t")), Context(), Context())[1], LateSpan)
    made.shutdown()


@pytest.mark.parametrize(
    "sampler",
    [TraceIdRatioBased(0.5), ParentBased(TraceIdRatioBased(0.5)), ParentBased(ALWAYS_OFF), ALWAYS_ON, ALWAYS_OFF],
)
def test_a_sampler_of_another_kind_is_asked_when_the_span_starts(sampler):
    made, _ = provider(sampler=sampler)
    found = two(Spans(made.get_tracer("t")), Context(), Context(), under(remote()))
    assert all(isinstance(span, ReadableSpan) or type(span) is NonRecordingSpan for span in found)


def test_under_a_parent_that_is_not_sampled_nothing_is_recorded():
    made, exporter = provider()
    spans = Spans(made.get_tracer("t"))
    first, second, root, again = two(spans, under(remote(0)), under(remote(0)), Context(), under(remote(0)))
    for span in (first, second, again):
        assert not span.is_recording()
        assert span.get_span_context().trace_id == 0xABC
    root.end()
    assert len(exporter.get_finished_spans()) == 1


@pytest.mark.parametrize("broken", [0, 1 << 200])
def test_a_generator_of_ids_that_are_none_leaves_them_to_the_sdk(broken):
    class Broken(RandomIdGenerator):
        def generate_span_id(self):
            return broken

    made, _ = provider(id_generator=Broken())
    spans = Spans(made.get_tracer("t"))
    spans.start("chat", Context(), START)
    span, ids = spans.start("chat", Context(), START)
    assert not isinstance(span, LateSpan)
    assert 0 < ids.trace_id < 2**128
    assert 0 < ids.span_id < 2**64


def test_what_an_app_sets_on_the_current_span_during_a_call_is_on_the_span_of_the_call(capture):
    def answer(request):
        trace.get_current_span().set_attribute("app.note", request.url.path)
        return httpx.Response(200, json={})

    with httpx.Client(transport=httpx.MockTransport(answer)) as client:
        for _ in range(2):
            client.post(f"https://in.process{CHAT}", json=chat_body())
    assert [span.attributes["app.note"] for span in capture.spans()] == [CHAT] * 2
    assert [span.name for span in capture.spans()] == ["chat gpt-4o-mini"] * 2


class Own(SpanProcessor):
    """Ours: it ends spans, and has no use for those of calls."""

    def on_end(self, span):
        raise AssertionError


class Counting:
    """A tracer's spans that were started."""

    def __init__(self, tracer, monkeypatch):
        self.number = 0
        start = type(tracer).start_span

        def start_span(*given, **more):
            self.number += 1
            return start(*given, **more)

        monkeypatch.setattr(type(tracer), "start_span", start_span)


@pytest.mark.parametrize("others", [[], [SpanProcessor()]], ids=["alone", "beside one that does nothing"])
def test_where_nobody_looks_at_spans_none_is_made(monkeypatch, others):
    own, made = Own(), TracerProvider()
    for each in (*others, own):
        made.add_span_processor(each)
    tracer = made.get_tracer("t")
    spans = Spans(tracer, own)
    spans.start("chat", Context(), START)
    started = Counting(tracer, monkeypatch)
    late, ids = spans.start("chat", Context(), START)
    assert not late.is_recording()
    late.end(START + 1)
    assert started.number == 0
    assert late.get_span_context().trace_id == ids.trace_id


def test_who_begins_to_look_sees_calls_that_are_under_way():
    own, made, exporter = Own(), TracerProvider(), InMemorySpanExporter()
    spans = Spans(made.get_tracer("t"), own)
    _, ended, late = two(spans, Context(), Context(), Context())
    ended.end()
    made.add_span_processor(SimpleSpanProcessor(exporter))
    assert late.is_recording()
    late.end()
    assert [span.context.span_id for span in exporter.get_finished_spans()] == [late.span_id]


def test_who_looks_at_spans_that_are_about_to_end_sees_them():
    class Ending(SpanProcessor):
        seen = 0

        def _on_ending(self, span):
            self.seen += 1

    ending, made = Ending(), TracerProvider()
    made.add_span_processor(ending)
    late = two(Spans(made.get_tracer("t")), Context(), Context())[1]
    late.end()
    assert ending.seen == 1

"""Where a call stands in its trace: beside other instrumentations, under any sampler, limits and SDK, and in retries."""

from __future__ import annotations

import asyncio

import openai
import pytest
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.instrumentation.httpx import HTTPX2ClientInstrumentor, HTTPXClientInstrumentor
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ParentBased, Sampler
from opentelemetry.trace import INVALID_SPAN_CONTEXT, NonRecordingSpan, SpanContext, SpanKind, TraceFlags

from otel_llmlog import emit
from otel_llmlog.capture.ids import ids_of
from tests.capture.clients import USAGE, anthropic_client, chat_body, openai_client, said


def hexes(context):
    return trace.format_trace_id(context.trace_id), trace.format_span_id(context.span_id)


def is_id(text, digits):
    return len(text) == digits and int(text, 16) > 0


def as_dict(span):
    return {
        "name": span.name,
        "kind": span.kind.name,
        "status": (span.status.status_code.name, span.status.description),
        "scope": span.instrumentation_scope.name,
        "events": len(span.events),
        "attributes": {key: value for key, value in span.attributes.items() if not key.startswith("llmlog.")},
    }


async def test_the_whole_span_of_a_plain_call(capture, http, provider):
    body = chat_body(temperature=0.5, max_tokens=9, service_tier="flex", user="someone")
    await http.post(body, headers={"x-response-id": "c-1", "x-response-model": "gpt-4o-mini-2024-07-18"})
    (span,) = capture.spans()
    assert as_dict(span) == {
        "name": "chat gpt-4o-mini",
        "kind": "CLIENT",
        "status": ("UNSET", None),
        "scope": "otel_llmlog",
        "events": 0,
        "attributes": {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "openai",
            "gen_ai.request.model": "gpt-4o-mini",
            "gen_ai.request.stream": False,
            "gen_ai.request.temperature": 0.5,
            "gen_ai.request.max_tokens": 9,
            "gen_ai.response.id": "c-1",
            "gen_ai.response.model": "gpt-4o-mini-2024-07-18",
            "gen_ai.response.finish_reasons": ("stop",),
            "gen_ai.usage.input_tokens": 11,
            "gen_ai.usage.output_tokens": 7,
            "openai.request.service_tier": "flex",
            "openai.response.service_tier": "flex",
            "server.address": "127.0.0.1",
            "server.port": int(provider.url.rpartition(":")[2]),
        },
    }
    (record,) = capture.records()
    assert (span.start_time, span.end_time) == (record.start_ns, record.end_ns)
    ours = {key: value for key, value in span.attributes.items() if key.startswith("llmlog.")}
    assert ours == record.attributes


async def test_the_whole_span_of_a_failed_stream(capture, http, provider):
    body = chat_body("[scenario: error_in_stream status=503]", stream=True, stream_options=USAGE)
    await http.read(await http.open(body, headers={"x-response-id": "c-2"}))
    (span,) = capture.spans()
    found = as_dict(span)
    assert found["attributes"].pop("gen_ai.response.time_to_first_chunk") > 0
    # What little had come is counted: the provider did not get to say.
    assert found["attributes"].pop("gen_ai.usage.input_tokens") > 0
    assert found["attributes"].pop("gen_ai.usage.output_tokens") > 0
    assert found == {
        "name": "chat gpt-4o-mini",
        "kind": "CLIENT",
        "status": ("ERROR", "the provider reported an error in its reply (overloaded)"),
        "scope": "otel_llmlog",
        "events": 0,
        "attributes": {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "openai",
            "gen_ai.request.model": "gpt-4o-mini",
            "gen_ai.request.stream": True,
            "gen_ai.response.id": "c-2",
            "gen_ai.response.model": "gpt-4o-mini",
            "error.type": "APIError",
            "server.address": "127.0.0.1",
            "server.port": int(provider.url.rpartition(":")[2]),
        },
    }


async def test_the_http_span_of_the_library_is_the_child_of_ours(capture, http):
    instrumentors = (HTTPXClientInstrumentor(), HTTPX2ClientInstrumentor())
    for instrumentor in instrumentors:
        instrumentor.instrument(tracer_provider=capture.tracer_provider)
    try:
        with capture.tracer_provider.get_tracer("app").start_as_current_span("app"):
            await http.post()
            await http.read(await http.open())
    finally:
        for instrumentor in instrumentors:
            instrumentor.uninstrument()
    spans = capture.spans()
    (app,) = [span for span in spans if span.name == "app"]
    ours = [span for span in spans if span.instrumentation_scope.name == emit.SCOPE]
    http_spans = [span for span in spans if span.name == "POST"]
    assert len(spans) == 5
    assert [span.parent.span_id for span in ours] == [app.context.span_id] * 2
    assert [span.parent.span_id for span in http_spans] == [span.context.span_id for span in ours]
    assert len(capture.records()) == 2


class Broken(SpanProcessor):
    """An app's own span processor, with a fault."""

    def __init__(self, *hooks):
        self.hooks = hooks

    def on_start(self, span, parent_context=None):
        if "start" in self.hooks:
            raise RuntimeError("on_start")

    def on_end(self, span):
        if "end" in self.hooks:
            raise RuntimeError("on_end")


class BrokenSampler(Sampler):
    def should_sample(self, *args, **kwargs):
        raise RuntimeError("should_sample")

    def get_description(self):
        return "broken"


@pytest.mark.parametrize("hooks", [("start",), ("end",), ("start", "end")], ids="+".join)
async def test_a_span_processor_that_raises_costs_neither_the_call_nor_its_row(capture_with, http, hooks):
    capture = capture_with()
    capture.tracer_provider.add_span_processor(Broken(*hooks))
    await http.post()
    await http.read(await http.open())
    with pytest.raises(ZeroDivisionError):
        with trace.use_span(NonRecordingSpan(SpanContext(7, 8, is_remote=False)), record_exception=False):
            await http.post()
            raise ZeroDivisionError
    capture.tracer_provider.add_span_processor(Broken())  # the next call is looked at anew
    await http.post()
    records = capture.records()
    assert len(records) == 4
    assert records[2].ids[::2] == (f"{7:032x}", f"{8:016x}")
    assert {record.attributes["llmlog.status"] for record in records} == {"success"}


async def test_a_span_processor_that_comes_in_the_middle_of_a_call_and_raises_does_not_cost_it(capture_with, http):
    """Who touches the current span has it made then."""
    capture = capture_with()

    def touch(*_):
        capture.tracer_provider.add_span_processor(Broken("start"))
        trace.get_current_span().set_attribute("app", 1)

    async def touch_async(*_):
        touch()

    await http.post()
    http.client.event_hooks = {"request": [touch_async if http.is_async else touch]}
    await http.post()
    assert len(capture.records()) == 2


async def test_a_sampler_that_raises_costs_neither_the_call_nor_its_row(capture_with, http):
    capture = capture_with(tracer_provider=TracerProvider(sampler=BrokenSampler()))
    await http.post()
    assert [record.attributes["llmlog.status"] for record in capture.records()] == ["success"]


async def test_suppressed_instrumentation_leaves_out_the_span_and_keeps_the_row(capture, http):
    """Others suppress what is inside their spans (logfire does): the row must not depend on it."""
    tracer, before = capture.tracer_provider.get_tracer("other"), capture.stats.snapshot()
    with tracer.start_as_current_span("other") as above, suppress_instrumentation():
        await http.post()
        await http.read(await http.open(chat_body(stream=True, stream_options=USAGE)))
    assert [span.name for span in capture.spans()] == ["other"]
    records = capture.records()
    assert [record.attributes["llmlog.status"] for record in records] == ["success"] * 2
    assert {record.ids[::2] for record in records} == {hexes(above.get_span_context())}
    assert len({record.ids[1] for record in records}) == 2
    assert capture.stats.snapshot() == before | {"captured": before.get("captured", 0) + 2}


async def test_our_span_is_no_longer_current_after_the_call(capture, http):
    response = await http.open()
    assert not trace.get_current_span().get_span_context().is_valid
    await http.read(response)
    await http.post()
    first, second = capture.payloads()
    assert first.trace_id != second.trace_id


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
async def test_ours_is_the_child_of_anthropics_own_span_and_the_one_that_becomes_a_record(capture, provider, is_async):
    options = {"open_telemetry": {"tracer_provider": capture.tracer_provider}}
    client = anthropic_client(provider.url, is_async=is_async, **options)
    made = client.messages.create(model="claude-haiku-4-5", max_tokens=9, messages=said("hi"))
    if is_async:
        await made
    ours, native = sorted(capture.spans(), key=lambda span: span.instrumentation_scope.name, reverse=True)
    assert native.instrumentation_scope.name == "com.anthropic.sdk.python"
    assert (ours.parent.span_id, ours.context.trace_id) == (native.context.span_id, native.context.trace_id)
    (record,) = capture.records()
    assert record.ids == (*hexes(ours.context), trace.format_span_id(native.context.span_id))


async def test_the_record_says_where_its_span_is(capture, http):
    with capture.tracer_provider.get_tracer("app").start_as_current_span("app") as app:
        await http.post()
    (record,) = capture.records()
    span = next(span for span in capture.spans() if span.kind is SpanKind.CLIENT)
    assert record.ids == (*hexes(span.context), trace.format_span_id(app.get_span_context().span_id))
    assert record.payload.trace_id == record.ids.trace_id
    await http.post()
    assert capture.records()[1].ids.parent_span_id is None


@pytest.mark.parametrize("sampler", [ALWAYS_OFF, ParentBased(ALWAYS_OFF)], ids=["off", "parent-based"])
async def test_a_call_of_an_unsampled_trace_is_a_whole_record(capture_with, http, sampler):
    capture = capture_with(tracer_provider=TracerProvider(sampler=sampler))
    await http.post()
    await http.post()
    assert capture.spans() == []
    first, second = capture.records()
    assert (first.payload.prompt_tokens, first.payload.spend) == (11, second.payload.spend)
    assert is_id(first.ids.trace_id, 32)
    assert is_id(first.ids.span_id, 16)
    assert {first.ids.trace_id, first.ids.span_id}.isdisjoint({second.ids.trace_id, second.ids.span_id})


async def test_a_call_under_an_unsampled_parent_keeps_its_trace(capture_with, http):
    capture = capture_with(tracer_provider=TracerProvider())
    parent = SpanContext(0xABC, 0xDEF, is_remote=True, trace_flags=TraceFlags(0))
    with trace.use_span(NonRecordingSpan(parent)):
        await http.post()
        await http.post()
    first, second = capture.records()
    assert {first.ids.trace_id, second.ids.trace_id} == {trace.format_trace_id(0xABC)}
    assert first.ids.parent_span_id == second.ids.parent_span_id == trace.format_span_id(0xDEF)
    assert len({first.ids.span_id, second.ids.span_id, trace.format_span_id(0xDEF)}) == 3


async def test_a_tiny_span_limit_cuts_the_span_but_not_the_record(capture_with, http, monkeypatch):
    monkeypatch.setenv("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "8")
    monkeypatch.setenv("OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT", "4")
    capture = capture_with(tracer_provider=TracerProvider(), store_prompts_in_spend_logs=True)
    await http.post(chat_body("a long question"))
    (span,) = capture.spans()
    assert len(span.attributes) == 8
    payload = capture.one()
    assert payload.messages == said("a long question")
    assert (payload.prompt_tokens, payload.model) == (11, "gpt-4o-mini")
    assert payload.spend is not None


@pytest.mark.parametrize("without", [trace.NoOpTracerProvider, trace.ProxyTracerProvider], ids=["no-op", "none-set"])
async def test_without_an_sdk_every_record_has_ids_of_its_own(capture_with, http, without):
    capture = capture_with(tracer_provider=without())
    for _ in range(3):
        await http.post()
    records = capture.records()
    assert all(is_id(record.ids.trace_id, 32) and is_id(record.ids.span_id, 16) for record in records)
    assert len({record.ids for record in records}) == len({record.payload.call_id for record in records}) == 3
    parent = SpanContext(0xABC, 0xDEF, is_remote=True)
    with trace.use_span(NonRecordingSpan(parent)):
        await http.post()
        await http.post()
    fourth, fifth = capture.records()[3:]
    assert fourth.ids.trace_id == fifth.ids.trace_id == trace.format_trace_id(0xABC)
    assert fourth.ids.parent_span_id == fifth.ids.parent_span_id == trace.format_span_id(0xDEF)
    assert fourth.ids.span_id != fifth.ids.span_id != trace.format_span_id(0xDEF)


async def create(provider, is_async, scenario, **options):
    client = openai_client(provider.url, is_async=is_async, **options)
    made = client.chat.completions.create(model="gpt-4o", messages=said(f"[scenario: {scenario}]"))
    return await made if is_async else made


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
async def test_a_retry_of_the_sdk_is_a_payload_of_its_own_in_the_same_trace(capture, provider, is_async):
    await create(provider, is_async, f"error status=500 times=2 key=r{is_async}")
    payloads = capture.payloads()
    assert [payload.status for payload in payloads] == ["failure", "failure", "success"]
    assert len({payload.trace_id for payload in payloads}) == 1
    assert len({payload.call_id for payload in payloads}) == 3
    await create(provider, is_async, "plain")
    assert capture.payloads()[-1].trace_id != payloads[0].trace_id


async def test_retries_that_all_fail_end_with_their_trace(capture, provider):
    with pytest.raises(openai.InternalServerError):
        await create(provider, False, "error status=500", max_retries=1)
    await create(provider, False, "plain")
    first, second, other = (payload.trace_id for payload in capture.payloads())
    assert first == second != other


async def test_retries_under_a_span_of_the_app_stay_its_children(capture, provider):
    with capture.tracer_provider.get_tracer("app").start_as_current_span("app") as app:
        await create(provider, True, "error status=500 times=1 key=under")
    ids = [record.ids for record in capture.records()]
    _, app_id = hexes(app.get_span_context())
    assert [found.parent_span_id for found in ids] == [app_id, app_id]


async def test_retries_of_concurrent_tasks_do_not_share_a_trace(capture, provider):
    await asyncio.gather(*(create(provider, True, f"error status=500 times=1 key=t{n} id=t{n}") for n in range(8)))
    traces = [payload.trace_id for payload in capture.payloads()]
    assert len(traces) == 16
    assert sorted(traces.count(found) for found in set(traces)) == [2] * 8


def test_a_span_of_a_foreign_sdk_is_asked_for_its_own_ids_alone():
    class Foreign(NonRecordingSpan):
        parent = object()  # of a type of its own

    known = SpanContext(0xA, 0xB, is_remote=False)
    assert ids_of(Foreign(known), Context()) == (0xA, 0xB, None)


def test_a_span_without_valid_ids_gives_each_call_ids_of_its_own():
    class Rootless(NonRecordingSpan):
        parent = None

    first, second = (ids_of(Rootless(INVALID_SPAN_CONTEXT), Context()) for _ in range(2))
    assert first.trace_id
    assert first.span_id
    assert first.span_id != second.span_id

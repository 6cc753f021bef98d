"""Beside OpenTelemetry's own instrumentations of requests and botocore, and aiohttp's tracing: all is below our span."""

from __future__ import annotations

import aiohttp
import boto3
import pytest
import requests
from opentelemetry import baggage, trace
from opentelemetry.instrumentation.botocore import BotocoreInstrumentor
from opentelemetry.instrumentation.requests import RequestsInstrumentor

from otel_llmlog.capture import patch
from otel_llmlog.capture.context import context
from otel_llmlog.demo.provider import LocalProvider
from tests.capture.clients import CHAT, USAGE, chat_body
from tests.capture.others import Requests
from tests.wires import ROUTES


@pytest.fixture
def instrumented(capture):
    instrumentors = [RequestsInstrumentor(), BotocoreInstrumentor()]
    patch.remove()
    for instrumentor in instrumentors:
        instrumentor.instrument(tracer_provider=capture.tracer_provider)
    capture.install()
    yield
    patch.remove()
    for instrumentor in instrumentors:
        instrumentor.uninstrument()


async def test_the_http_span_of_requests_is_the_child_of_ours_and_the_request_carries_it(
    capture, provider, instrumented
):
    client = Requests(provider.url)
    response = await client.post(chat_body(stream=True, stream_options=USAGE), stream=True)
    await client.read(response)
    spans = {span.name: span for span in capture.spans()}
    ours, theirs = spans["chat gpt-4o-mini"], spans["POST"]
    assert theirs.parent.span_id == ours.context.span_id
    (request,) = provider.wait_ended()
    assert request.headers["traceparent"].split("-")[1:3] == [
        f"{ours.context.trace_id:032x}",
        f"{theirs.context.span_id:016x}",
    ]
    assert len(capture.payloads()) == 1


async def test_an_instrumentation_of_requests_that_is_switched_on_after_us_is_the_parent_and_the_row_is_the_same(
    capture, provider
):
    """It replaces the same method as we do: who comes last is outside."""
    RequestsInstrumentor().instrument(tracer_provider=capture.tracer_provider)
    try:
        await Requests(provider.url).post()
    finally:
        RequestsInstrumentor().uninstrument()
    spans = {span.name: span for span in capture.spans()}
    assert spans["chat gpt-4o-mini"].parent.span_id == spans["POST"].context.span_id
    assert len(capture.payloads()) == 1


async def test_aiohttps_own_tracing_runs_inside_our_span(capture, provider):
    """OpenTelemetry's instrumentation of aiohttp starts its span there, as many others do."""
    seen = []

    async def started(*_):
        seen.append(trace.get_current_span().get_span_context().span_id)

    config = aiohttp.TraceConfig()
    config.on_request_start.append(started)
    async with aiohttp.ClientSession(trace_configs=[config]) as session:
        async with session.post(provider.url + CHAT, json=chat_body()) as response:
            await response.read()
        assert not trace.get_current_span().get_span_context().is_valid
    (span,) = capture.spans()
    assert seen == [span.context.span_id]


def test_each_attempt_at_an_operation_is_a_child_of_botocores_span_of_the_operation(capture, instrumented):
    with LocalProvider(routes=ROUTES) as server:
        client = boto3.client(
            "bedrock-runtime",
            region_name="us-east-1",
            endpoint_url=server.url,
            aws_access_key_id="AKIAABCDEFGHIJKLMNOP",
            aws_secret_access_key="secret",
        )
        asked = [{"role": "user", "content": [{"text": "[scenario: error status=503 times=1 key=t]"}]}]
        client.converse(modelId="amazon.nova-lite-v1:0", messages=asked)
    ours = [span for span in capture.spans() if span.instrumentation_scope.name == "otel_llmlog"]
    (operation,) = [span for span in capture.spans() if span not in ours]
    assert [span.parent.span_id for span in ours] == [operation.context.span_id] * 2
    assert [payload.status for payload in capture.payloads()] == ["failure", "success"]


def test_what_our_own_exporter_sends_over_requests_leaves_nothing(capture, provider):
    requests.post(f"{provider.url}/v1/traces", data=b"\n\x00", timeout=9)
    assert (capture.payloads(), capture.spans()) == ([], [])


async def test_a_model_is_not_told_who_calls_and_another_service_is(capture_with, provider):
    capture_with()  # has seen no call yet
    seen = []

    async def started(*_):
        seen.append(dict(baggage.get_all()))

    config = aiohttp.TraceConfig()
    config.on_request_start.append(started)
    with context(user="ada", propagate=True):
        async with aiohttp.ClientSession(trace_configs=[config]) as session:
            for path in ("/healthz", CHAT, "/v1/other"):
                async with session.post(provider.url + path, json=chat_body()) as response:
                    await response.read()
        assert baggage.get_baggage("llmlog.user") == "ada"
    assert seen == [{"llmlog.user": "ada"}, {}, {}]

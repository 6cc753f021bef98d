"""No credential of a URL is on the HTTP client's span, whoever switched its instrumentation on."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace

import httpx
import pytest
import requests
from opentelemetry.context import Context
from opentelemetry.instrumentation.httpx import HTTPXClientInstrumentor
from opentelemetry.instrumentation.requests import RequestsInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

from otel_llmlog import sdk
from otel_llmlog.capture.masking import MaskedUrls
from otel_llmlog.capture.spans import LateSpan, Spans
from otel_llmlog.config import ContentSettings, PipelineSettings
from otel_llmlog.demo.provider import LocalProvider
from otel_llmlog.pipeline.processor import LLMLogSpanProcessor
from otel_llmlog.stats import Stats
from tests.redact.credentials import SHAPED

SECRET = "Zq9-hunter2"
OPAQUE = "t0Ken" + "Zq9Xw8Vb7Nm6" * 3
QUERIES = [
    f"?key={SECRET}", f"?a=1&sig={SECRET}&se=2", f"?access_token={SECRET}", f"?api-version=1&subscription-key={SECRET}",
    f"?X-Amz-Credential={SECRET}&X-Amz-Signature={SECRET}&X-Amz-Security-Token={SECRET}", f"?AWSAccessKeyId={SECRET}",
    f"?X-Goog-Signature={SECRET}&X-Goog-Credential={SECRET}", f"?code={SECRET}", f"?Signature={SECRET}", f"?x={SHAPED['OpenAI']}",
    f"?x={OPAQUE}", f"?next=https%3A%2F%2Fu%3A{SECRET}%40h%2F",
]  # fmt: skip


@pytest.fixture
def traced():
    """A tracer provider that exports to a list, as an app's would, and its spans as text."""
    provider, exporter = TracerProvider(), InMemorySpanExporter()
    provider.add_span_processor(MaskedUrls(Stats()))
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    for instrumentor in (HTTPXClientInstrumentor(), RequestsInstrumentor()):
        instrumentor.instrument(tracer_provider=provider)
    yield provider, lambda: [json.loads(span.to_json()) for span in exporter.get_finished_spans()]
    for instrumentor in (HTTPXClientInstrumentor(), RequestsInstrumentor()):
        instrumentor.uninstrument()


def assert_hidden(spans):
    told = json.dumps(spans)
    for secret in (SECRET, SHAPED["OpenAI"], OPAQUE):
        assert secret not in told, told


def clients(url):
    """Makes a GET with each client."""
    with httpx.Client() as client:
        client.get(url)

    async def get():
        async with httpx.AsyncClient() as client:
            await client.get(url)

    asyncio.run(get())
    requests.get(url, timeout=20)


@pytest.mark.parametrize("conventions", ["", "http", "http/dup"])
def test_urls_of_clients_spans_are_masked_in_the_old_conventions_and_in_the_new(traced, conventions, monkeypatch):
    monkeypatch.setenv("OTEL_SEMCONV_STABILITY_OPT_IN", conventions)
    with LocalProvider() as server:
        base = server.url.replace("://", f"://ada:{SECRET}@")
        for query in QUERIES:
            clients(f"{base}/v1/{OPAQUE}/x{query}")
    spans = traced[1]()
    assert len(spans) == 3 * len(QUERIES)
    assert_hidden(spans)
    urls = [span["attributes"].get("url.full") or span["attributes"]["http.url"] for span in spans]
    assert all(url.startswith("http://") and "127.0.0.1" in url and "/v1/" in url for url in urls)
    assert any("api-version=1" in url for url in urls)


def test_exceptions_that_quote_the_url_are_masked_and_the_app_gets_them_as_they_are(traced):
    url = f"http://127.0.0.1:9/v1/x?key={SECRET}&access_token={SECRET}"
    with pytest.raises(requests.ConnectionError, match=SECRET):
        requests.get(url, timeout=20)
    with pytest.raises(httpx.ConnectError):
        httpx.get(url)
    spans = traced[1]()
    assert [span["status"]["status_code"] for span in spans] == ["ERROR", "ERROR"]
    assert_hidden(spans)


@pytest.mark.parametrize(
    ("name", "value", "kept"),
    [
        ("http.target", f"/v1/x?key={SECRET}&a=1", "a=1"),
        ("url.query", f"a=1&key={SECRET}", "a=1"),
        ("url.path", f"/v1/{OPAQUE}/x", "/v1/"),
        ("url.full", f"https://h/v1#access_token={SECRET}", "https://h/v1"),
    ],
)
def test_parts_of_urls_are_masked(traced, name, value, kept):
    with traced[0].get_tracer("any").start_as_current_span("GET", kind=SpanKind.CLIENT, attributes={name: value}):
        pass
    [span] = traced[1]()
    assert_hidden(span)
    assert kept in span["attributes"][name]


def test_other_spans_and_harmless_urls_are_left_as_they_are(traced):
    given = {"url.full": "https://api.example.com/v1/models?limit=3&after=x", "a": f"key={SECRET}"}
    tracer = traced[0].get_tracer("any")
    for kind in (SpanKind.CLIENT, SpanKind.INTERNAL):
        with tracer.start_as_current_span("x", kind=kind, attributes=given):
            pass
    assert [span["attributes"] for span in traced[1]()] == [given, given]


def test_our_own_spans_stay_late_beside_it():
    provider = TracerProvider()
    provider.add_span_processor(MaskedUrls(Stats()))
    spans = Spans(provider.get_tracer("otel_llmlog"))
    first, _ = spans.start("chat", Context(), 1)
    second, _ = spans.start("chat", Context(), 1)
    assert not isinstance(first, LateSpan)
    assert isinstance(second, LateSpan)
    assert not spans.is_seen()


def test_it_comes_before_processors_that_the_app_has(monkeypatch):
    provider = TracerProvider()
    theirs = SimpleSpanProcessor(InMemorySpanExporter())
    provider.add_span_processor(theirs)
    monkeypatch.setattr(sdk.trace, "get_tracer_provider", lambda: provider)
    ours = sdk.EndSpans(lambda _: None, 1), MaskedUrls(Stats())
    last = SimpleSpanProcessor(InMemorySpanExporter())
    sdk.add_processors(first=ours, last=last)
    assert provider._active_span_processor._span_processors == (*ours, theirs, last)


def test_a_span_of_our_dialect_that_others_made_here_passes_the_rules_of_the_sink():
    accepted = []
    worker = SimpleNamespace(
        put_all=lambda records: accepted.extend(record for record, _ in records), intend=None, end=None
    )
    processor = LLMLogSpanProcessor(
        worker, PipelineSettings(), ContentSettings(), Stats(), lambda: "app", lambda _: True
    )
    provider = TracerProvider()
    provider.add_span_processor(processor)
    given = {
        "llmlog.call_id": "c",
        "llmlog.messages": "canary7",
        "llmlog.end_user": f"password={SECRET}",
        "other": SECRET,
    }
    provider.get_tracer("theirs").start_span("chat", attributes=given).end()
    [record] = accepted
    assert record.attributes == {"llmlog.call_id": "c", "llmlog.end_user": "password=[redacted]"}

"""The three instruments: duration, tokens and cost, with the attributes of the GenAI conventions."""

from __future__ import annotations

import httpx
import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from otel_llmlog import emit
from tests.capture.clients import CHAT, USAGE, chat_body


@pytest.fixture
def measured(monkeypatch, capture_with, provider):
    """Capture with a meter provider, a client, and what was measured by instrument name."""
    reader = InMemoryMetricReader()
    meters = MeterProvider([reader])
    monkeypatch.setattr(emit.metrics, "get_meter", meters.get_meter)
    capture = capture_with()

    def read():
        capture.records()
        (resource,) = reader.get_metrics_data().resource_metrics
        (scope,) = resource.scope_metrics
        assert scope.scope.name == "otel_llmlog"
        return {metric.name: metric for metric in scope.metrics}

    with httpx.Client(base_url=provider.url, verify=False) as client:
        yield capture, client, read
    meters.shutdown()


def attributes(provider, **more):
    return {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-4o-mini",
        "server.address": "127.0.0.1",
        "server.port": int(provider.url.rpartition(":")[2]),
        **more,
    }


def test_a_call_is_measured_in_seconds_tokens_and_dollars(measured, provider):
    capture, client, read = measured
    for _ in range(2):
        client.post(CHAT, json=chat_body("[usage: input=100 output=20]"))
    found = read()
    assert {name: metric.unit for name, metric in found.items()} == {
        "gen_ai.client.operation.duration": "s",
        "gen_ai.client.token.usage": "{token}",
        "llmlog.client.cost": "{USD}",
    }
    common = attributes(provider, **{"gen_ai.response.model": "gpt-4o-mini"})
    (duration,) = found["gen_ai.client.operation.duration"].data.data_points
    first, second = capture.records()
    spent = sum(record.payload.endTime - record.payload.startTime for record in (first, second))
    assert (duration.count, dict(duration.attributes)) == (2, common)
    assert duration.sum == pytest.approx(spent)
    assert duration.explicit_bounds[:3] == (0.01, 0.02, 0.04)
    tokens = {
        point.attributes["gen_ai.token.type"]: point for point in found["gen_ai.client.token.usage"].data.data_points
    }
    assert {kind: (point.count, point.sum) for kind, point in tokens.items()} == {"input": (2, 200), "output": (2, 40)}
    assert dict(tokens["input"].attributes) == {**common, "gen_ai.token.type": "input"}
    (cost,) = found["llmlog.client.cost"].data.data_points
    assert cost.value == pytest.approx(float(first.payload.spend * 2))
    assert dict(cost.attributes) == common


def test_a_failed_call_has_its_error_type_and_neither_tokens_nor_cost(measured, provider):
    _, client, read = measured
    client.post(CHAT, json=chat_body("[scenario: error status=429]"))
    found = read()
    assert set(found) == {"gen_ai.client.operation.duration"}
    (duration,) = found["gen_ai.client.operation.duration"].data.data_points
    assert dict(duration.attributes) == attributes(provider, **{"error.type": "RateLimitError"})


def test_a_call_without_a_price_has_tokens_but_no_cost(measured):
    _, client, read = measured
    client.post(CHAT, json={**chat_body(), "model": "nobody-knows-this-model"})
    assert set(read()) == {"gen_ai.client.operation.duration", "gen_ai.client.token.usage"}


def test_a_call_of_an_unsampled_trace_is_measured(measured, capture_with):
    _, client, read = measured
    unsampled = capture_with(tracer_provider=TracerProvider(sampler=ALWAYS_OFF))
    with client.stream("POST", CHAT, json=chat_body(stream=True, stream_options=USAGE)) as response:
        response.read()
    assert (unsampled.one().status, unsampled.spans()) == ("success", [])
    (duration,) = read()["gen_ai.client.operation.duration"].data.data_points
    assert duration.count == 1

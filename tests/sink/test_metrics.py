"""What the sink says of itself to whoever reads OTel metrics."""

from __future__ import annotations

from opentelemetry import metrics as api
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from otel_llmlog.sink import metrics
from otel_llmlog.stats import Stats


def test_requests_are_told_by_outcome_and_what_waits_by_number_and_size() -> None:
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    stats = Stats()
    for name, number in {"sink.taken": 3, "sink.refused.busy": 2, "sink.traces": 512, "sink.transactions": 1}.items():
        stats.count(name, number)
    get, api.get_meter = api.get_meter, provider.get_meter  # type: ignore[assignment]
    try:
        metrics.observe("1", stats, lambda: (4, 5000))
    finally:
        api.get_meter = get
    data = reader.get_metrics_data()
    assert data is not None
    told = {
        metric.name: {tuple(point.attributes.values()): point.value for point in metric.data.data_points}  # type: ignore[union-attr]
        for metric in data.resource_metrics[0].scope_metrics[0].metrics
    }
    assert told == {
        "llmlog.sink.requests": {("taken",): 3, ("busy",): 2},
        "llmlog.sink.items": {("traces",): 512, ("logs",): 0, ("metrics",): 0},
        "llmlog.sink.transactions": {(): 1},
        "llmlog.sink.pending": {(): 4},
        "llmlog.sink.pending.size": {(): 5000},
    }
    provider.shutdown()

"""The sink's own numbers as OTel metrics. What becomes of records is in those of `pipeline.report`."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, Observation

from otel_llmlog.emit import SCOPE
from otel_llmlog.stats import Stats

_REFUSED = "sink.refused."


def observe(version: str, stats: Stats, pending: Callable[[], tuple[int, int]]) -> None:
    """`pending`: requests in hand and their bytes."""
    meter = metrics.get_meter(SCOPE, version)

    def requests(_options: CallbackOptions) -> Iterable[Observation]:
        for name, number in stats.snapshot().items():
            if name == "sink.taken":
                yield Observation(number, {"llmlog.outcome": "taken"})
            elif name.startswith(_REFUSED):
                yield Observation(number, {"llmlog.outcome": name.removeprefix(_REFUSED)})

    def items(_options: CallbackOptions) -> Iterable[Observation]:
        counts = stats.snapshot()
        for signal in ("traces", "logs", "metrics"):
            yield Observation(counts.get(f"sink.{signal}", 0), {"llmlog.signal": signal})

    def transactions(_options: CallbackOptions) -> Iterable[Observation]:
        yield Observation(stats.snapshot().get("sink.transactions", 0))

    meter.create_observable_counter("llmlog.sink.requests", [requests], "{request}", "OTLP requests by their outcome")
    meter.create_observable_counter(
        "llmlog.sink.items", [items], "{item}", "Spans and log records received, of any kind"
    )
    meter.create_observable_counter(
        "llmlog.sink.transactions", [transactions], "{transaction}", "Groups of requests stored"
    )
    meter.create_observable_gauge(
        "llmlog.sink.pending", [lambda _: [Observation(pending()[0])]], "{request}", "Requests in hand"
    )
    meter.create_observable_gauge(
        "llmlog.sink.pending.size", [lambda _: [Observation(pending()[1])]], "By", "Bytes of the requests in hand"
    )

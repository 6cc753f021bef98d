"""OpenTelemetry's SDK, set up from the environment where nobody has set one up."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from opentelemetry import trace
from opentelemetry.environment_variables import OTEL_LOGS_EXPORTER, OTEL_METRICS_EXPORTER, OTEL_TRACES_EXPORTER
from opentelemetry.sdk._configuration import _OTelSDKConfigurator
from opentelemetry.sdk.environment_variables import (
    OTEL_EXPORTER_OTLP_ENDPOINT,
    OTEL_EXPORTER_OTLP_LOGS_ENDPOINT,
    OTEL_EXPORTER_OTLP_METRICS_ENDPOINT,
    OTEL_EXPORTER_OTLP_PROTOCOL,
    OTEL_EXPORTER_OTLP_TRACES_ENDPOINT,
)
from opentelemetry.sdk.trace import SpanProcessor

from otel_llmlog.stats import Stats


def ensure_provider(version: str, stats: Stats) -> None:
    """Without a tracer provider, set the SDK's up from the environment, as a distro would.

    So every door leads to the same: spans have real ids, and go to a backend when `OTEL_*` names one.
    """
    if not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        return
    try:
        with _environment(defaults(os.environ)):
            _OTelSDKConfigurator().configure(auto_instrumentation_version=version)  # type: ignore[no-untyped-call] # untyped in the library
    except Exception as error:  # an exporter that is named but not installed, say
        stats.warn("otel", f"OpenTelemetry could not be set up from OTEL_* variables: {error}")


def defaults(environ: Mapping[str, str]) -> dict[str, str]:
    """`OTEL_*` variables that should be set beside these: export over OTLP/HTTP if an endpoint is named, else nowhere.

    OpenTelemetry's own defaults would send to a guessed local address, and complain that nobody listens there.
    """
    general = OTEL_EXPORTER_OTLP_ENDPOINT in environ
    traces = general or OTEL_EXPORTER_OTLP_TRACES_ENDPOINT in environ
    measured = general or OTEL_EXPORTER_OTLP_METRICS_ENDPOINT in environ
    given = {
        OTEL_TRACES_EXPORTER: "otlp" if traces else "none",
        OTEL_METRICS_EXPORTER: "otlp" if measured else "none",
        # Audit events; the app's own log lines only where OpenTelemetry is told to send those, too.
        OTEL_LOGS_EXPORTER: "otlp" if OTEL_EXPORTER_OTLP_LOGS_ENDPOINT in environ else "none",
        OTEL_EXPORTER_OTLP_PROTOCOL: "http/protobuf",
    }
    return {name: value for name, value in given.items() if name not in environ}


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Variables that are set for a moment."""
    os.environ.update(values)
    try:
        yield
    finally:
        for name in values:
            os.environ.pop(name, None)


class EndSpans(SpanProcessor):
    """Has spans end that are to end, before other processors are flushed or shut down."""

    def __init__(self, end_spans: Callable[[float], object], timeout: float) -> None:
        """`end_spans`: takes seconds. `timeout`: seconds that a shutdown waits for it."""
        self._end_spans = end_spans
        self._timeout = timeout

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        self._end_spans(timeout_millis / 1000)
        return True  # False would keep the provider from flushing the others

    def shutdown(self) -> None:
        self._end_spans(self._timeout)


def add_processors(*, first: Sequence[SpanProcessor], last: SpanProcessor) -> None:
    """Give span processors to the tracer provider there is: before those that it has, and behind them.

    A provider flushes its processors in their order and shuts them down in it, and an app may do either right after a
    call. There is no public way to put ours before others: where theirs are kept otherwise, `first` are last.
    """
    provider = trace.get_tracer_provider()
    add = getattr(provider, "add_span_processor", None)
    if add is None:
        return
    for processor in first:
        add(processor)
    multi = getattr(provider, "_active_span_processor", None)
    lock = getattr(multi, "_lock", None)
    if multi is not None and lock is not None and isinstance(getattr(multi, "_span_processors", None), tuple):
        with lock:
            multi._span_processors = (*first, *(p for p in multi._span_processors if p not in first))  # noqa: SLF001 - see above
    add(last)


class ServiceName:
    """`service.name` of the tracer provider there is now. Asked for at each call, on the app's thread."""

    def __init__(self) -> None:
        self._resource: object = self
        self._name = ""

    def __call__(self) -> str:
        resource = getattr(trace.get_tracer_provider(), "resource", None)
        if resource is not self._resource:
            name = resource.attributes.get("service.name") if resource is not None else None
            self._name = str(name or os.environ.get("OTEL_SERVICE_NAME") or "unknown_service")
            self._resource = resource
        return self._name

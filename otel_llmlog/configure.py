"""Wires all parts: the one module that knows everything. Switching on by any door leads through `start`.

Doors: `opentelemetry-instrument` and `llmlog run` (the instrumentor's entry point), `OTEL_TRACES_EXPORTER=…,llmlog`
(the exporter's entry point), `otel_llmlog.instrument()` in code.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, NoReturn

from opentelemetry import _logs
from opentelemetry.instrumentation.instrumentor import BaseInstrumentor  # type: ignore[attr-defined] # untyped in the library
from opentelemetry.sdk.environment_variables import (
    OTEL_SDK_DISABLED,
)
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

from otel_llmlog import config, destination, emit, endings, native, sdk
from otel_llmlog.audit import asgi, client, recording, watching
from otel_llmlog.capture import patch
from otel_llmlog.capture.counting import TokenCounter
from otel_llmlog.capture.masking import MaskedUrls
from otel_llmlog.capture.reading import Reader
from otel_llmlog.capture.recorder import Recorder
from otel_llmlog.errors import ConfigError
from otel_llmlog.pipeline import report
from otel_llmlog.pipeline.batch import BatchWorker
from otel_llmlog.pipeline.logs import LLMLogLogProcessor
from otel_llmlog.pipeline.processor import LLMLogSpanProcessor
from otel_llmlog.pipeline.record import Record
from otel_llmlog.stats import Stats

VERSION = version("otel-llmlog")
# Seconds that who asks for a call that has just ended waits until it is read: a few milliseconds, as a rule.
_READ_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Runtime:
    """Everything that runs while capture is on."""

    settings: config.Settings
    stats: Stats
    recorder: Recorder
    worker: BatchWorker | None
    processor: LLMLogSpanProcessor
    audit: LLMLogLogProcessor

    def flush(self, timeout: float) -> bool:
        """Wait until every call that has ended is stored; False when that took longer than `timeout` seconds."""
        deadline = time.monotonic() + timeout
        read = self.recorder.flush(timeout)
        forwarded = watching.flush(max(0.0, deadline - time.monotonic()))
        left = max(0.0, deadline - time.monotonic())
        return (self.worker is None or self.worker.flush(left)) and read and forwarded

    def unstored(self, needle: str, wanted: Callable[[Record], bool]) -> list[Record]:
        """Calls of this process that have ended, hold this text, are wanted and may not be stored yet."""
        self.recorder.flush(_READ_SECONDS)
        return [] if self.worker is None else self.worker.search(needle.encode("utf-8", "replace"), wanted)


_lock = native.RLock()
_runtime: Runtime | None = None
_starting = False


def _after_fork_in_child() -> None:
    global _lock  # noqa: PLW0603 - whoever held it is not here
    _lock = native.RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


def start(*, capture: bool = True) -> Runtime | None:
    """Build and start everything, once. None when OTel itself is switched off. Raises ConfigError.

    `capture`: see the calls on the wire. Off for who brings calls of its own, LiteLLM's callback say.
    """
    global _runtime, _starting  # noqa: PLW0603 - one process, one runtime
    with _lock:
        if _runtime is not None or _starting:
            return _runtime
        if os.environ.get(OTEL_SDK_DISABLED, "").strip().lower() == "true":
            return None
        _starting = True
        try:
            settings = config.load()
            _runtime = _build(settings)
            if capture:
                managed = client.watcher(settings.capture.provider_hosts) if settings.audit.audit_client else None
                patch.install(_runtime.recorder, inject_usage=settings.capture.inject_stream_usage, managed=managed)
            recording.install(_runtime.audit)
            if settings.audit.audit_asgi:
                asgi.install(settings.audit.audit_routes)
        finally:
            _starting = False
        endings.before(stop)
        if _runtime.worker is not None:
            _runtime.worker.adopt_soon()
        return _runtime


def stop() -> None:
    """Write what is left and give everything back. May be called twice."""
    with endings.signals_wait():
        _stop()


def _stop() -> None:
    global _runtime
    with _lock:
        runtime, _runtime = _runtime, None
    endings.forget()
    if runtime is None:
        return
    deadline = time.monotonic() + runtime.settings.pipeline.shutdown_timeout
    runtime.recorder.finish(deadline - time.monotonic())
    watching.flush(max(0.0, deadline - time.monotonic()))
    patch.remove()
    asgi.remove()
    recording.install(None)
    if runtime.worker is not None:
        runtime.worker.close(max(0.0, deadline - time.monotonic()))
    runtime.audit.close()


def flush(timeout: float = 30.0) -> bool:
    """Wait until every LLM call that has ended is stored; False when that took longer than `timeout` seconds."""
    runtime = _runtime
    return True if runtime is None else runtime.flush(timeout)


def instrument() -> None:
    """Switch capture on, as the settings say. Call it after your own OpenTelemetry set-up, if you have one.

    Raises ConfigError when a setting is wrong.
    """
    start()
    instrumentor = LLMLogInstrumentor()
    if not instrumentor.is_instrumented_by_opentelemetry:  # else it would warn of what does no harm
        instrumentor.instrument()


def uninstrument() -> None:
    """Switch capture off again and write what is left."""
    instrumentor = LLMLogInstrumentor()
    if instrumentor.is_instrumented_by_opentelemetry:
        instrumentor.uninstrument()


def runtime() -> Runtime | None:
    """What runs now, for the command line and for tests."""
    return _runtime


class LLMLogInstrumentor(BaseInstrumentor):  # type: ignore[misc] # untyped in the library
    """The door of OpenTelemetry's auto-instrumentation."""

    def instrument(self, **kwargs: Any) -> None:
        """Switch capture on. Under auto-instrumentation a wrong setting ends the program at once, in one line."""
        try:
            super().instrument(**kwargs)
        except ConfigError as error:
            # The auto-instrumentation loader passes this flag; it would swallow the error and let the app run
            # unlogged. Nothing of the app has been started yet.
            if not kwargs.get("skip_dep_check"):
                raise
            _end(error)

    def instrumentation_dependencies(self) -> Collection[str]:
        """None: whichever of the libraries is there, or comes later, is covered."""
        return ()

    def _instrument(self, **_kwargs: Any) -> None:
        start()

    def _uninstrument(self, **_kwargs: Any) -> None:
        stop()


def _end(error: ConfigError) -> NoReturn:
    sys.stderr.write(f"otel-llmlog: {error}\n")
    sys.stderr.flush()
    os._exit(2)


class LLMLogSpanExporter(SpanExporter):
    """The door of `OTEL_TRACES_EXPORTER=otlp,llmlog`: naming it switches everything on.

    The spans themselves are taken by our own processor: the SDK's batch processor, which would call `export`, drops
    spans when its queue is full and forgets them after fork.
    """

    def __init__(self) -> None:
        try:
            start()
        except ConfigError as error:
            # The same loader swallows what its configurator meets.
            if "opentelemetry.instrumentation.auto_instrumentation" not in sys.modules:
                raise
            _end(error)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:  # noqa: ARG002 - see above
        """Nothing to do: see the class."""
        return SpanExportResult.SUCCESS

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Wait until every call that has ended is stored."""
        return flush(timeout_millis / 1000)


def _build(settings: config.Settings) -> Runtime:
    stats = Stats()
    for name, meant in config.unknown_variables().items():
        stats.warn(name, f"{name} is no setting of otel-llmlog{f'; did you mean {meant}?' if meant else ''}")
    sdk.ensure_provider(VERSION, stats)
    wanted = settings.audit.store_audit_logs or not settings.pipeline.disable_spend_logs
    exporter = destination.exporter(settings, stats, endings.go_first) if wanted else None
    worker: BatchWorker | None = None
    prices = destination.pricer(settings)
    if exporter is not None:
        worker, source = destination.worker(exporter, settings, stats, prices)
        report.observe(VERSION, stats, worker.waiting, source.disk_bytes)
    processor: LLMLogSpanProcessor

    def flush_all(timeout: float) -> bool:
        read = recorder.flush(timeout)
        return (worker is None or worker.flush(timeout)) and read

    processor = LLMLogSpanProcessor(worker, settings.pipeline, settings.content, stats, sdk.ServiceName(), flush_all)
    recorder = Recorder(
        settings.capture,
        Reader(settings, prices, TokenCounter(), stats),
        emit.tracer(VERSION, copies=settings.pipeline.exporter == "otlp" and not settings.pipeline.disable_spend_logs),
        emit.Metrics(VERSION),
        processor,
        stats,
    )
    end_spans = sdk.EndSpans(recorder.flush, settings.pipeline.shutdown_timeout)
    sdk.add_processors(first=(end_spans, MaskedUrls(stats)), last=processor)
    audit = LLMLogLogProcessor(
        worker, destination.audit_writer(settings, endings.go_first), settings.audit, stats, sdk.ServiceName()
    )
    add = getattr(_logs.get_logger_provider(), "add_log_record_processor", None)
    if add is not None:
        add(audit)
    return Runtime(settings, stats, recorder, worker, processor, audit)

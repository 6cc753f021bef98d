"""Capture as it runs in an app, with its records kept in a list: nothing between the wire and the payload is faked."""

from __future__ import annotations

import asyncio
import gc
import os
import time
from collections.abc import Awaitable, Callable, Iterator
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest
import tiktoken
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from otel_llmlog import config, emit
from otel_llmlog.capture import patch
from otel_llmlog.capture.counting import TokenCounter
from otel_llmlog.capture.ids import Ids
from otel_llmlog.capture.reading import Reader
from otel_llmlog.capture.recorder import Recorder
from otel_llmlog.demo.provider import LocalProvider
from otel_llmlog.dialects import llmlog
from otel_llmlog.payload import CallPayload
from otel_llmlog.pricing import Pricer
from otel_llmlog.stats import Stats
from tests.capture.clients import FLAVOURS, Http
from tests.capture.outlet import Outlet

SECONDS = 20.0
# Every byte is a token: counts can be told from the text, and nothing is fetched.
BYTES = tiktoken.Encoding(
    "bytes", pat_str=r"(?s:.+)", mergeable_ranks={bytes([i]): i for i in range(256)}, special_tokens={}
)


class Digits(NamedTuple):
    trace_id: str
    span_id: str
    parent_span_id: str | None


class Delivered(NamedTuple):
    ids: Digits
    start_ns: int
    end_ns: int
    attributes: dict[str, Any]

    @property
    def payload(self) -> CallPayload:
        return llmlog.decode(self.attributes)


def _digits(ids: Ids) -> Digits:
    parent = ids.parent_span_id
    return Digits(
        trace.format_trace_id(ids.trace_id),
        trace.format_span_id(ids.span_id),
        None if parent is None else trace.format_span_id(parent),
    )


class Capture:
    """A recorder that delivers into a list, and the spans it made."""

    def __init__(self, tracer_provider: Any = None, counter: TokenCounter | None = None, **values: Any) -> None:
        self.settings = config.Settings(values)
        self.stats = Stats()
        self.delivered: list[Delivered] = []
        self._exporter = InMemorySpanExporter()
        if tracer_provider is None:
            tracer_provider = TracerProvider()
        if isinstance(tracer_provider, TracerProvider):
            tracer_provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracer_provider = tracer_provider
        self.reader = Reader(self.settings, Pricer(), counter or TokenCounter(), self.stats)
        self.recorder = Recorder(
            self.settings.capture,
            self.reader,
            tracer_provider.get_tracer(emit.SCOPE, "0"),
            emit.Metrics("0"),
            Outlet(lambda ids, *given: self.delivered.append(Delivered(_digits(ids), *given))),
            self.stats,
        )

    def install(self) -> None:
        patch.install(self.recorder, inject_usage=self.settings.capture.inject_stream_usage)

    def clear(self) -> None:
        assert self.recorder.flush(SECONDS)
        self.delivered.clear()
        self._exporter.clear()

    def records(self) -> list[Delivered]:
        """What was delivered of the calls that have ended so far."""
        assert self.recorder.flush(SECONDS)
        return list(self.delivered)

    def payloads(self) -> list[CallPayload]:
        return [record.payload for record in self.records()]

    def one(self) -> CallPayload:
        """The payload of the one call that was made; more or fewer are an error."""
        (payload,) = self.payloads()
        return payload

    def spans(self) -> list[ReadableSpan]:
        self.records()
        return list(self._exporter.get_finished_spans())


@pytest.fixture(autouse=True)
def _no_settings_and_no_downloads(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("LLMLOG_", "OTEL_")):
            monkeypatch.delenv(name)
    monkeypatch.setattr(tiktoken, "encoding_for_model", lambda _model: BYTES)


@pytest.fixture
def collect() -> Callable[[], Awaitable[None]]:
    """Collects what the app has dropped."""
    gc.freeze()  # what was there before the test need not be walked through each time

    async def collect() -> None:
        for _ in range(4):
            gc.collect()
            # The loop closes dropped async generators in tasks, one inside the other.
            for _ in range(20):
                await asyncio.sleep(0)

    return collect


@pytest.fixture(scope="session")
def _server() -> Iterator[LocalProvider]:
    with LocalProvider() as running:
        yield running


@pytest.fixture
def provider(_server: LocalProvider) -> LocalProvider:
    _server.clear()
    return _server


@pytest.fixture
def same_replies(monkeypatch, provider):
    """The provider's replies follow from the request alone: its clock stands still, its numbers start over."""
    clock = SimpleNamespace(time=lambda: 1_700_000_000.0, monotonic=time.monotonic)
    monkeypatch.setattr("otel_llmlog.demo.provider.time", clock)

    def start_over():
        provider._number = 0
        provider.clear()

    return start_over


@pytest.fixture(scope="session")
def _shared() -> Capture:
    return Capture()


@pytest.fixture
def capture(_shared: Capture) -> Iterator[Capture]:
    """Capture with all settings at their defaults, installed for this test."""
    _shared.clear()
    _shared.install()
    yield _shared
    patch.remove()
    # Streams that the test dropped: else they end when they are collected, in the middle of another.
    assert _shared.recorder.finish(SECONDS)


@pytest.fixture
def capture_with() -> Iterator[Callable[..., Capture]]:
    """Makes a capture with settings of its own and installs it."""

    def make(**values: Any) -> Capture:
        made = Capture(**values)
        made.install()
        return made

    yield make
    patch.remove()


@pytest.fixture(params=FLAVOURS)
def flavour(request: pytest.FixtureRequest) -> Any:
    """(library, is async) of each of the four clients in turn."""
    return request.param


@pytest.fixture
async def http(flavour: Any, provider: LocalProvider) -> Any:
    """Each of the four clients in turn: httpx and httpx2, sync and async."""
    client = Http(*flavour, provider.url)
    yield client
    await client.end()


@pytest.fixture(params=[flavour for flavour in FLAVOURS if flavour.values[0][1]])
async def async_http(request: pytest.FixtureRequest, provider: LocalProvider) -> Any:
    """The async clients of both libraries."""
    client = Http(*request.param, provider.url)
    yield client
    await client.end()

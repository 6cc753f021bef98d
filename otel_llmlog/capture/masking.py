"""URLs on the spans of HTTP clients: OpenTelemetry's own instrumentations leave keys and tokens in them.

They mask user info and four signatures (`opentelemetry.util.http.redact_url`), and leave `?key=`, which Gemini's REST
API is called with, `?access_token=`, presigned URLs of S3 and tokens in paths; and their exceptions quote URLs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from opentelemetry.context import Context
from opentelemetry.sdk.trace import Event, Span, SpanProcessor
from opentelemetry.trace import SpanKind, Status

from otel_llmlog import redact
from otel_llmlog.stats import Stats

# Attributes that hold a URL or its query, in the stable conventions and in the older ones.
_URLS = ("url.full", "http.url", "http.target", "url.query", "url.path")


class MaskedUrls(SpanProcessor):
    """Masks credentials in the URLs of CLIENT spans as they start, and in the exceptions noted on them as they end.

    Whoever switched the instrumentation on. It must come before processors that export.
    """

    ignores_calls: ClassVar[bool] = True
    """Spans of our own have nothing for it: see `spans`."""

    def __init__(self, stats: Stats) -> None:
        self._stats = stats

    def on_start(self, span: Span, parent_context: Context | None = None) -> None:  # noqa: ARG002 - the SDK's signature
        try:
            self._mask_urls(span)
        except Exception as error:  # the span is the app's, and so is what comes out of here
            self._stats.error("mask", error)

    def _on_ending(self, span: Span) -> None:
        try:
            self._mask_exceptions(span)
        except Exception as error:  # the same
            self._stats.error("mask", error)

    def _mask_urls(self, span: Span) -> None:
        if span.kind is not SpanKind.CLIENT or not (attributes := span.attributes):
            return
        for name in _URLS:
            given = attributes.get(name)
            if isinstance(given, str) and (masked := redact.url(given)) != given:
                span.set_attribute(name, masked)

    def _mask_exceptions(self, span: Span) -> None:
        if span.kind is not SpanKind.CLIENT or not _is_http(span.attributes):
            return
        said = span.status.description
        if said and (masked := redact.mask(said)) != said:
            # An error's status cannot be set again where its code is to stay. The SDK has no public way to this moment.
            span._status = Status(span.status.status_code, masked)  # noqa: SLF001 - see above
        for event in span.events:
            _mask_event(event)


def _is_http(attributes: Mapping[str, Any] | None) -> bool:
    return bool(attributes) and any(name in attributes for name in _URLS)  # type: ignore[operator] # not None here


def _mask_event(event: Event) -> None:
    given = event.attributes or {}
    masked = {
        name: redact.mask(value) if isinstance(value, str) and name.startswith("exception.") else value
        for name, value in given.items()
    }
    if masked != given:
        event._attributes = masked  # noqa: SLF001 - the same

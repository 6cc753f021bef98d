"""From a payload to OpenTelemetry: the span with the GenAI conventions beside `llmlog.*`, the metrics, the audit log.

Only the OTel API is used here, so any SDK may stand behind it. The convention's newest names are written out below:
they moved to a repository of their own, and the constants in the published package are older.
"""

from __future__ import annotations

from typing import Any, NamedTuple
from urllib.parse import urlsplit

from opentelemetry import _logs, metrics, trace
from opentelemetry.context import Context
from opentelemetry.trace import NonRecordingSpan, Span, SpanContext, Status, StatusCode, Tracer

from otel_llmlog.dialects import audit
from otel_llmlog.dialects.llmlog import Attributes
from otel_llmlog.payload import AuditEvent, CallPayload, Usage

SCOPE = "otel_llmlog"
# Where an app sends its rows as spans, too, a collector gets each call twice: in the app's traces, as far as those are
# sampled and whatever limits they have, and as the record that a row is made of. This attribute of the scope says which
# it is, so that the collector can send each one where it belongs.
COPY = "llmlog.copy"
TRACE_COPY, RECORD_COPY = "trace", "record"
# The convention's advice for both histograms (seconds, tokens).
_DURATION_BUCKETS = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
_TOKEN_BUCKETS = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864)
# Model parameters with an attribute of their own in the convention.
_PARAMETERS = {
    "temperature": "gen_ai.request.temperature",
    "top_p": "gen_ai.request.top_p",
    "top_k": "gen_ai.request.top_k",
    "max_tokens": "gen_ai.request.max_tokens",
    "max_completion_tokens": "gen_ai.request.max_tokens",
    "max_output_tokens": "gen_ai.request.max_tokens",
    "presence_penalty": "gen_ai.request.presence_penalty",
    "frequency_penalty": "gen_ai.request.frequency_penalty",
    "seed": "gen_ai.request.seed",
    "n": "gen_ai.request.choice.count",
    "service_tier": "openai.request.service_tier",
}
# LiteLLM's slugs where the convention has its own word for the provider.
_PROVIDER_NAMES = {
    "azure": "azure.ai.openai",
    "azure_ai": "azure.ai.inference",
    "bedrock": "aws.bedrock",
    "vertex_ai": "gcp.vertex_ai",
    "gemini": "gcp.gemini",
    "mistral": "mistral_ai",
    "xai": "x_ai",
}


def tracer(version: str, *, copies: bool = False) -> Tracer:
    """Our tracer, of whatever provider is set now or later. `copies`: the rows travel as spans of their own."""
    return trace.get_tracer(SCOPE, version, attributes={COPY: TRACE_COPY} if copies else None)


def end_span(span: Span, payload: CallPayload, attributes: Attributes, end_ns: int) -> None:
    """Write the whole call on its span and end it."""
    if span.is_recording():
        span.update_name(f"{payload.operation} {payload.model}".rstrip())
        span.set_attributes({**genai(payload), **attributes})
        if payload.status == "failure":
            span.set_status(Status(StatusCode.ERROR, payload.error_str))
    span.end(end_ns)


def genai(payload: CallPayload) -> Attributes:
    """The call in the GenAI semantic conventions."""
    usage, metadata = payload.usage, payload.metadata
    base = urlsplit(payload.api_base)
    given: dict[str, Any] = {
        "gen_ai.operation.name": payload.operation,
        "gen_ai.provider.name": provider_name(payload),
        "gen_ai.request.model": payload.model or None,
        "gen_ai.request.stream": payload.stream,
        "gen_ai.request.previous_response.id": payload.previous_response_id,
        "gen_ai.response.id": payload.id if payload.id != payload.call_id else None,
        "gen_ai.response.model": payload.response_model,
        "gen_ai.response.finish_reasons": tuple(payload.finish_reasons) or None,
        "gen_ai.conversation.id": payload.session_id or payload.conversation_id,
        "server.address": base.hostname,
        "server.port": _port(base.port, base.scheme),
        "user.id": metadata.user_api_key_user_id,
        "openai.response.service_tier": usage.service_tier if payload.custom_llm_provider == "openai" else None,
        "error.type": error_type(payload),
    }
    for name, key in _PARAMETERS.items():
        value = payload.model_parameters.get(name)
        # An integer of OTLP has 64 bits: one that does not fit would fail the whole batch of spans.
        if isinstance(value, str | float) or (isinstance(value, int) and -(1 << 63) <= value < 1 << 63):
            given[key] = value
    if _counts_tokens(usage):
        given["gen_ai.usage.input_tokens"] = usage.input_tokens
        given["gen_ai.usage.output_tokens"] = usage.output_tokens
        given["gen_ai.usage.cache_read.input_tokens"] = usage.cache_read_tokens or None
        given["gen_ai.usage.cache_write.input_tokens"] = usage.cache_write_tokens or None
        given["gen_ai.usage.reasoning.output_tokens"] = usage.reasoning_tokens or None
    if payload.stream and payload.completionStartTime is not None:
        given["gen_ai.response.time_to_first_chunk"] = round(payload.completionStartTime - payload.startTime, 6)
    return {key: value for key, value in given.items() if value is not None}


def _counts_tokens(usage: Usage) -> bool:
    """Whether somebody counted tokens: calls billed by the second, page or piece have none, which is not 0."""
    return usage.source is not None and bool(usage.input_tokens or usage.output_tokens or usage.is_empty)


def provider_name(payload: CallPayload) -> str | None:
    """`gen_ai.provider.name` of the call."""
    slug = payload.custom_llm_provider
    return _PROVIDER_NAMES.get(slug, slug) if slug else None


def error_type(payload: CallPayload) -> str | None:
    """`error.type`: the class of the failure, of low cardinality."""
    if payload.status == "success":
        return None
    information = payload.error_information
    return (information.error_class if information else None) or "_OTHER"


def _port(port: int | None, scheme: str) -> int | None:
    return port or {"https": 443, "http": 80}.get(scheme)


class _Instruments(NamedTuple):
    duration: metrics.Histogram
    tokens: metrics.Histogram
    cost: metrics.Counter


class Metrics:
    """The GenAI client metrics and the cost counter."""

    def __init__(self, version: str) -> None:
        meter = metrics.get_meter(SCOPE, version)
        self._instruments = _Instruments(
            meter.create_histogram(
                "gen_ai.client.operation.duration",
                "s",
                "Duration of LLM calls",
                explicit_bucket_boundaries_advisory=_DURATION_BUCKETS,
            ),
            meter.create_histogram(
                "gen_ai.client.token.usage",
                "{token}",
                "Input and output tokens of LLM calls",
                explicit_bucket_boundaries_advisory=_TOKEN_BUCKETS,
            ),
            meter.create_counter("llmlog.client.cost", "{USD}", "Cost of LLM calls whose price is known"),
        )

    def record(self, payload: CallPayload, context: Context) -> None:
        """Count one call."""
        base = urlsplit(payload.api_base)
        given = {
            "gen_ai.operation.name": payload.operation,
            "gen_ai.provider.name": provider_name(payload),
            "gen_ai.request.model": payload.model or None,
            "gen_ai.response.model": payload.response_model,
            "server.address": base.hostname,
            "server.port": _port(base.port, base.scheme),
            "error.type": error_type(payload),
        }
        attributes = {key: value for key, value in given.items() if value is not None}
        duration, tokens, cost = self._instruments
        duration.record(payload.endTime - payload.startTime, attributes, context=context)
        if _counts_tokens(payload.usage):
            for kind, count in (("input", payload.prompt_tokens), ("output", payload.completion_tokens)):
                tokens.record(count, {**attributes, "gen_ai.token.type": kind}, context=context)
        if payload.spend is not None:
            cost.add(float(payload.spend), attributes, context=context)


def audit_log(event: AuditEvent) -> None:
    """An audit event as a log record of whatever logger provider is set, for any OpenTelemetry backend."""
    logger = _logs.get_logger(SCOPE)
    if isinstance(logger, _logs.NoOpLogger):
        return
    logger.emit(
        timestamp=round(event.updated_at * 1e6) * 1000,
        context=_context_of(event),
        severity_number=_logs.SeverityNumber.INFO if event.outcome == "success" else _logs.SeverityNumber.WARN,
        body=f"{event.action} {event.table_name} {event.object_id}".rstrip(),
        attributes={audit.LOG_RECORD_UID: event.id, **audit.encode(event)},
        event_name=audit.EVENT_NAME,
    )


def _context_of(event: AuditEvent) -> Context | None:
    """The trace that the event belongs to: that of now, or that of when it was put into an outbox."""
    if event.trace_id is None or event.span_id is None:
        return None
    now = trace.get_current_span().get_span_context()
    if now.is_valid and trace.format_span_id(now.span_id) == event.span_id:
        return None
    then = SpanContext(int(event.trace_id, 16), int(event.span_id, 16), is_remote=True)
    return trace.set_span_in_context(NonRecordingSpan(then))

"""Every LLM call of a Python app as an OpenTelemetry span and a priced row in Postgres, without a gateway."""

from otel_llmlog.capture.context import context
from otel_llmlog.configure import LLMLogInstrumentor, flush, instrument, uninstrument
from otel_llmlog.errors import AuditNotRecorded, ConfigError, LLMLogError, RowRejected, StoreUnavailable

__all__ = [
    "AuditNotRecorded",
    "ConfigError",
    "LLMLogError",
    "LLMLogInstrumentor",
    "RowRejected",
    "StoreUnavailable",
    "context",
    "flush",
    "instrument",
    "uninstrument",
]

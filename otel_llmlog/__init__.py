"""Every LLM call of a Python app as an OpenTelemetry span and a priced row in Postgres, without a gateway."""

from otel_llmlog.capture.context import context
from otel_llmlog.configure import LLMLogInstrumentor, flush, instrument, uninstrument
from otel_llmlog.errors import (
    AuditNotRecorded,
    ConfigError,
    ContentNotStored,
    LLMLogError,
    RowRejected,
    StoreUnavailable,
    UnknownResponse,
)
from otel_llmlog.frozen import FlushASGI, FlushWSGI, flush_after
from otel_llmlog.recall import ahistory, history

__all__ = [
    "AuditNotRecorded",
    "ConfigError",
    "ContentNotStored",
    "FlushASGI",
    "FlushWSGI",
    "LLMLogError",
    "LLMLogInstrumentor",
    "RowRejected",
    "StoreUnavailable",
    "UnknownResponse",
    "ahistory",
    "context",
    "flush",
    "flush_after",
    "history",
    "instrument",
    "uninstrument",
]

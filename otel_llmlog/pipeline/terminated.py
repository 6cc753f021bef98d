"""What becomes of a request whose process died before its end: an intent without outcome -> a failed call's record."""

from __future__ import annotations

from urllib.parse import urlsplit

from opentelemetry.trace import format_span_id

from otel_llmlog import redact
from otel_llmlog.dialects import llmlog
from otel_llmlog.payload import (
    CallPayload,
    StandardLoggingMetadata,
    StandardLoggingModelCostFailureDebugInformation,
    StandardLoggingPayloadErrorInformation,
)
from otel_llmlog.pipeline.record import Record
from otel_llmlog.pipeline.spool import Intent
from otel_llmlog.providers import hosts

ERROR_CLASS = "ProcessTerminated"
_WHY = "the process ended before the call did"


def terminated(intent: Intent) -> Record:
    """The failed call that this intent was. Its end is not known: it is written down as its start."""
    facts = {name: redact.name(value) for name, value in intent.facts.items() if name != "tags"}
    trace_id, span_id = intent.trace_id.hex(), format_span_id(intent.span_id)
    parent = intent.parent_span_id
    call_id = f"{trace_id}-{span_id}"
    start = intent.start_ns / 1e9
    provider, api_base = _where(facts.get("url") or "", facts.get("wire"))
    payload = CallPayload(
        id=call_id,
        trace_id=trace_id,
        session_id=facts.get("session_id"),
        call_type=facts.get("call_type") or "completion",
        custom_llm_provider=provider,
        response_cost_failure_debug_info=StandardLoggingModelCostFailureDebugInformation(error_str=_WHY),
        status="failure",
        startTime=start,
        endTime=start,
        model=facts.get("model") or "",
        model_group=facts.get("model"),
        api_base=api_base,
        metadata=StandardLoggingMetadata(
            user_api_key_hash=facts.get("api_key"),
            user_api_key_org_id=facts.get("organization"),
            user_api_key_team_id=facts.get("team"),
            user_api_key_team_alias=facts.get("team_alias"),
            user_api_key_user_id=facts.get("user"),
            user_api_key_end_user_id=facts.get("end_user"),
        ),
        request_tags=[tag for given in intent.facts.get("tags", "").split("\n") if (tag := redact.name(given))],
        end_user=facts.get("end_user"),
        error_str=_WHY,
        error_information=StandardLoggingPayloadErrorInformation(error_class=ERROR_CLASS, llm_provider=provider),
        call_id=call_id,
        operation=facts.get("operation") or "chat",
    )
    return Record(
        trace_id,
        span_id,
        None if parent is None else format_span_id(parent),
        intent.start_ns,
        intent.start_ns,
        intent.service_name,
        llmlog.encode(payload),
    )


def _where(url: str, wire: str | None) -> tuple[str | None, str]:
    """Provider and base URL of the call."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return wire, ""
    provider = hosts.provider(wire, host, port, parts.path, "", {}) if wire else None
    return provider, hosts.api_base(parts.scheme, host, port, parts.path)

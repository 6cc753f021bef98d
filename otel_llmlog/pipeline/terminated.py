"""What becomes of a call whose process died before its record was made: from an intent, and its ending, to a record."""

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
    Usage,
)
from otel_llmlog.pipeline.record import Record
from otel_llmlog.pipeline.spool import Ending, Intent
from otel_llmlog.pricing import Pricer
from otel_llmlog.providers import endpoint_at, hosts

ERROR_CLASS = "ProcessTerminated"
_WHY = "the process ended before the call did"
_UNREAD = "the process ended before the reply was read: of it, model and usage alone were noted"


def terminated(intent: Intent) -> Record:
    """The failed call that this intent was. Its end is not known: it is written down as its start."""
    return _record(intent, intent.start_ns, _payload(intent))


def unread(intent: Intent, ending: Ending, pricer: Pricer) -> Record:
    """The call that ended and was not read any more. Its brief says what it used; no more of its reply is known."""
    endpoint = endpoint_at(urlsplit(intent.facts.get("url", "")).path)
    if endpoint is None or endpoint.wire != intent.facts.get("wire"):
        return terminated(intent)
    failed = _payload(intent)
    is_stream = ending.brief.startswith(b"data:")
    facts = endpoint.read_stream([ending.brief], False) if is_stream else endpoint.read_response(ending.brief, False)
    usage, error = facts.usage or Usage(), facts.error
    if usage.inference_geo is None and (place := hosts.place(urlsplit(failed.api_base).hostname or "")):
        usage = usage.model_copy(update={"inference_geo": place})
    cost = pricer.price(
        usage,
        provider=failed.custom_llm_provider,
        response_model=facts.model,
        request_model=failed.model_group,
        call_type=failed.call_type,
        at=failed.startTime,
    )
    payload = failed.model_copy(
        update={
            "id": facts.id or failed.id,
            "stream": is_stream,
            "response_cost": None if cost.total is None else float(cost.total),
            "cost_breakdown": cost.breakdown,
            "response_cost_failure_debug_info": cost.failure,
            "status": "success" if error is None else "failure",
            "total_tokens": usage.input_tokens + usage.output_tokens,
            "prompt_tokens": usage.input_tokens,
            "completion_tokens": usage.output_tokens,
            "endTime": ending.end_ns / 1e9,
            "response_time": (ending.end_ns - intent.start_ns) / 1e9,
            "model_map_information": cost.model_information,
            "model": failed.model or facts.model or "",
            "error_str": error and "the provider reported an error in its reply",
            "error_information": error
            and StandardLoggingPayloadErrorInformation(
                error_class="APIError", error_code=error.kind, llm_provider=failed.custom_llm_provider
            ),
            "response_model": facts.model,
            "finish_reasons": list(facts.finish_reasons),
            "usage": usage,
            "spend": cost.total,
            "cost_source": cost.source,
            "price_version": cost.version,
            "notes": [*facts.notes, _UNREAD],
        }
    )
    return _record(intent, ending.end_ns, payload)


def _payload(intent: Intent) -> CallPayload:
    facts = {name: redact.name(value) for name, value in intent.facts.items() if name != "tags"}
    # The process may have been of another version.
    facts["model"] = redact.model(intent.facts.get("model"))
    trace_id, span_id = _ids(intent)
    call_id = f"{trace_id}-{span_id}"
    start = intent.start_ns / 1e9
    provider, api_base = _where(facts.get("url") or "", facts.get("wire"))
    return CallPayload(
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


def _ids(intent: Intent) -> tuple[str, str]:
    return intent.trace_id.hex(), format_span_id(intent.span_id)


def _record(intent: Intent, end_ns: int, payload: CallPayload) -> Record:
    parent = intent.parent_span_id
    return Record(
        *_ids(intent),
        None if parent is None else format_span_id(parent),
        intent.start_ns,
        end_ns,
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

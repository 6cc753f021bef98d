"""What LiteLLM's callback tells of a call, as our payload. Pure.

Always true: nothing that LiteLLM tells is lost, but content where the settings keep none; keys are hashed and
credentials masked.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from importlib.metadata import version
from typing import Any

from pydantic import BaseModel, ValidationError

from otel_llmlog import redact
from otel_llmlog.config import ContentSettings
from otel_llmlog.dialects import llmlog, privacy
from otel_llmlog.payload import (
    CallPayload,
    StandardLoggingAdditionalHeaders,
    StandardLoggingGuardrailInformation,
    StandardLoggingHiddenParams,
    StandardLoggingMetadata,
    StandardLoggingModelCostFailureDebugInformation,
    StandardLoggingModelInformation,
    StandardLoggingPayload,
    StandardLoggingPayloadErrorInformation,
    StandardLoggingVectorStoreRequest,
    Usage,
)
from otel_llmlog.providers.lenient import word

# What a call is in the GenAI conventions, by what its type ends in.
_OPERATIONS = {"embedding": "embeddings", "text_completion": "text_completion"}
# Fields whose values are content.
_GUARDRAIL_CONTENT = ("guardrail_request", "guardrail_response")
_VECTOR_STORE_CONTENT = ("query", "vector_store_search_response")
_VERSION = version("litellm")


def payload(given: Mapping[str, Any], kwargs: Mapping[str, Any], settings: ContentSettings) -> CallPayload:
    """LiteLLM's `standard_logging_object` as our payload; what has no field of its own goes to spend_logs_metadata.

    `trace_id` is left to the span. Raises ValidationError when it is no payload.
    """
    content, limit = settings.store_prompts_in_spend_logs, settings.max_string_length_prompt_in_db
    own, rest = _split(StandardLoggingPayload, given)
    metadata, more = _metadata(given.get("metadata") or {}, content=content)
    hidden, more_hidden = _hidden(given.get("hidden_params") or {})
    error, more_error = _split(StandardLoggingPayloadErrorInformation, given.get("error_information") or {})
    failed = given.get("status") == "failure"
    usage = _usage(given)
    unknown = _unpriced(given)
    cost = given.get("response_cost")
    # Fifteen digits are what a float holds for certain; the rest is dust of its additions.
    spend = None if unknown is not None or not isinstance(cost, int | float) else Decimal(f"{cost:.15g}")
    call_id = redact.name(given.get("litellm_call_id") or kwargs.get("litellm_call_id")) or str(given["id"])
    response = given.get("response")
    leftovers = {**rest, **{f"metadata.{k}": v for k, v in more.items()}}
    leftovers |= {f"hidden_params.{k}": v for k, v in more_hidden.items()}
    leftovers |= {f"error_information.{k}": v for k, v in more_error.items()}
    kept = {name: _plain(value) for name, value in leftovers.items() if value not in (None, "", [], {})}
    if given.get("trace_id"):
        kept["trace_id"] = str(given["trace_id"])
    metadata["spend_logs_metadata"] = {**(metadata.get("spend_logs_metadata") or {}), "litellm": redact.masked(kept)}
    code, kind = error.get("error_code"), error.get("error_class")
    message = str(given.get("error_str") or "")
    said = redact.text(message, limit) if content else f"LiteLLM reports {kind or 'an error'} {code or ''}"
    fields: dict[str, Any] = {
        **{name: _none(value) for name, value in own.items()},
        "id": str(given["id"]),
        "trace_id": "",
        "session_id": _session(given, kwargs),
        "call_type": given.get("call_type") or "completion",
        "response_cost": None if spend is None else float(spend),
        "cost_breakdown": _plain(given.get("cost_breakdown")),
        "response_cost_failure_debug_info": unknown,
        "saved_cache_cost": given.get("saved_cache_cost") or 0.0,
        "response_time": given.get("response_time") or 0.0,
        "completionStartTime": given.get("completionStartTime") if given.get("stream") else None,
        "model_map_information": _model_information(given.get("model_map_information") or {}),
        "model": given.get("model") or "",
        "api_base": given.get("api_base") or hidden.get("api_base") or "",
        "metadata": metadata,
        # The SDK says whom it serves among the parameters only.
        "end_user": redact.name(given.get("end_user") or (given.get("model_parameters") or {}).get("user")),
        "request_tags": [tag for one in given.get("request_tags") or [] if (tag := redact.name(one))],
        "messages": _content(given.get("messages"), limit) if content else None,
        "response": _content(response, limit) if content else None,
        "error_str": said.strip() if failed else None,
        "error_information": _error(error, content=content, limit=limit) if failed else None,
        "model_parameters": _parameters(given.get("model_parameters") or {}, content=content, limit=limit),
        "hidden_params": hidden,
        "guardrail_information": _guardrails(given.get("guardrail_information"), content=content),
        "call_id": call_id,
        "operation": next(
            (name for end, name in _OPERATIONS.items() if str(given.get("call_type")).endswith(end)), "chat"
        ),
        "previous_response_id": redact.name((given.get("model_parameters") or {}).get("previous_response_id")),
        "response_model": redact.name(response.get("model")) if isinstance(response, Mapping) else None,
        "finish_reasons": _finish_reasons(response),
        "usage": usage,
        "spend": spend,
        "cost_source": "litellm" if spend is not None else None,
        "price_version": _VERSION if spend is not None else None,
    }
    # What LiteLLM tells is a description by others, like those of senders.
    return llmlog.decode(privacy.kept(llmlog.encode(CallPayload(**fields)), settings))


def _split(model: type[BaseModel], given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the model has a field for, and the rest."""
    own = {name: value for name, value in given.items() if name in model.model_fields}
    return own, {name: value for name, value in given.items() if name not in own}


def _none(value: Any) -> Any:
    """LiteLLM says "" for nothing."""
    return None if value == "" else value


def _plain(value: Any) -> Any:
    return redact.storable(value) if value is not None else None


def _content(value: Any, limit: int) -> Any:
    if value is None:
        return None
    stored = redact.storable(value, limit)
    return stored if isinstance(stored, str | list | dict) else str(stored)


def _metadata(given: Mapping[str, Any], *, content: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    own, rest = _split(StandardLoggingMetadata, given)
    found: dict[str, Any] = {name: _plain(_none(value)) for name, value in own.items() if value is not None}
    for ours, theirs in (("user_api_key_team_id", "team_id"), ("user_api_key_team_alias", "team_alias")):
        found.setdefault(ours, _none(rest.pop(theirs, None)))
    if key := found.get("user_api_key_hash"):
        found["user_api_key_hash"] = redact.key_id(str(key))
    for name in ("spend_logs_metadata", "requester_metadata"):
        if isinstance(found.get(name), dict):
            found[name] = redact.masked(found[name])
    found["requester_custom_headers"] = redact.custom_headers((given.get("requester_custom_headers") or {}).items())
    if searches := given.get("vector_store_request_metadata"):
        found["vector_store_request_metadata"] = [
            _without(
                _split(StandardLoggingVectorStoreRequest, _plain(one))[0], () if content else _VECTOR_STORE_CONTENT
            )
            for one in searches
        ]
    found.pop("guardrail_information", None)
    return found, rest


def _hidden(given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    own, rest = _split(StandardLoggingHiddenParams, given)
    found = {name: _none(value) for name, value in own.items()}
    limits, more = _split(StandardLoggingAdditionalHeaders, given.get("additional_headers") or {})
    found["additional_headers"] = {n: int(v) for n, v in limits.items() if str(v).isdigit()} or None
    if more:
        rest = {**rest, "additional_headers": more}
    if found.get("response_cost") is not None:
        found["response_cost"] = str(found["response_cost"])
    return found, rest


def _model_information(given: Mapping[str, Any]) -> StandardLoggingModelInformation:
    value = given.get("model_map_value")
    kept = {name: item for name, item in value.items() if item is not None} if isinstance(value, Mapping) else None
    return StandardLoggingModelInformation(model_map_key=given.get("model_map_key") or "", model_map_value=_plain(kept))


def _error(given: Mapping[str, Any], *, content: bool, limit: int) -> StandardLoggingPayloadErrorInformation:
    def text(name: str) -> str | None:
        said = given.get(name)
        return redact.text(str(said), limit) if content and said else None

    return StandardLoggingPayloadErrorInformation(
        error_code=redact.name(given.get("error_code")),
        error_class=redact.name(given.get("error_class")),
        llm_provider=redact.name(given.get("llm_provider")),
        error_message=text("error_message"),
        traceback=text("traceback"),
    )


def _parameters(given: Mapping[str, Any], *, content: bool, limit: int) -> dict[str, Any]:
    if content:
        return dict(redact.masked(redact.storable(dict(given), limit)))
    kept = {}
    for name, value in given.items():
        switch = value if isinstance(value, bool | int | float) else word(value)
        if switch is not None and not redact.is_credential(name):
            kept[redact.clean(name)] = switch
    if isinstance(tools := given.get("tools"), list):
        kept["tool_count"] = len(tools)
    return dict(redact.storable(kept))


def _guardrails(given: Any, *, content: bool) -> list[StandardLoggingGuardrailInformation] | None:
    if not given:
        return None
    found = []
    for one in given if isinstance(given, list) else [given]:
        own = _split(StandardLoggingGuardrailInformation, _plain(one))[0]
        try:
            found.append(StandardLoggingGuardrailInformation(**_without(own, () if content else _GUARDRAIL_CONTENT)))
        except ValidationError:  # a status or mode of a newer LiteLLM: its name says enough
            found.append(StandardLoggingGuardrailInformation(guardrail_name=redact.name(own.get("guardrail_name"))))
    return found


def _without(given: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: value for name, value in given.items() if name not in names}


def _usage(given: Mapping[str, Any]) -> Usage:
    counted = (given.get("metadata") or {}).get("usage_object") or {}
    prompt, completion = (counted.get(f"{of}_tokens_details") or {} for of in ("prompt", "completion"))
    counts = [given.get(f"{of}_tokens") for of in ("prompt", "completion", "total")]
    return Usage(
        input_tokens=given.get("prompt_tokens") or 0,
        output_tokens=given.get("completion_tokens") or 0,
        cache_read_tokens=prompt.get("cached_tokens") or counted.get("cache_read_input_tokens") or 0,
        cache_write_tokens=prompt.get("cache_creation_tokens") or counted.get("cache_creation_input_tokens") or 0,
        cache_write_1h_tokens=(prompt.get("cache_creation_token_details") or {}).get("ephemeral_1h_input_tokens") or 0,
        input_audio_tokens=prompt.get("audio_tokens") or 0,
        input_image_tokens=prompt.get("image_tokens") or 0,
        input_video_tokens=prompt.get("video_tokens") or 0,
        output_audio_tokens=completion.get("audio_tokens") or 0,
        output_image_tokens=completion.get("image_tokens") or 0,
        output_video_tokens=completion.get("video_tokens") or 0,
        reasoning_tokens=completion.get("reasoning_tokens") or 0,
        accepted_prediction_tokens=completion.get("accepted_prediction_tokens") or 0,
        rejected_prediction_tokens=completion.get("rejected_prediction_tokens") or 0,
        source="provider" if any(counts) else None,
    ).bounded()


def _unpriced(given: Mapping[str, Any]) -> StandardLoggingModelCostFailureDebugInformation | None:
    """Why no price is known; None when it is. LiteLLM says 0.0 in both cases."""
    if given.get("response_cost") or given.get("cache_hit"):
        return None
    said = given.get("response_cost_failure_debug_info")
    if said:
        own = _split(StandardLoggingModelCostFailureDebugInformation, said)[0]
        # Its texts may quote anything.
        safe = {name: value for name, value in own.items() if name not in {"error_str", "traceback_str"}}
        return StandardLoggingModelCostFailureDebugInformation(
            error_str="LiteLLM could not work out a price", **{n: v for n, v in safe.items() if v is not None}
        )
    priced = (given.get("model_map_information") or {}).get("model_map_value") or {}
    if given.get("status") == "success" and priced.get("input_cost_per_token") == 0:
        return None
    why = "the call failed" if given.get("status") == "failure" else "LiteLLM knows no price"
    return StandardLoggingModelCostFailureDebugInformation(
        error_str=why, model=str(given.get("model") or ""), call_type=str(given.get("call_type") or "")
    )


def _session(given: Mapping[str, Any], kwargs: Mapping[str, Any]) -> str | None:
    """The session that was named. LiteLLM's trace id is one of its own making when nobody named any."""
    parameters = kwargs.get("litellm_params") or {}
    metadata = parameters.get("metadata") or {}
    named = (
        given.get("session_id"), parameters.get("litellm_session_id"), metadata.get("session_id"),
        parameters.get("litellm_trace_id"), metadata.get("trace_id"),
    )  # fmt: skip
    return next((found for one in named if (found := redact.name(one))), None)


def _finish_reasons(response: Any) -> list[str]:
    choices = response.get("choices") if isinstance(response, Mapping) else None
    found = [word(one.get("finish_reason")) for one in choices or [] if isinstance(one, Mapping)]
    return [reason for reason in found if reason]

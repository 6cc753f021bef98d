"""The payload carries every field of LiteLLM's specification, and span attributes carry the whole payload."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings, strategies as st
from opentelemetry.sdk.trace import TracerProvider

from otel_llmlog import payload as models
from otel_llmlog.dialects import llmlog
from otel_llmlog.errors import RowRejected
from otel_llmlog.payload import (
    COUNTS,
    MAX_COUNT,
    CallPayload,
    StandardLoggingPayload,
    Usage,
    addable,
    milliseconds,
    total,
)
from tests.payloads import PAYLOADS, models as models_of

# Every key of LiteLLM's own TypedDicts, from its specification and (from 1.106) its package.
LITELLM = {
    "StandardLoggingPayload": (
        "id trace_id session_id call_type stream custom_llm_provider response_cost cost_breakdown "
        "response_cost_failure_debug_info status total_tokens prompt_tokens completion_tokens startTime endTime "
        "completionStartTime response_time model_map_information model model_id model_group api_base metadata "
        "cache_hit cache_key saved_cache_cost request_tags end_user requester_ip_address user_agent messages response "
        "error_str error_information model_parameters hidden_params guardrail_information"
    ),
    "StandardLoggingUserAPIKeyMetadata": (
        "user_api_key_hash user_api_key_alias user_api_key_org_id user_api_key_team_id user_api_key_user_id "
        "user_api_key_team_alias user_api_key_end_user_id user_api_key_user_email user_api_key_project_id "
        "user_api_key_request_route"
    ),
    "StandardLoggingMetadata": (
        "user_api_key_hash user_api_key_alias user_api_key_org_id user_api_key_team_id user_api_key_user_id "
        "user_api_key_team_alias user_api_key_end_user_id user_api_key_user_email user_api_key_project_id "
        "user_api_key_request_route spend_logs_metadata requester_ip_address requester_metadata "
        "vector_store_request_metadata requester_custom_headers guardrail_information"
    ),
    "StandardLoggingVectorStoreRequest": (
        "vector_store_id custom_llm_provider query vector_store_search_response start_time end_time"
    ),
    "StandardLoggingAdditionalHeaders": (
        "x_ratelimit_limit_requests x_ratelimit_limit_tokens x_ratelimit_remaining_requests "
        "x_ratelimit_remaining_tokens"
    ),
    "StandardLoggingHiddenParams": (
        "model_id cache_key api_base response_cost additional_headers batch_models litellm_model_name"
    ),
    "StandardLoggingModelInformation": "model_map_key model_map_value",
    "StandardLoggingModelCostFailureDebugInformation": (
        "error_str traceback_str model cache_hit custom_llm_provider base_model call_type custom_pricing"
    ),
    "StandardLoggingPayloadErrorInformation": "error_code error_class llm_provider error_message traceback",
    "StandardLoggingGuardrailInformation": (
        "guardrail_name guardrail_mode guardrail_request guardrail_response guardrail_status start_time end_time "
        "duration masked_entity_count"
    ),
}


@pytest.mark.parametrize("name", LITELLM)
def test_each_model_has_exactly_litellms_fields(name: str) -> None:
    assert set(getattr(models, name).model_fields) == set(LITELLM[name].split())


@given(PAYLOADS)
@settings(max_examples=300, deadline=None)
def test_attributes_give_the_payload_back_without_loss(payload: CallPayload) -> None:
    assert llmlog.decode(llmlog.encode(payload)) == payload


@given(PAYLOADS)
@settings(max_examples=50, deadline=None)
def test_a_real_span_carries_the_payload_without_loss(payload: CallPayload) -> None:
    span = TracerProvider().get_tracer("test").start_span("chat", attributes=llmlog.encode(payload))
    assert llmlog.decode(span.attributes) == payload


def test_every_payload_field_has_its_own_attribute() -> None:
    full = CallPayload(
        id="x",
        trace_id="t",
        call_type="completion",
        status="success",
        startTime=1,
        endTime=2,
        call_id="c",
        operation="chat",
        request_tags=["a"],
        metadata={"user_api_key_team_id": "blue"},
    )
    attributes = llmlog.encode(full)
    assert attributes["llmlog.metadata.user_api_key_team_id"] == "blue"
    assert attributes["llmlog.request_tags"] == ("a",)
    known = {leaf.path[0] for leaf in llmlog._LEAVES.values()}
    assert known == set(CallPayload.model_fields) > set(StandardLoggingPayload.model_fields)


@given(
    st.dictionaries(
        st.sampled_from(sorted(llmlog._LEAVES)),
        st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.text()),
    )
)
@settings(max_examples=300, deadline=None)
def test_hostile_attributes_are_read_or_rejected_in_one_line(attributes: dict[str, object]) -> None:
    rejection = ""
    try:
        llmlog.decode(attributes)
    except RowRejected as error:
        rejection = str(error)
    assert "\n" not in rejection


@pytest.mark.parametrize("count", [-1, 1.5, float("nan"), float("inf"), 1e300, 10**30, "7", None, True, [1]])
def test_a_count_that_is_no_count_is_zero(count: object) -> None:
    assert Usage(input_tokens=count).input_tokens == 0


@given(st.lists(st.one_of(st.integers(-5, MAX_COUNT + 5), st.floats(), st.text(max_size=3)), max_size=4))
@example([MAX_COUNT, 1])
def test_a_total_is_a_count_and_no_part_is_more_than_it(counts: list[object]) -> None:
    assert Usage(input_tokens=total(*counts)).input_tokens == total(*counts)
    assert max(map(addable, counts), default=0) <= total(*counts)


@given(models_of(Usage))
def test_bounded_usage_has_no_part_above_its_total(usage: Usage) -> None:
    u = usage.bounded()
    assert u.cache_read_tokens + u.cache_write_tokens <= u.input_tokens
    assert u.cache_write_1h_tokens <= u.cache_write_tokens
    assert u.input_audio_tokens + u.input_image_tokens + u.input_video_tokens <= u.input_tokens
    assert u.cache_read_audio_tokens <= u.input_audio_tokens
    assert u.cache_read_image_tokens <= u.input_image_tokens
    assert u.cache_read_audio_tokens + u.cache_read_image_tokens <= u.cache_read_tokens
    assert u.output_audio_tokens + u.output_image_tokens + u.output_video_tokens <= u.output_tokens
    assert u.reasoning_tokens <= u.output_tokens
    assert u.accepted_prediction_tokens + u.rejected_prediction_tokens <= u.output_tokens
    assert u.annotated_pages <= u.pages
    assert all(0 <= getattr(u, name) <= getattr(usage, name) for name in COUNTS)
    assert u.bounded() == u


@pytest.mark.parametrize("name", COUNTS)
def test_each_count_is_bounded_and_a_zero_has_no_attribute(name: str) -> None:
    assert getattr(Usage(**{name: -1}), name) == getattr(Usage(**{name: 10**30}), name) == 0
    assert Usage(**{name: 0}).is_empty
    assert not Usage(**{name: 1}).is_empty
    call = {"id": "x", "trace_id": "t", "call_type": "c", "status": "success", "call_id": "c", "operation": "chat"}
    payload = CallPayload(**call, startTime=1, endTime=2)
    assert f"llmlog.usage.{name}" not in llmlog.encode(payload)
    counted = payload.model_copy(update={"usage": Usage(**{name: 7})})
    assert llmlog.encode(counted)[f"llmlog.usage.{name}"] == 7


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(8.4700003, 8470), (3, 3000), (0.0004, 0), (-1, 0), (float("nan"), 0), (1e300, 0), ("3", 0), (True, 0)],
)
def test_seconds_become_milliseconds(seconds: object, expected: int) -> None:
    assert milliseconds(seconds) == expected

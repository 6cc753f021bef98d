"""The record of one LLM call: LiteLLM's StandardLoggingPayload, and what a priced row needs beside it; of one
management operation: `AuditEvent`.

Always true: every field of LiteLLM's specification is here under its exact name; models are frozen; a float is
finite; token counts follow the GenAI convention's rule (input includes cache reads and writes, output includes
reasoning). Times are epoch seconds, money is US dollars.

Source of the field names: LiteLLM's StandardLoggingPayload specification; fields marked (+) are in the
package (1.106) but not in the specification, fields marked (ours) are in neither.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

StandardLoggingPayloadStatus = Literal["success", "failure"]

# More tokens than any request can hold: a bigger number is a broken or hostile reply, not a usage.
MAX_COUNT = 10**12


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, protected_namespaces=())


class StandardLoggingUserAPIKeyMetadata(_Part):
    """Who called: the key (as its SHA-256), its owner, team and organisation."""

    user_api_key_hash: str | None = None
    user_api_key_alias: str | None = None
    user_api_key_org_id: str | None = None
    user_api_key_team_id: str | None = None
    user_api_key_user_id: str | None = None
    user_api_key_team_alias: str | None = None
    user_api_key_end_user_id: str | None = None  # (+)
    user_api_key_user_email: str | None = None  # (+)
    user_api_key_project_id: str | None = None  # (+)
    user_api_key_request_route: str | None = None  # (+)


class StandardLoggingVectorStoreRequest(_Part):
    """One search in a vector store that the call made."""

    vector_store_id: str | None = None
    custom_llm_provider: str | None = None
    query: str | None = None
    vector_store_search_response: dict[str, Any] | None = None
    start_time: float | None = None
    end_time: float | None = None


class StandardLoggingGuardrailInformation(_Part):
    """One guardrail that ran on the call. `duration` is seconds."""

    guardrail_name: str | None = None
    guardrail_mode: str | list[str] | None = None
    guardrail_request: dict[str, Any] | None = None
    guardrail_response: dict[str, Any] | str | list[dict[str, Any]] | None = None
    guardrail_status: StandardLoggingPayloadStatus | None = None
    start_time: float | None = None
    end_time: float | None = None
    duration: float | None = None
    masked_entity_count: dict[str, int] | None = None


class StandardLoggingMetadata(StandardLoggingUserAPIKeyMetadata):
    """Free key-values, the caller's address and custom headers."""

    spend_logs_metadata: dict[str, Any] | None = None
    requester_ip_address: str | None = None
    requester_metadata: dict[str, Any] | None = None
    vector_store_request_metadata: list[StandardLoggingVectorStoreRequest] | None = None
    requester_custom_headers: dict[str, str] = {}
    guardrail_information: StandardLoggingGuardrailInformation | None = None


class StandardLoggingAdditionalHeaders(_Part):
    """Rate limits the provider reported in its response headers."""

    x_ratelimit_limit_requests: int | None = None
    x_ratelimit_limit_tokens: int | None = None
    x_ratelimit_remaining_requests: int | None = None
    x_ratelimit_remaining_tokens: int | None = None


class StandardLoggingHiddenParams(_Part):
    """What the transport knew: deployment, base URL, cost as the provider stated it, rate limits."""

    model_id: str | None = None
    cache_key: str | None = None
    api_base: str | None = None
    response_cost: str | None = None
    additional_headers: StandardLoggingAdditionalHeaders | None = None
    batch_models: list[str] | None = None
    litellm_model_name: str | None = None


class StandardLoggingModelInformation(_Part):
    """Which entry of which price list was used."""

    model_map_key: str = ""
    model_map_value: dict[str, Any] | None = None


class StandardLoggingModelCostFailureDebugInformation(_Part):
    """Why no cost could be worked out."""

    error_str: str
    traceback_str: str = ""
    model: str = ""
    cache_hit: bool | None = None
    custom_llm_provider: str | None = None
    base_model: str | None = None
    call_type: str = ""
    custom_pricing: bool | None = None


class StandardLoggingPayloadErrorInformation(_Part):
    """How the call failed: HTTP status or in-stream code, class name, provider."""

    error_code: str | None = None
    error_class: str | None = None
    llm_provider: str | None = None
    error_message: str | None = None  # (+)
    traceback: str | None = None  # (+)


class StandardLoggingPayload(_Part):
    """One LLM call, success or failure, as LiteLLM specifies it.

    Two types are wider than the specification, so that nothing false is stored: `response_cost` is None when no
    price is known (LiteLLM says 0.0), `completionStartTime` is None when no token arrived.
    """

    id: str
    trace_id: str
    session_id: str | None = None  # (+)
    call_type: str
    stream: bool | None = None  # (+)
    custom_llm_provider: str | None = None  # (+)
    response_cost: float | None = None
    cost_breakdown: dict[str, Any] | None = None  # (+)
    response_cost_failure_debug_info: StandardLoggingModelCostFailureDebugInformation | None = None
    status: StandardLoggingPayloadStatus
    total_tokens: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    startTime: float  # noqa: N815 - LiteLLM's name
    endTime: float  # noqa: N815 - the same
    completionStartTime: float | None = None  # noqa: N815 - the same
    response_time: float = 0.0
    model_map_information: StandardLoggingModelInformation = StandardLoggingModelInformation()
    model: str = ""
    model_id: str | None = None
    model_group: str | None = None
    api_base: str = ""
    metadata: StandardLoggingMetadata = StandardLoggingMetadata()
    cache_hit: bool | None = None
    cache_key: str | None = None
    saved_cache_cost: float = 0.0
    request_tags: list[str] = []
    end_user: str | None = None
    requester_ip_address: str | None = None
    user_agent: str | None = None  # (+)
    messages: str | list[Any] | dict[str, Any] | None = None
    response: str | list[Any] | dict[str, Any] | None = None
    error_str: str | None = None
    error_information: StandardLoggingPayloadErrorInformation | None = None
    model_parameters: dict[str, Any] = {}
    hidden_params: StandardLoggingHiddenParams = StandardLoggingHiddenParams()
    guardrail_information: list[StandardLoggingGuardrailInformation] | None = None  # (+)


def addable(value: Any) -> int:
    """A count that can be added up: a negative, fractional, absurd or non-numeric one is 0.

    A sum is made of such, lest one broken part spoil it: see `total`.
    """
    if type(value) is int:
        return value if 0 <= value <= MAX_COUNT else 0
    if type(value) is float and value.is_integer():
        return addable(int(value))
    return 0


def total(*counts: Any) -> int:
    """The sum of what can be added up: at most the largest count, so that no part is ever more than it."""
    return min(sum(map(addable, counts)), MAX_COUNT)


Count = Annotated[int, BeforeValidator(addable)]


def milliseconds(seconds: Any) -> int:
    """A length of time as providers state it, in seconds, as a count of milliseconds; 0 for whatever is none."""
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds <= MAX_COUNT // 1000:
        return 0
    return round(seconds * 1000)


class Usage(_Part):
    """Tokens and billable units of one call (ours). Each class is a part of its total, never on top of it.

    Totals are `input_tokens`, `output_tokens` and `pages`. Audio, images and video are disjoint parts of either total;
    so are cache reads and writes. The other counts stand for themselves.
    """

    input_tokens: Count = 0
    """All input tokens: cache reads and writes, audio, images and video included."""
    output_tokens: Count = 0
    """All output tokens: reasoning, audio, images and video included."""
    cache_read_tokens: Count = 0
    cache_write_tokens: Count = 0
    """Written to a prompt cache, whatever its lifetime."""
    cache_write_1h_tokens: Count = 0
    """The part of `cache_write_tokens` that lives an hour."""
    cache_read_audio_tokens: Count = 0
    """What `cache_read_tokens` and `input_audio_tokens` have in common."""
    cache_read_image_tokens: Count = 0
    """What `cache_read_tokens` and `input_image_tokens` have in common."""
    input_audio_tokens: Count = 0
    input_image_tokens: Count = 0
    input_video_tokens: Count = 0
    output_audio_tokens: Count = 0
    output_image_tokens: Count = 0
    output_video_tokens: Count = 0
    reasoning_tokens: Count = 0
    accepted_prediction_tokens: Count = 0
    """The part of `output_tokens` that the request predicted."""
    rejected_prediction_tokens: Count = 0
    """The part of `output_tokens` that is paid for what the request predicted wrongly."""
    web_search_requests: Count = 0
    web_search_context_size: str | None = None
    """How much a search brings, where the request says it: low, medium or high."""
    web_fetch_requests: Count = 0
    file_search_requests: Count = 0
    code_interpreter_sessions: Count = 0
    """Containers that the call made for its code."""
    search_units: Count = 0
    """What rerankers bill: a query with up to a hundred documents (Cohere)."""
    input_characters: Count = 0
    output_characters: Count = 0
    input_audio_ms: Count = 0
    """Milliseconds of audio heard; `milliseconds` makes them of seconds."""
    output_audio_ms: Count = 0
    """Milliseconds of audio made."""
    pages: Count = 0
    """Pages of documents that were read."""
    annotated_pages: Count = 0
    """The part of `pages` that was annotated, too."""
    input_images: Count = 0
    """Images sent, where they are billed by the piece."""
    output_images: Count = 0
    """Images made."""
    image_size: str | None = None
    """Of the images made, as the API writes it: 1024x1024."""
    image_quality: str | None = None
    """Of the images made, as the API writes it: low, medium, high; standard, hd."""
    service_tier: str | None = None
    """The tier that served the call: flex, priority, batch, fast, …; what has no price of its own is the standard."""
    inference_geo: str | None = None
    """Where the model had to run, which may have a price of its own: us, eu, europe-west1."""
    source: Literal["provider", "tiktoken", "request"] | None = None
    """Who counted: the provider; we, with tiktoken; we, from what the request asks for. None when nobody could."""
    stated_cost: Decimal | None = Field(None, ge=0)
    """US dollars the provider itself said the call cost."""

    @property
    def is_empty(self) -> bool:
        """Whether nothing is counted."""
        return not (self.input_tokens or self.output_tokens or any(self.__dict__[name] for name in COUNTS))

    def bounded(self) -> Usage:
        """The same usage with every part at most its total, as pricing needs it."""
        read = min(self.cache_read_tokens, self.input_tokens)
        write = min(self.cache_write_tokens, self.input_tokens - read)
        heard = min(self.input_audio_tokens, self.input_tokens)
        seen = min(self.input_image_tokens, self.input_tokens - heard)
        said = min(self.output_audio_tokens, self.output_tokens)
        drawn = min(self.output_image_tokens, self.output_tokens - said)
        read_audio = min(self.cache_read_audio_tokens, read, heard)
        accepted = min(self.accepted_prediction_tokens, self.output_tokens)
        return self.model_copy(
            update={
                "cache_read_tokens": read,
                "cache_write_tokens": write,
                "cache_write_1h_tokens": min(self.cache_write_1h_tokens, write),
                "cache_read_audio_tokens": read_audio,
                "cache_read_image_tokens": min(self.cache_read_image_tokens, read - read_audio, seen),
                "input_audio_tokens": heard,
                "input_image_tokens": seen,
                "input_video_tokens": min(self.input_video_tokens, self.input_tokens - heard - seen),
                "output_audio_tokens": said,
                "output_image_tokens": drawn,
                "output_video_tokens": min(self.output_video_tokens, self.output_tokens - said - drawn),
                "reasoning_tokens": min(self.reasoning_tokens, self.output_tokens),
                "accepted_prediction_tokens": accepted,
                "rejected_prediction_tokens": min(self.rejected_prediction_tokens, self.output_tokens - accepted),
                "annotated_pages": min(self.annotated_pages, self.pages),
            }
        )


COUNTS = tuple(name for name, info in Usage.model_fields.items() if info.annotation is int)
"""The fields of a Usage that are counts."""


class CallPayload(StandardLoggingPayload):
    """The specification's payload, and what the trace and the row need beside it (all ours)."""

    call_id: str
    """Names this wire request: `x-litellm-call-id` when a LiteLLM proxy gave one, else made by us."""
    operation: str
    """`gen_ai.operation.name`: chat, text_completion, embeddings."""
    previous_response_id: str | None = None
    conversation_id: str | None = None
    """The conversation of the Responses API that the call names."""
    response_model: str | None = None
    finish_reasons: list[str] = []
    usage: Usage = Usage()
    spend: Decimal | None = None
    """Exact cost in US dollars; None when no price is known. `response_cost` is its float."""
    cost_source: str | None = None
    """Where tokens and price came from, such as `genai-prices` or `tiktoken+price_map`."""
    price_version: str | None = None
    notes: list[str] = []
    """What could not be read, one short sentence each. Never content."""
    described_by: str | None = None
    """Whose span this was read from: `openllmetry`, `openinference`, …. None: our own capture."""
    sender: str | None = None
    """Name of the sink's sender whose token it came with; set by the sink alone. None: no token with a name."""


AuditOutcome = Literal["success", "failure", "refused"]


class AuditEvent(_Part):
    """One management operation, done, failed or refused. Nine fields are LiteLLM's StandardAuditLogPayload."""

    id: str
    """Names the event everywhere: `log.record.uid` of its log record, its row. Delivered twice it is stored once."""
    updated_at: float
    changed_by: str | None = None
    changed_by_api_key: str | None = None
    """SHA-256 of the key, never the key."""
    action: str
    """LiteLLM's word: created, updated, deleted, blocked, unblocked, rotated; or the app's own."""
    table_name: str
    """LiteLLM's name of the table, such as `LiteLLM_VerificationToken` for keys; or the app's own."""
    object_id: str = ""
    before_value: Any = None
    updated_values: Any = None
    # From here on: ours.
    operation: str | None = None
    """What was done, finer than `action`: `team.member_add`, `key.rotate`."""
    outcome: AuditOutcome = "success"
    error_class: str | None = None
    status_code: int | None = None
    """HTTP status of the answer, where there was one."""
    source: str = "app"
    """Who saw it: app, asgi, client, sqlalchemy, litellm."""
    route: str | None = None
    """Method and path of the request, such as `POST /key/generate`."""
    requester_ip_address: str | None = None
    trace_id: str | None = None
    """32 hex digits."""
    span_id: str | None = None
    """16 hex digits."""
    notes: list[str] = []
    """What could not be kept or was not known, one short sentence each. Never content."""

"""What a dialect reads from a span, as plain data: the same for all of them. One call, as somebody described it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from otel_llmlog.dialects.span import Span


@dataclass(slots=True)
class Facts:
    """One LLM call. None, and what is empty, was not said. Names may be unclean: `call.attributes` cleans them."""

    dialect: str
    operation: str = "chat"
    """`gen_ai.operation.name`."""
    provider: Any = None
    """As the dialect calls it, in whatever vocabulary."""
    host: Any = None
    """The server's name; tells the provider better than an instrumentation that knows only its SDK."""
    port: Any = None
    api_base: Any = None
    request_model: Any = None
    response_model: Any = None
    input_tokens: int | None = None
    """All of them, or those that are neither cache reads nor writes: see `input_excludes_cache`."""
    output_tokens: int | None = None
    cache_read_tokens: int | None = None
    cache_write_tokens: int | None = None
    cache_write_1h_tokens: int | None = None
    reasoning_tokens: int | None = None
    total_tokens: int | None = None
    """As it was said; it tells whether the output has the reasoning in it."""
    input_audio_tokens: int | None = None
    output_audio_tokens: int | None = None
    web_search_requests: int | None = None
    input_excludes_cache: bool = False
    """The dialect counts cache reads and writes beside the input, for certain."""
    service_tier: Any = None
    stated_cost: Decimal | None = None
    """US dollars, from who knows what is billed: believed before our own prices."""
    estimated_cost: Decimal | None = None
    """US dollars, from the emitter's own price list: used where we know no price."""
    response_id: Any = None
    call_id: Any = None
    previous_response_id: Any = None
    conversation_id: Any = None
    """The conversation of the Responses API."""
    session_id: Any = None
    user_id: Any = None
    end_user: Any = None
    team_id: Any = None
    team_alias: Any = None
    organization_id: Any = None
    api_key: Any = None
    """A hash of the key. A raw one is hashed."""
    api_key_alias: Any = None
    tags: Any = None
    metadata: Mapping[str, Any] | None = None
    """Free key-values of the caller."""
    stream: bool | None = None
    first_token_seconds: float | None = None
    """From the start of the span."""
    finish_reasons: Any = None
    parameters: dict[str, Any] = field(default_factory=dict)
    responses_api: bool = False
    cache_hit: bool | None = None
    saved_cache_cost: float | None = None
    """US dollars that the answer would have cost, had it not come from a gateway's own cache."""
    failed: bool = False
    error_class: str | None = None
    error_code: str | None = None
    error_message: Any = None
    """Only if content is wanted."""
    traceback: Any = None
    messages: Any = None
    """JSON text or data; only if content is wanted."""
    response: Any = None


Read = Callable[[Span, bool], Facts | None]
"""(span, with content) -> the call; None when the span is none."""

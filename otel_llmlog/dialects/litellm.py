"""LiteLLM's own OpenTelemetry callback, the older one (v1) and the newer one (LITELLM_OTEL_V2).

Both know what LiteLLM billed, and to whom. Seen with litellm 1.110. The older one writes on the app's current span
where there is one, whatever its scope: `litellm.call_id` tells.
"""

from __future__ import annotations

import re
from decimal import Decimal

from otel_llmlog.dialects import genai
from otel_llmlog.dialects.facts import Facts
from otel_llmlog.dialects.span import Span
from otel_llmlog.dialects.values import cost, count, flag, mapping, names

NAME = "litellm"
GAPS = (
    "v1 writes on the app's own span: of several calls inside one span it keeps the last, with that span's times",
    "v1 gives cache and reasoning tokens as the text of a Python object; of that only these counts are read",
    "v2 has no reasoning tokens",
    "an hour's cache writes are not told from those of five minutes",
    "spans are made when the call is over: they are no parents of what is inside it",
    "spans are in a trace of their own where the app names no parent (`litellm_parent_otel_span`)",
)
CALL_ID = "litellm.call_id"
# Children that repeat the call as the provider got it.
_RAW = "raw_gen_ai_request"
_OPERATIONS = {"completion": "chat", "acompletion": "chat", "embedding": "embeddings", "aembedding": "embeddings"}
# `'cached_tokens': 20` in the text of a usage object.
_COUNTED = re.compile(
    r"'(cached_tokens|cache_creation_tokens|cache_creation_input_tokens|reasoning_tokens)': (\d{1,12})\b"
)
_LOOKED_AT = 4096


def is_theirs(span: Span) -> bool:
    """Whether LiteLLM wrote it, or wrote on it."""
    return span.scope == "litellm" or CALL_ID in span.attributes


def read(span: Span, content: bool) -> Facts | None:
    """The call; None for the proxy's other spans: authentication, databases, guardrails."""
    if span.name.startswith(_RAW):
        return None
    get = span.attributes.get
    legacy = get("llm.request.type")
    found = genai.call(NAME, span, content, _OPERATIONS.get(legacy) if legacy.__class__ is str else None)
    if found is None:
        return None
    hidden = mapping(get("hidden_params"))
    found.api_base = hidden.get("api_base") or get("litellm.api_base")
    counted = get("metadata.usage_object")
    if counted.__class__ is str:
        said = {name: count(number) for name, number in _COUNTED.findall(counted[:_LOOKED_AT])}
        found.cache_read_tokens = found.cache_read_tokens or said.get("cached_tokens")
        written = said.get("cache_creation_tokens") or said.get("cache_creation_input_tokens")
        found.cache_write_tokens = found.cache_write_tokens or written
        found.reasoning_tokens = found.reasoning_tokens or said.get("reasoning_tokens")
    if found.stream is None:
        found.stream = flag(get("litellm.request.streaming"))
    found.cache_hit = flag(get("litellm.cache_hit"))
    if found.cache_hit:
        found.saved_cache_cost = float(cost(get("litellm.saved_cache_cost")) or 0)
    found.stated_cost = cost(get("gen_ai.cost.total_cost") or get("litellm.cost.total"))
    if found.cache_hit and found.stated_cost is None:
        # The one case in which a 0 is a price.
        found.stated_cost = Decimal(0)
    call_id = get(CALL_ID)
    found.call_id = call_id
    if found.failed and found.response_id is not None and not found.output_tokens:
        # An id of its own making, where the provider gave none.
        found.response_id = None
    for prefix in ("metadata.", "litellm."):
        found.api_key = found.api_key or get(f"{prefix}user_api_key_hash") or None
        found.api_key_alias = found.api_key_alias or get(f"{prefix}user_api_key_alias") or None
        found.team_id = found.team_id or get(f"{prefix}user_api_key_team_id") or None
        found.team_alias = found.team_alias or get(f"{prefix}user_api_key_team_alias") or None
        found.organization_id = found.organization_id or get(f"{prefix}user_api_key_org_id") or None
        found.user_id = found.user_id or get(f"{prefix}user_api_key_user_id") or None
        found.end_user = found.end_user or get(f"{prefix}user_api_key_end_user_id") or None
    found.team_id = found.team_id or get("litellm.team.id")
    found.team_alias = found.team_alias or get("litellm.team.alias")
    found.tags = names(get("litellm.request.tags") or get("metadata.tags")) or None
    return found

"""Price every entry of LiteLLM's price map with LiteLLM and with us; write what differs to a file, as JSON.

Run by LiteLLM's own environment: `.venv-litellm/bin/python -m tests.pricing.litellm_costs FILE`.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # as it is installed, nothing is fetched

import litellm
from litellm import _internal_context
from litellm.types.utils import (
    CacheCreationTokenDetails,
    CompletionTokensDetailsWrapper,
    PromptTokensDetailsWrapper,
    Usage as TheirUsage,
)

from otel_llmlog.payload import Usage
from otel_llmlog.pricing import Pricer, parse_price_map

FILE = Path(litellm.__file__).with_name("model_prices_and_context_window_backup.json")
CHAT = {"chat", "completion", "responses"}
# A Wednesday at noon in summer: some of the off-peak windows are open, others are not.
MOMENTS = {"day": datetime(2026, 7, 15, 12, 30, tzinfo=UTC), "night": datetime(2026, 7, 15, 3, tzinfo=UTC)}
TOLERANCE = 1e-9
_ABOVE = re.compile(r"_above_(\d+)(k?)_tokens")


class Case(NamedTuple):
    """One usage, as both count it."""

    name: str
    ours: dict[str, Any]
    call_type: str = "completion"
    more: Mapping[str, Any] = MappingProxyType({})
    """Arguments of litellm.cost_per_token beside the usage."""


def tokens(name: str, tier: str | None = None, **counts: int) -> Case:
    """A case that is counted in tokens."""
    if tier == "batch":
        return Case(name, {**counts, "service_tier": tier}, "retrieve_batch")
    return Case(name, {**counts, "service_tier": tier}, "completion", {"service_tier": tier} if tier else {})


def cases(entry: dict[str, Any]) -> Iterator[Case]:
    """The usages that an entry is tried with."""
    mode = entry.get("mode")
    if mode in CHAT:
        yield tokens("plain", input_tokens=1_003, output_tokens=507)
        yield tokens("cached", input_tokens=10_007, output_tokens=301, cache_read_tokens=6_001)
        yield tokens(
            "hour", input_tokens=10_007, output_tokens=301, cache_read_tokens=1_001, cache_write_tokens=3_003,
            cache_write_1h_tokens=1_009,
        )  # fmt: skip
        yield tokens("reasoning", input_tokens=1_003, output_tokens=5_003, reasoning_tokens=3_001)
        yield tokens(
            "audio", input_tokens=5_003, output_tokens=1_009, input_audio_tokens=2_003, output_audio_tokens=401
        )
        for start in _thresholds(entry):
            for name, count in (("at", start), ("above", start + 1)):
                yield tokens(
                    name, input_tokens=count, output_tokens=503, cache_read_tokens=1_001, cache_write_tokens=3_003,
                    cache_write_1h_tokens=1_009, reasoning_tokens=101,
                )  # fmt: skip
        for tier in ("flex", "priority", "batch"):
            yield tokens(tier, tier, input_tokens=10_007, output_tokens=503)
            yield tokens(f"{tier} cached", tier, input_tokens=10_007, output_tokens=503, cache_read_tokens=6_001)
            for start in _thresholds(entry):
                yield tokens(f"{tier} above", tier, input_tokens=start + 1, output_tokens=503, cache_read_tokens=1_001)
        counts = {"input_tokens": 10_007, "output_tokens": 503, "cache_read_tokens": 6_001}
        special = entry.get("provider_specific_entry") or {}
        if entry["litellm_provider"] == "anthropic" and "us" in special:
            yield Case("place", {**counts, "inference_geo": "us"})
        if "regional_processing_uplift_multiplier_eu" in entry:
            yield Case("place", {**counts, "inference_geo": "eu"}, "completion", {"data_residency": "eu"})
        if "regional_endpoint_uplift_multiplier" in entry:
            place = "europe-west1"
            yield Case("place", {**counts, "inference_geo": place}, "completion", {"vertex_location": place})
        if "fast" in special:
            yield Case("fast", {**counts, "service_tier": "fast"})
    elif mode == "embedding":
        yield Case("plain", {"input_tokens": 1_003}, "embedding")
        yield Case("batch", {"input_tokens": 1_003, "service_tier": "batch"}, "retrieve_batch")
    elif mode == "rerank":
        units = {"search_units": 3, "total_tokens": 1_003}
        yield Case("rerank", {"search_units": 3, "input_tokens": 1_003}, "rerank", {"rerank_billed_units": units})
    elif mode == "audio_transcription":
        yield Case("seconds", {"input_audio_ms": 12_500}, "transcription", {"audio_transcription_file_duration": 12.5})
        yield Case("tokens", {"input_tokens": 903, "output_tokens": 77, "input_audio_tokens": 801}, "transcription")
    elif mode == "audio_speech":
        yield Case("characters", {"input_characters": 403}, "speech", {"prompt_characters": 403})
        yield Case("tokens", {"input_tokens": 103, "output_tokens": 901, "output_audio_tokens": 901}, "speech")


def _thresholds(entry: dict[str, Any]) -> list[int]:
    found = {int(n) * (1000 if k else 1) for key in entry for n, k in _ABOVE.findall(key)}
    return sorted(found | {int(tier["range"][0]) for tier in entry.get("tiered_pricing") or () if tier["range"][0]})


def theirs(model: str, provider: str, case: Case) -> float:
    """What LiteLLM says. Raises what it raises."""
    ours = Usage(**case.ours)
    details = None
    if ours.cache_write_tokens:
        details = CacheCreationTokenDetails(
            ephemeral_5m_input_tokens=ours.cache_write_tokens - ours.cache_write_1h_tokens,
            ephemeral_1h_input_tokens=ours.cache_write_1h_tokens,
        )
    usage = TheirUsage(
        prompt_tokens=ours.input_tokens,
        completion_tokens=ours.output_tokens,
        total_tokens=ours.input_tokens + ours.output_tokens,
        prompt_tokens_details=PromptTokensDetailsWrapper(
            cached_tokens=ours.cache_read_tokens,
            cache_creation_tokens=ours.cache_write_tokens,
            cache_creation_token_details=details,
            audio_tokens=ours.input_audio_tokens,
        ),
        completion_tokens_details=CompletionTokensDetailsWrapper(
            reasoning_tokens=ours.reasoning_tokens, audio_tokens=ours.output_audio_tokens
        ),
    )
    if "vertex_location" in case.more:
        provider = "vertex_ai"  # under which it looks at the location
    elif ours.inference_geo:
        usage.inference_geo = ours.inference_geo
    if case.name == "fast":
        usage.speed = "fast"
    # Without a provider the name is taken apart, as LiteLLM's proxy does it for a model of its list.
    cost = litellm.cost_per_token(
        model=model, custom_llm_provider=provider, usage_object=usage, call_type=case.call_type, **case.more
    )
    return sum(cost)


def compare() -> dict[str, Any]:
    """How much was compared, and each difference."""
    data = FILE.read_bytes()
    models, version = parse_price_map(data)
    pricer = Pricer(models, version)
    compared, differences = 0, []
    for model, entry in json.loads(data).items():
        provider = entry.get("litellm_provider")
        for case in cases(entry):
            moments = MOMENTS if "off_peak_pricing" in entry else {"day": MOMENTS["day"]}
            for at in moments.values():
                _internal_context._billing_time.set(at)
                cost = pricer.price(
                    Usage(**case.ours, source="provider"),
                    provider=provider,
                    response_model=model,
                    request_model=None,
                    call_type=case.call_type,
                    at=at.timestamp(),
                )
                ours = None if cost.total is None else float(cost.total)
                said = cost.failure.error_str if cost.failure else ""
                other: float | None
                try:
                    other = theirs(model, provider, case)
                except Exception as error:  # it raises whatever it likes
                    other, said = None, f"{said} / {type(error).__name__}: {error}"[:300]
                compared += 1
                if (ours is None) != (other is None) or abs((ours or 0.0) - (other or 0.0)) > TOLERANCE:
                    differences.append(
                        {
                            "model": model, "provider": provider, "mode": entry.get("mode"), "case": case.name,
                            "ours": ours, "theirs": other, "said": said, "source": cost.source,
                            "off_peak": "off_peak_pricing" in entry,
                        }
                    )  # fmt: skip
    return {"version": version, "models": len(models), "compared": compared, "differences": differences}


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    litellm.suppress_debug_info = True
    Path(sys.argv[1]).write_text(json.dumps(compare()), encoding="utf-8")

"""Tokens are told where somebody counted tokens, and nowhere else."""

from __future__ import annotations

import pytest

from otel_llmlog import emit
from otel_llmlog.payload import CallPayload, Usage


def payload(usage: Usage) -> CallPayload:
    return CallPayload(
        id="x", trace_id="t", call_type="c", status="success", call_id="c", operation="chat", startTime=1, endTime=2, usage=usage
    )  # fmt: skip


@pytest.mark.parametrize(
    ("usage", "told"),
    [
        (Usage(), None),
        (Usage(source="provider"), 0),
        (Usage(source="provider", input_tokens=3), 3),
        (Usage(source="tiktoken", input_tokens=3), 3),
        (Usage(source="provider", input_audio_ms=1500), None),
        (Usage(source="request", input_characters=40), None),
    ],
)
def test_a_call_that_is_not_counted_in_tokens_has_no_count_of_them(usage: Usage, told: int | None) -> None:
    assert emit.genai(payload(usage)).get("gen_ai.usage.input_tokens") == told

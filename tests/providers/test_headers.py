"""What a reply's headers alone say of it."""

from __future__ import annotations

import pytest

from otel_llmlog.payload import Usage
from otel_llmlog.providers import gemini, openai
from otel_llmlog.providers.facts import ResponseFacts

USED = Usage(input_tokens=1, source="provider")


def test_azures_responses_have_the_model_that_served_them_in_a_header() -> None:
    refine = openai.RESPONSES.refine
    assert refine is not None
    assert (
        refine(ResponseFacts(model="our-chat"), {"x-ms-served-model": "gpt-5-2025-08-07"}).model == "gpt-5-2025-08-07"
    )
    assert refine(ResponseFacts(model="gpt-5"), {}).model == "gpt-5"
    assert refine(ResponseFacts(model="gpt-5"), {"x-ms-served-model": ""}).model == "gpt-5"


@pytest.mark.parametrize(
    ("header", "said", "tier"),
    [("flex", None, "flex"), ("PRIORITY", None, "priority"), ("flex", "priority", "priority"), ("a b", None, None)],
)
def test_the_gemini_apis_header_tells_the_tier_where_the_body_does_not(
    header: str, said: str | None, tier: str | None
) -> None:
    facts = ResponseFacts(usage=USED.model_copy(update={"service_tier": said}))
    usage = gemini.refine(facts, {"x-gemini-service-tier": header}).usage
    assert usage is not None
    assert usage.service_tier == tier
    assert gemini.refine(ResponseFacts(), {"x-gemini-service-tier": header}) == ResponseFacts()

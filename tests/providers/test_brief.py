"""A brief is what a reply says of its cost, in few bytes, or nothing: never content, never another sum."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given, settings, strategies as st

from otel_llmlog.providers import anthropic, openai
from otel_llmlog.providers.facts import Endpoint, ResponseFacts
from tests.providers.cases import CASES, Case
from tests.providers.mutation import mutated
from tests.providers.wires import CANARY, TALKS, Talk

some = settings(max_examples=150, deadline=None)
# A slot has room for so much beside an intent.
ROOM = 600
BRIEF = [
    case for case in CASES if case.endpoint.brief is not None and not case.name.rpartition("/")[2].startswith("error_")
]
USAGE = {"prompt_tokens": 12, "completion_tokens": 3, "total_tokens": 15}


def facts_of(endpoint: Endpoint, brief: bytes) -> ResponseFacts:
    """As a brief is read."""
    return endpoint.read_stream([brief], False) if brief.startswith(b"data:") else endpoint.read_response(brief, False)


def pieces_of(case: Case) -> list[bytes]:
    return case.events if case.is_stream else [case.reply]


def read(endpoint: Endpoint, pieces: Sequence[bytes], *, is_stream: bool) -> ResponseFacts:
    return endpoint.read_stream(pieces, False) if is_stream else endpoint.read_response(b"".join(pieces), False)


def assert_alike(brief: ResponseFacts, whole: ResponseFacts) -> None:
    assert brief.usage == whole.usage
    assert brief.error is None
    assert brief.complete
    assert whole.complete
    assert brief.id in (whole.id, None)
    assert brief.model in (whole.model, None)


@pytest.mark.parametrize("case", BRIEF, ids=lambda case: case.name)
def test_a_brief_says_what_its_reply_says(case: Case) -> None:
    endpoint, pieces = case.endpoint, pieces_of(case)
    assert endpoint.brief is not None
    brief = endpoint.brief(pieces)
    if brief is not None:
        assert len(brief) < ROOM
        # An error in the middle of a stream that went on to its end is not told.
        assert case.name.endswith("_beside_text") or "error" not in case.expected
        assert_alike(facts_of(endpoint, brief), read(endpoint, pieces, is_stream=case.is_stream))


@pytest.mark.parametrize(
    "name",
    [
        "openai/chat_plain", "openai/chat_tools", "openai/chat_token_classes", "openai/chat_stream_with_usage",
        "openai/azure_deployment", "openai/completions_plain", "openai/embeddings_float", "openai/groq_stream_usage",
        "openai/openrouter_cost", "openai/openrouter_stream_comments",
        "openai/responses_plain", "openai/responses_stream", "openai/xai_ticks",
        "openai/deepseek_cache_hit", "anthropic/plain", "anthropic/stream", "anthropic/tool_use",
        "anthropic/tool_use_stream", "anthropic/cache_lifetimes_stream", "anthropic/server_tool_use",
        "anthropic/thinking_stream", "anthropic/cumulative_usage_stream", "vertex/claude", "vertex/claude_stream",
    ],
)  # fmt: skip
def test_common_replies_have_a_brief(name: str) -> None:
    case = next(case for case in CASES if case.name == name)
    assert case.endpoint.brief is not None
    assert case.endpoint.brief(pieces_of(case)) is not None


@pytest.mark.parametrize(
    "name",
    [
        "openai/chat_stream_without_usage", "openai/chat_stream_interrupted", "openai/openrouter_error_in_stream",
        "openai/openrouter_error_in_reply", "openai/responses_builtin_tools",
        "openai/responses_builtin_tools_stream", "openai/responses_failed", "openai/responses_background_queued",
        "openai/responses_error_in_stream", "anthropic/error_in_stream", "anthropic/interrupted_stream",
    ],
)  # fmt: skip
def test_replies_that_take_more_than_that_have_none(name: str) -> None:
    case = next(case for case in CASES if case.name == name)
    assert case.endpoint.brief is not None
    assert case.endpoint.brief(pieces_of(case)) is None


def split(data: bytes, cuts: Sequence[int]) -> list[bytes]:
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[start:end] for start, end in pairwise(places)]


@some
@given(talk=TALKS, cuts=st.lists(st.integers(0, 10**6), max_size=12), is_stream=st.booleans())
def test_where_a_reply_was_split_makes_no_other_sum_and_content_is_nowhere(
    talk: Talk, cuts: list[int], is_stream: bool
) -> None:
    if talk.endpoint.brief is None:
        return
    whole = b"".join(talk.events) if is_stream else talk.plain
    brief = talk.endpoint.brief(split(whole, cuts))
    if brief is not None:
        assert CANARY.encode() not in brief
        assert_alike(facts_of(talk.endpoint, brief), read(talk.endpoint, [whole], is_stream=is_stream))


@pytest.mark.parametrize("case", [case for case in BRIEF if case.is_stream], ids=lambda case: case.name)
def test_a_stream_that_was_cut_says_no_other_sum(case: Case) -> None:
    assert case.endpoint.brief is not None
    events = case.events
    for end in range(1, len(events)):
        brief = case.endpoint.brief(events[:end])
        if brief is not None:
            assert_alike(facts_of(case.endpoint, brief), case.endpoint.read_stream(events[:end], False))


@some
@given(rng=st.randoms(use_true_random=False))
def test_broken_replies_raise_nothing(rng: random.Random) -> None:
    sample, broken = mutated(rng)
    endpoint = sample.case.endpoint
    # Nothing is decoded for a brief: who reads it may find that the counts in it are no JSON.
    if endpoint.brief is not None and broken and (brief := endpoint.brief([broken])) is not None:
        facts_of(endpoint, brief)


@pytest.mark.parametrize("tier", ["flex", "priority", "default"])
@pytest.mark.parametrize("order", ["before", "after", "far before"])
def test_the_tier_is_in_the_brief_wherever_it_stands(tier: str, order: str) -> None:
    tiered = {"service_tier": tier}
    body = {
        "id": "chatcmpl-1",
        **(tiered if order == "far before" else {}),
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "x"}, "finish_reason": "stop"}],
        **(tiered if order == "before" else {}),
        "usage": USAGE,
        **(tiered if order == "after" else {}),
    }
    brief = openai.CHAT.brief([json.dumps(body, indent=2).encode()])
    usage = facts_of(openai.CHAT, brief).usage
    assert (usage.service_tier, usage.input_tokens) == (tier, 12)


@pytest.mark.parametrize(
    "usage",
    [
        {"prompt_tokens": "a secret that is a text", "completion_tokens": 1},
        {"prompt_tokens": [1], "completion_tokens": 1},
        {"prompt_tokens": 1, "said": "Two words"},
        {"a name with spaces": 1, "prompt_tokens": 1},
        {"details": {"deep": {"deeper_tokens": 1}}, "prompt_tokens": 1},
        {"kitchen": 12},
        {},
        None,
        7,
        "usage",
    ],
)
def test_a_usage_object_of_another_shape_is_not_noted(usage: object) -> None:
    assert openai.CHAT.brief([json.dumps({"id": "c", "choices": [], "usage": usage}).encode()]) is None


def test_what_a_tool_is_given_is_no_usage() -> None:
    body = {"id": "m", "content": [{"type": "tool_use", "input": {"usage": {"secret": "swordfish", "pin": 7}}}]}
    assert anthropic.MESSAGES.brief([json.dumps(body).encode()]) is None
    counted = {**body, "usage": {"input_tokens": 5, "output_tokens": 2}}
    assert anthropic.MESSAGES.brief([json.dumps(counted).encode()]) == (
        b'{"id": "m", "usage": {"input_tokens": 5, "output_tokens": 2}}'
    )


def test_a_text_that_quotes_a_reply_is_no_reply() -> None:
    quoted = json.dumps({"id": "quoted", "usage": USAGE})
    body = {"id": "c", "choices": [{"message": {"content": quoted}}]}
    assert openai.CHAT.brief([json.dumps(body).encode()]) is None
    said = {"id": "c", "choices": [{"delta": {"content": f"data: {quoted}\n\ndata: [DONE]"}}]}
    assert openai.CHAT.brief([b"data: " + json.dumps(said).encode() + b"\n\n", b"data: [DONE]\n\n"]) is None


def test_a_reply_of_50_mb_has_one_all_the_same() -> None:
    body = {"id": "c", "choices": [{"message": {"content": "x" * 50_000_000}}], "usage": USAGE}
    assert openai.CHAT.brief([json.dumps(body).encode()]) is not None

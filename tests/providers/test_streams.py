"""A stream says what its plain reply says, wherever the network cut it, and never more tokens than were used."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any

import pytest
from hypothesis import assume, given, settings, strategies as st

from otel_llmlog.payload import Usage
from otel_llmlog.providers import anthropic, cohere, gemini, mistral, ollama, openai, sse
from otel_llmlog.providers.facts import Endpoint, ResponseFacts
from tests.providers.cases import STREAMS, Case
from tests.providers.more_wires import FRAMED_TALKS, MORE_TALKS
from tests.providers.wires import COUNTED_TALKS, TALKS, Talk

each_stream = pytest.mark.parametrize("case", STREAMS, ids=lambda case: case.name)
some = settings(max_examples=150, deadline=None)
SSE_TALKS = TALKS | MORE_TALKS
ALL_TALKS = SSE_TALKS | FRAMED_TALKS
ALL_COUNTED_TALKS = COUNTED_TALKS | MORE_TALKS | FRAMED_TALKS


def split(stream: bytes, cuts: Sequence[int]) -> list[bytes]:
    places = sorted({0, len(stream), *(cut % (len(stream) + 1) for cut in cuts)})
    return [stream[start:end] for start, end in pairwise(places)]


def without_place(facts: ResponseFacts) -> ResponseFacts:
    return dataclasses.replace(facts, first_token=None)


def holder(pieces: Sequence[bytes], end: int) -> int:
    """The piece that holds the byte before `end`, counted byte by byte."""
    return [index for index, piece in enumerate(pieces) for _ in piece][end - 1]


def exceeded(part: Usage | None, full: Usage | None) -> list[str]:
    """Fields in which a usage counts more than another."""
    if part is None:
        return []
    full = full or Usage()
    counts = [name for name, value in part if isinstance(value, int) and value > getattr(full, name)]
    if part.stated_cost is not None and part.stated_cost > (full.stated_cost or 0):
        counts.append("stated_cost")
    return counts


@some
@given(talk=ALL_TALKS, cuts=st.lists(st.integers(0, 10**6), max_size=12), content=st.booleans())
def test_where_a_stream_was_split_changes_nothing_but_the_place_of_the_first_token(
    talk: Talk, cuts: list[int], content: bool
) -> None:
    whole = talk.endpoint.read_stream(talk.events, content)
    pieces = split(b"".join(talk.events), cuts)
    read = talk.endpoint.read_stream(pieces, content)
    assert without_place(read) == without_place(whole)
    if whole.first_token is None:
        assert read.first_token is None
    else:
        end = list(accumulate(map(len, talk.events)))[whole.first_token]
        assert read.first_token == holder(pieces, end)


@each_stream
def test_a_recorded_stream_in_pieces_of_one_byte_is_the_same_stream(case: Case) -> None:
    pieces = [bytes([byte]) for byte in case.reply]
    read, whole = case.endpoint.read_stream(pieces, True), case.endpoint.read_stream(case.events, True)
    assert without_place(read) == without_place(whole)
    if whole.first_token is not None:
        assert read.first_token == sum(map(len, case.events[: whole.first_token + 1])) - 1


@some
@given(talk=ALL_TALKS, content=st.booleans(), empty=st.lists(st.integers(0, 30), max_size=5))
def test_empty_pieces_change_nothing(talk: Talk, content: bool, empty: list[int]) -> None:
    pieces = list(talk.events)
    for at in empty:
        pieces.insert(at, b"")
    whole, read = talk.endpoint.read_stream(talk.events, content), talk.endpoint.read_stream(pieces, content)
    assert without_place(read) == without_place(whole)
    if whole.first_token is not None:
        assert read.first_token is not None
        assert pieces[read.first_token] == talk.events[whole.first_token]


@some
@given(talk=SSE_TALKS, content=st.booleans(), line_end=st.sampled_from([b"\r\n", b"\r"]))
def test_line_ends_of_all_three_kinds_read_alike(talk: Talk, content: bool, line_end: bytes) -> None:
    assume(not any(b"\r" in piece for piece in talk.events))
    pieces = [piece.replace(b"\n", line_end) for piece in talk.events]
    assert talk.endpoint.read_stream(pieces, content) == talk.endpoint.read_stream(talk.events, content)


@some
@given(talk=SSE_TALKS, ends=st.lists(st.sampled_from([b"\n", b"\r\n", b"\r"]), min_size=1, max_size=9))
def test_line_ends_may_be_mixed_within_a_stream(talk: Talk, ends: list[bytes]) -> None:
    pieces, number = [], 0
    for whole in talk.events:
        lines = whole.split(b"\n")
        # A lone \r in front of \n would be one line end, not two.
        chosen = [ends[(number + i) % len(ends)] for i in range(len(lines) - 1)]
        chosen = [b"\r\n" if end == b"\r" and after == b"\n" else end for end, after in pairwise([*chosen, b""])]
        pieces.append(b"".join(line + end for line, end in zip(lines, [*chosen, b""], strict=True)))
        number += len(lines)
    assert talk.endpoint.read_stream(pieces, True) == talk.endpoint.read_stream(talk.events, True)


@some
@given(talk=SSE_TALKS, content=st.booleans(), at=st.lists(st.integers(0, 60), min_size=1, max_size=5))
def test_comments_and_unknown_fields_between_and_inside_events_are_passed_over(
    talk: Talk, content: bool, at: list[int]
) -> None:
    lines = b"".join(talk.events).split(b"\n")
    for place in at:
        lines.insert(place % len(lines), (b": PROCESSING", b"id: 7", b"retry: 10", b"novelty: {}")[place % 4])
    read = talk.endpoint.read_stream([b"\n".join(lines)], content)
    assert without_place(read) == without_place(talk.endpoint.read_stream(talk.events, content))


@some
@given(talk=SSE_TALKS)
def test_the_space_after_the_colon_is_optional(talk: Talk) -> None:
    pieces = [piece.replace(b"data: ", b"data:", 1).replace(b"event: ", b"event:", 1) for piece in talk.events]
    assert talk.endpoint.read_stream(pieces, True) == talk.endpoint.read_stream(talk.events, True)


def test_data_over_several_lines_is_one_value() -> None:
    (event,) = sse.events(b'event: x\ndata: {"a":\ndata: 1}\n\n')
    assert event == (b"x", b'{"a":\n1}', 31)


def test_an_event_without_a_name_does_not_inherit_the_one_before() -> None:
    assert [event.name for event in sse.events(b"event: x\n\ndata: 1\n\n")] == [b""]


def test_the_last_event_counts_without_its_blank_line_and_ends_with_the_stream() -> None:
    for stream in (b"data: 1", b"data: 1\n", b"data: 1\r\n"):
        assert list(sse.events(stream)) == [(b"", b"1", len(stream))]


@some
@given(talk=ALL_TALKS)
def test_with_content_the_stream_is_put_together_to_what_the_plain_reply_says(talk: Talk) -> None:
    plain = talk.endpoint.read_response(talk.plain, True)
    read = talk.endpoint.read_stream(talk.events, True)
    assert read.response == json.loads(talk.plain)
    same = ("id", "model", "usage", "finish_reasons", "complete", "response", "error", "notes")
    assert {name: getattr(read, name) for name in same} == {name: getattr(plain, name) for name in same}


@some
@given(talk=ALL_COUNTED_TALKS, cut=st.integers(0, 10**6), content=st.booleans())
def test_a_stream_cut_anywhere_never_counts_more_than_the_whole(talk: Talk, cut: int, content: bool) -> None:
    stream = b"".join(talk.events)
    full = talk.endpoint.read_stream([stream], content)
    read = talk.endpoint.read_stream([stream[: cut % (len(stream) + 1)]], content)
    assert exceeded(read.usage, full.usage) == []
    assert set(read.finish_reasons) <= set(full.finish_reasons)


def check_cuts(case: Case, cuts: Sequence[int]) -> None:
    endpoint: Endpoint = case.endpoint
    full = endpoint.read_stream([case.reply], False)
    for cut in cuts:
        read = endpoint.read_stream([case.reply[:cut]], False)
        assert exceeded(read.usage, full.usage) == [], f"cut at byte {cut}"
        assert full.complete or not read.complete, f"cut at byte {cut}"


@each_stream
def test_a_recorded_stream_cut_at_each_event_and_around_never_counts_more(case: Case) -> None:
    ends = list(accumulate(map(len, case.events)))
    check_cuts(case, [end + near for end in ends for near in (-3, -2, -1, 0, 1, 7)])


@pytest.mark.slow
@each_stream
def test_a_recorded_stream_cut_at_each_byte_never_counts_more(case: Case) -> None:
    check_cuts(case, range(len(case.reply) + 1))


# Numbers that a usage should not hold but has held, and some that it may.
NUMBERS: st.SearchStrategy[Any] = st.one_of(
    st.integers(0, 10**4),
    st.integers(-(10**30), 10**30),
    st.floats(),
    st.sampled_from([None, True, False, "12", "", [], {}, 10**12, 10**12 + 1, 2**63, 2**64]),
)
DETAILS = st.one_of(
    NUMBERS,
    st.dictionaries(
        st.sampled_from([
            "cached_tokens", "cache_write_tokens", "audio_tokens", "reasoning_tokens", "accepted_prediction_tokens",
            "rejected_prediction_tokens", "thinking_tokens", "web_search_requests", "web_fetch_requests",
            "ephemeral_1h_input_tokens", "ephemeral_5m_input_tokens", "total_cost",
        ]),
        NUMBERS,
    ),
)  # fmt: skip
USAGES = st.dictionaries(
    st.sampled_from([
        "prompt_tokens", "completion_tokens", "input_tokens", "output_tokens", "prompt_tokens_details",
        "completion_tokens_details", "input_tokens_details", "output_tokens_details", "prompt_cache_hit_tokens",
        "cache_read_input_tokens", "cache_creation_input_tokens", "cache_creation", "server_tool_use", "cost",
        "cost_in_usd_ticks", "service_tier",
    ]),
    DETAILS,
)  # fmt: skip


def check_parts(usage: Usage) -> None:
    """No count is negative, and after `bounded` no part exceeds its total."""
    assert [name for name, value in usage if isinstance(value, int) and value < 0] == []
    bounded = usage.bounded()
    assert bounded.cache_read_tokens + bounded.cache_write_tokens <= bounded.input_tokens
    assert bounded.cache_write_1h_tokens <= bounded.cache_write_tokens
    assert bounded.input_audio_tokens <= bounded.input_tokens
    assert max(bounded.output_audio_tokens, bounded.reasoning_tokens) <= bounded.output_tokens
    assert bounded.input_audio_tokens + bounded.input_image_tokens + bounded.input_video_tokens <= bounded.input_tokens
    assert bounded.cache_read_audio_tokens + bounded.cache_read_image_tokens <= bounded.cache_read_tokens
    assert bounded.annotated_pages <= bounded.pages
    assert (bounded.input_tokens, bounded.output_tokens) == (usage.input_tokens, usage.output_tokens)
    assert usage.stated_cost is None or (usage.stated_cost.is_finite() and usage.stated_cost >= 0)


@settings(max_examples=600, deadline=None)
@given(found=USAGES, wire=st.sampled_from([openai.CHAT, anthropic.MESSAGES]))
def test_no_usage_has_a_negative_part_or_one_above_its_total(found: dict[str, Any], wire: Endpoint) -> None:
    usage = wire.read_response(json.dumps({"usage": found}).encode(), False).usage
    assert (usage is None) == (not found)
    if usage is not None:
        check_parts(usage)


MODALITIES = st.lists(
    st.fixed_dictionaries(
        {"modality": st.sampled_from(["TEXT", "AUDIO", "IMAGE", "VIDEO", "x", 1]), "tokenCount": NUMBERS}
    ),
    max_size=4,
)
# Where each wire has its usage, and what it may hold.
PLACES: list[tuple[Endpoint, tuple[str, ...], list[str]]] = [
    (gemini.GENERATE, ("usageMetadata",), [
        "promptTokenCount", "candidatesTokenCount", "thoughtsTokenCount", "toolUsePromptTokenCount", "totalTokenCount",
        "cachedContentTokenCount", "promptTokensDetails", "cacheTokensDetails", "candidatesTokensDetails",
        "toolUsePromptTokensDetails", "trafficType", "serviceTier",
    ]),
    (gemini.EMBED, ("usageMetadata",), ["promptTokenCount", "promptTokensDetails"]),
    (gemini.PREDICT, ("metadata",), ["billableCharacterCount"]),
    (cohere.CHAT, ("usage", "billed_units"), ["input_tokens", "output_tokens"]),
    (cohere.CHAT, ("usage",), ["cached_tokens", "tokens", "billed_units"]),
    (cohere.RERANK, ("meta", "billed_units"), ["input_tokens", "search_units", "images", "image_tokens", "pages"]),
    (cohere.RERANK, ("usage",), ["prompt_tokens", "completion_tokens", "total_tokens"]),
    (ollama.CHAT, (), ["prompt_eval_count", "eval_count"]),
    (mistral.OCR, ("usage_info",), ["pages_processed", "doc_size_bytes"]),
    (openai.CHAT, ("usage",), [
        "prompt_tokens", "completion_tokens", "total_tokens", "reasoning_tokens", "num_search_queries", "cached_tokens",
        "prompt_audio_seconds", "search_context_size", "cost", "completion_tokens_details",
    ]),
]  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(data=st.data(), place=st.sampled_from(PLACES))
def test_no_usage_of_any_wire_has_a_negative_part_or_one_above_its_total(data: st.DataObject, place: Any) -> None:
    endpoint, path, names = place
    found: Any = data.draw(st.dictionaries(st.sampled_from(names), DETAILS | MODALITIES))
    for name in reversed(path):
        found = {name: found}
    usage = endpoint.read_response(json.dumps(found).encode(), False).usage
    if usage is not None:
        check_parts(usage)

"""Dialects: spans that the real packages made, the traps among them, and spans that nobody made."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from otel_llmlog import dialects
from otel_llmlog.dialects import llmlog
from otel_llmlog.dialects.span import Event
from otel_llmlog.store import rows
from tests.dialects import spans
from tests.dialects.spans import FULL, PLAIN, made

RECORDED = {
    path.stem: json.loads(path.read_text()) for path in sorted((Path(__file__).parent / "recorded").glob("*.json"))
}

# Of each call: provider, model, input, output, cache read, cache write, of that for an hour, reasoning, spend.
RIVER = ("openai", "gpt-4o-mini", 120, 40, 20, 0, 0, 10, "0.0000405")
LAKE = ("openai", "gpt-4o-mini", 130, 50, 30, 0, 0, 5, "0.00004725")
SEA = ("openai", "gpt-4o-mini", 11, 7, 0, 0, 0, 0, "0.00000585")
TEXT = ("openai", "text-embedding-3-small", 11, 0, 0, 0, 0, 0, "0.00000022")
FAILED = ("openai", "gpt-4o-mini", 0, 0, 0, 0, 0, 0, None)
CLAUDE = ("anthropic", "claude-sonnet-4-5", 120, 40, 20, 30, 10, 0, "0.000951")
CLAUDE_FAILED = ("anthropic", "claude-sonnet-4-5", 0, 0, 0, 0, 0, 0, None)
CLAUDE_AGAIN = ("anthropic", "claude-sonnet-4-5", 11, 7, 0, 0, 0, 0, "0.000138")
ALL = [RIVER, LAKE, FAILED, SEA, TEXT, RIVER, LAKE]


def without(call: tuple[Any, ...], **changes: Any) -> tuple[Any, ...]:
    names = ("provider", "model", "input", "output", "read", "write", "hour", "reasoning", "spend")
    return tuple(changes.get(name, value) for name, value in zip(names, call, strict=True))


# What is another than the truth is a gap that the dialect's file declares.
EXPECTED: dict[str, list[tuple[Any, ...]]] = {
    "anthropic": [CLAUDE, CLAUDE, CLAUDE_FAILED, CLAUDE_AGAIN],
    "genai": ALL,
    "langfuse": ALL,
    "litellm_v1": [RIVER, LAKE, FAILED],
    "litellm_v2": [without(RIVER, reasoning=0), without(LAKE, reasoning=0), FAILED],
    "logfire": ALL,
    "openinference": ALL,
    "openlit": [without(RIVER, reasoning=0), without(LAKE, reasoning=0), FAILED, SEA, TEXT, RIVER, LAKE],
    "openllmetry": [RIVER, without(LAKE, reasoning=0), FAILED, SEA, TEXT, RIVER, LAKE],
    "openllmetry_anthropic": [
        without(CLAUDE, hour=0, spend="0.0009285"), without(CLAUDE, output=41, hour=0, spend="0.0009435"), CLAUDE_FAILED,
        CLAUDE_AGAIN,
    ],
    "pydantic_ai": [RIVER, LAKE, FAILED],
    "vercel": [without(RIVER, read=0, reasoning=0, spend="0.000042"), LAKE, FAILED, TEXT],
}  # fmt: skip


def told(name: str, reading: Any = PLAIN) -> list[Any]:
    """The calls that a recorded file tells of, in their order."""
    found = [spans.span(line) for line in RECORDED[name]["lines"] if line["what"] == "span"]
    dialect = name.partition("_anthropic")[0].removesuffix("_v1").removesuffix("_v2")
    payloads = [payload for one in sorted(found, key=lambda s: s.start_ns) if (payload := spans.call(one, reading))]
    return [payload for payload in payloads if payload.described_by == dialect]


def test_every_dialect_has_a_recording() -> None:
    assert {name.partition("_")[0] for name in RECORDED} == {d.NAME.partition("_")[0] for d in dialects.DIALECTS}
    assert set(RECORDED) == set(EXPECTED)
    assert all(dialect.GAPS for dialect in dialects.DIALECTS)


@pytest.mark.parametrize("name", RECORDED)
def test_what_a_real_package_wrote_becomes_the_call_that_was_made(name: str) -> None:
    payloads = told(name)
    assert [
        (
            p.custom_llm_provider, p.model, p.prompt_tokens, p.completion_tokens, p.usage.cache_read_tokens,
            p.usage.cache_write_tokens, p.usage.cache_write_1h_tokens, p.usage.reasoning_tokens,
            None if p.spend is None else f"{p.spend:f}",
        )
        for p in payloads
    ] == EXPECTED[name]  # fmt: skip
    for payload in payloads:
        failed = payload.spend is None
        assert payload.status == ("failure" if failed else "success")
        assert (payload.error_information is not None) == failed
        assert (payload.response_cost_failure_debug_info is not None) == failed
        assert payload.total_tokens == payload.prompt_tokens + payload.completion_tokens


@pytest.mark.parametrize("name", RECORDED)
def test_without_content_none_of_it_is_kept(name: str) -> None:
    found = [spans.span(line) for line in RECORDED[name]["lines"] if line["what"] == "span"]
    kept = json.dumps([dialects.call_of(one, PLAIN) for one in found])
    for said in ("Name a", "local provider", "a river", "Voil", "was asked", "Traceback", "scenario"):
        assert said not in kept, said


# The recording has no content on the spans themselves: the SDK's own never have, openlit's comes as log records.
@pytest.mark.parametrize("name", sorted(set(RECORDED) - {"anthropic", "openlit"}))
def test_with_content_messages_and_answers_are_kept(name: str) -> None:
    chats = [payload for payload in told(name, FULL) if payload.operation == "chat"]
    for payload in chats:
        assert "Name a" in json.dumps(payload.messages) or payload.status == "failure"
        assert "local provider" in json.dumps(payload.response) or payload.status == "failure"
    failed = next(payload for payload in chats if payload.status == "failure")
    assert failed.error_information
    assert failed.error_information.error_message or name == "vercel"


@pytest.mark.parametrize("name", ["openlit", "genai"])
def test_contents_in_log_records_name_their_span(name: str) -> None:
    found = {line["span_id"] for line in RECORDED[name]["lines"] if line["what"] == "span"}
    logs = [line for line in RECORDED[name]["lines"] if line["what"] == "log"]
    kept = [record for line in logs if (record := spans.content(line, FULL))]
    assert len(kept) == len(logs) > 3
    assert {record.span_id for record in kept} <= found
    assert "Name a river" in kept[0].attributes["llmlog.messages"]
    assert "local provider" in kept[0].attributes["llmlog.response"]
    assert [spans.content(line, PLAIN) for line in logs] == [None] * len(logs)


def test_older_events_of_a_message_each_are_contents_too() -> None:
    ids = {"trace_id": "1" * 32, "span_id": "2" * 16, "time_ns": 1, "attributes": {}, "scope": "s"}
    user = spans.content({**ids, "name": "gen_ai.user.message", "body": {"content": "hi"}}, FULL)
    choice = spans.content({**ids, "name": "gen_ai.choice", "body": {"index": 0, "message": {"content": "ho"}}}, FULL)
    assert user
    assert json.loads(user.attributes["llmlog.messages"]) == [{"role": "user", "content": "hi"}]
    assert choice
    assert json.loads(choice.attributes["llmlog.response"]) == [{"index": 0, "message": {"content": "ho"}}]
    assert spans.content({**ids, "name": "exception", "body": "x"}, FULL) is None


NO_CALLS = {
    "an agent": {"gen_ai.operation.name": "invoke_agent", "gen_ai.usage.input_tokens": 5},
    "a tool": {"gen_ai.operation.name": "execute_tool"},
    "a workflow": {"gen_ai.operation.name": "invoke_workflow", "gen_ai.aggregated_usage.input_tokens": 5},
    "a retrieval": {"gen_ai.operation.name": "retrieval"},
    "OpenInference's chain": {"openinference.span.kind": "CHAIN", "llm.token_count.prompt": 5},
    "OpenInference's agent": {"openinference.span.kind": "AGENT"},
    "Langfuse's span": {"langfuse.observation.type": "span"},
    "Langfuse's agent": {"langfuse.observation.type": "agent"},
    "the AI SDK's outer span": {"ai.operationId": "ai.generateText", "ai.usage.promptTokens": 5},
    "the AI SDK's tool": {"ai.operationId": "ai.toolCall"},
    "Traceloop's workflow": {"traceloop.span.kind": "workflow"},
    "an HTTP request": {"http.request.method": "POST", "server.address": "api.openai.com"},
    "an operation that is no text": {"gen_ai.operation.name": ["chat"]},
}


@pytest.mark.parametrize("name", NO_CALLS)
@pytest.mark.parametrize(
    "scope", ["somebody", "litellm", "pydantic-ai", "opentelemetry.instrumentation.openai.v1", "ai"]
)
def test_agents_tools_and_the_like_are_no_calls(name: str, scope: str) -> None:
    assert dialects.call_of(made(NO_CALLS[name], scope=scope), PLAIN) is None


def chat(**attributes: Any) -> dict[str, Any]:
    given = {"operation.name": "chat", "provider.name": "openai", "request.model": "gpt-4o-mini"}
    return {f"gen_ai.{name}": value for name, value in given.items()} | attributes


def test_liteLLMs_child_that_repeats_the_call_is_none() -> None:
    assert dialects.call_of(made(chat(), scope="litellm", name="raw_gen_ai_request"), PLAIN) is None


def test_older_names_are_read_like_the_current_ones() -> None:
    older = {
        "gen_ai.system": "az.ai.openai", "gen_ai.usage.prompt_tokens": "12", "gen_ai.usage.completion_tokens": 3.0,
        "gen_ai.usage.cache_read_input_tokens": 4, "gen_ai.usage.cache_creation_input_tokens": 1, "llm.is_streaming": "True",
        "gen_ai.usage.reasoning_tokens": 2, "gen_ai.response.finish_reasons": '["stop"]',
    }  # fmt: skip
    payload = spans.call(made({"gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt-4o", **older}))
    assert payload
    assert (payload.custom_llm_provider, payload.stream, payload.finish_reasons) == ("azure", True, ["stop"])
    assert payload.usage.model_dump(exclude_defaults=True) == {
        "input_tokens": 12, "output_tokens": 3, "cache_read_tokens": 4, "cache_write_tokens": 1, "reasoning_tokens": 2,
        "source": "provider",
    }  # fmt: skip


def test_input_that_leaves_cached_tokens_out_gets_them_added() -> None:
    counts = {
        "gen_ai.usage.input_tokens": 10,
        "gen_ai.usage.output_tokens": 1,
        "gen_ai.usage.cache_read.input_tokens": 90,
    }
    payload = spans.call(made(chat(**counts)))
    assert payload
    assert payload.prompt_tokens == 100
    payload = spans.call(made(chat(**{**counts, "gen_ai.usage.input_tokens": 100})))
    assert payload
    assert payload.prompt_tokens == 100


# xAI's reply to a chat: input, output, and reasoning beside it; and the name of the total.
TOTALS: dict[str, tuple[str, dict[str, Any], str]] = {
    "openllmetry": (
        "opentelemetry.instrumentation.openai.v1",
        {
            "gen_ai.operation.name": "chat", "gen_ai.provider.name": "x_ai", "gen_ai.request.model": "grok-4.3",
            "gen_ai.usage.input_tokens": 120, "gen_ai.usage.output_tokens": 40, "gen_ai.usage.reasoning_tokens": 300,
        },
        "llm.usage.total_tokens",
    ),
    "openinference": (
        "openinference.instrumentation.openai",
        {
            "openinference.span.kind": "LLM", "llm.provider": "xai", "llm.model_name": "grok-4.3",
            "llm.token_count.prompt": 120, "llm.token_count.completion": 40,
            "llm.token_count.completion_details.reasoning": 300,
        },
        "llm.token_count.total",
    ),
    "vercel": (
        "ai",
        {
            "ai.operationId": "ai.generateText.doGenerate", "ai.model.provider": "xai.chat", "ai.model.id": "grok-4.3",
            "ai.usage.inputTokens": 120, "ai.usage.outputTokens": 40, "ai.usage.reasoningTokens": 300,
        },
        "ai.usage.totalTokens",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TOTALS)
@pytest.mark.parametrize(("total", "output"), [(460, 340), (160, 40), (None, 40)])
def test_reasoning_that_the_total_shows_to_be_on_top_of_the_output_is_added_to_it(
    name: str, total: int | None, output: int
) -> None:
    scope, given, key = TOTALS[name]
    payload = spans.call(made(given | ({} if total is None else {key: total}), scope=scope))
    assert payload
    assert payload.described_by == name
    assert (payload.model, payload.prompt_tokens, payload.completion_tokens) == ("grok-4.3", 120, output)
    assert payload.usage.reasoning_tokens == min(300, output)
    assert payload.total_tokens == 120 + output


def test_the_servers_name_says_who_stands_behind_an_sdk() -> None:
    payload = spans.call(
        made(chat(**{"server.address": "api.groq.com", "gen_ai.request.model": "llama-3.3-70b-versatile"}))
    )
    assert payload
    assert payload.custom_llm_provider == "groq"


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("https://ada:secret@api.groq.com:8443/openai/v1/?key=1#x", "https://api.groq.com:8443/openai/v1"),
        ("http://[::1]:99999999/v1", ""),
        ("http://[::1]:11434/v1/", "http://[::1]:11434/v1"),
        ("file:///etc/passwd", ""),
        (5, ""),
    ],
)
def test_of_a_base_url_neither_user_info_nor_query_is_kept(given: Any, kept: str) -> None:
    attributes = chat(**{"gen_ai.openai.api_base": given})
    payload = spans.call(made(attributes, scope="opentelemetry.instrumentation.openai.v1"))
    assert payload
    assert payload.api_base == kept


@pytest.mark.parametrize("cost", [0, 0.0, "0", -1, float("nan"), True, "much", 10**30])
def test_a_cost_that_is_none_is_not_believed(cost: Any) -> None:
    unknown = {"gen_ai.request.model": "of-our-own", "gen_ai.usage.input_tokens": 10, "gen_ai.usage.output_tokens": 1}
    for scope, key in (
        ("litellm", "litellm.cost.total"),
        ("openlit", "gen_ai.usage.cost"),
        ("pydantic-ai", "operation.cost"),
    ):
        payload = spans.call(made(chat(**unknown, **{key: cost}), scope=scope))
        assert payload
        assert payload.spend is None
        assert payload.response_cost_failure_debug_info
        assert "no price" in payload.response_cost_failure_debug_info.error_str


def test_who_billed_is_believed_and_who_estimates_only_where_we_know_no_price() -> None:
    counts = {"gen_ai.usage.input_tokens": 1000, "gen_ai.usage.output_tokens": 0}
    billed = spans.call(made(chat(**counts, **{"litellm.cost.total": 0.5}), scope="litellm"))
    estimated = spans.call(made(chat(**counts, **{"gen_ai.usage.cost": 0.5}), scope="openlit"))
    unknown = spans.call(
        made(chat(**counts, **{"gen_ai.usage.cost": 0.5, "gen_ai.request.model": "x"}), scope="openlit")
    )
    assert billed
    assert (billed.spend, billed.cost_source) == (Decimal("0.5"), "litellm")
    assert estimated
    assert (estimated.spend, estimated.cost_source) == (Decimal("0.00015"), "genai-prices")
    assert unknown
    assert (unknown.spend, unknown.cost_source) == (Decimal("0.5"), "openlit")


def test_a_cache_hit_of_litellm_costs_nothing() -> None:
    counts = {"gen_ai.usage.input_tokens": 10, "gen_ai.usage.output_tokens": 1, "litellm.cache_hit": True}
    payload = spans.call(made(chat(**counts, **{"litellm.cost.total": 0.0}), scope="litellm"))
    assert payload
    assert (payload.spend, payload.cache_hit) == (Decimal(0), True)


def test_what_litellms_cache_saved_is_told_for_hits_alone() -> None:
    saved = {"gen_ai.usage.input_tokens": 10, "gen_ai.usage.output_tokens": 1, "litellm.saved_cache_cost": 0.125}
    for hit, told in ((True, 0.125), (False, 0.0)):
        payload = spans.call(made(chat(**saved, **{"litellm.cache_hit": hit}), scope="litellm"))
        assert payload is not None
        assert payload.saved_cache_cost == told


def test_a_raw_key_is_hashed_wherever_it_comes_from() -> None:
    payload = spans.call(made(chat(**{"metadata.user_api_key_hash": "sk-1234567890abcdef1234"}), scope="litellm"))
    assert payload
    assert payload.metadata.user_api_key_hash
    assert len(payload.metadata.user_api_key_hash) == 64


def test_the_half_of_a_logfire_stream_that_knows_nothing_is_no_call() -> None:
    assert dialects.call_of(made(chat(), scope="logfire.openai"), PLAIN) is None
    assert dialects.call_of(made(chat(), scope="logfire.openai", status=2), PLAIN) is not None


def test_a_conversation_that_pydantic_ai_made_up_is_no_session() -> None:
    given = chat(**{"gen_ai.conversation.id": "made-up"})
    ours, theirs = spans.call(made(given)), spans.call(made(given, scope="pydantic-ai"))
    assert ours
    assert ours.session_id == "made-up"
    assert theirs
    assert theirs.session_id is None


def test_openinference_says_who_in_which_session() -> None:
    given = {
        "openinference.span.kind": "LLM", "llm.model_name": "gpt-4o-mini", "session.id": "chat-7", "user.id": "ada",
        "tag.tags": ["beta"], "metadata": '{"ticket": 4711, "api_key": "sk-1"}', "llm.system": "openai",
    }  # fmt: skip
    payload = spans.call(made(given))
    assert payload
    assert (payload.session_id, payload.metadata.user_api_key_user_id, payload.request_tags) == (
        "chat-7",
        "ada",
        ["beta"],
    )
    assert payload.metadata.spend_logs_metadata == {"ticket": 4711, "api_key": "[redacted]"}


def test_the_ai_sdk_says_who_in_which_session() -> None:
    payload = told("vercel")[1]
    assert (payload.session_id, payload.metadata.user_api_key_user_id, payload.request_tags) == (
        "chat-7",
        "ada",
        ["beta"],
    )
    assert payload.metadata.spend_logs_metadata == {"ticket": 4711}
    assert payload.stream
    assert payload.completionStartTime


def test_langfuses_own_shape_counts_what_was_cached_beside_the_input() -> None:
    usage = {"input": 10, "output": 5, "input_cached_tokens": 90, "output_reasoning_tokens": 3, "total": 108}
    given = {"langfuse.observation.type": "generation", "langfuse.observation.model.name": "gpt-4o-mini"}
    payload = spans.call(made({**given, "langfuse.observation.usage_details": json.dumps(usage)}))
    assert payload
    assert (payload.prompt_tokens, payload.completion_tokens) == (100, 8)


def test_our_own_spans_are_read_as_they_are() -> None:
    attributes = {"llmlog.call_id": "c", "gen_ai.operation.name": "chat"}
    assert dialects.call_of(made(attributes), PLAIN) is attributes
    assert dialects.call_of(made(attributes)) is attributes
    assert dialects.call_of(made(chat())) is None


KEYS = sorted(
    {key for recorded in RECORDED.values() for line in recorded["lines"] for key in line["attributes"]}
    | {"tag.tags", "metadata", "llm.provider", "gen_ai.prompt.0.role", "traceloop.association.properties.session_id"}
)
KINDS = {
    "gen_ai.operation.name": ["chat", "embeddings"], "openinference.span.kind": ["LLM", "EMBEDDING"],
    "langfuse.observation.type": ["generation"], "ai.operationId": ["ai.streamText.doStream"], "llm.request.type": ["chat"],
}  # fmt: skip
SCOPES = [
    "somebody",
    "litellm",
    "pydantic-ai",
    "openlit.x",
    "logfire.openai",
    "com.anthropic.sdk.python",
    "ai",
    "opentelemetry.instrumentation.x",
]
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.binary(max_size=8)
    | st.sampled_from(["1", "-5", "1e400", "[", '{"total": 1e999}', '{"input": -3}', "[[[[", "\ud800", "\0", 2**70, -1]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)  # fmt: skip
EVENTS = st.lists(
    st.builds(
        Event,
        st.sampled_from(["exception", "First Token Stream Event"]),
        st.integers(0, 2**63),
        st.dictionaries(st.sampled_from(["exception.type", "exception.message"]), VALUES),
    ),
    max_size=2,
)


@settings(max_examples=150, deadline=None)
@given(
    st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=12),
    st.sampled_from(sorted(KINDS)),
    st.sampled_from(SCOPES),
    EVENTS,
    st.sampled_from([0, 1, 2]),
    st.sampled_from([PLAIN, FULL]),
)
def test_whatever_a_span_holds_it_becomes_a_row_or_none(
    given_: dict[str, Any], kind: str, scope: str, events: list[Event], status: int, reading: Any
) -> None:
    one = made({**given_, kind: KINDS[kind][0]}, scope=scope, events=events, status=status)
    record = spans.record(one, reading)
    if record is None:
        return
    payload = llmlog.decode(record.attributes)
    counts = payload.usage.model_dump()
    assert all(count >= 0 for count in counts.values() if isinstance(count, int))
    assert payload.usage.cache_read_tokens + payload.usage.cache_write_tokens <= payload.prompt_tokens
    assert payload.usage.reasoning_tokens <= payload.completion_tokens
    assert payload.spend is None or payload.spend >= 0
    assert reading.content or (payload.messages is None and payload.response is None)
    rows.row(record)
    rows.content(record)

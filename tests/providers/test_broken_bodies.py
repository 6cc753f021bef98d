"""No body, however broken, makes a reader raise, count wrongly or take more than its share of time."""

from __future__ import annotations

import gc
import json
import random
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from otel_llmlog import providers, redact
from otel_llmlog.providers import anthropic, bedrock, cohere, gemini, ollama, openai, recognise, sse
from otel_llmlog.providers.facts import Endpoint, ResponseFacts
from tests.providers.cases import CASES, packed
from tests.providers.mutation import READERS, mutated
from tests.providers.test_streams import check_parts
from tests.providers.wires import dump, event

# Every API that is recognised.
BEDROCK = {"converse": bedrock.CONVERSE, "invoke": bedrock.INVOKE, "embed": bedrock.EMBED}
ENDPOINTS = tuple(
    endpoint
    for found in (*providers._BY_PATH.values(), *providers._BY_VERB.values(), BEDROCK)
    for endpoint in (found.values() if isinstance(found, dict) else (found,))
)


def check(facts: Any, pieces: Sequence[bytes]) -> None:
    """What holds of facts whatever was read."""
    if not isinstance(facts, ResponseFacts):
        return
    assert facts.first_token is None or 0 <= facts.first_token < len(pieces)
    if facts.usage is not None:
        check_parts(facts.usage)


def fuzz(seed: int, count: int) -> None:
    """`count` broken bodies to all readers. The seed of each is its number, so that a failure can be repeated."""
    endpoints = {case.name: case.endpoint for case in CASES}
    assert len(endpoints) == len(CASES)
    kinds = list(READERS)
    for number in range(seed, seed + count):
        rng = random.Random(number)
        sample, data = mutated(rng)
        kind = sample.kind if rng.random() < 0.8 else rng.choice(kinds)
        at = rng.randrange(len(data) + 1)
        pieces = [data[:at], data[at:]]
        try:
            check(READERS[kind](sample.case, pieces, rng.random() < 0.5), pieces)
        except BaseException as error:
            error.add_note(f"seed {number}: {kind} of {sample.case.name}: {data[:2000]!r}")
            raise


def test_each_api_that_is_recognised_has_a_recorded_body_to_break() -> None:
    recorded = {(case.endpoint.wire, case.endpoint.api, case.endpoint.call_types) for case in CASES}
    assert {(endpoint.wire, endpoint.api, endpoint.call_types) for endpoint in ENDPOINTS} - recorded == set()


def test_twenty_thousand_broken_bodies_are_read_without_an_exception() -> None:
    fuzz(0, 20_000)


@pytest.mark.slow
@pytest.mark.parametrize("million", range(1_000_000, 2_000_000, 250_000))
def test_a_million_broken_bodies_are_read_without_an_exception(million: int) -> None:
    fuzz(million, 250_000)


@settings(max_examples=300, deadline=None)
@given(data=st.binary(max_size=300), endpoint=st.sampled_from(ENDPOINTS), content=st.booleans())
def test_arbitrary_bytes_are_read_without_an_exception(data: bytes, endpoint: Endpoint, content: bool) -> None:
    endpoint.read_request(data, data.decode("latin-1"), content)
    endpoint.read_error(data)
    check(endpoint.read_response(data, content), [data])
    for stream in (data, b"data: " + data + b"\n\n", b"data: " + data.hex().encode() + b"\n\n" + data):
        check(endpoint.read_stream([stream], content), [stream])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from([
                "id", "model", "type", "usage", "choices", "delta", "index", "content", "text", "message", "response",
                "error", "status", "audio", "function_call", "tool_calls", "function", "name", "arguments", "citation",
                "content_block", "partial_json", "input", "finish_reason", "stop_reason", "service_tier", "x_groq",
                "candidates", "parts", "finishReason", "usageMetadata", "groundingMetadata", "webSearchQueries", "done",
                "groundingChunks", "promptFeedback", "blockReason", "promptTokenCount", "tool_calls", "tool_plan",
            ]),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)  # fmt: skip
KINDS = st.sampled_from([
    None, "message_start", "content_block_start", "content_block_delta", "message_delta", "error", "response.created",
    "response.completed", "response.failed", "response.output_text.delta", "message-start", "message-end",
    "content-delta", "content-start", "tool-call-start", "tool-call-delta", "citation-start",
])  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(
    values=st.lists(st.tuples(KINDS, st.dictionaries(st.sampled_from(["choices", "delta", "index", "message", "usage",
        "error", "response", "content_block", "x_groq", "model", "id", "status", "service_tier", "candidates",
        "usageMetadata", "promptFeedback", "done", "response", "thinking", "output", "tools", "meta", "usage_info",
        "predictions", "detail"]), JSON)), max_size=5),
    endpoint=st.sampled_from(ENDPOINTS),
    content=st.booleans(),
)  # fmt: skip
def test_json_of_any_shape_is_read_without_an_exception(
    values: list[tuple[str | None, dict[str, Any]]], endpoint: Endpoint, content: bool
) -> None:
    values_typed = [{**value, **({"type": kind} if kind else {})} for kind, value in values]
    pieces = [event(value, kind) for (kind, _), value in zip(values, values_typed, strict=True)]
    check(endpoint.read_stream(pieces, content), pieces or [b""])
    frames = packed(b"\n".join(dump({kind or "chunk": value}) for kind, value in values))
    for framed in ([dump(value) + b"\n" for value in values_typed], [dump(values_typed)], frames):
        check(endpoint.read_stream(framed, content), framed or [b""])
    for _, value in values:
        endpoint.read_request(dump(value), "/v1/x", content)
        endpoint.read_error(dump(value))
        check(endpoint.read_response(dump(value), content), [b""])


def test_a_broken_event_costs_only_itself_and_is_noted() -> None:
    usage = {"prompt_tokens": 3, "completion_tokens": 2}
    choices = [{"index": 0, "delta": {"content": "a"}, "finish_reason": "stop"}]
    pieces = [event({"id": "c", "choices": choices}), b'data: {"id": "c", "choi\n\n', event({"usage": usage})]
    facts = openai.CHAT.read_stream(pieces, False)
    assert facts.usage is not None
    assert (facts.usage.input_tokens, facts.usage.output_tokens, facts.complete) == (3, 2, True)
    assert facts.notes == ("an event of the stream could not be read",)


def test_usage_of_a_body_cut_off_behind_it_is_read_and_the_cut_is_noted() -> None:
    body = dump(
        {"id": "c", "model": "m", "usage": {"prompt_tokens": 3, "completion_tokens": 2}, "choices": [{"index": 0}]}
    )
    facts = openai.CHAT.read_response(body[:-5], False)
    assert (facts.id, facts.model, facts.complete) == ("c", "m", False)
    assert facts.usage is not None
    assert (facts.usage.input_tokens, facts.usage.output_tokens) == (3, 2)
    assert facts.notes == ("the body is cut off: read in part",)


@pytest.mark.parametrize("count", ["NaN", "1e999", "-7", '"12"', "9" * 40, "1.5", "true", "[3]"])
def test_a_count_that_is_none_is_zero_and_the_others_stand(count: str) -> None:
    body = b'{"usage": {"prompt_tokens": 9, "completion_tokens": %b}}' % count.encode()
    facts = openai.CHAT.read_response(body, False)
    assert facts.usage is not None
    assert (facts.usage.input_tokens, facts.usage.output_tokens) == (9, 0)
    assert facts.notes == ("usage has fields that are no counts: completion_tokens",)


def _deltas(count: int) -> list[bytes]:
    return [event({"choices": [{"index": 0, "delta": {"content": "word"}}]})] * count


def _blocks(delta: Any) -> Callable[[int], list[bytes]]:
    opening = event({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}})
    return lambda count: [opening, *[event({"type": "content_block_delta", "index": 0, "delta": delta})] * count]


def _chunk(text: str, **kind: Any) -> dict[str, Any]:
    return {"candidates": [{"content": {"parts": [{"text": text, **kind}]}}], "usageMetadata": {"promptTokenCount": 1}}


# Streams that grow in one respect each: (endpoint, what n of it look like).
GROWING: dict[str, tuple[Endpoint, Callable[[int], list[bytes]]]] = {
    "chat deltas": (openai.CHAT, _deltas),
    "chat bytes, one a piece": (openai.CHAT, lambda n: [bytes([b]) for b in b"".join(_deltas(n // 20))]),
    "chat choices": (
        openai.CHAT,
        lambda n: [event({"choices": [{"index": i, "delta": {"content": "a"}}]}) for i in range(n)],
    ),
    "chat tool calls": (
        openai.CHAT,
        lambda n: [
            event({"choices": [{"index": 0, "delta": {"tool_calls": [{"index": i, "function": {"arguments": "a"}}]}}]})
            for i in range(n)
        ],
    ),
    "chat tool arguments": (
        openai.CHAT,
        lambda n: (
            [
                event(
                    {"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "function": {"arguments": "a"}}]}}]}
                )
            ]
            * n
        ),
    ),
    "chat content parts": (
        openai.CHAT,
        lambda n: [event({"choices": [{"index": 0, "delta": {"content": [{"text": "a"}]}}]})] * n,
    ),
    "chat events that say nothing": (openai.CHAT, lambda n: [b"data: {}\n\n"] * n),
    "chat unreadable events": (openai.CHAT, lambda n: [b"data: {x\n\n"] * n),
    "chat lines of one event": (openai.CHAT, lambda n: [b"data: 1\n"] * n),
    "chat lone carriage returns": (openai.CHAT, lambda n: [b"data: {}\r\r"] * n + [b"\n"]),
    "responses deltas": (
        openai.RESPONSES,
        lambda n: [event({"type": "response.output_text.delta", "delta": "word"})] * n,
    ),
    "messages deltas": (anthropic.MESSAGES, _blocks({"type": "text_delta", "text": "word"})),
    "messages citations": (anthropic.MESSAGES, _blocks({"type": "citations_delta", "citation": {"cited_text": "a"}})),
    "messages blocks": (
        anthropic.MESSAGES,
        lambda n: [event({"type": "content_block_start", "index": i, "content_block": {"text": ""}}) for i in range(n)],
    ),
    "chat content parts and text": (
        openai.CHAT,
        lambda n: [
            event({"choices": [{"index": 0, "delta": {"content": [{"text": "a"}] if i % 2 else "a"}}]})
            for i in range(n)
        ],
    ),
    "gemini chunks": (gemini.STREAM, lambda n: [event(_chunk("word"))] * n),
    "gemini parts of two kinds": (
        gemini.STREAM,
        lambda n: [event(_chunk("word", **({"thought": True} if i % 2 else {}))) for i in range(n)],
    ),
    "gemini searches": (
        gemini.STREAM,
        lambda n: [event({"candidates": [{"groundingMetadata": {"webSearchQueries": [str(i)]}}]}) for i in range(n)],
    ),
    "gemini array": (
        gemini.STREAM,
        lambda n: [b"[", *[json.dumps(_chunk("word"), indent=2).encode() + b"\n,\r\n"] * n],
    ),
    "gemini array in one line": (gemini.STREAM, lambda n: [b"[", *[dump(_chunk("word")) + b","] * n]),
    "gemini braces": (gemini.STREAM, lambda n: [b"[" + b"{" * n]),
    "gemini braces in the first column": (gemini.STREAM, lambda n: [b"[" + b"\n{" * n]),
    "gemini string without end": (gemini.STREAM, lambda n: [b'[{"a":"' + b'\\"' * n]),
    "gemini quotes": (gemini.STREAM, lambda n: [b"[{" + b'"' * n]),
    "gemini bare lines": (gemini.STREAM, lambda n: [b'data: {}\n\n{"error":\n', *[b" {\n"] * n]),
    "cohere deltas": (
        cohere.CHAT,
        lambda n: [event({"type": "content-delta", "index": 0, "delta": {"message": {"content": {"text": "a"}}}})] * n,
    ),
    "cohere blocks": (
        cohere.CHAT,
        lambda n: [
            event({"type": "content-delta", "index": i, "delta": {"message": {"content": {"text": "a"}}}})
            for i in range(n)
        ],
    ),
    "bedrock frames": (
        bedrock.CONVERSE,
        lambda n: packed(b'{"contentBlockDelta":{"contentBlockIndex":0,"delta":{"text":"word"}}}\n' * n),
    ),
    "bedrock tools": (
        bedrock.CONVERSE,
        lambda n: packed(b'{"contentBlockDelta":{"delta":{"toolUse":{"input":"word"}}}}\n' * n),
    ),
    "bedrock chunks": (
        bedrock.INVOKE,
        lambda n: packed(b'{"chunk":{"type":"content_block_delta","index":0,"delta":{"text":"word"}}}\n' * n),
    ),
    "bedrock chunks of text": (bedrock.INVOKE, lambda n: packed(b'{"chunk":{"generation":"word"}}\n' * n)),
    "bedrock nothing but beginnings": (bedrock.CONVERSE, lambda n: [b"\0\0\0\x0b:event-type" * n]),
    "bedrock nothing but preludes": (bedrock.CONVERSE, lambda n: [(packed(b"x")[0][:12] + b"\x0b:event-type") * n]),
    "ollama lines": (
        ollama.CHAT,
        lambda n: [dump({"message": {"content": "word"}, "done": False}) + b"\n"] * n,
    ),
    "ollama unreadable lines": (ollama.CHAT, lambda n: [b"{x\n"] * n),
    "ollama tools": (ollama.CHAT, lambda n: [dump({"message": {"tool_calls": [{"a": 1}]}}) + b"\n"] * n),
    "messages usages": (
        anthropic.MESSAGES,
        lambda n: [event({"type": "message_delta", "usage": {f"a{i}": i}}) for i in range(n)],
    ),
}
BODIES: dict[str, Callable[[int], bytes]] = {
    "long text": lambda n: dump({"choices": [{"message": {"content": "word " * n}}]}),
    "many choices": lambda n: dump({"choices": [{"index": i, "finish_reason": "stop"} for i in range(n)]}),
    "many fields": lambda n: dump({f"field{i}": i for i in range(n)}),
    "many candidates": lambda n: dump({"candidates": [{"index": i, "finishReason": "STOP"} for i in range(n)]}),
    "many modalities": lambda n: dump({"usageMetadata": {"promptTokensDetails": [{"modality": "AUDIO"}] * n}}),
    "many tool calls": lambda n: dump({"usage": {"input_tokens": 1}, "output": [{"type": "file_search_call"}] * n}),
    "array": lambda n: dump([{"error": {"message": "a"}}] * n),
    "odd counts": lambda n: dump({"usage": {f"a{i}_tokens": -1 for i in range(n)}}),
    "cut off": lambda n: dump({"choices": [{"message": {"content": "word " * n}}]})[:-2],
    "deep": lambda n: b'{"a":' * n,
    "brackets": lambda n: b"[" * n,
    "usages without end": lambda n: b'"usage":{' * n,
    "quotes": lambda n: b'{"' + b'\\"' * n,
    "digits": lambda n: b'{"usage":{"prompt_tokens":' + b"9" * n + b"}}",
    "not UTF-8": lambda n: b'{"a":"' + b"\xff" * n + b'"}',
    "lone surrogates": lambda n: b'{"a":"' + b"\\ud800" * n + b'"}',
    "blanks": lambda n: b" " * n,
}
TEXTS: dict[str, Callable[[int], Any]] = {
    "mask tokens": lambda n: redact.mask("ey-" * n),
    "mask keys": lambda n: redact.mask("sk-" * n),
    "mask short keys": lambda n: redact.mask("sk-a " * n),
    "mask bearers": lambda n: redact.mask("bearer " * n),
    "mask blanks": lambda n: redact.mask("bearer" + " " * n),
    "mask dots": lambda n: redact.mask("eyaaaaaaaaaaaa." * n),
    "name of separators": lambda n: redact.is_credential("-_." * n),
    "name of keys": lambda n: redact.is_credential("key" * n),
    "storable": lambda n: redact.storable(["a\0"] * n, 10),
    "path of slashes": lambda n: recognise("/" * n, b"", {}),
    "deployment": lambda n: openai.read_request(b"{}", "/openai/deployments/" * n, False),
    "path of letters": lambda n: gemini.read_request(b"{}", "/v1/models/" + "a" * n, False),
    "path of verbs": lambda n: recognise("/models/" + "m:" * n + "generateContent", b"", {}),
    "lines": lambda n: list(sse.events(b"\n" * n)),
}


def _seconds(work: Callable[[], Any]) -> float:
    best = float("inf")
    # The collector's share grows with all that is alive, whoever made it.
    gc.disable()
    try:
        for _ in range(4):
            start = time.process_time()
            work()
            best = min(best, time.process_time() - start)
    finally:
        gc.enable()
    return best


def _grows_linearly(work: Callable[[int], Callable[[], Any]]) -> None:
    """Four times the size takes four times as long, or eight on a bad day; sixteen would be quadratic."""
    size = 500
    while (small := _seconds(work(size))) < 0.01 and size < 300_000:
        size *= 2
    # Too fast for the clock at this size: it cannot be quadratic.
    assert _seconds(work(4 * size)) < 9 * max(small, 0.002)


@pytest.mark.slow
@pytest.mark.parametrize("content", [False, True], ids=["without content", "with content"])
@pytest.mark.parametrize("name", GROWING)
def test_time_to_read_a_stream_is_linear_in_its_size(name: str, content: bool) -> None:
    endpoint, make = GROWING[name]

    def work(size: int) -> Callable[[], Any]:
        pieces = make(size)
        return lambda: endpoint.read_stream(pieces, content)

    _grows_linearly(work)


@pytest.mark.slow
@pytest.mark.parametrize(
    "endpoint",
    [openai.CHAT, openai.RESPONSES, anthropic.MESSAGES, gemini.GENERATE, gemini.PREDICT, cohere.CHAT, ollama.CHAT],
    ids=lambda e: f"{e.wire} {e.api}",
)
@pytest.mark.parametrize("name", BODIES)
def test_time_to_read_a_body_is_linear_in_its_size(name: str, endpoint: Endpoint) -> None:
    def work(size: int) -> Callable[[], Any]:
        body = BODIES[name](size)

        def read() -> None:
            endpoint.read_request(body, "/v1/x", True)
            endpoint.read_response(body, True)
            endpoint.read_error(body)
            endpoint.read_stream([b"data: " + body], True)

        return read

    _grows_linearly(work)


@pytest.mark.slow
@pytest.mark.parametrize("name", TEXTS)
def test_time_of_pure_rules_is_linear_in_the_size_of_their_text(name: str) -> None:
    _grows_linearly(lambda size: lambda: TEXTS[name](size))


@pytest.mark.parametrize("name", TEXTS)
def test_the_worst_text_for_a_rule_takes_it_no_time(name: str) -> None:
    start = time.process_time()
    TEXTS[name](100_000)
    # Seconds. It takes 0.1 s; the same search done quadratically, minutes.
    assert time.process_time() - start < 3


def test_a_body_nested_deeper_than_the_stack_is_read_without_an_exception() -> None:
    for depth in (400, 900, 1100, 5000, 200_000):
        for inner in (b'{"audio":' * depth + b'"x"' + b"}" * depth, b"[" * depth + b"]" * depth):
            data = b'{"choices":[{"index":0,"delta":{"audio":%b}}],"usage":{"prompt_tokens":3}}' % inner
            for endpoint in ENDPOINTS:
                endpoint.read_request(data, "/v1/x", True)
                endpoint.read_stream([b"data: " + data], True)
                assert json.dumps(endpoint.read_error(data).kind) == "null"
                facts = endpoint.read_response(data, False)
                assert facts.usage is None or facts.usage.input_tokens in {0, 3}

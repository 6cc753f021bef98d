"""Hypothesis strategies for whole replies, each in both shapes: the plain body, and the stream that says the same."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from hypothesis import strategies as st

from otel_llmlog.providers import anthropic, openai
from otel_llmlog.providers.facts import Endpoint

# Stands in every text that a model or a user wrote. It looks like an enum value, so that no filter of words hides it.
CANARY = "kanarienvogel"
# Texts as they arrive: line ends, quotes and characters of all widths, cut anywhere between two characters.
PARTS = st.lists(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=6).map(CANARY.__add__), min_size=1, max_size=4
)
COUNTS = st.integers(0, 5000)


class Talk(NamedTuple):
    """One reply of a model, plain and streamed."""

    endpoint: Endpoint
    plain: bytes
    events: list[bytes]


def dump(value: Any) -> bytes:
    """JSON as APIs write it."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def event(value: Any, name: str | None = None) -> bytes:
    """One event of a stream."""
    return (f"event: {name}\n".encode() if name else b"") + b"data: " + dump(value) + b"\n\n"


@st.composite
def _shuffled(draw: st.DrawFn, queues: list[list[Any]]) -> list[Any]:
    """The items of all queues in some order that keeps the order inside each queue."""
    queues = [list(queue) for queue in queues if queue]
    merged = []
    while queues:
        at = draw(st.integers(0, len(queues) - 1))
        merged.append(queues[at].pop(0))
        if not queues[at]:
            del queues[at]
    return merged


@st.composite
def openai_usages(draw: st.DrawFn) -> dict[str, Any]:
    """Usage of a chat completion; its parts stay below their totals."""
    asked, said = draw(COUNTS), draw(COUNTS)
    return {
        "prompt_tokens": asked,
        "completion_tokens": said,
        "total_tokens": asked + said,
        "prompt_tokens_details": {"cached_tokens": draw(st.integers(0, asked))},
        "completion_tokens_details": {"reasoning_tokens": draw(st.integers(0, said))},
    }


@st.composite
def chats(draw: st.DrawFn, *, usage: bool = True) -> Talk:
    """A chat completion of one to three choices with text, reasoning, refusal and tool calls."""
    head = {"id": "chatcmpl-made", "model": "gpt-made"}
    choices, queues = [], []
    for index in range(draw(st.integers(1, 3))):
        message: dict[str, Any] = {"role": "assistant"}
        names = draw(st.lists(st.sampled_from(["content", "reasoning_content", "refusal"]), unique=True))
        deltas: list[dict[str, Any]] = [{"role": "assistant", **({"content": ""} if "content" in names else {})}]
        for name in names:
            parts = draw(PARTS)
            message[name] = "".join(parts)
            deltas += [{name: part} for part in parts]
        for at in range(draw(st.integers(0, 2))):
            arguments = draw(PARTS)
            call = {"id": f"call_{at}", "type": "function"}
            function = {"name": f"tool_{at}", "arguments": "".join(arguments)}
            message.setdefault("tool_calls", []).append({**call, "function": function})
            first = {"index": at, **call, "function": {"name": f"tool_{at}", "arguments": ""}}
            deltas.append({"tool_calls": [first]})
            deltas += [{"tool_calls": [{"index": at, "function": {"arguments": part}}]} for part in arguments]
        reason = draw(st.sampled_from(["stop", "length", "tool_calls", "content_filter"]))
        choices.append({"index": index, "message": message, "finish_reason": reason})
        queues.append(
            [{"index": index, "delta": delta, "finish_reason": None} for delta in deltas]
            + [{"index": index, "delta": {}, "finish_reason": reason}]
        )
    counted = draw(openai_usages()) if usage else None
    chunks: list[list[Any]] = []
    for choice in draw(_shuffled(queues)):
        # Some hosts send one chunk for what several choices say at a time.
        if chunks and choice["index"] not in {c["index"] for c in chunks[-1]} and draw(st.booleans()):
            chunks[-1].append(choice)
        else:
            chunks.append([choice])
    events = [event({**head, "choices": chunk}) for chunk in chunks]
    if counted:
        events.append(event({**head, "choices": [], "usage": counted}))
    return Talk(openai.CHAT, dump({**head, "choices": choices, "usage": counted}), [*events, b"data: [DONE]\n\n"])


@st.composite
def completions(draw: st.DrawFn) -> Talk:
    """A text completion of one or two choices."""
    head = {"id": "cmpl-made", "model": "gpt-made"}
    choices, queues = [], []
    for index in range(draw(st.integers(1, 2))):
        parts = draw(PARTS)
        choices.append({"index": index, "text": "".join(parts), "finish_reason": "length"})
        queues.append([{"index": index, "text": part, "finish_reason": None} for part in parts])
        queues[-1].append({"index": index, "text": "", "finish_reason": "length"})
    usage = draw(openai_usages())
    events = [event({**head, "choices": [choice]}) for choice in draw(_shuffled(queues))]
    events += [event({**head, "choices": [], "usage": usage}), b"data: [DONE]\n\n"]
    return Talk(openai.COMPLETIONS, dump({**head, "choices": choices, "usage": usage}), events)


@st.composite
def responses(draw: st.DrawFn) -> Talk:
    """A response with one message."""
    parts = draw(PARTS)
    asked, said = draw(COUNTS), draw(COUNTS)
    status = draw(st.sampled_from(["completed", "incomplete"]))
    message = {"type": "message", "id": "msg_made", "role": "assistant", "status": status}
    whole = {
        "id": "resp_made",
        "model": "gpt-made",
        "status": status,
        "error": None,
        "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
        "output": [{**message, "content": [{"type": "output_text", "text": "".join(parts), "annotations": []}]}],
        "usage": {
            "input_tokens": asked,
            "input_tokens_details": {"cached_tokens": draw(st.integers(0, asked))},
            "output_tokens": said,
            "output_tokens_details": {"reasoning_tokens": draw(st.integers(0, said))},
        },
    }
    begun = {**whole, "status": "in_progress", "output": [], "usage": None, "incomplete_details": None}
    steps = [("response.created", {"response": begun}), ("response.in_progress", {"response": begun})]
    steps += [("response.output_text.delta", {"item_id": "msg_made", "delta": part}) for part in parts]
    steps += [("response.output_text.done", {"item_id": "msg_made", "text": "".join(parts)})]
    steps += [(f"response.{status}", {"response": whole})]
    events = [
        event({"type": kind, "sequence_number": number, **fields}, kind) for number, (kind, fields) in enumerate(steps)
    ]
    return Talk(openai.RESPONSES, dump(whole), events)


@st.composite
def messages(draw: st.DrawFn) -> Talk:
    """An Anthropic message of text, thinking, citations and tool calls."""
    blocks: list[dict[str, Any]] = []
    events: list[bytes] = []

    def step(kind: str, **fields: Any) -> None:
        events.append(event({"type": kind, **fields}, kind))

    for index, kind in enumerate(
        draw(st.lists(st.sampled_from(["text", "cited", "thinking", "tool_use"]), max_size=4))
    ):
        parts = draw(PARTS)
        said = "".join(parts)
        if kind == "tool_use":
            given = draw(st.dictionaries(st.sampled_from("abc"), st.just(said), max_size=2))
            sent = dump(given).decode() if given else ""
            cut = draw(st.integers(0, len(sent)))
            empty: dict[str, Any] = {"type": kind, "id": f"toolu_{index}", "name": "tool", "input": {}}
            blocks.append({**empty, "input": given})
            deltas = [{"type": "input_json_delta", "partial_json": part} for part in ("", sent[:cut], sent[cut:])]
        elif kind == "thinking":
            empty = {"type": kind, "thinking": "", "signature": ""}
            blocks.append({**empty, "thinking": said, "signature": "Eq" + said})
            deltas = [{"type": "thinking_delta", "thinking": part} for part in parts]
            deltas.append({"type": "signature_delta", "signature": "Eq" + said})
        else:
            empty = {"type": "text", "text": ""}
            blocks.append({**empty, "text": said})
            deltas = [{"type": "text_delta", "text": part} for part in parts]
            if kind == "cited":
                cited = [{"type": "char_location", "cited_text": part} for part in parts]
                blocks[-1]["citations"] = cited
                deltas += [{"type": "citations_delta", "citation": one} for one in cited]
        step("content_block_start", index=index, content_block=empty)
        for delta in deltas:
            step("content_block_delta", index=index, delta=delta)
        step("content_block_stop", index=index)
    hour, minutes, spoken = draw(COUNTS), draw(COUNTS), draw(COUNTS)
    usage = {
        "input_tokens": draw(COUNTS),
        "cache_read_input_tokens": draw(COUNTS),
        "cache_creation_input_tokens": hour + minutes,
        "cache_creation": {"ephemeral_1h_input_tokens": hour, "ephemeral_5m_input_tokens": minutes},
        "output_tokens": spoken,
        "service_tier": "standard",
    }
    reason = draw(st.sampled_from(["end_turn", "max_tokens", "tool_use", "refusal"]))
    head = {"id": "msg_made", "type": "message", "role": "assistant", "model": "claude-made"}
    whole = {**head, "content": blocks, "stop_reason": reason, "usage": usage}
    begun = {**head, "content": [], "stop_reason": None, "usage": {**usage, "output_tokens": min(1, spoken)}}
    opening = event({"type": "message_start", "message": begun}, "message_start")
    step("message_delta", delta={"stop_reason": reason, "stop_sequence": None}, usage={"output_tokens": spoken})
    step("message_stop")
    return Talk(anthropic.MESSAGES, dump(whole), [opening, *events])


TALKS = st.one_of(chats(), chats(usage=False), completions(), responses(), messages())
COUNTED_TALKS = st.one_of(chats(), completions(), responses(), messages())

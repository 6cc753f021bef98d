"""Hypothesis strategies for replies of Google, Cohere and Ollama, each in both shapes as `wires` has them."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

from otel_llmlog.providers import cohere, gemini, ollama
from tests.providers.wires import COUNTS, PARTS, Talk, _shuffled, dump, event


@st.composite
def _gemini_usages(draw: st.DrawFn, *, tools: bool) -> dict[str, Any]:
    asked, said, thought, used = draw(COUNTS), draw(COUNTS), draw(COUNTS), draw(COUNTS) if tools else 0
    heard = draw(st.integers(0, asked))
    return {
        "promptTokenCount": asked,
        "candidatesTokenCount": said,
        "thoughtsTokenCount": thought,
        "toolUsePromptTokenCount": used,
        "totalTokenCount": asked + said + thought + used,
        "cachedContentTokenCount": draw(st.integers(0, asked)),
        "promptTokensDetails": [{"modality": "AUDIO", "tokenCount": heard}],
        "trafficType": draw(st.sampled_from(["ON_DEMAND", "ON_DEMAND_FLEX"])),
    }


@st.composite
def _gemini_chunks(draw: st.DrawFn) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A generateContent of one or two candidates with text, thoughts, calls and searches, whole and in chunks."""
    head = {"modelVersion": draw(st.sampled_from(["gemini-2.5-made", "gemini-3-made"])), "responseId": "r-made"}
    candidates, queues = [], []
    for index in range(draw(st.integers(1, 2))):
        parts: list[dict[str, Any]] = []
        chunks: list[list[dict[str, Any]]] = []
        for kind in draw(st.lists(st.sampled_from(["text", "thought", "call"]), min_size=1, max_size=4)):
            before = parts[-1] if parts else {}
            if kind == "call":
                parts.append({"functionCall": {"name": "tool", "args": {"a": draw(PARTS)[0]}}})
                chunks.append([parts[-1]])
            elif "text" not in before or before.get("thought", False) != (kind == "thought"):
                more = {"thought": True} if kind == "thought" else {}
                said = draw(PARTS)
                parts.append({"text": "".join(said), **more})
                chunks += [[{"text": text, **more}] for text in said]
        end = {"finishReason": draw(st.sampled_from(["STOP", "MAX_TOKENS", "SAFETY", "OTHER"])), "index": index}
        if draw(st.booleans()):
            end["groundingMetadata"] = {"webSearchQueries": draw(PARTS)}
        candidates.append({"content": {"parts": parts, "role": "model"}, **end})
        made = [{"content": {"parts": chunk, "role": "model"}, "index": index} for chunk in chunks]
        queues.append([*made[:-1], {**made[-1], **end}])
    # Several candidates have no tools.
    usage = draw(_gemini_usages(tools=len(candidates) == 1))
    order = draw(_shuffled(queues))
    chunks_made = []
    for number, candidate in enumerate(order, 1):
        grown = {name: usage[name] * number // len(order) for name in ("candidatesTokenCount", "thoughtsTokenCount")}
        chunks_made.append({"candidates": [candidate], "usageMetadata": {**usage, **grown}, **head})
    return {"candidates": candidates, "usageMetadata": usage, **head}, chunks_made


@st.composite
def gemini_events(draw: st.DrawFn) -> Talk:
    """As server-sent events, each ended as Google does."""
    whole, chunks = draw(_gemini_chunks())
    return Talk(gemini.STREAM, dump(whole), [event(chunk) for chunk in chunks])


@st.composite
def gemini_array(draw: st.DrawFn) -> Talk:
    """As one array, pretty as Google writes it, or in one line as a gateway might."""
    whole, chunks = draw(_gemini_chunks())
    if draw(st.booleans()):
        shown, comma, end = [json.dumps(c, indent=2, ensure_ascii=False).encode() for c in chunks], b"\n,\r\n", b"\n]\n"
    else:
        shown, comma, end = [dump(chunk) for chunk in chunks], b",", b"]"
    events = [b"[" + shown[0], *(comma + chunk for chunk in shown[1:])]
    return Talk(gemini.STREAM, dump(whole), [*events[:-1], events[-1] + end])


@st.composite
def cohere_chats(draw: st.DrawFn) -> Talk:
    """A chat of text, thinking, a plan, tool calls and citations."""
    message: dict[str, Any] = {"role": "assistant"}
    events = [
        event({"type": "message-start", "id": "c-made", "delta": {"message": {"role": "assistant"}}}, "message-start")
    ]

    def step(kind: str, said: Any = None, **fields: Any) -> None:
        delta = {} if said is None else {"delta": {"message": said}}
        events.append(event({"type": kind, **fields, **delta}, kind))

    if draw(st.booleans()):
        plan = draw(PARTS)
        message["tool_plan"] = "".join(plan)
        for part in plan:
            step("tool-plan-delta", {"tool_plan": part})
    for index in range(draw(st.integers(0, 2))):
        kind, said = draw(st.sampled_from(["text", "thinking"])), draw(PARTS)
        message.setdefault("content", []).append({"type": kind, kind: "".join(said)})
        step("content-start", {"content": {"type": kind, kind: ""}}, index=index)
        for part in said:
            step("content-delta", {"content": {kind: part}}, index=index)
        step("content-end", index=index)
    for index in range(draw(st.integers(0, 2))):
        call, arguments = {"id": f"t{index}", "type": "function"}, draw(PARTS)
        function = {"name": "tool", "arguments": "".join(arguments)}
        message.setdefault("tool_calls", []).append({**call, "function": function})
        step("tool-call-start", {"tool_calls": {**call, "function": {"name": "tool", "arguments": ""}}}, index=index)
        for part in arguments:
            step("tool-call-delta", {"tool_calls": {"function": {"arguments": part}}}, index=index)
        step("tool-call-end", index=index)
    if draw(st.booleans()):
        cited = {"start": 0, "end": 2, "text": draw(PARTS)[0]}
        message["citations"] = [cited]
        step("citation-start", {"citations": cited}, index=0)
        step("citation-end", index=0)
    usage = {
        "billed_units": {"input_tokens": draw(COUNTS), "output_tokens": draw(COUNTS)},
        "tokens": {"input_tokens": draw(COUNTS), "output_tokens": draw(COUNTS)},
        "cached_tokens": draw(COUNTS),
    }
    reason = draw(st.sampled_from(["COMPLETE", "MAX_TOKENS", "TOOL_CALL", "TIMEOUT"]))
    step("message-end")
    events[-1] = event({"type": "message-end", "delta": {"finish_reason": reason, "usage": usage}}, "message-end")
    whole = {"id": "c-made", "finish_reason": reason, "message": message, "usage": usage}
    return Talk(cohere.CHAT, dump(whole), events)


@st.composite
def ollama_lines(draw: st.DrawFn) -> Talk:
    """A chat or a completion as JSON lines."""
    head = {"model": "llama-made", "created_at": "2026-11-23T10:00:00Z"}
    end = {
        "done": True,
        "done_reason": draw(st.sampled_from(["stop", "length"])),
        "prompt_eval_count": draw(COUNTS),
        "eval_count": draw(COUNTS),
    }
    said = draw(PARTS)
    if draw(st.booleans()):
        lines = [{**head, "response": part, "done": False} for part in said]
        whole: dict[str, Any] = {**head, "response": "".join(said), **end}
        lines.append({**head, "response": "", **end})
        return Talk(ollama.GENERATE, dump(whole), [dump(line) + b"\n" for line in lines])
    message: dict[str, Any] = {"role": "assistant", "content": "".join(said)}
    talk = [{"role": "assistant", "content": part} for part in said]
    if draw(st.booleans()):
        thought = draw(PARTS)
        message["thinking"] = "".join(thought)
        talk = [{"role": "assistant", "content": "", "thinking": part} for part in thought] + talk
    if draw(st.booleans()):
        message["tool_calls"] = [{"function": {"name": "tool", "arguments": {"a": draw(PARTS)[0]}}}]
        talk.append({"role": "assistant", "content": "", "tool_calls": message["tool_calls"]})
    lines = [{**head, "message": part, "done": False} for part in talk]
    lines.append({**head, "message": {"role": "assistant", "content": ""}, **end})
    return Talk(ollama.CHAT, dump({**head, "message": message, **end}), [dump(line) + b"\n" for line in lines])


MORE_TALKS = st.one_of(gemini_events(), cohere_chats())
FRAMED_TALKS = st.one_of(gemini_array(), ollama_lines())

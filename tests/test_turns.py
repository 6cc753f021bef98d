"""Turns: whichever API a conversation went over, it reads the same, and nothing is said twice."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given, strategies as st

from otel_llmlog import turns
from tests.payloads import JSON

CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Rome"}'}}
ASKED = {"role": "user", "content": "Is it warm?"}
CALLED = {"role": "assistant", "content": None, "tool_calls": [CALL]}
TOLD = {"role": "tool", "tool_call_id": "call_1", "content": "31"}
SAID = {"role": "assistant", "content": "Yes."}


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def reply(text: str) -> dict[str, Any]:
    """A chat completion, with all that a real one has around the text."""
    message = {"role": "assistant", "content": text, "refusal": None, "annotations": [], "audio": None}
    return {"id": "chatcmpl-1", "choices": [{"index": 0, "finish_reason": "stop", "message": message}], "usage": {}}


def bot(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


CHAT = [
    ([ASKED], {"choices": [{"message": {**CALLED, "refusal": None}}]}, False),
    ([ASKED, CALLED, TOLD], reply("Yes."), False),
]
RESPONSES = [
    (
        "Is it warm?",
        {
            "output": [
                {"type": "reasoning", "id": "rs_1", "summary": []},
                {
                    "type": "function_call",
                    "id": "fc_1",
                    "call_id": "call_1",
                    "name": "weather",
                    "arguments": '{"city": "Rome"}',
                    "status": "completed",
                },
            ]
        },
        False,
    ),
    (
        [{"type": "function_call_output", "call_id": "call_1", "output": "31"}],
        {
            "output": [
                {
                    "type": "message",
                    "id": "msg_1",
                    "status": "completed",
                    "role": "assistant",
                    "content": [{"type": "output_text", "text": "Yes.", "annotations": []}],
                }
            ]
        },
        True,
    ),
]
USED = {"type": "tool_use", "id": "call_1", "name": "weather", "input": {"city": "Rome"}}
ANTHROPIC = [
    (
        [ASKED],
        {"type": "message", "role": "assistant", "content": [{"type": "thinking", "thinking": "…"}, USED]},
        False,
    ),
    (
        [
            {"role": "user", "content": [{"type": "text", "text": "Is it warm?"}]},
            {"role": "assistant", "content": [USED]},
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "call_1", "content": "31"}]},
        ],
        {"role": "assistant", "content": [{"type": "text", "text": "Yes."}]},
        False,
    ),
]


@pytest.mark.parametrize("calls", [CHAT, RESPONSES, ANTHROPIC], ids=["chat", "responses", "anthropic"])
def test_a_conversation_with_a_tool_reads_the_same_over_every_api(calls: list[Any]) -> None:
    assert turns.conversation(calls) == [ASKED, CALLED, TOLD, SAID]


def test_two_tools_that_are_called_at_once_are_called_by_one_message() -> None:
    item = {"type": "function_call", "call_id": "1", "name": "f", "arguments": "{}"}
    (message,) = turns.answered({"output": [item, {**item, "call_id": "2"}]})
    assert [call["id"] for call in message["tool_calls"]] == ["1", "2"]


def test_what_chat_callers_send_again_each_turn_stands_there_once() -> None:
    sent, calls = [{"role": "system", "content": "Be kind."}], []
    for turn in range(4):
        sent = [*sent, user(f"q{turn}")]
        calls.append((sent, reply(f"a{turn}"), False))
        sent = [*sent, bot(f"a{turn}")]
    assert turns.conversation(calls) == sent


def test_a_window_that_moves_on_repeats_nothing() -> None:
    said = list(itertools.chain.from_iterable((user(f"q{n}"), bot(f"a{n}")) for n in range(6)))
    calls = [(said[max(0, end - 4) : end + 1], reply(f"a{end // 2}"), False) for end in range(0, 12, 2)]
    assert turns.conversation(calls) == said


def test_an_answer_that_is_asked_for_again_is_added_to_the_first() -> None:
    again = [user("q0"), bot("a0"), user("q1")]
    calls = [([user("q0")], reply("a0"), False), (again, reply("a1"), False), (again, reply("other"), False)]
    assert turns.conversation(calls) == [*again, bot("a1"), bot("other")]


def test_separate_questions_of_one_session_follow_each_other() -> None:
    calls = [([user("same")], reply("a"), False), ([user("same")], reply("b"), False), ([user("c")], reply("d"), False)]
    assert turns.conversation(calls) == [user("same"), bot("a"), user("same"), bot("b"), user("c"), bot("d")]


def test_a_chain_may_say_the_same_twice() -> None:
    answer = {"output": [{"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "ok"}]}]}
    calls = [("go on", answer, False), ("go on", answer, True), ("go on", answer, True)]
    assert turns.conversation(calls) == [user("go on"), bot("ok")] * 3


def test_instructions_that_each_request_repeats_stand_there_once() -> None:
    system = {"role": "system", "content": "Be kind."}
    calls = [([system, user("a")], {"output": []}, False), ([system, user("b")], {"output": []}, True)]
    assert turns.conversation(calls) == [system, user("a"), user("b")]


def test_pictures_stay_and_other_forms_are_chats() -> None:
    asked = turns.asked(
        [
            {
                "role": "user",
                "content": [
                    {"type": "input_text", "text": "What is it?"},
                    {"type": "input_image", "image_url": "data:,x"},
                ],
            }
        ]
    )
    assert asked == [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "What is it?"},
                {"type": "image_url", "image_url": {"url": "data:,x"}},
            ],
        }
    ]


def test_a_stream_that_broke_off_and_a_text_completion_are_told() -> None:
    assert turns.answered({"output_text": "Ye"}) == [bot("Ye")]
    assert turns.conversation([("Once", {"choices": [{"text": " upon"}]}, False)]) == [user("Once"), bot(" upon")]


SHAPES = st.sampled_from(
    ["role", "content", "type", "tool_calls", "message", "choices", "output", "text", "input", "function_call",
     "tool_use", "tool_result", "function_call_output", "user", "output_text", "input_image"]
)  # fmt: skip
ODD = st.recursive(
    JSON | SHAPES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(SHAPES, inner, max_size=5)
)


@given(st.lists(st.tuples(ODD, ODD, st.booleans()), max_size=4))
def test_no_stored_content_is_an_error(calls: list[Any]) -> None:
    for message in turns.conversation(calls):
        assert isinstance(message["role"], str)


@given(st.lists(st.text("ab", max_size=2), min_size=1, max_size=6))
def test_a_chat_is_told_as_its_last_call_holds_it(texts: list[str]) -> None:
    sent: list[Any] = []
    calls = []
    for at, text in enumerate(texts):
        sent = [*sent, user(text)]
        calls.append((sent, reply(f"answer {at}"), False))
        sent = [*sent, bot(f"answer {at}")]
    assert turns.conversation(calls) == sent

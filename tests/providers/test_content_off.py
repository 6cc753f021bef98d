"""With content off nothing that a user or a model wrote is among the facts."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings

from otel_llmlog.providers import openai, sse
from otel_llmlog.providers.facts import RequestFacts, ResponseFacts
from tests.providers.cases import CASES, STREAMS, Case, packed
from tests.providers.more_wires import FRAMED_TALKS, MORE_TALKS
from tests.providers.wires import CANARY, COUNTED_TALKS, TALKS, Talk, dump, event

SECRET = f"ein {CANARY} singt"
# Fields that say who calls, which model, which call: kept by design, content or not.
NAMES = {
    "model", "id", "user", "metadata", "safety_identifier", "previous_response_id", "modelVersion", "responseId",
    "requestMetadata",
}  # fmt: skip


def spoken(facts: RequestFacts | ResponseFacts) -> str:
    """All that facts say but the message of an error, which by its own promise may quote content."""
    error = getattr(facts, "error", None)
    if error is not None:
        facts = dataclasses.replace(facts, error=dataclasses.replace(error, message=None))
    return repr(facts)


def told(value: Any, keep: Callable[[str], bool]) -> Any:
    """The JSON value with a secret in place of each string; fields that `keep` names stay."""
    if isinstance(value, str):
        return SECRET
    if isinstance(value, list):
        return [told(item, keep) for item in value]
    if isinstance(value, dict):
        return {name: item if keep(name) else told(item, keep) for name, item in value.items()}
    return value


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_no_string_of_a_request_but_names_is_among_its_facts(case: Case) -> None:
    body = dump(told(json.loads(case.request), NAMES.__contains__))
    assert CANARY not in spoken(case.endpoint.read_request(body, case.path, False))


@pytest.mark.parametrize(
    "case", [c for c in CASES if "response" in c.expected and not c.is_stream], ids=lambda c: c.name
)
def test_no_string_of_a_reply_but_names_is_among_its_facts(case: Case) -> None:
    body = dump(told(json.loads(case.reply), NAMES.__contains__))
    for data in (body, body[:-2], body[: len(body) // 2], b"x" + body):
        assert CANARY not in spoken(case.endpoint.read_response(data, False))


@pytest.mark.parametrize("case", STREAMS, ids=lambda case: case.name)
def test_no_string_of_a_stream_but_names_is_among_its_facts_beside_texts_to_count(case: Case) -> None:
    pieces = []
    keep = (NAMES | {"type"}).__contains__
    if case.is_packed:
        pieces += packed(b"\n".join(dump(told(json.loads(line), keep)) for line in case.text.splitlines()))
    elif case.reply.startswith(b"["):
        pieces.append(dump(told(json.loads(case.reply), keep)))
    elif case.reply.startswith(b"{"):
        pieces += [dump(told(json.loads(line), keep)) + b"\n" for line in case.reply.splitlines()]
    for name, data, _ in sse.events(case.reply):
        if data == b"[DONE]" or not data.endswith(b"}"):
            continue
        pieces.append(event(told(json.loads(data), keep), name.decode()))
    assert pieces
    facts = case.endpoint.read_stream(pieces, False)
    assert CANARY not in spoken(dataclasses.replace(facts, output=()))
    assert facts.usage is None or not facts.output


@settings(max_examples=100, deadline=None)
@given(talk=COUNTED_TALKS | MORE_TALKS | FRAMED_TALKS)
def test_a_stream_with_usage_leaves_no_text_behind(talk: Talk) -> None:
    assert CANARY not in repr(talk.endpoint.read_stream(talk.events, False))


@settings(max_examples=100, deadline=None)
@given(talk=TALKS | MORE_TALKS | FRAMED_TALKS)
def test_content_makes_no_difference_to_any_other_fact(talk: Talk) -> None:
    without, within = talk.endpoint.read_stream(talk.events, False), talk.endpoint.read_stream(talk.events, True)
    assert without == dataclasses.replace(within, response=None)
    assert within.response is not None
    without, within = talk.endpoint.read_response(talk.plain, False), talk.endpoint.read_response(talk.plain, True)
    assert without == dataclasses.replace(within, response=None)
    assert CANARY not in repr(without)


def test_a_broken_usage_does_not_carry_its_text_into_a_note() -> None:
    facts = openai.CHAT.read_response(dump({"usage": {"prompt_tokens": SECRET, f"{SECRET}_tokens": 1.5}}), False)
    assert CANARY not in repr(facts)
    assert facts.notes != ()


def test_content_in_place_of_an_enum_value_is_dropped() -> None:
    switches = ("temperature", "tool_choice", "service_tier", "reasoning_effort", "modalities", "verbosity")
    body = {"model": "m", "messages": [], **dict.fromkeys(switches, SECRET), "truncation": [SECRET, "auto"]}
    facts = openai.CHAT.read_request(dump(body), "/v1/chat/completions", False)
    assert facts.parameters == {"truncation": ["auto"]}
    reply = {
        "choices": [{"finish_reason": SECRET}],
        "service_tier": SECRET,
        "usage": {"prompt_tokens": 1},
        "status": SECRET,
    }
    assert CANARY not in repr(openai.CHAT.read_response(dump(reply), False))

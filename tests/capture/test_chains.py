"""Chains in memory: what this process knows of who follows whom, never wrong, and bounded."""

from __future__ import annotations

import os
import sys
import threading

import pytest
from hypothesis import given, strategies as st

from otel_llmlog.capture.chains import Chains
from tests.capture.clients import openai_client
from tests.store.test_chains import Turn, histories, sessions_of


def join(chains: Chains, turn: Turn) -> str | None:
    return chains.join(turn.session, turn.id, turn.previous, turn.conversation)


@given(histories(), st.sets(st.integers(0, 9)), st.integers(1, 20))
def test_what_is_answered_is_what_the_store_would_find_out(turns: list[Turn], unseen: set[int], limit: int) -> None:
    chains = Chains(limit)
    found = {at: join(chains, turn) for at, turn in enumerate(turns) if at not in unseen}
    # A conversation's first call may have been another process's: then its name is not known here, and another one is.
    first = {turn.conversation: at for at, turn in reversed(list(enumerate(turns))) if turn.conversation}
    heard = limit >= 2 * len(turns) and not unseen.intersection(first.values())
    for at, expected in enumerate(sessions_of(turns)):
        if heard and found.get(at) is not None:
            assert found[at] == expected


def test_a_chain_that_is_seen_from_its_beginning_is_known() -> None:
    chains = Chains()
    assert join(chains, Turn("a")) is None
    assert join(chains, Turn("b", "a")) == "a"
    assert join(chains, Turn("c", "b", "named")) == "named"
    assert join(chains, Turn("d", "c")) == "named"
    assert join(chains, Turn(None, "b")) == "a"


def test_what_follows_an_unknown_call_is_left_to_the_store() -> None:
    chains = Chains()
    assert join(chains, Turn("c", "b")) is None
    assert join(chains, Turn("d", "c")) is None
    assert join(chains, Turn("e", conversation="conv")) is None
    assert join(chains, Turn("f", "e")) is None


def test_a_conversation_keeps_the_name_of_its_first_call() -> None:
    chains = Chains()
    assert join(chains, Turn("a", None, "named", "conv_1")) == "named"
    assert join(chains, Turn("b", None, None, "conv_1")) == "named"
    assert join(chains, Turn("c", None, None, "conv_2")) is None
    assert join(chains, Turn("d", None, "late", "conv_2")) == "late"
    assert join(chains, Turn("e", None, None, "conv_2")) is None


def test_memory_is_bounded_and_forgets_the_longest_unused_first() -> None:
    chains = Chains(100)
    join(chains, Turn("kept"))
    for number in range(1000):
        join(chains, Turn(f"r{number}", conversation=f"c{number}"))
        assert join(chains, Turn(None, "kept")) == "kept"
        assert len(chains) <= 100
    assert join(chains, Turn(None, "r1")) is None


def test_threads_may_join_at_once() -> None:
    chains, failures = Chains(), []

    def talk(number: int) -> None:
        join(chains, Turn(f"{number}-0"))
        for turn in range(1, 500):
            if join(chains, Turn(f"{number}-{turn}", f"{number}-{turn - 1}")) != f"{number}-0":
                failures.append(number)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    threads = [threading.Thread(target=talk, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    sys.setswitchinterval(interval)
    assert failures == []


def test_a_forked_child_goes_on_with_what_its_parent_knew_though_it_was_being_changed() -> None:
    chains = Chains()
    join(chains, Turn("a"))
    with chains._lock:  # another thread's, at the moment of the fork
        child = os.fork()
        if child == 0:
            os._exit(0 if join(chains, Turn("b", "a")) == "a" else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


@pytest.mark.parametrize("stream", [False, True])
def test_spans_and_records_of_a_chain_have_its_session(capture, provider, stream) -> None:
    client = openai_client(provider.url)

    def ask(**more):
        answer = client.responses.create(model="gpt-4o", input="hi", stream=stream, **more)
        return list(answer)[-1].response.id if stream else answer.id

    first = ask()
    second = ask(previous_response_id=first)
    ask(conversation={"id": "conv_1"})
    ask(conversation="conv_1", extra_body={"litellm_session_id": "named"})
    found = [(payload.session_id, payload.conversation_id) for payload in capture.payloads()]
    assert found == [(None, None), (first, None), (None, "conv_1"), ("named", "conv_1")]
    assert [payload.previous_response_id for payload in capture.payloads()][:2] == [None, first]
    assert second != first
    spans = [span.attributes.get("gen_ai.conversation.id") for span in capture.spans()]
    assert spans == [None, first, "conv_1", "named"]


def test_a_field_called_conversation_is_kept_only_if_it_is_an_id(capture, provider) -> None:
    client = openai_client(provider.url)
    for given_ in ("We spoke of rivers.", {"id": "and of lakes"}, {"id": 7}, ["conv_1"], 5):
        client.responses.create(model="gpt-4o", input="hi", extra_body={"conversation": given_})
    client.chat.completions.create(
        model="gpt-4o", messages=[{"role": "user", "content": "x"}], extra_body={"conversation": "a-secret"}
    )
    assert {payload.conversation_id for payload in capture.payloads()} == {None}

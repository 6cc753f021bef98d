"""history(): from what is under way and from the table together, whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

import otel_llmlog
from otel_llmlog import configure
from otel_llmlog.config import Settings
from otel_llmlog.errors import ConfigError, ContentNotStored, UnknownResponse
from otel_llmlog.pipeline.record import Record
from otel_llmlog.pipeline.source import Source
from otel_llmlog.store.postgres import PostgresExporter
from tests.store.test_chains import Turn, call

CONTENT = "LLMLOG_STORE_PROMPTS_IN_SPEND_LOGS"


def said(*texts: str) -> list[dict[str, str]]:
    return [
        message
        for text in texts
        for message in ({"role": "user", "content": text}, {"role": "assistant", "content": text.upper()})
    ]


def spoken(turn: Turn, at: int, text: str, **changes: Any) -> Record:
    """A call in which somebody said something and was answered."""
    output = [{"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": text.upper()}]}]
    return call(turn, at, **{"messages": text, "response": {"output": output}, **changes})


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, database_url: str) -> pytest.MonkeyPatch:
    for name in ("LLMLOG_CONFIG", "LLMLOG_EXPORTER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LLMLOG_DATABASE_URL", database_url)
    monkeypatch.setenv(CONTENT, "true")
    return monkeypatch


@pytest.fixture
def stored(database_url: str) -> Iterator[Callable[..., None]]:
    exporter = PostgresExporter(database_url, auto_migrate=False)
    yield lambda *records: exporter.export(records)
    exporter.close()


@pytest.fixture
def waiting(environment: pytest.MonkeyPatch) -> Callable[..., None]:
    """Calls of this process that wait to be stored."""
    source = Source(None, 100)
    runtime = SimpleNamespace(
        settings=Settings(), unstored=lambda needle, wanted: source.search(needle.encode(), wanted)
    )
    environment.setattr(configure, "_runtime", runtime)

    def put(*records: Record) -> None:
        for record in records:
            source.put([(record, 0)])

    return put


def test_a_chain_is_told_from_where_each_of_its_calls_is(stored: Any, waiting: Any) -> None:
    a, b, c, d = (
        spoken(Turn("a"), 0, "one"),
        spoken(Turn("b", "a"), 1, "two"),
        spoken(Turn("c", "b"), 2, "three"),
        spoken(Turn("d", "c"), 3, "four"),
    )
    stored(b, d)
    waiting(a, c, d)
    assert otel_llmlog.history(previous_response_id="d") == said("one", "two", "three", "four")
    assert otel_llmlog.history(previous_response_id="b") == said("one", "two")


def test_a_session_is_told_from_both_and_what_is_in_both_once(stored: Any, waiting: Any) -> None:
    first, second = spoken(Turn("a", None, "s"), 0, "one"), spoken(Turn("b", "a", "s"), 1, "two")
    stored(first, second)
    waiting(second, spoken(Turn("c", "b", "s"), 2, "three"), spoken(Turn("x", None, "other"), 3, "no"))
    assert otel_llmlog.history(session_id="s") == said("one", "two", "three")


def test_a_call_whose_session_only_the_store_can_tell_is_in_it_before_it_is_stored(stored: Any, waiting: Any) -> None:
    stored(spoken(Turn("a", None, "s"), 0, "one"))
    waiting(spoken(Turn("c", "b"), 2, "three"), spoken(Turn("b", "a"), 1, "two"), spoken(Turn("z", "y"), 3, "no"))
    assert otel_llmlog.history(session_id="s") == said("one", "two", "three")


def test_a_first_call_that_has_not_joined_its_chain_yet_is_in_it(stored: Any, waiting: Any) -> None:
    stored(spoken(Turn("a"), 0, "one"))
    assert otel_llmlog.history(session_id="a") == said("one")
    waiting(spoken(Turn("b", "a", "a"), 1, "two"))
    assert otel_llmlog.history(session_id="a") == said("one", "two")


async def test_the_async_twin_tells_the_same(stored: Any) -> None:
    stored(spoken(Turn("a"), 0, "one"), spoken(Turn("b", "a"), 1, "two"))
    assert await otel_llmlog.ahistory(previous_response_id="b") == said("one", "two")
    assert await otel_llmlog.ahistory(session_id="a") == said("one", "two")


def test_a_call_that_failed_before_it_was_answered_is_left_out(stored: Any) -> None:
    stored(
        spoken(Turn("a", None, "s"), 0, "one"),
        spoken(Turn(None, None, "s"), 1, "lost", response=None),
        call(Turn(None, None, "s"), 2),
        spoken(Turn("b", None, "s"), 3, "two", status="failure", response={"output_text": "TW"}),
        call(Turn("e", None, "s"), 4, call_type="embedding"),
    )
    told = otel_llmlog.history(session_id="s")
    assert [message["content"] for message in told] == ["one", "ONE", "two", "TW"]


def test_ids_that_follow_each_other_in_a_circle_end(stored: Any) -> None:
    stored(spoken(Turn("a", "b"), 0, "one"), spoken(Turn("b", "a"), 1, "two"))
    assert otel_llmlog.history(previous_response_id="b") == said("one", "two")


def test_a_session_in_which_nobody_has_spoken_is_empty(database_url: str) -> None:
    assert otel_llmlog.history(session_id="nobody") == []


def test_an_unknown_response_is_an_error_and_so_is_a_chain_with_a_gap(stored: Any) -> None:
    stored(spoken(Turn("b", "a"), 1, "two"))
    with pytest.raises(UnknownResponse, match=r"no call with the response 'x' was logged here"):
        otel_llmlog.history(previous_response_id="x")
    with pytest.raises(UnknownResponse, match=r"no call with the response 'a'"):
        otel_llmlog.history(previous_response_id="b")


def test_a_database_without_tables_holds_nothing(environment: pytest.MonkeyPatch, empty_database_url: str) -> None:
    environment.setenv("LLMLOG_DATABASE_URL", empty_database_url)
    assert otel_llmlog.history(session_id="s") == []
    with pytest.raises(UnknownResponse):
        otel_llmlog.history(previous_response_id="a")


def test_content_that_was_not_kept_is_an_error_that_names_the_setting(
    environment: pytest.MonkeyPatch, stored: Any
) -> None:
    stored(spoken(Turn("a", None, "s"), 0, "one"), call(Turn("b", "a", "s"), 1))
    for asked in ({"session_id": "s"}, {"previous_response_id": "b"}):
        with pytest.raises(ContentNotStored, match=f"what was said in 'b' was not kept, or is gone: see {CONTENT}$"):
            otel_llmlog.history(**asked)
    assert otel_llmlog.history(previous_response_id="a") == said("one")
    environment.setenv(CONTENT, "false")
    with pytest.raises(ContentNotStored, match=f"set {CONTENT}=true"):
        otel_llmlog.history(previous_response_id="a")


def test_without_a_database_to_ask_the_error_says_what_to_set(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("LLMLOG_EXPORTER", "otlp")
    environment.delenv("LLMLOG_DATABASE_URL")
    with pytest.raises(ConfigError, match="set LLMLOG_DATABASE_URL where history"):
        otel_llmlog.history(session_id="s")


@pytest.mark.parametrize("asked", [{}, {"previous_response_id": "a", "session_id": "s"}])
def test_exactly_one_thing_is_asked_for(asked: dict[str, str]) -> None:
    with pytest.raises(TypeError, match="either previous_response_id or session_id"):
        otel_llmlog.history(**asked)


def test_hostile_ids_find_nothing(stored: Any) -> None:
    stored(spoken(Turn("a", None, "s"), 0, json.dumps({"s": "x\0"})))
    for hostile in ("\0", "\ud800", "'; DROP TABLE llmlog.spend_logs; --", "%", ""):
        assert otel_llmlog.history(session_id=hostile) == []
        with pytest.raises(UnknownResponse):
            otel_llmlog.history(previous_response_id=hostile)

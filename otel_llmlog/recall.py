"""Recall: a conversation as chat messages, from this process's calls that are not stored yet and the table together.

Always true: a call that has ended is found at once, wherever it is on its way; a conversation is told whole or not at
all; nothing is told where content is not kept.

The pipeline is asked first and the table second: a call that moves from one to the other in between is found twice
rather than never.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from otel_llmlog import config, configure, destination, forks, turns
from otel_llmlog.errors import ConfigError, ContentNotStored, UnknownResponse
from otel_llmlog.pipeline.record import Record
from otel_llmlog.redact import beginning, short

if TYPE_CHECKING:
    from otel_llmlog.store.reader import Reader

_SETTING = "LLMLOG_STORE_PROMPTS_IN_SPEND_LOGS"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# Calls that are no part of any conversation.
_SILENT = frozenset({"embedding", "aembedding"})
# Where records of the Responses API can be told from others without decoding them.
_RESPONSES = "responses"


def history(*, previous_response_id: str | None = None, session_id: str | None = None) -> list[dict[str, Any]]:
    """The conversation so far as chat messages, oldest first: what led to a response, or all of a session.

    A session that nobody has spoken in is empty. Texts longer than LLMLOG_MAX_STRING_LENGTH_PROMPT_IN_DB are cut, as
    they are stored. Raises ContentNotStored when messages are not kept, UnknownResponse when the response, or one that
    it follows, was not logged here; StoreUnavailable, ConfigError.
    """
    if (previous_response_id is None) == (session_id is None):
        raise TypeError("history() takes either previous_response_id or session_id")
    runtime = configure.runtime()
    settings = runtime.settings if runtime is not None else config.load()
    if not settings.content.store_prompts_in_spend_logs:
        raise ContentNotStored(f"the conversation is not kept: set {_SETTING}=true for calls from now on")
    unstored = runtime.unstored if runtime is not None else _nothing
    if session_id is not None:
        found = _session(session_id, unstored, settings)
    else:
        assert previous_response_id is not None
        found = list(_chain(previous_response_id, unstored, settings))[::-1]
    return turns.conversation(_contents(found))


async def ahistory(*, previous_response_id: str | None = None, session_id: str | None = None) -> list[dict[str, Any]]:
    """The same, without blocking the event loop."""
    return await asyncio.to_thread(history, previous_response_id=previous_response_id, session_id=session_id)


class _Call(NamedTuple):
    """A call, wherever it was found."""

    key: tuple[int, str, str]
    id: str
    call_type: str
    failed: bool
    session_id: str | None
    previous_id: str | None
    conversation_id: str | None
    messages: Any
    response: Any


_Unstored = Callable[[str, Callable[[Record], bool]], list[Record]]


def _nothing(_needle: str, _wanted: Callable[[Record], bool]) -> list[Record]:
    return []


def _session(session_id: str, unstored: _Unstored, settings: config.Settings) -> list[_Call]:
    session_id = short(session_id)
    here = unstored(beginning(session_id), lambda record: _is_in(record, session_id))
    found = {call.key: call for call in map(_of_record, here)}
    # Calls that follow one of another process: the store alone knows which session that is in.
    waiting = [_of_record(record) for record in unstored(_RESPONSES, _is_undecided)]
    reader = _reader(settings)
    if reader.ready():
        found |= {call.key: call for call in map(_of_row, reader.session(session_id))}
    ids = {session_id, *(call.id for call in found.values())}
    for call in sorted(waiting):
        if (call.previous_id or call.conversation_id) in ids:
            found[call.key] = call
            ids.add(call.id)
    return sorted(found.values(), key=lambda call: call.key)


def _chain(response_id: str, unstored: _Unstored, settings: config.Settings) -> Iterator[_Call]:
    """The call with this response, the one it follows, and so on."""
    wanted: str | None = short(response_id)
    stored: dict[str, _Call] = {}
    passed: set[str] = set()
    while wanted is not None and wanted not in passed:
        call = stored.get(wanted)
        if call is None:
            here = unstored(beginning(wanted), _has_id(wanted))
            if here:
                call = _of_record(here[0])
            else:
                reader = _reader(settings)
                if reader.ready():
                    stored = {call.id: call for call in map(_of_row, reader.chain(wanted))}
                call = stored.get(wanted)
        if call is None:
            raise UnknownResponse(f"no call with the response {wanted!r} was logged here, or it is gone")
        passed.add(wanted)
        yield call
        wanted = call.previous_id


def _contents(calls: Iterable[_Call]) -> Iterator[tuple[Any, Any, bool]]:
    for call in calls:
        if call.call_type in _SILENT:
            continue
        # What failed before an answer came is asked again. One that broke off is what the app has seen.
        if call.failed and call.response is None:
            continue
        if call.messages is None and call.response is None:
            raise ContentNotStored(f"what was said in {call.id!r} was not kept, or is gone: see {_SETTING}")
        yield call.messages, call.response, bool(call.previous_id or call.conversation_id)


def _name(given: str | None) -> str | None:
    """As it is stored."""
    return None if given is None else short(given)


def _has_id(response_id: str) -> Callable[[Record], bool]:
    return lambda record: _name(record.attributes.get("llmlog.id")) == response_id


def _is_in(record: Record, session_id: str) -> bool:
    named = _name(record.attributes.get("llmlog.session_id"))
    return named == session_id or (named is None and _name(record.attributes.get("llmlog.id")) == session_id)


def _is_undecided(record: Record) -> bool:
    about = record.attributes
    follows = about.get("llmlog.previous_response_id") or about.get("llmlog.conversation_id")
    return bool(follows) and not about.get("llmlog.session_id")


def _of_record(record: Record) -> _Call:
    about = record.attributes
    messages, response = (about.get(f"llmlog.{name}") for name in ("messages", "response"))
    return _Call(
        (record.start_ns // 1000, record.trace_id, record.span_id),
        _name(about.get("llmlog.id")) or "",
        about.get("llmlog.call_type") or "",
        about.get("llmlog.status") == "failure",
        _name(about.get("llmlog.session_id")),
        _name(about.get("llmlog.previous_response_id")),
        _name(about.get("llmlog.conversation_id")),
        None if messages is None else json.loads(messages),
        None if response is None else json.loads(response),
    )


def _of_row(row: dict[str, Any]) -> _Call:
    return _Call(
        ((row["start_time"] - _EPOCH) // timedelta(microseconds=1), row["trace_id"], row["span_id"]),
        row["request_id"],
        row["call_type"],
        row["status"] == "failure",
        row["session_id"],
        row["previous_response_id"],
        row["conversation_id"],
        row["messages"],
        row["response"],
    )


def _reader(settings: config.Settings) -> Reader:
    store = settings.store
    if settings.pipeline.exporter == "otlp" and store.database_url is None:
        raise ConfigError("the conversation is in the database: set LLMLOG_DATABASE_URL where history() is asked")
    return _reader_of(destination.database_url(settings), store.connect_timeout)


@lru_cache(maxsize=4)
def _reader_of(url: str, connect_timeout: int) -> Reader:
    # Database libraries take longer to import than most apps take to start.
    with forks.held_off():
        from otel_llmlog.store.reader import Reader

    return Reader(url, connect_timeout=connect_timeout)

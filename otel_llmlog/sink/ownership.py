"""Whose a received call is: named senders keep to themselves, and nobody fills the sums with names.

Always true: what a sender with a name sends carries that name in all ids by which rows are found, followed, described
or passed over as known; so it meets the rows of no other sender in any table. Who has no name cannot send such ids.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from otel_llmlog.config import SENDER_MARK
from otel_llmlog.dialects.llmlog import PREFIX
from otel_llmlog.payload import AuditEvent
from otel_llmlog.pipeline.record import Record
from otel_llmlog.redact import MAX_NAME
from otel_llmlog.sink.senders import Sender

OTHER = "(other)"
_SENDER, _NOTES = f"{PREFIX}sender", f"{PREFIX}notes"
_TEAM, _TEAM_ALIAS = f"{PREFIX}metadata.user_api_key_team_id", f"{PREFIX}metadata.user_api_key_team_alias"
# By which rows are found, joined and grouped.
_IDS = tuple(PREFIX + name for name in ("id", "call_id", "session_id", "previous_response_id", "conversation_id"))
# What a line of spend_hourly is made of, beside its hour.
_STATUS = f"{PREFIX}status"
_NAMES = (
    f"{PREFIX}model", f"{PREFIX}response_model", f"{PREFIX}custom_llm_provider", _TEAM, _TEAM_ALIAS,
    f"{PREFIX}metadata.user_api_key_org_id", f"{PREFIX}metadata.user_api_key_user_id",
    f"{PREFIX}metadata.user_api_key_hash", f"{PREFIX}metadata.user_api_key_alias",
)  # fmt: skip
_HOUR_NS, _HOUR = 3_600 * 10**9, 3_600.0
# Characters of a name that a note quotes.
_QUOTED = 200


def scoped(given: str, sender: Sender) -> str:
    """An id as this sender's own."""
    if sender.name:
        return f"{given[:MAX_NAME]}{SENDER_MARK}{sender.name}"
    return given.replace(SENDER_MARK, ">") if SENDER_MARK in given else given


def claim(record: Record, call: dict[str, Any], sender: Sender) -> Record:
    """The record with its call, as this sender's. Changes `call`."""
    call.pop(_SENDER, None)
    named = sender.name != ""
    for name in _IDS:
        given = call.get(name)
        # Nearly all come without a name, and this is hot.
        if given is not None and given != "" and (named or given.__class__ is not str or SENDER_MARK in given):
            call[name] = scoped(given if given.__class__ is str else str(given), sender)
    if sender.team is not None:
        call[_TEAM] = sender.team
        call.pop(_TEAM_ALIAS, None)
    if not sender.name:
        return record
    call[_SENDER] = sender.name
    return claim_ids(record, sender)


def claim_ids(record: Record, sender: Sender) -> Record:
    """The record, with the ids of its span as this sender's own. An id that is none stays so."""
    if not sender.name:
        return record
    span, parent = record.span_id, record.parent_span_id
    return replace(
        record,
        span_id=span and scoped(span, sender),
        parent_span_id=None if parent is None else scoped(parent, sender),
    )


def claim_event(event: AuditEvent, sender: Sender) -> AuditEvent:
    """The event as this sender's."""
    return event.model_copy(update={"id": scoped(event.id, sender)})


class Lines:
    """How many lines of the hourly sums each sender has begun in this hour of the clock."""

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        """`most`: for each sender, of one process."""
        self._most = most
        self._clock = clock
        self._until = clock() + _HOUR
        self._begun: dict[str, set[int]] = {}

    def bound(self, call: dict[str, Any], start_ns: int, sender: Sender) -> bool:
        """See that the call begins no line too many: then its names become `(other)`, and True is answered.

        The names it had are in its notes. The team that a token is bound to stays. Changes `call`.
        """
        if self._clock() > self._until:
            self._until = self._clock() + _HOUR
            self._begun.clear()
        begun = self._begun.setdefault(sender.name, set())
        # A hash may stand for two lines: then there is one more.
        names = [start_ns // _HOUR_NS, call.get(_STATUS), *map(call.get, _NAMES)]
        try:
            line = hash(tuple(names))
        except TypeError:  # a name that is a list, say
            line = hash(str(names))
        if line in begun:
            return False
        if len(begun) < self._most:
            begun.add(line)
            return False
        said = {name: call[name] for name in _NAMES if call.get(name) and not (sender.team and name == _TEAM)}
        call.update(dict.fromkeys(said, OTHER))
        notes = call.get(_NOTES)
        call[_NOTES] = [*(notes if isinstance(notes, list | tuple) else ()), *_notes(said)]
        return True


def _notes(said: Mapping[str, Any]) -> list[str]:
    return [f"{name.removeprefix(PREFIX)} was {str(value)[:_QUOTED]}" for name, value in said.items()]

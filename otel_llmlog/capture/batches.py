"""Batches as an app reads their results: each line of the file is a call of its own, under a name that never changes.

Always true: results that are read again, in whatever process, give rows of the same identity, which the table ignores;
of a file that is no batch's nothing is left; memory is bounded.

The time of a line is part of its identity. The reply says it, or else the batch, which an app asks for before it asks
for the results; where neither was seen, it is the time of the first reading in this process, and the row says so.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterator
from typing import TypeVar

from opentelemetry import trace

from otel_llmlog.capture.call import Call
from otel_llmlog.capture.context import Caller
from otel_llmlog.capture.ids import Ids
from otel_llmlog.providers import batches

_T = TypeVar("_T")
# Batches, and files of results, that are remembered.
_MAX_KNOWN = 10_000
_UNKNOWN = "when the batch ran is not known: its results, read by another process, would be counted again"
_CUT = "larger than LLMLOG_MAX_BODY_BYTES: not all of its lines were read"


class Batches:
    """What this process has seen of batches. One thread uses it."""

    def __init__(self, room: int) -> None:
        self._room = room  # bytes of one body that are looked at
        self._created: OrderedDict[str, int] = OrderedDict()  # results -> when the batch was made, epoch seconds
        self._read: OrderedDict[str, None] = OrderedDict()  # results that were read to their end

    def calls(self, reading: Call, body: bytes) -> Iterator[Call]:
        """The calls that a reply to the reading of a batch tells of; none where it only describes the batch."""
        path = reading.url.path
        results = batches.results_of(path)
        if results is None:
            for known in batches.known_of(path, body):
                for name in known.results:
                    _remember(self._created, name, known.created)
            return
        if reading.status_code >= 400 or results in self._read:
            return
        made = self._created.get(results)
        found = False
        for line in batches.lines(results, body):
            found = True
            created = line.created or made
            if created is None:
                created = made = reading.start_ns // 10**9
                _remember(self._created, results, created)
                yield _call(reading, line, created, self._room, _UNKNOWN)
            else:
                yield _call(reading, line, created, self._room)
        if found and (reading.tail is not None or reading.missing):
            cut = batches.Line(f"{results}/cut", None, batches.CHAT, 200, b"", None)
            call = _call(reading, cut, made or reading.start_ns // 10**9, self._room)
            call.missing = _CUT
            yield call
        elif found and reading.ending == "read":
            _remember(self._read, results, None)


def _remember(known: OrderedDict[str, _T], name: str, value: _T) -> None:
    known[name] = value
    known.move_to_end(name)
    if len(known) > _MAX_KNOWN:
        known.popitem(last=False)


def _call(reading: Call, line: batches.Line, created: int, room: int, note: str = "") -> Call:
    """The call of one line, ended."""
    host = reading.url.host
    digest = hashlib.sha256(f"{host}/{line.name}".encode("utf-8", "replace")).digest()
    named = {"batch_results": batches.results_of(reading.url.path), "custom_id": line.custom_id, "note": note}
    call = Call(
        line.endpoint,
        reading,
        b"{}",
        trace.INVALID_SPAN,
        Ids(int.from_bytes(digest[:16]), int.from_bytes(digest[16:24]), None),
        reading.context,
        Caller(metadata={name: value for name, value in named.items() if value}).over(reading.caller),
        is_async=reading.is_async,
        start_ns=created * 10**9,
        room=room,
        open_calls={},
        on_end=lambda _: None,
    )
    call.open_calls.clear()
    call.end_ns, call.ending = call.start_ns, "read"
    call.request, call.headers = None, reading.headers
    call.status_code, call.body = line.status, line.body
    return call

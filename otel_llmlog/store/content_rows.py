"""Storing contents that came as log records: each goes to the row of its span, or waits for it.

Always true: a second delivery changes nothing; a content the database refuses is rejected alone; no message holds it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import psycopg

from otel_llmlog.dialects.contents import MESSAGES, RESPONSE
from otel_llmlog.pipeline.record import Record
from otel_llmlog.store import connect
from otel_llmlog.store.failures import failure
from otel_llmlog.store.values import Odd, document

# Spans per transaction: they hold the locks of their traces meanwhile.
_AT_ONCE = 200
_ADD = "SELECT llmlog.add_contents(%s::text[], %s::text[], %s::jsonb[], %s::jsonb[])"

_Key = tuple[str, str]
_Found = tuple[_Key, str | None, str | None, list[Record]]


def append(connection: psycopg.Connection[Any], records: Sequence[Record], rejected: list[tuple[Record, str]]) -> int:
    """Store contents; answers how many were taken. Raises psycopg's errors."""
    by_span: dict[_Key, list[Record]] = {}
    for record in records:
        try:
            for key in (MESSAGES, RESPONSE):
                if (text := record.attributes.get(key)) is not None:
                    document(text)
        except Odd as odd:
            rejected.append((record, f"messages or response: {odd}"))
        else:
            by_span.setdefault((record.trace_id, record.span_id), []).append(record)
    found = [(key, _joined(own, MESSAGES), _joined(own, RESPONSE), own) for key, own in sorted(by_span.items())]
    return sum(
        _append(connection, found[start : start + _AT_ONCE], rejected) for start in range(0, len(found), _AT_ONCE)
    )


def _joined(records: Sequence[Record], key: str) -> str | None:
    """What several records say of one span, in the order of their times."""
    given = sorted((r for r in records if r.attributes.get(key) is not None), key=lambda record: record.start_ns)
    texts = list(dict.fromkeys(document(record.attributes[key]) for record in given))
    if len(texts) < 2:
        return texts[0] if texts else None
    joined: list[Any] = []
    for text in texts:
        said = json.loads(text)
        joined += said if isinstance(said, list) else [said]
    return json.dumps(joined, ensure_ascii=False)


def _append(connection: psycopg.Connection[Any], found: list[_Found], rejected: list[tuple[Record, str]]) -> int:
    if not found:
        return 0
    keys, messages, responses, _ = zip(*found, strict=True)
    traces, spans = zip(*keys, strict=True)
    try:
        with connect.transaction(connection):
            connection.execute(_ADD, (list(traces), list(spans), list(messages), list(responses)))
            return sum(len(own) for *_, own in found)
    except psycopg.Error as error:
        if not failure(error).of_the_row:
            raise
        if len(found) == 1:
            rejected += [(record, failure(error).advice) for record in found[0][-1]]
            return 0
    middle = len(found) // 2
    return _append(connection, found[:middle], rejected) + _append(connection, found[middle:], rejected)

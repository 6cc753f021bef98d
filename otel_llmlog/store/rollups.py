"""Rollups: what newly stored rows add to `spend_hourly` and `session_totals`, as one SQL statement.

Always true: the statement is run in the transaction that stores the rows, after them; each key stands in it once; sums
are exact; the database adds in one order of keys, so writers never deadlock. It is part of the hot path: rows are
grouped here, where there is a core to spare, and the database sees each group once.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from decimal import Context, Decimal, localcontext
from functools import lru_cache
from hashlib import sha256
from operator import itemgetter
from typing import Any

import msgspec
from psycopg import errors

from otel_llmlog.redact import clean
from otel_llmlog.store import chains
from otel_llmlog.store.rows import SpendLogRow

# As in `SpendLogRow`; of what was added up only the columns in `RETURNED` are there.
Row = Sequence[Any]

# What spend_hourly is keyed by beside the hour, in its order.
_NAMES = (
    "model", "response_model", "provider", "team_id", "team_alias", "organization_id", "user_id", "api_key",
    "api_key_alias", "status",
)  # fmt: skip
_TOKENS = (
    "prompt_tokens", "completion_tokens", "total_tokens", "cache_read_tokens", "cache_creation_tokens",
    "reasoning_tokens",
)  # fmt: skip
# What a session remembers of its latest call.
_LATEST = ("model", "user_id", "team_id", "end_user")

_at = SpendLogRow._fields.index
_names = itemgetter(*map(_at, _NAMES))
_tokens = itemgetter(*map(_at, _TOKENS))
_latest = itemgetter(*map(_at, _LATEST))
_START, _END, _STATUS, _SPEND = _at("start_time"), _at("end_time"), _at("status"), _at("spend")
_SESSION, _CACHE_HIT = _at("session_id"), _at("cache_hit")
_start, _end, _session_id = itemgetter(_START), itemgetter(_END), itemgetter(_SESSION)
# Characters of a timestamp up to its hour: every timestamp is written with the same number of digits, in UTC.
_HOUR = len("2026-01-31 12")
_json = msgspec.json.Encoder().encode
# No text that Postgres takes has it, so it may stand for NULL meanwhile.
_NUL = "\0"
# Digits of the tokens that one batch may add to a line. Far above any real call, and so far below the end of bigint
# that one absurd row cannot make all later ones of its line overflow: it is refused alone.
_MOST_DIGITS = 15
# Exact for any number of amounts of 40 digits on either side of the point.
_EXACT = Context(prec=200)
_HOURLY_FIELDS = 2 + len(_NAMES) + 2 + len(_TOKENS) + 1
_SESSION_FIELDS = 8 + len(_TOKENS) + 1 + len(_LATEST)


def _returned(column: str) -> str:
    if column in {"start_time", "end_time"}:
        return f"to_char({column} AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US\"+00\"')"
    if column == "cache_hit":
        return "CASE WHEN cache_hit THEN 't' END"
    used = (*_NAMES, *_TOKENS, *_LATEST, *chains.COLUMNS, "spend")
    return f"CAST({column} AS text)" if column in used else "NULL"


# A stored row in the form of `SpendLogRow`, as far as it is added up, for INSERT … RETURNING.
RETURNED = ", ".join(map(_returned, SpendLogRow._fields))


# The same names come again and again: a look is cheaper than a digest.
@lru_cache(maxsize=8192)
def key(names: Row) -> str:
    """What `llmlog.spend_hourly_key` makes of these names."""
    return sha256(_json(names)).hexdigest()[:32]


def statement(rows: Sequence[Row], quote: Callable[[bytes], bytes]) -> bytes:
    """The SQL that adds these rows up; empty for none. `quote` makes a literal of bytes.

    Rows are in the order of the columns of spend_logs. Raises NumericValueOutOfRange when a row is absurd.
    """
    if not rows:
        return b""
    try:
        encoded = [array.encode() for array in _arrays(rows)]
    except ValueError:
        # Characters that no column holds are replaced before rows are grouped: afterwards two groups may be one.
        cleaned = [[None if value is None else clean(value) for value in row] for row in rows]
        encoded = [array.encode() for array in _arrays(cleaned)]
    function = b"add_to_rollups" if len(encoded) == _HOURLY_FIELDS + _SESSION_FIELDS else b"add_calls"
    return b"SELECT llmlog." + function + b"(" + b",".join(map(quote, encoded)) + b")"


def _arrays(rows: Sequence[Row]) -> list[str]:
    """The arguments of llmlog.add_to_rollups, or of llmlog.add_calls, each an array as Postgres reads it."""
    hours: defaultdict[tuple[str, Row], list[Row]] = defaultdict(list)
    sessions: defaultdict[str, list[Row]] = defaultdict(list)
    for row, start, names, session in zip(rows, map(_start, rows), map(_names, rows), map(_session_id, rows)):  # noqa: B905 - hot
        hours[start[:_HOUR], names].append(row)
        if session is not None:
            sessions[session].append(row)
    with localcontext(_EXACT):
        hourly = [(f"{hour}:00+00", key(names), *names, *_sums(group)) for (hour, names), group in hours.items()]
        totals = [_session(session, group) for session, group in sessions.items()]
    linked = chains.links(rows)
    chained = _columns(linked, chains.FIELDS) if linked else []
    return [*chained, *_columns(hourly, _HOURLY_FIELDS), *_columns(totals, _SESSION_FIELDS)]


def _sums(group: Sequence[Row]) -> tuple[Any, ...]:
    """(calls, unpriced, tokens …, spend) of one group; the tokens and the spend as texts."""
    if len(group) == 1:
        # Most groups of a busy app are of one row: its texts need no detour.
        (row,) = group
        tokens, spend = _tokens(row), row[_SPEND]
        if max(map(len, tokens)) > _MOST_DIGITS:
            raise errors.NumericValueOutOfRange
        return 1, int(spend is None and row[_STATUS] == "success"), *tokens, spend
    sums = [sum(map(int, column)) for column in zip(*map(_tokens, group), strict=True)]
    if max(sums) >= 10**_MOST_DIGITS:
        raise errors.NumericValueOutOfRange
    amounts = [row[_SPEND] for row in group if row[_SPEND] is not None]
    unpriced = sum(row[_SPEND] is None and row[_STATUS] == "success" for row in group)
    total = f"{sum(map(Decimal, amounts)):f}" if amounts else None
    return len(group), unpriced, *map(str, sums), total


def _session(session: str, group: Sequence[Row]) -> tuple[Any, ...]:
    latest = max(group, key=_start)
    calls, unpriced, *sums = _sums(group)
    return (
        session,
        min(map(_start, group)),
        latest[_START],
        max(map(_end, group)),
        calls,
        sum(row[_STATUS] == "failure" for row in group),
        unpriced,
        sum(row[_CACHE_HIT] == "t" for row in group),
        *sums,
        *_latest(latest),
    )


def _columns(lines: Sequence[tuple[object, ...]], width: int) -> list[str]:
    """Lines -> the text of an array for each of their columns."""
    if not lines:
        return ["{}"] * width
    return [_array(column) for column in zip(*lines, strict=True)]


def _array(column: Sequence[Any]) -> str:
    if column[0].__class__ is int:
        return "{" + ",".join(map(str, column)) + "}"
    missing = column.count(None)
    texts = column if not missing else [_NUL if value is None else value for value in column]
    joined = '"' + '","'.join(texts) + '"'
    if joined.count(_NUL) != missing:
        raise ValueError("a text holds NUL")
    # Most names need no escape, and one look at all of them is cheaper than one at each.
    if "\\" in joined or joined.count('"') != 2 * len(texts):
        joined = '"' + '","'.join([text.replace("\\", "\\\\").replace('"', '\\"') for text in texts]) + '"'
    return "{" + (joined.replace(f'"{_NUL}"', "NULL") if missing else joined) + "}"

"""Rollups: what newly stored rows add to `spend_hourly` and `session_totals`, as one SQL statement.

Always true: the statement is run in the transaction that stores the rows, after them; each key stands in it once; sums
are exact; the database adds in one order of keys, so writers never deadlock. It is part of the hot path: rows are
grouped here, while the database is busy storing them, and it sees each group once.
"""

from __future__ import annotations

import itertools
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from decimal import Context, Decimal, localcontext
from functools import lru_cache
from hashlib import sha256
from operator import itemgetter
from typing import Any

import msgspec
from psycopg import errors

from otel_llmlog.store import chains, described
from otel_llmlog.store.copy import NULL, Row, value
from otel_llmlog.store.rows import SpendLogRow

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
_session_id = itemgetter(_at("session_id"))
# What is kept of a row: its times, how it ended, its amounts, and what its session remembers of it.
_FACTS = ("start_time", "end_time", "status", "cache_hit", "spend", *_TOKENS, *_LATEST)
_facts = itemgetter(*map(_at, _FACTS))
_START, _END, _STATUS, _CACHE_HIT, _SPEND, _TOKENS_AT = range(6)
_LATEST_AT, _WIDTH = _TOKENS_AT + len(_TOKENS), len(_FACTS)
# Characters of a timestamp up to its hour: every timestamp is written with the same number of digits, in UTC.
_HOUR = len("2026-01-31 12")
_json = msgspec.json.Encoder().encode
# Digits of the tokens that one batch may add to a line. Far above any real call, and so far below the end of bigint
# that one absurd row cannot make all later ones of its line overflow: it is refused alone.
_MOST_DIGITS = 15
# Exact for any number of amounts of 40 digits on either side of the point.
_EXACT = Context(prec=200)
# Stands in a line of hour_sums for the names, where spend_hourly has that line. No status is called so.
_KNOWN = "," * len(_NAMES) + "known"
_KEY = 32
# Lines that a writer remembers as being there: some 150 bytes each.
_MOST_KNOWN = 8192
# Lines put together between two looks at something else: some 100 microseconds. A session is of many rows.
_HOURS_AT_ONCE, _SESSIONS_AT_ONCE = 32, 4
# In a line, a text with one of these must stand in quotes; so must an empty one, or it would be NULL.
_QUOTED = re.compile(r'[,()"\\]').search


# The same names come again and again: a look is cheaper than a digest.
@lru_cache(maxsize=8192)
def _named(names: str) -> str:
    """Names as `Added` puts them together -> the key of their line and each of them, as they stand in a line."""
    fields = names.split("\t")
    return ",".join([key(fields), *map(_written, fields)])


def key(names: Row) -> str:
    """What `llmlog.spend_hourly_key` makes of these names, which are fields."""
    return sha256(_json([*map(value, names)])).hexdigest()[:32]


class Added:
    """Rows by the lines of the rollups that they add to. Filled while the database stores the rows.

    Facts stand end to end in few lists, and lines are found by texts: so neither a row nor a line is an object that the
    garbage collector has to look at, which would make it look at all others of the app, too.
    """

    __slots__ = ("_described", "_facts", "_further", "_hours", "_links", "_sessions")

    def __init__(self, *, described_too: bool = False) -> None:
        """`described_too`: spans of others may describe the same requests."""
        self._described = described.Described() if described_too else None
        # The hour and the names of a line -> where the facts of its first row begin.
        self._hours: dict[str, int] = {}
        self._facts: list[str] = []
        # The facts of its further rows. Many lines are of one row.
        self._further: defaultdict[str, list[str]] = defaultdict(list)
        self._sessions: defaultdict[str, list[str]] = defaultdict(list)
        self._links: list[Row] = []

    def add(self, rows: Sequence[Row]) -> None:
        """Take in rows as they are stored, as `SpendLogRow`."""
        hours, first, further, sessions = self._hours, self._facts, self._further, self._sessions
        for facts, names, session in zip(map(_facts, rows), map(_names, rows), map(_session_id, rows)):  # noqa: B905 - hot
            # No field holds a tab.
            line = facts[0][:_HOUR] + "\t".join(names)
            if line in hours:
                further[line] += facts
            else:
                hours[line] = len(first)
                first += facts
            if session != NULL:
                sessions[session] += facts
        self._links += chains.links(rows)
        if self._described is not None:
            self._described.add(rows)

    def statement(
        self, quote: Callable[[bytes], bytes], known: set[str], meanwhile: Callable[[], object] = lambda: None
    ) -> bytes:
        """The SQL that adds these rows up; empty for none. `quote` makes a literal of bytes.

        This takes milliseconds: `meanwhile` is called now and again.

        `known` remembers from one transaction to the next which lines of spend_hourly are there: their names are left
        out, which are most of a line. Empty it when a transaction fails. The database refuses to make a line without
        names (NoDataFound), so believing wrongly costs time and nothing else.

        Raises NumericValueOutOfRange when a row is absurd.
        """
        if not self._hours:
            return b""
        if self._described is not None:
            known = set()  # calls that come and go are added to these lines by their names
        elif len(known) > _MOST_KNOWN:
            known.clear()
        with localcontext(_EXACT):
            arrays = [
                _lines(_with(meanwhile, self._hourly(known), _HOURS_AT_ONCE)),
                _lines(_with(meanwhile, itertools.starmap(_session, self._sessions.items()), _SESSIONS_AT_ONCE)),
            ]
        function = b"add_to_rollups"
        if self._links or self._described is not None:
            function, arrays = b"add_calls", [*_columns(self._links, chains.FIELDS), *arrays]
        if self._described is not None:
            others, own = self._described.lines()
            more = [*_columns(others, described.FIELDS), *_columns(own, described.OWN_FIELDS)]
            function, arrays = b"add_described", [*more, *arrays]
        return b"SELECT llmlog." + function + b"(" + b",".join([quote(array.encode()) for array in arrays]) + b")"

    def _hourly(self, known: set[str]) -> Iterator[str]:
        first, further = self._facts, self._further
        for line, at in self._hours.items():
            facts = first[at : at + _WIDTH]
            if line in further:
                facts += further[line]
            hour, names = line[:_HOUR], _named(line[_HOUR:])
            place = hour + names[:_KEY]
            if place in known:
                names = names[:_KEY] + _KNOWN
            else:
                known.add(place)
            yield f"{hour}:00+00,{names},{_calls(facts)},{_unpriced(facts)},{_sums(facts)}"


def _with(meanwhile: Callable[[], object], lines: Iterator[str], at_once: int) -> Iterator[str]:
    while some := list(itertools.islice(lines, at_once)):
        yield from some
        meanwhile()


def _calls(line: list[str]) -> int:
    return len(line) // _WIDTH


def _unpriced(line: list[str]) -> int:
    spends = line[_SPEND::_WIDTH]
    return [*zip(spends, line[_STATUS::_WIDTH], strict=True)].count((NULL, "success")) if NULL in spends else 0


def _sums(line: list[str]) -> str:
    """Tokens and spend as they stand in a line. Raises NumericValueOutOfRange when the tokens are too many."""
    if len(line) == _WIDTH:
        # Many lines are of one row: its texts need no detour.
        sums, spend = line[_TOKENS_AT:_LATEST_AT], line[_SPEND]
    else:
        sums = [str(sum(map(int, line[at::_WIDTH]))) for at in range(_TOKENS_AT, _LATEST_AT)]
        amounts = [Decimal(spend) for spend in line[_SPEND::_WIDTH] if spend != NULL]
        spend = f"{sum(amounts):f}" if amounts else NULL
    if max(map(len, sums)) > _MOST_DIGITS:
        raise errors.NumericValueOutOfRange
    sums.append("" if spend == NULL else spend)
    return ",".join(sums)


def _session(session: str, line: list[str]) -> str:
    starts, statuses = line[_START::_WIDTH], line[_STATUS::_WIDTH]
    last = max(starts)
    latest = starts.index(last) * _WIDTH
    return (
        f"{_written(session)},{min(starts)},{last},{max(line[_END::_WIDTH])},"
        f"{_calls(line)},{statuses.count('failure')},{_unpriced(line)},{line[_CACHE_HIT::_WIDTH].count('t')},{_sums(line)},"
        + ",".join(map(_written, line[latest + _LATEST_AT : latest + _WIDTH]))
    )


def _lines(lines: Iterable[str]) -> str:
    """An array of lines."""
    joined = ')","('.join(lines)
    return f'{{"({joined})"}}' if joined else "{}"


def _written(field: str) -> str:
    """A field as it stands in a line, which stands in an array."""
    if field == NULL:
        return ""
    text = value(field) or ""
    if text and not _QUOTED(text):
        return text
    quoted = text.replace("\\", "\\\\").replace('"', '\\"')
    return '\\"' + quoted.replace("\\", "\\\\").replace('"', '\\"') + '\\"'


def _columns(lines: Sequence[Sequence[Any]], width: int) -> list[str]:
    """Lines -> the text of an array for each of their columns."""
    if not lines:
        return ["{}"] * width
    return [_array(column) for column in zip(*lines, strict=True)]


def _array(column: Sequence[Any]) -> str:
    if column[0].__class__ is int:
        return "{" + ",".join(map(str, column)) + "}"
    joined = '"' + '","'.join(column) + '"'
    # Most names need no escape, and one look at all of them is cheaper than one at each.
    if joined.count("\\") == column.count(NULL) and joined.count('"') == 2 * len(column):
        return "{" + joined.replace(f'"{NULL}"', "NULL") + "}"
    return "{" + ",".join(["NULL" if text == NULL else _element(text) for text in column]) + "}"


def _element(text: str) -> str:
    """A field as an element of an array."""
    escaped = (value(text) or "").replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'

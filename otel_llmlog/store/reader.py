"""Reading rows: request logs, one log with its contents, sessions, spend by group, the state of the store.

Always true: nothing is written; all values go to the database as parameters of the named queries in `sql/queries`;
a query that takes too long is stopped by the database.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Literal, NamedTuple, get_args

from sqlalchemy import Connection, RowMapping, text
from sqlalchemy.exc import DBAPIError

from otel_llmlog.errors import StoreUnavailable
from otel_llmlog.redact import short
from otel_llmlog.store import connect, migrate, rights, sql, tables

Grouping = Literal["model", "provider", "team", "user", "end_user", "tag", "key", "session", "day"]
GROUPINGS: tuple[str, ...] = get_args(Grouping)

Sorting = Literal["last-seen", "spend", "calls"]
SORTINGS: tuple[str, ...] = get_args(Sorting)

# Groupings for which spend_hourly has all that it takes.
_ROLLED_UP = frozenset({"model", "provider", "team", "user", "key", "day"})
_HOUR, _DAY = timedelta(hours=1), timedelta(days=1)

# (start_time, trace_id, span_id) of a row: where a page ends and the next begins.
Key = tuple[datetime, str, str]

# Seconds that a read may take before the database stops it.
_TIMEOUT = 30
# Tables up to this size are counted exactly: they fit into memory on any machine.
_COUNTED_BYTES = 64 << 20
# A row is written when its call ends: followers look this far back for calls that began before the newest row.
_LONGEST_CALL = timedelta(hours=1)
# `created_at` is when a transaction began; one that began earlier may be seen later.
_LONGEST_WRITE = timedelta(seconds=65)


@dataclass(frozen=True, slots=True, kw_only=True)
class Filter:
    """Which calls. What is None does not restrict."""

    since: datetime | None = None
    """Calls that began then or later."""
    until: datetime | None = None
    """Calls that began before."""
    model: str | None = None
    """As the caller or as the provider named it."""
    provider: str | None = None
    status: str | None = None
    """`success` or `failure`."""
    user_id: str | None = None
    team: str | None = None
    """Id or alias."""
    tag: str | None = None
    session_id: str | None = None
    end_user: str | None = None
    api_key: str | None = None
    """Hash or alias."""
    min_cost: Decimal | None = None
    """Calls that cost at least so many US dollars."""
    trace_id: str | None = None
    """32 hex digits. No index: with `since`, only the calls from then on are looked through."""


class SpendLine(NamedTuple):
    """Calls of one group summed up."""

    key: str | None
    """None: the calls that have no such thing."""
    name: str | None
    """Alias of a team or key."""
    calls: int
    failures: int
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    cache_read_tokens: int
    spend: Decimal | None
    """None when no call of the group has a price."""
    unpriced: int
    """Successful calls that are not in `spend` because no price is known."""


@dataclass(frozen=True, slots=True)
class Status:
    """The state of the store. Without tables, all but the revisions are 0 or None."""

    revision: str | None
    newest_revision: str
    rows: int = 0
    """Exact in small tables, else as the last ANALYZE saw them."""
    newest: datetime | None = None
    """When the newest call began."""
    log_bytes: int = 0
    content_bytes: int = 0
    partitions: int = 0

    @property
    def newer(self) -> bool:
        """Whether the tables are newer than this program."""
        return tables.is_newer(self.revision)


class Reader:
    """Reads from the database of this URL. Every method raises StoreUnavailable when it does not answer."""

    def __init__(self, url: str, *, connect_timeout: int = 10) -> None:
        """Raises ConfigError when the URL is none."""
        self._conninfo = connect.conninfo(url, connect_timeout=connect_timeout)
        self._engine = connect.engine(
            url, connect_timeout=connect_timeout, limits=connect.USUAL._replace(statement=_TIMEOUT)
        )

    def logs(
        self,
        where: Filter = Filter(),
        *,
        limit: int | None = 100,
        before: Key | None = None,
        after: Key | None = None,
        written_after: datetime | None = None,
    ) -> list[dict[str, Any]]:
        """Calls, newest first. `before` the last key of a page gives the next page; `after` gives newer ones."""
        parameters = {
            **asdict(where),
            **dict(zip(("before_time", "before_trace", "before_span"), before or (None,) * 3, strict=True)),
            **dict(zip(("after_time", "after_trace", "after_span"), after or (None,) * 3, strict=True)),
            "written_after": written_after,
            "limit": limit,
        }
        return [dict(row) for row in self._read("logs", parameters)]

    def follow(self, where: Filter = Filter()) -> Follower:
        """Calls as they are written, from now on."""
        return Follower(self, where, self._read("now")[0]["now"])

    def log(self, identifier: str, *, limit: int = 20) -> list[dict[str, Any]]:
        """Calls named by a request, call, trace or span id or `trace_id:span_id`, newest first, with contents."""
        parameters = {"id": identifier, "limit": limit}
        found = self._read("log_by_request_id", parameters) or self._read("log_by_other_id", parameters)
        return [dict(row) for row in found]

    def spend(self, by: Grouping, where: Filter = Filter(), *, limit: int | None = None) -> list[SpendLine]:
        """Sums per group, the dearest first; days newest first. A call counts under each of its tags.

        Whole hours come from the rollup where it knows what is asked; the answer is the same, and is there still when
        the rows are gone. Then only the rest of a first or last hour that was cut into is missing.
        """
        if by not in GROUPINGS:
            raise ValueError(f"by must be one of {', '.join(GROUPINGS)}, found {by!r}")
        cut = _cut(where.since, where.until)
        known = by in _ROLLED_UP and not any(
            (where.tag, where.session_id, where.end_user, where.trace_id, where.min_cost is not None)
        )
        if not known or cut is None:
            return self.spend_of_rows(by, where, limit=limit)
        parameters = {**asdict(where), "by": by, "limit": limit, **cut}
        return [SpendLine(**row) for row in self._read("spend_of_hours", parameters)]

    def spend_of_rows(self, by: Grouping, where: Filter = Filter(), *, limit: int | None = None) -> list[SpendLine]:
        """The same, summed up from the rows."""
        return [SpendLine(**row) for row in self._read("spend", {**asdict(where), "by": by, "limit": limit})]

    def sessions(
        self, where: Filter = Filter(), *, sort: Sorting = "last-seen", limit: int | None = None
    ) -> list[dict[str, Any]]:
        """Sessions, the first ones by `sort`, as the view `llmlog.sessions` has them.

        `since`, `until`: sessions that had calls from then on, and before. `status`: those with failed calls, or with
        none. `min_cost`: of the whole session. The rest: sessions with a call that passes.
        """
        if sort not in SORTINGS:
            raise ValueError(f"sort must be one of {', '.join(SORTINGS)}, found {sort!r}")
        return [dict(row) for row in self._read("sessions", {**asdict(where), "sort": sort, "limit": limit})]

    def session(self, session_id: str) -> list[dict[str, Any]]:
        """The calls of a session, oldest first, with contents."""
        return [dict(row) for row in self._read("session_calls", {"id": session_id})]

    def chain(self, response_id: str) -> list[dict[str, Any]]:
        """The call with this response id and those it follows, in any order, with contents."""
        return [dict(row) for row in self._read("chain_calls", {"id": response_id})]

    def ready(self) -> bool:
        """Whether the tables are there."""
        return bool(self._read("chains_kept")[0]["kept"])

    def status(self) -> Status:
        """How much is stored, how new it is, and whether the tables are of this version."""
        revision, newest_revision = migrate.status(self._engine)
        if revision is None:
            return Status(revision, newest_revision)
        logs, contents = self._read("size")
        newest = self._read("newest")
        rows = self._read("count")[0]["count"] if logs["bytes"] <= _COUNTED_BYTES else logs["rows"]
        return Status(
            revision,
            newest_revision,
            rows,
            newest[0]["start_time"] if newest else None,
            logs["bytes"],
            contents["bytes"],
            logs["partitions"],
        )

    def close(self) -> None:
        """Give back connections."""
        self._engine.dispose()

    def _read(self, query: str, parameters: dict[str, Any] | None = None) -> Sequence[RowMapping]:
        # A text that no column can hold finds nothing; it is no error of the database.
        # Names are looked for as they are stored.
        given = {n: short(v) if isinstance(v, str) else v for n, v in (parameters or {}).items()}
        with self._transaction() as connection:
            return connection.execute(text(sql.queries()[query]), given).mappings().all()

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        try:
            with self._engine.connect() as connection:
                connection.execute(text("SET TRANSACTION READ ONLY"))
                yield connection
        except DBAPIError as error:
            raise StoreUnavailable(f"cannot read: {rights.told(error.orig, self._conninfo, 'reader')}") from None


@dataclass(slots=True)
class Follower:
    """Calls that are written after it was made, each of them once, long calls that end late included."""

    _reader: Reader
    _where: Filter
    _since: datetime
    _seen: dict[Key, datetime] = field(default_factory=dict)

    def poll(self) -> list[dict[str, Any]]:
        """What came since the last call, oldest first."""
        where = self._where
        if where.since is None or where.since < self._since - _LONGEST_CALL:
            where = replace(where, since=self._since - _LONGEST_CALL)
        found = self._reader.logs(where, limit=None, written_after=self._since)
        new = [row for row in reversed(found) if _key(row) not in self._seen]
        self._seen |= {_key(row): row["created_at"] for row in new}
        if self._seen:
            # Look back as far as a transaction may last, and forget what is older than that.
            self._since = max(self._since, max(self._seen.values()) - _LONGEST_WRITE)
            self._seen = {key: written for key, written in self._seen.items() if written > self._since}
        return new


def _cut(since: datetime | None, until: datetime | None) -> dict[str, datetime | str] | None:
    """A time cut into whole days, whole hours beside them and the rest; None when no hour lies wholly in it."""
    first_hour, last_hour = since and _start(since + _HOUR - datetime.resolution), until and _start(until)
    if first_hour and last_hour and first_hour >= last_hour:
        return None
    first_day = first_hour and _start(first_hour + _DAY - datetime.resolution, hour=0)
    last_day = last_hour and _start(last_hour, hour=0)
    if first_day and last_day and first_day > last_day:
        # Within one day: no whole day, and all hours come before it.
        first_day = last_day = last_hour
    return {
        "since": since or "-infinity",
        "first_hour": first_hour or "-infinity",
        "first_day": first_day or "-infinity",
        "last_day": last_day or "infinity",
        "last_hour": last_hour or "infinity",
        "until": until or "infinity",
    }


def _start(time: datetime, hour: int | None = None) -> datetime:
    """The start of its hour; with `hour`, of that hour of its day."""
    time = time.astimezone(UTC)
    return time.replace(hour=time.hour if hour is None else hour, minute=0, second=0, microsecond=0)


def _key(row: dict[str, Any]) -> Key:
    return row["start_time"], row["trace_id"], row["span_id"]

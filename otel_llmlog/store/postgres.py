"""Writing rows: records become COPY text in pieces, and the server stores one piece while the next is formatted.

Always true: a record is counted as written only after COMMIT; delivering it again, from here or from another
process, changes nothing and is counted as a duplicate; a row the database refuses is rejected alone. No message holds
content or credentials.
"""

from __future__ import annotations

import importlib
import os
import threading
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from operator import attrgetter

import psycopg

from otel_llmlog import forks
from otel_llmlog.config import RetentionSettings
from otel_llmlog.errors import RowRejected, StoreUnavailable
from otel_llmlog.pipeline.record import Delivery, Record
from otel_llmlog.stats import Stats
from otel_llmlog.store import connect, described, rows, sql
from otel_llmlog.store.failures import UPGRADE, failure
from otel_llmlog.store.retention import maintain, wanted
from otel_llmlog.store.session import PIECE_ROWS, Session, Stored

# Rows per transaction: what the pipeline hands over at once when much waits, so that one delivery is one COMMIT and a
# line of the rollups is changed once for all rows that add to it. Locks on those lines are held for about 10 ms.
CHUNK_ROWS = 2048
# Days around today for which partitions are made. Rows of other days go to the default partition.
DAYS_BACK, DAYS_AHEAD = 7, 2
# Seconds between two looks whether old rows should be removed: a small query, and an idle fleet has many writers.
LOOK_SECONDS = 900.0
_DAY_NS = 86_400 * 10**9

# What migrate and its libraries import as they go, while they hold a lock of the database: had before, in one piece.
_MIGRATION_MODULES = (
    "alembic.command",
    "alembic.config",
    "alembic.runtime.environment",
    "alembic.script",
    "otel_llmlog.store.migrations",
    "sqlalchemy.dialects.postgresql.psycopg",
)

# Sessions inherited through fork. Kept, never used: closing one would end the session of the parent.
_inherited: list[Session] = []


class PostgresExporter:
    """An `Exporter` that stores records in Postgres. Connects with the first batch."""

    def __init__(
        self,
        url: str,
        *,
        auto_migrate: bool = True,
        connect_timeout: int = 10,
        retention: RetentionSettings | None = None,
        stats: Stats | None = None,
        keep_rejected: bool = True,
    ) -> None:
        """`retention`: remove old rows when it is time; `stats` hears of failures to. Raises ConfigError.

        `keep_rejected`: put rejected records into dead_letters.
        """
        self._url = url
        self._connect_timeout = connect_timeout
        self._retention = retention if retention and wanted(retention) else None
        self._look_at = 0.0
        self._stats = stats
        self._keep_rejected = keep_rejected
        self._conninfo = connect.conninfo(url, connect_timeout=connect_timeout)
        self._auto_migrate = auto_migrate
        self._session: Session | None = None
        self._process = os.getpid()
        self._days: set[int] = set()
        self._today = 0

    def open(self) -> None:
        """Connect and see to the tables, before there is anything to store. Raises StoreUnavailable."""
        self.export(())

    def export(self, records: Sequence[Record]) -> Delivery:
        """Store the records; returns after COMMIT. Raises StoreUnavailable when it should be tried again."""
        rejected: list[tuple[Record, str]] = []
        try:
            session = self._connected()
            self._remove_old_rows(session)
            others = [record for record in records if record.kind != "span"]
            calls = [record for record in records if record.kind == "span"] if others else records
            if described.by_others(calls):
                session.expect_described()
            ordered = _in_key_order(calls, rejected)
            self._see_to_days(session, ordered)
            written = self._store(session, ordered, rejected)
            if others:
                written += session.append_audit([record for record in others if record.kind == "log"], rejected)
                written += session.append_contents([record for record in others if record.kind == "content"], rejected)
        except psycopg.Error as error:
            self._drop()
            raise StoreUnavailable(failure(error).advice) from None
        except BaseException:
            # Interrupted anywhere: what state the connection is in cannot be known.
            self._drop()
            raise
        duplicates = len(records) - written - len(rejected)
        if rejected and self._keep_rejected:
            rejected = self._kept_aside(rejected)
        return Delivery(written, duplicates, rejected)

    def close(self) -> None:
        """Close the connection. The next `export` would open another."""
        self._drop()

    def _store(self, session: Session, records: Sequence[Record], rejected: list[tuple[Record, str]]) -> int:
        written = 0
        before: _Chunk | None = None
        for start in range(0, len(records), CHUNK_ROWS):
            chunk = _Chunk(records[start : start + CHUNK_ROWS])
            chunk.format_next()
            if before is not None:
                written += _committed(session, before, rejected)
            try:
                session.send(chunk.pieces())
                before = chunk
            except psycopg.Error as error:
                session.rollback_or_raise(error)
                written += _merged(session, chunk.lines(rejected), rejected)
                before = None
        if before is not None:
            written += _committed(session, before, rejected)
        return written

    def _kept_aside(self, rejected: list[tuple[Record, str]]) -> list[tuple[Record, str]]:
        # What is stored is stored and counted: a failure from here on must not send the whole batch again.
        for _ in range(2):
            try:
                self._connected().keep_aside(rejected)
            except (psycopg.Error, StoreUnavailable):
                self._drop()
            else:
                return rejected
        return [(record, f"{reason}; dead_letters could not be written") for record, reason in rejected]

    def _remove_old_rows(self, session: Session) -> None:
        """When it is time to, in a thread of its own: writing goes on."""
        if self._retention is None or time.monotonic() < self._look_at:
            return
        interval = self._retention.maximum_spend_logs_retention_interval.total_seconds()
        self._look_at = time.monotonic() + min(interval, LOOK_SECONDS)
        if session.retention_due(self._retention):
            threading.Thread(
                target=self._maintain, args=(self._retention,), name="llmlog-retention", daemon=True
            ).start()

    def _maintain(self, settings: RetentionSettings) -> None:
        try:
            maintain(self._url, settings, connect_timeout=self._connect_timeout)
        except Exception as error:  # it is tried again at the next look; the rows it should remove harm nobody
            if self._stats is not None:
                self._stats.warn("retention", str(error) if isinstance(error, StoreUnavailable) else repr(type(error)))

    def _connected(self) -> Session:
        if self._session is not None and self._process != os.getpid():
            _inherited.append(self._session)
            self._session = None
        if self._session is None:
            self._process = os.getpid()
            self._days.clear()
            self._today = 0
            self._session = Session(self._conninfo)
            self._check_tables(self._session)
        return self._session

    def _check_tables(self, session: Session) -> None:
        found = session.revision()
        with forks.held_off():
            newest = sql.newest()
        if found is not None and found >= newest:
            return
        if not self._auto_migrate:
            state = "are not there" if found is None else "are of an older version"
            raise StoreUnavailable(f"the llmlog tables {state}: {UPGRADE}, or set LLMLOG_AUTO_MIGRATE=true")
        # Imported when there is something to do, which is once in the life of a version.
        with forks.held_off():
            for name in _MIGRATION_MODULES:
                importlib.import_module(name)
            from otel_llmlog.store import migrate

        migrate.upgrade(self._url)

    def _see_to_days(self, session: Session, records: Sequence[Record]) -> None:
        today = time.time_ns() // _DAY_NS
        # Those to come are made before anybody needs them, at the first batch of a day at the latest.
        days = {record.start_ns // _DAY_NS for record in records}.union(range(today, today + DAYS_AHEAD + 1))
        for day in sorted(days - self._days):
            if -DAYS_BACK <= day - today <= DAYS_AHEAD:
                session.make_partition(datetime.fromtimestamp(day * 86_400, UTC).date())
                self._days.add(day)
        if today != self._today:
            session.fold_rollups()
            self._today = today

    def _drop(self) -> None:
        session, self._session = self._session, None
        if session is None:
            return
        if self._process == os.getpid():
            session.close()
        else:
            _inherited.append(session)


class _Chunk:
    """The records of one transaction, formatted piece by piece as they are asked for.

    No line is kept: that the database refuses one is rare, and then they are formatted again.
    """

    def __init__(self, records: Sequence[Record]) -> None:
        self._records = records
        self.rejected: list[tuple[Record, str]] = []
        self._first: list[tuple[Record, Stored]] = []

    def format_next(self) -> None:
        """Format the first piece, to have it ready."""
        self._first = self._piece(0)

    def pieces(self) -> Iterator[list[Stored]]:
        """All pieces, the one that is ready first."""
        yield [stored for _, stored in self._first]
        self._first = []
        for start in range(PIECE_ROWS, len(self._records), PIECE_ROWS):
            yield [stored for _, stored in self._piece(start)]

    def lines(self, rejected: list[tuple[Record, str]]) -> list[tuple[Record, Stored]]:
        """All lines with their records; those that cannot be lines are added to `rejected`."""
        self.rejected = []
        found = [line for start in range(0, len(self._records), PIECE_ROWS) for line in self._piece(start)]
        rejected += self.rejected
        return found

    def sound(self) -> int:
        """How many of the records became lines."""
        return len(self._records) - len(self.rejected)

    def _piece(self, start: int) -> list[tuple[Record, Stored]]:
        piece = []
        for record in self._records[start : start + PIECE_ROWS]:
            try:
                piece.append((record, (rows.row(record), rows.content(record))))
            except RowRejected as error:
                self.rejected.append((record, str(error)))
        return piece


def _committed(session: Session, chunk: _Chunk, rejected: list[tuple[Record, str]]) -> int:
    """Wait for what was sent; returns how many rows it stored. What the sums refuse is found among the rows."""
    try:
        session.commit()
    except psycopg.Error as error:
        session.rollback_or_raise(error)
        return _merged(session, chunk.lines(rejected), rejected)
    rejected += chunk.rejected
    return chunk.sound()


def _merged(session: Session, found: list[tuple[Record, Stored]], rejected: list[tuple[Record, str]]) -> int:
    """Store lines some of which are there already or are refused; returns how many were new.

    What is refused as a whole is halved until the refused lines stand alone.
    """
    if not found:
        return 0
    try:
        return session.merge([stored for _, stored in found])
    except psycopg.Error as error:
        session.rollback_or_raise(error)
        if len(found) == 1:
            rejected.append((found[0][0], failure(error).advice))
            return 0
    middle = len(found) // 2
    return _merged(session, found[:middle], rejected) + _merged(session, found[middle:], rejected)


def _in_key_order(records: Sequence[Record], rejected: list[tuple[Record, str]]) -> Sequence[Record]:
    """The records by their key, those that have none rejected.

    Two processes that store the same records wait for each other's keys; in one order that is no deadlock.
    """
    sound = [record for record in records if record.start_ns.__class__ is int and record.trace_id and record.span_id]
    if len(sound) < len(records):
        kept = set(map(id, sound))
        rejected += [(record, "the record has no key") for record in records if id(record) not in kept]
    return sorted(sound, key=attrgetter("start_ns", "trace_id", "span_id"))

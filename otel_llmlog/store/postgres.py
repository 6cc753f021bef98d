"""Writing rows: records become COPY text in pieces, and the server stores them while the next ones are formatted.

Always true: a record is counted as written only after COMMIT; delivering it again, from here or from another
process, changes nothing and is counted as a duplicate; a row the database refuses is rejected alone. No message holds
content or credentials.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from operator import attrgetter

import psycopg

from otel_llmlog import forks, native
from otel_llmlog.config import RetentionSettings
from otel_llmlog.errors import RowRejected, StoreUnavailable
from otel_llmlog.pipeline.record import Delivery, Exporter, Record
from otel_llmlog.stats import Stats
from otel_llmlog.store import connect, described, rights, rows, sql, tables
from otel_llmlog.store.failures import UPGRADE, failure
from otel_llmlog.store.retention import maintain, wanted
from otel_llmlog.store.session import PIECE_ROWS, Session, Stored

# Rows per transaction: what the pipeline hands over as one when much waits, so that one delivery is one COMMIT and a
# line of the rollups is changed once for all rows that add to it. Locks on those lines are held for about 10 ms.
CHUNK_ROWS = 1024
# Rows formatted between two looks at the server, which does nothing while it waits to be told what comes next.
AHEAD_ROWS = 8
# Days around today for which partitions are made. Rows of other days go to the default partition.
DAYS_BACK, DAYS_AHEAD = 7, 2
# Seconds between two looks whether old rows should be removed: a small query, and an idle fleet has many writers.
LOOK_SECONDS = 900.0
# Seconds until a partition is tried again that a reader stood in the way of: readers must not hold writers up.
PARTITION_SECONDS = 60.0
_DAY_NS = 86_400 * 10**9
_AHEAD = "it starts more than {:g} hours ahead of this machine's clock"

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


class PostgresExporter(Exporter):
    """An `Exporter` that stores records in Postgres. Connects with the first batch."""

    def __init__(
        self,
        url: str | Callable[[], str],
        *,
        auto_migrate: bool = True,
        connect_timeout: int = 10,
        retention: RetentionSettings | None = None,
        stats: Stats | None = None,
        keep_rejected: bool = True,
        most_ahead: float | None = None,
    ) -> None:
        """`url`: where to, or what says so before each connection. `retention`: remove old rows when it is time;
        `stats` hears of failures to. Raises ConfigError.

        `keep_rejected`: put rejected records into dead_letters. `most_ahead`: seconds that a call may start ahead of
        the clock; None where its clock is this one.
        """
        self._address = url if callable(url) else lambda: url
        self._url = self._address()
        self._connect_timeout = connect_timeout
        self._retention = retention if retention and wanted(retention) else None
        self._look_at = 0.0
        self._partitions_at = 0.0
        self._stats = stats
        self._keep_rejected = keep_rejected
        self._most_ahead = most_ahead
        self._conninfo = connect.conninfo(self._url, connect_timeout=connect_timeout)
        self._auto_migrate = auto_migrate
        self._session: Session | None = None
        self._process = os.getpid()
        self._days: set[int] = set()
        self._today = 0
        # What to say of tables that are newer than this program. None: they are not.
        self._newer: str | None = None

    def open(self) -> None:
        """Connect and see to the tables, before there is anything to store. Raises StoreUnavailable."""
        self.export(())

    def export(self, records: Sequence[Record]) -> Delivery:
        """Store the records; returns after COMMIT. Raises StoreUnavailable when it should be tried again."""
        [delivery] = self.export_all((records,))
        return delivery

    def export_all(self, batches: Iterable[Sequence[Record]]) -> Iterator[Delivery]:
        """Store batch after batch; answers for each after its COMMIT.

        The next one is taken and prepared while the server is busy with the one before: between two batches nobody
        waits for the other. Raises StoreUnavailable; whatever was not answered for should then be tried again.
        """
        if self._session is not None and self._session.is_busy():
            self._drop()  # whoever took these answers went away in the middle
        before: _Batch | None = None
        for records in batches:
            batch = _Batch(records, self._most_ahead)
            if before is not None:
                with self._failures_told():
                    session = self._connected()
                    batch.format_while(session)
                    self._settle(session, before)
                yield self._delivery(before)
            with self._failures_told():
                session = self._connected()
                self._remove_old_rows(session)
                self._see_to_days(session, batch.days)
                if batch.described:
                    session.expect_described()
                self._send(session, batch)
            before = batch
        if before is not None:
            with self._failures_told():
                self._settle(self._connected(), before)
            yield self._delivery(before)

    def close(self) -> None:
        """Close the connection. The next `export` would open another."""
        self._drop()

    @contextlib.contextmanager
    def _failures_told(self) -> Iterator[None]:
        try:
            yield
        except psycopg.Error as error:
            self._drop()
            told = rights.told(error, self._conninfo, "writer")
            # Its advice is to upgrade the tables, and these are newer.
            raise StoreUnavailable(self._newer if self._newer and UPGRADE in told else told) from None
        except BaseException:
            # Interrupted anywhere: what state the connection is in cannot be known.
            self._drop()
            raise

    def _send(self, session: Session, batch: _Batch) -> None:
        """Hand the batch over; its last chunk may be under way then."""
        for chunk in batch.chunks:
            chunk.format_while(session)
            self._commit(session, batch)
            session.send(chunk.pieces())
            batch.sent = chunk

    def _settle(self, session: Session, batch: _Batch) -> None:
        """See to it that all of the batch is stored."""
        self._commit(session, batch)
        if batch.events:
            batch.written += session.append_audit(batch.events, batch.rejected)
        if batch.contents:
            batch.written += session.append_contents(batch.contents, batch.rejected)

    def _commit(self, session: Session, batch: _Batch) -> None:
        """Wait for the chunk that was sent, if any. Where not all of it is new or sound, row by row if need be."""
        chunk, batch.sent = batch.sent, None
        if chunk is None:
            return
        try:
            session.commit()
        except psycopg.Error as error:
            session.rollback_or_raise(error)
            batch.written += _merged(session, chunk.lines(batch.rejected), batch.rejected)
        else:
            batch.rejected += chunk.rejected
            batch.written += chunk.sound()

    def _delivery(self, batch: _Batch) -> Delivery:
        rejected = batch.rejected
        duplicates = batch.size - batch.written - len(rejected)
        if rejected and self._keep_rejected:
            rejected = self._kept_aside(rejected)
        return Delivery(batch.written, duplicates, rejected)

    def _kept_aside(self, rejected: list[tuple[Record, str]]) -> list[tuple[Record, str]]:
        for last_try in (False, True):
            try:
                self._connected().keep_aside(rejected)
            except psycopg.Error as error:
                if failure(error).of_the_row:
                    if len(rejected) > 1:
                        return [kept for one in rejected for kept in self._kept_aside([one])]
                    return [(record, f"{reason}; dead_letters refuses it, too") for record, reason in rejected]
                self._drop()
                if last_try:
                    # The batch is sent again, or these would be nowhere. What is stored of it is a duplicate then.
                    why = rights.told(error, self._conninfo, "writer")
                    raise StoreUnavailable(f"dead_letters could not be written: {why}") from None
            else:
                break
        return rejected

    def _remove_old_rows(self, session: Session) -> None:
        """When it is time to, in a thread of its own: writing goes on."""
        if self._retention is None or self._newer is not None or time.monotonic() < self._look_at:
            return
        interval = self._retention.maximum_spend_logs_retention_interval.total_seconds()
        self._look_at = time.monotonic() + min(interval, LOOK_SECONDS)
        if session.retention_due(self._retention):
            native.Thread(self._maintain, "llmlog-retention", self._retention).start()

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
        elif self._session is not None and not self._session.is_busy() and self._session.is_lost():
            # The server may close what is idle for long: that is no failure, and not told as one.
            self._drop()
        if self._session is None:
            self._process = os.getpid()
            self._days.clear()
            self._today = 0
            self._url = self._address()
            self._conninfo = connect.conninfo(self._url, connect_timeout=self._connect_timeout)
            self._session = session = Session(self._conninfo)
            self._check_tables(session)
        return self._session or session

    def _check_tables(self, session: Session) -> None:
        found = session.revision()
        with forks.held_off():
            newest = sql.newest()
            self._newer = tables.newer(found) if tables.is_newer(found) else None
        if self._newer is not None:
            session.refuse_newer(found)
            if self._stats is not None:
                self._stats.warn("newer", f"{self._newer}; rows are written, old ones are not removed")
            return
        if found == newest:
            return
        if not self._auto_migrate:
            state = "are not there" if found is None else "are of an older version"
            raise StoreUnavailable(f"the llmlog tables {state}: {UPGRADE}, or set LLMLOG_AUTO_MIGRATE=true")
        # Imported when there is something to do, which is once in the life of a version.
        with forks.held_off():
            for name in _MIGRATION_MODULES:
                importlib.import_module(name)
            from otel_llmlog.store import migrate

        # A pooler may have one connection for this session and for the upgrade.
        self._drop()
        migrate.upgrade(self._url)
        self._session = Session(self._conninfo)

    def _see_to_days(self, session: Session, given: set[int]) -> None:
        today = time.time_ns() // _DAY_NS
        # Those to come are made before anybody needs them, at the first batch of a day at the latest.
        days = given.union(range(today, today + DAYS_AHEAD + 1))
        for day in sorted(days - self._days):
            if (
                -DAYS_BACK <= day - today <= DAYS_AHEAD
                and time.monotonic() >= self._partitions_at
                and not self._made(session, day)
            ):
                self._partitions_at = time.monotonic() + PARTITION_SECONDS
        if today != self._today:
            session.fold_rollups()
            self._today = today

    def _made(self, session: Session, day: int) -> bool:
        made = session.make_partition(datetime.fromtimestamp(day * 86_400, UTC).date())
        if made:
            self._days.add(day)
        return made

    def _drop(self) -> None:
        session, self._session = self._session, None
        if session is None:
            return
        if self._process == os.getpid():
            session.close()
        else:
            _inherited.append(session)


class _Batch:
    """Records that are answered for together, and how far they have come."""

    def __init__(self, records: Sequence[Record], most_ahead: float | None = None) -> None:
        self.size = len(records)
        self.written = 0
        self.rejected: list[tuple[Record, str]] = []
        self.events = [record for record in records if record.kind == "log"]
        self.contents = [record for record in records if record.kind == "content"]
        others = self.events or self.contents
        calls = [record for record in records if record.kind == "span"] if others else records
        self.calls = _in_key_order(calls, self.rejected, most_ahead)
        self.chunks = [_Chunk(self.calls[at : at + CHUNK_ROWS]) for at in range(0, len(self.calls), CHUNK_ROWS)]
        self.sent: _Chunk | None = None
        # Looked up here, while the server may be busy with the batch before.
        self.days = {record.start_ns // _DAY_NS for record in self.calls}
        self.described = described.by_others(self.calls)

    def format_while(self, session: Session) -> None:
        """Format the first rows while the server is busy with others."""
        if self.chunks:
            self.chunks[0].format_while(session)


class _Chunk:
    """The records of one transaction, formatted piece by piece as they are asked for.

    No line is kept: that the database refuses one is rare, and then they are formatted again.
    """

    def __init__(self, records: Sequence[Record]) -> None:
        self._records = records
        self.rejected: list[tuple[Record, str]] = []
        self._ready: list[Stored] = []
        self._ready_to = 0  # so many records are in it, but for those that were rejected

    def format_while(self, session: Session) -> None:
        """Format rows ahead until what was sent before them is settled."""
        while self._ready_to < len(self._records) and not session.is_settled():
            self._ready += [stored for _, stored in self._piece(self._ready_to, AHEAD_ROWS)]
            self._ready_to += AHEAD_ROWS

    def pieces(self) -> Iterator[list[Stored]]:
        """All rows in pieces, those that are ready first."""
        (ready, self._ready), (start, self._ready_to) = (self._ready, []), (self._ready_to, 0)
        for at in range(0, len(ready), PIECE_ROWS):
            yield ready[at : at + PIECE_ROWS]
        for at in range(start, len(self._records), PIECE_ROWS):
            yield [stored for _, stored in self._piece(at)]

    def lines(self, rejected: list[tuple[Record, str]]) -> list[tuple[Record, Stored]]:
        """All lines with their records; those that cannot be lines are added to `rejected`."""
        self.rejected = []
        found = [line for start in range(0, len(self._records), PIECE_ROWS) for line in self._piece(start)]
        rejected += self.rejected
        return found

    def sound(self) -> int:
        """How many of the records became lines."""
        return len(self._records) - len(self.rejected)

    def _piece(self, start: int, size: int = PIECE_ROWS) -> list[tuple[Record, Stored]]:
        piece = []
        for record in self._records[start : start + size]:
            try:
                piece.append((record, (rows.row(record), rows.content(record))))
            except RowRejected as error:
                self.rejected.append((record, str(error)))
        return piece


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


def _in_key_order(
    records: Sequence[Record], rejected: list[tuple[Record, str]], most_ahead: float | None
) -> Sequence[Record]:
    """The records by their key, those that have none rejected.

    Two processes that store the same records wait for each other's keys; in one order that is no deadlock.
    """
    sound = [record for record in records if record.start_ns.__class__ is int and record.trace_id and record.span_id]
    if len(sound) < len(records):
        kept = set(map(id, sound))
        rejected += [(record, "the record has no key") for record in records if id(record) not in kept]
    found = sorted(sound, key=attrgetter("start_ns", "trace_id", "span_id"))
    latest = None if most_ahead is None else time.time_ns() + most_ahead * 10**9
    while latest is not None and found and found[-1].start_ns > latest:
        rejected.append((found.pop(), _AHEAD.format((most_ahead or 0) / 3600)))
    return found

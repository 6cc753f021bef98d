"""One connection that writes, and two ways to store lines in one transaction: all are new, or some may be there.

Always true: either all lines of a transaction are stored or none. While `send` hands over lines the server already
stores them, and after it the server has the rest to itself: the caller may format the next ones until `commit`.
"""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from operator import attrgetter
from typing import Any

import psycopg
from psycopg import errors, generators, pq
from psycopg.pq import Escaping

from otel_llmlog.config import RetentionSettings
from otel_llmlog.errors import StoreUnavailable
from otel_llmlog.pipeline.record import Record
from otel_llmlog.store import audit_rows, connect, content_rows, copy, dead_letters, retention, rollups, rows, tables
from otel_llmlog.store.failures import failure, note_statement
from otel_llmlog.store.under_way import Steps, UnderWay

# Answers whether spans of others were ever stored, which none can change until the end of the transaction.
_DESCRIBED = "SELECT llmlog.are_described()"

# For what can be done later as well: whoever comes while it waits for a table must wait behind it.
_SOON = connect.USUAL._replace(lock=1)

# Rows per network write: the server reads one piece while the next is being formatted.
PIECE_ROWS = 32

# A row for each table; most calls keep no content.
Stored = tuple[rows.SpendLogRow, rows.SpendLogContent | None]
Key = tuple[str, str, str]
_key: Callable[[rows.SpendLogRow], Key] = attrgetter("start_time", "trace_id", "span_id")


_COPY_LOGS = f"COPY llmlog.spend_logs ({', '.join(rows.SpendLogRow._fields)}) FROM STDIN"
_COPY_CONTENTS = f"COPY llmlog.spend_log_contents ({', '.join(rows.SpendLogContent._fields)}) FROM STDIN"

# Whether a key is there, in both tables, in the order of the keys. The first and the last time keep all other days out
# of it. A writer needs the right to read these three columns and no more.
_ARE_THERE = """
SELECT EXISTS (
    SELECT FROM llmlog.spend_logs l
    WHERE l.start_time BETWEEN %(first)s::timestamptz AND %(last)s::timestamptz
      AND (l.start_time, l.trace_id, l.span_id) = (k.start_time, k.trace_id, k.span_id)
), EXISTS (
    SELECT FROM llmlog.spend_log_contents c
    WHERE c.start_time BETWEEN %(first)s::timestamptz AND %(last)s::timestamptz
      AND (c.start_time, c.trace_id, c.span_id) = (k.start_time, k.trace_id, k.span_id)
)
FROM unnest(%(starts)s::timestamptz[], %(traces)s::text[], %(spans)s::text[])
    WITH ORDINALITY AS k (start_time, trace_id, span_id, at)
ORDER BY k.at
"""


class Session:
    """A connection and the transaction under way on it. Raises psycopg's errors."""

    def __init__(self, conninfo: str) -> None:
        """Raises StoreUnavailable: no database, or one that cannot hold every text."""
        self._connection = connect.connection(conninfo)
        try:
            tables.refuse_encoding(self._connection)
        except StoreUnavailable:
            self.close()
            raise
        self._begin = f"{connect.begin(self._connection.info.server_version)}; {_DESCRIBED}"
        self._under_way: UnderWay | None = None
        self._described = False
        # Lines of spend_hourly that are there, for `Added.statement`.
        self._known: set[str] = set()

    def revision(self) -> str | None:
        """The revision of the tables; None when there are none."""
        with connect.transaction(self._connection):
            return tables.revision(self._connection)

    def refuse_newer(self, found: str | None) -> None:
        """Of tables newer than this program: raises StoreUnavailable when rows of this program do not fit into them."""
        tables.refuse_to_write(self._connection, found)

    def make_partition(self, day: dt.date) -> bool:
        """See that both tables have a partition for this day, unless its rows are in the default one already.

        False: not now, because a reader holds the default partition. Its rows have a place all the same.
        """
        try:
            with connect.transaction(self._connection, _SOON):
                self._connection.execute("SELECT llmlog.ensure_partition(%s)", (day,))
        except errors.LockNotAvailable:
            return False
        self._described = False  # it has no index of our own rows yet
        return True

    def fold_rollups(self) -> None:
        """Sum hours up into days, as far as that has not been done. Left to the next who tries when others are busy."""
        with contextlib.suppress(errors.LockNotAvailable), connect.transaction(self._connection, _SOON):
            self._connection.execute("SELECT llmlog.fold_rollups()")

    def send(self, pieces: Iterable[Sequence[Stored]], known: set[str] | None = None) -> None:
        """Store rows that are new, which nearly all are: `commit` tells how that went.

        `known`: lines of spend_hourly that are there, for `Added.statement`; None: those that this session remembers.

        The server stores while the next piece is formatted. What it has still to do then needs the caller only now and
        again: see `is_settled`.
        """
        pgconn = self._connection.pgconn
        # In one message: while an answer is waited for, nobody works.
        *_, described, _ = self._connection.wait(_run(pgconn, f"{self._begin}; {_COPY_LOGS}".encode()))
        added = rollups.Added(described_too=described.get_value(0, 0) == b"t")
        kept: list[rows.SpendLogContent] = []
        sent = 0
        for piece in pieces:
            sent += len(piece)
            text, stored = copy.lines([row for row, _ in piece])
            # What the socket does not take at once waits in memory: a chunk at most.
            self._connection.wait(generators.copy_to(pgconn, text, False))
            pgconn.flush()
            added.add(stored)
            kept += [content for _, content in piece if content is not None]
        rest = self._rest(sent, kept, added, self._known if known is None else known)
        self._under_way = UnderWay(rest, pgconn.socket, self._connection.wait)

    def _rest(self, sent: int, kept: Sequence[rows.SpendLogContent], added: rollups.Added, known: set[str]) -> Steps:
        """The contents, the sums and COMMIT."""
        pgconn = self._connection.pgconn
        # While the server is busy with the rows. They are more than the socket holds, so it is given them meanwhile.
        # Sums that can be none end the transaction.
        sums, error = b"", None
        try:
            sums = added.statement(Escaping(pgconn).escape_literal, known, pgconn.flush)
        except psycopg.Error as absurd:
            error = absurd
        copied = yield from generators.copy_end(pgconn, None)
        if error is not None:
            raise error
        if copied.command_tuples != sent:
            # A trigger of the user's passed rows over: they are neither stored nor there already, and in no sum.
            raise errors.TriggeredActionException
        if kept:
            yield from _run(pgconn, _COPY_CONTENTS.encode())
            for start in range(0, len(kept), PIECE_ROWS):
                yield from generators.copy_to(pgconn, copy.lines(kept[start : start + PIECE_ROWS])[0])
            yield from generators.copy_end(pgconn, None)
        # The sums last, because lines of the rollups are locked from here to the end of COMMIT, and others want them.
        yield from _run(pgconn, b"; ".join([sums, b"COMMIT"]))

    def is_settled(self) -> bool:
        """Go on with what was sent, as far as the server is ready; whether `commit` would not have to wait."""
        return self._under_way is None or self._under_way.go_on()

    def is_busy(self) -> bool:
        """Whether something was sent that was never committed."""
        return self._under_way is not None

    def is_lost(self) -> bool:
        """Whether the server, or what is in between, has hung up meanwhile. Asked when nothing is under way."""
        pgconn = self._connection.pgconn
        with contextlib.suppress(psycopg.Error):
            # From an idle session come news of settings, and its end: a last word, then nothing more.
            pgconn.consume_input()
            pgconn.consume_input()
        return bool(pgconn.status == pq.ConnStatus.BAD)

    def commit(self) -> None:
        """Wait until what was sent is safe. Raises what the tables or the rollups refuse: then nothing of it is stored.

        UniqueViolation means that a row is there already.
        """
        under_way, self._under_way = self._under_way, None
        if under_way is not None:
            under_way.finish()

    def merge(self, stored: Sequence[Stored]) -> int:
        """Store those rows that are not there yet; returns how many. Raises what the tables or the rollups refuse."""
        first: dict[Key, Stored] = {}
        for row, content in stored:
            first.setdefault(_key(row), (row, content))
        new = self._not_there(first)
        while new:
            try:
                # Its names all told: what is believed to be there is no reason to refuse a row.
                self.send([[*new.values()]], known=set())
                self.commit()
            except errors.UniqueViolation:
                # Another process has stored some of them since.
                self._connection.execute("ROLLBACK")
                before, new = new, self._not_there(new)
                if len(new) == len(before):
                    raise
            else:
                return len(new)
        return 0

    def _not_there(self, stored: Mapping[Key, Stored]) -> dict[Key, Stored]:
        if not stored:
            return {}
        keys = {
            name: [*map(copy.value, fields)]
            for name, fields in zip(("starts", "traces", "spans"), zip(*stored, strict=True), strict=True)
        }
        limits = {"first": min(stored)[0], "last": max(stored)[0]}
        with connect.transaction(self._connection):
            there = self._connection.execute(_ARE_THERE, keys | limits).fetchall()
        return {
            key: (row, None if content_there else content)
            for (key, (row, content)), (row_there, content_there) in zip(stored.items(), there, strict=True)
            if not row_there
        }

    def expect_described(self) -> None:
        """Say that spans of others are going to be stored, so that every writer looks what they describe."""
        if not self._described:
            with connect.transaction(self._connection):
                self._connection.execute("SELECT llmlog.expect_described()")
            self._described = True

    def append_contents(self, records: Sequence[Record], rejected: list[tuple[Record, str]]) -> int:
        """Store contents that came as log records, with their spans; answers how many were taken."""
        return content_rows.append(self._connection, records, rejected)

    def append_audit(self, records: Sequence[Record], rejected: list[tuple[Record, str]]) -> int:
        """Store audit events that are not there yet; answers how many were new."""
        return audit_rows.append(self._connection, records, rejected)

    def keep_aside(self, rejected: Sequence[tuple[Record, str]]) -> None:
        """Put records that the tables refuse into dead_letters, in a transaction of their own."""
        dead_letters.keep(self._connection, rejected)

    def retention_due(self, settings: RetentionSettings) -> bool:
        """Whether old rows should be looked for."""
        return retention.due(self._connection, settings)

    def rollback_or_raise(self, error: psycopg.Error) -> None:
        """Give up the transaction if rows were at fault; any other error is raised again."""
        if not failure(error).of_the_row:
            raise error
        self._known.clear()  # what this transaction would have made is not there
        self._connection.execute("ROLLBACK")

    def close(self) -> None:
        """Say goodbye to the server. Never raises."""
        with contextlib.suppress(psycopg.Error):
            self._connection.close()


def _run(pgconn: pq.abc.PGconn, statements: bytes) -> Generator[Any, Any, Sequence[pq.abc.PGresult]]:
    pgconn.send_query(statements)
    results: Sequence[pq.abc.PGresult] = yield from generators.execute(pgconn)
    for at, result in enumerate(results):
        if result.status == pq.ExecStatus.FATAL_ERROR:
            error = errors.error_from_result(result)
            # What holds anything of a row comes first, and of that only the first words are looked at.
            pieces = [statements] if at == 0 else statements.split(b"; ") if statements.startswith(b"BEGIN") else []
            if at < len(pieces):
                note_statement(error, pieces[at].decode())
            raise error
    return results

"""Storing audit events: records -> rows of `audit_logs`, many at once or one now.

Always true: the database makes the chain, here is no link of it; a second delivery of an event changes nothing; an
event the database refuses is rejected alone. No message holds content or credentials.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Sequence
from typing import Any

import psycopg
from psycopg.conninfo import make_conninfo

from otel_llmlog import native
from otel_llmlog.dialects import audit
from otel_llmlog.errors import RowRejected, StoreUnavailable
from otel_llmlog.payload import AuditEvent
from otel_llmlog.pipeline.record import Record
from otel_llmlog.redact import short, storable
from otel_llmlog.store import connect, rights, tables
from otel_llmlog.store.failures import failure
from otel_llmlog.store.values import Odd, timestamp

# Columns that are given, with their types; the rest is the trigger's.
COLUMNS = {
    "id": "text",
    "updated_at": "timestamptz",
    "changed_by": "text",
    "changed_by_api_key": "text",
    "action": "text",
    "table_name": "text",
    "object_id": "text",
    "before_value": "jsonb",
    "updated_values": "jsonb",
    "operation": "text",
    "outcome": "text",
    "error_class": "text",
    "status_code": "integer",
    "source": "text",
    "route": "text",
    "requester_ip_address": "text",
    "trace_id": "text",
    "span_id": "text",
    "service_name": "text",
    "notes": "text[]",
}
_LISTED = ", ".join(COLUMNS)
_TYPED = ", ".join(f"{name} {kind}" for name, kind in COLUMNS.items())
_INSERT = (
    f"INSERT INTO llmlog.audit_logs ({_LISTED}) "  # noqa: S608 - constants
    f"SELECT {_LISTED} FROM jsonb_to_recordset(CAST(%s AS jsonb)) AS given ({_TYPED}) RETURNING id"
)
# Which events are there. After COMMIT, because that may do things, too. A writer needs to read no more than ids.
_READ_BACK = "SELECT id FROM ONLY llmlog.audit_logs WHERE id = ANY (%s)"
_SWALLOWED = "audit events are not there after they were stored: `llmlog audit verify` names the cause"
# Seconds a lot may take. A healthy database needs milliseconds; a sick one must not hold the chain for longer.
_LONGEST = 60.0
# Rows per transaction: others wait for the chain meanwhile.
_AT_ONCE = 200

# Connections inherited through fork. Kept, never used: closing one would end the session of the parent.
_inherited: list[psycopg.Connection[Any]] = []


def row(record: Record) -> dict[str, Any]:
    """The row of a record, as JSON data. Raises RowRejected."""
    event = audit.decode(record.attributes)
    try:
        at = timestamp(round(event.updated_at * 1e6))
    except (Odd, OverflowError) as error:
        raise RowRejected(f"updated_at: {error}") from None
    found: dict[str, Any] = {name: getattr(event, name) for name in COLUMNS if name in AuditEvent.model_fields}
    kept: dict[str, Any] = storable({**found, "updated_at": at, "service_name": record.service_name})
    return {
        name: short(value) if COLUMNS[name] == "text" and isinstance(value, str) else value
        for name, value in kept.items()
    }


def append(
    connection: psycopg.Connection[Any],
    records: Sequence[Record],
    rejected: list[tuple[Record, str]],
    seconds: float = _LONGEST,
) -> int:
    """Store records that are not there yet; answers how many were new. Raises psycopg's errors, but for rows'."""
    found = []
    for record in records:
        try:
            found.append((record, json.dumps(row(record), ensure_ascii=False, allow_nan=False)))
        except (RowRejected, ValueError) as error:
            rejected.append((record, str(error) if isinstance(error, RowRejected) else "a value is not storable"))
    return sum(
        _append(
            connection, found[start : start + _AT_ONCE], rejected, connect.Limits(seconds, min(10.0, seconds), seconds)
        )
        for start in range(0, len(found), _AT_ONCE)
    )


def _append(
    connection: psycopg.Connection[Any],
    found: list[tuple[Record, str]],
    rejected: list[tuple[Record, str]],
    limits: connect.Limits,
) -> int:
    try:
        with connect.transaction(connection, limits):
            new = len(connection.execute(_INSERT, (f"[{','.join(text for _, text in found)}]",)).fetchall())
    except psycopg.Error as error:
        if not failure(error).of_the_row:
            raise
        if len(found) == 1:
            rejected.append((found[0][0], failure(error).advice))
            return 0
    else:
        with connect.transaction(connection, limits):
            _read_back(connection, [short(record.attributes[audit.ID]) for record, _ in found])
        return new
    middle = len(found) // 2
    return _append(connection, found[:middle], rejected, limits) + _append(connection, found[middle:], rejected, limits)


def _read_back(connection: psycopg.Connection[Any], ids: Sequence[str]) -> None:
    """Raises StoreUnavailable when one of these events is not there: whatever keeps it out, it is to be tried again."""
    if set(ids) - {name for (name,) in connection.execute(_READ_BACK, ([*ids],)).fetchall()}:
        raise StoreUnavailable(_SWALLOWED)


class AuditWriter:
    """Stores one record at once, for whoever waits for it. Any thread; one after the other, as the chain is."""

    def __init__(self, conninfo: Callable[[], str], timeout: float) -> None:
        """`conninfo`: asked for when the first record comes. `timeout`: seconds a record may take."""
        self._conninfo = conninfo
        self._timeout = timeout
        self._renew()
        os.register_at_fork(after_in_child=self._after_fork)

    def _renew(self) -> None:
        self._lock = native.Lock()
        self._connection: psycopg.Connection[Any] | None = None

    def _after_fork(self) -> None:
        if self._connection is not None:
            _inherited.append(self._connection)
        self._renew()

    def store(self, record: Record) -> None:
        """Return after the row is committed, by this call or an earlier one. Raises StoreUnavailable, RowRejected."""
        if not self._lock.acquire(timeout=self._timeout):
            raise StoreUnavailable("others wait for the database, too")
        try:
            kept = self._connection
            try:
                self._store(record)
            except StoreUnavailable:
                # The server may have gone and come back since the last record: then another connection works.
                if kept is None:
                    raise
                self._store(record)
        finally:
            self._lock.release()

    def _store(self, record: Record) -> None:
        rejected: list[tuple[Record, str]] = []
        try:
            if self._connection is None:
                # A peer that says nothing any more is given up in time, too.
                patience = {"tcp_user_timeout": round(self._timeout * 1000)}
                self._connection = connect.connection(make_conninfo(self._conninfo(), **patience))
                tables.refuse_encoding(self._connection)
            append(self._connection, [record], rejected, self._timeout)
        except psycopg.Error as error:
            self.close()
            raise StoreUnavailable(rights.told(error, self._conninfo(), "writer")) from None
        except BaseException:
            # Interrupted anywhere: what state the connection is in cannot be known.
            self.close()
            raise
        if rejected:
            raise RowRejected(rejected[0][1])

    def close(self) -> None:
        """Close the connection; the next record opens another. Never raises."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(psycopg.Error):
                connection.close()

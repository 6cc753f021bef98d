"""Retention: rows older than their period leave, by whole partitions; the sums stay.

Always true: of all processes that share a database one works at a time, and a run counts for all of them; a query
never waits behind this for longer than three times `LOCK_MILLISECONDS` at once; when a run breaks off, what has gone is
gone whole and the next run goes on from there. It takes one connection, which any pooler may give to others between
two transactions: so the work is leased, in a row of `maintenance`, and every transaction renews the lease.
"""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from datetime import UTC, date, datetime
from typing import Any, NamedTuple

import psycopg
from psycopg import errors
from psycopg.rows import class_row

from otel_llmlog.config import RetentionSettings
from otel_llmlog.errors import StoreUnavailable
from otel_llmlog.store import audit_chain, connect, rights, sql

# Dropping needs the table, the partition and the default partition for itself for a moment. Whoever comes while it
# waits for one of them must wait too, so it waits briefly and tries again; a writer's transaction takes some 20 ms.
LOCK_MILLISECONDS = 50
# Seconds after which a run gives up on a table that is never free: a long query reads it. The next run goes on.
PATIENCE_SECONDS = 120.0
# Seconds after which others go on with what a process that is gone has leased.
LEASE_SECONDS = 60
# Rows a DELETE takes at once: a transaction of some 10 ms.
_DELETED_AT_ONCE = 2_000
# A step takes as long as it takes: a table of strays may be read for minutes. Another would take as long again.
_STEP = connect.Limits(statement=0, lock=0)
# Name of a table's partition for rows of days that have none of their own.
_DEFAULT = "_default"


class Partition(NamedTuple):
    """A day of a table."""

    table: str
    name: str
    day: date
    rows: int
    """As the last ANALYZE saw them."""
    bytes: int


class Plan(NamedTuple):
    """What is older than its period."""

    partitions: list[Partition]
    strays: dict[str, int]
    """Rows in the default partition of each table."""
    logs_before: datetime | None
    """Request logs that began before go. None: none go."""
    contents_before: datetime | None
    audit_logs: int = 0
    """Audit logs that go."""


def wanted(settings: RetentionSettings) -> bool:
    """Whether anything goes at all."""
    return bool(
        settings.maximum_spend_logs_retention_period
        or settings.maximum_spend_log_contents_retention_period
        or settings.maximum_audit_logs_retention_period
    )


def due(connection: psycopg.Connection[Any], settings: RetentionSettings) -> bool:
    """Whether no process has run it for an interval. Raises psycopg's errors."""
    query = "SELECT coalesce(last_run < now() - %s, true) FROM llmlog.maintenance WHERE task = 'retention'"
    with connect.transaction(connection):
        found = connection.execute(query, (settings.maximum_spend_logs_retention_interval,)).fetchone()
    return found is not None and bool(found[0])


def plan(url: str, settings: RetentionSettings, *, connect_timeout: int = 10) -> Plan:
    """What `prune` would remove now. Raises StoreUnavailable."""
    with _connected(url, connect_timeout) as connection, connect.transaction(connection, _STEP):
        return _plan(connection, settings)


def prune(url: str, settings: RetentionSettings, *, connect_timeout: int = 10) -> Plan | None:
    """Remove what is older than its period; answers what that was, None when another process is at it now.

    Raises StoreUnavailable when it could not be finished.
    """
    return _alone(url, connect_timeout, settings, only_if_due=False)


def maintain(url: str, settings: RetentionSettings, *, connect_timeout: int = 10) -> Plan | None:
    """The same, if it is due: None, and nothing done, when it has run within the interval."""
    return _alone(url, connect_timeout, settings, only_if_due=True)


def _alone(url: str, connect_timeout: int, settings: RetentionSettings, *, only_if_due: bool) -> Plan | None:
    with _connected(url, connect_timeout) as connection:
        lease = _Lease(connection)
        done = None
        # Who gets the lease next sees the note that it has run, too: both are one row.
        with connect.transaction(connection, _STEP):
            if not lease.taken() or (only_if_due and not due(connection, settings)):
                raise psycopg.Rollback
            done = _plan(connection, settings)
        if done is None:
            return None
        try:
            _prune(connection, done, lease, settings)
        except BaseException:
            lease.give_back(finished=False)
            raise
        lease.give_back(finished=True)
        return done


class _Lease:
    """The right to remove old rows: nobody else has it while it is renewed."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection
        self._id = uuid.uuid4()

    def taken(self) -> bool:
        """Whether nobody has it: then it is taken, if the transaction commits."""
        # SKIP LOCKED: whoever has it is just renewing it.
        found = self._connection.execute(
            "UPDATE llmlog.maintenance SET lease = %s, leased_until = clock_timestamp() + %s * interval '1 second' "
            "WHERE task IN (SELECT task FROM llmlog.maintenance WHERE task = 'retention' "
            "AND (leased_until IS NULL OR leased_until < clock_timestamp()) FOR UPDATE SKIP LOCKED)",
            (self._id, LEASE_SECONDS),
        )
        return found.rowcount == 1

    @contextmanager
    def step(self, limits: connect.Limits = _STEP) -> Iterator[None]:
        """A transaction that nobody else's meets."""
        with connect.transaction(self._connection, limits):
            renewed = self._connection.execute(
                "UPDATE llmlog.maintenance SET leased_until = clock_timestamp() + %s * interval '1 second' "
                "WHERE task = 'retention' AND lease = %s",
                (LEASE_SECONDS, self._id),
            )
            if renewed.rowcount != 1:
                raise StoreUnavailable("old rows could not be removed: another process has taken this over")
            yield

    def give_back(self, *, finished: bool) -> None:
        """Let others have it; `finished` notes that it has run. Never raises when it is not."""
        with nullcontext() if finished else suppress(psycopg.Error), connect.transaction(self._connection, _STEP):
            self._connection.execute(
                "UPDATE llmlog.maintenance SET lease = NULL, leased_until = NULL, "
                "last_run = CASE WHEN %s THEN clock_timestamp() ELSE last_run END "
                "WHERE task = 'retention' AND lease = %s",
                (finished, self._id),
            )


def _plan(connection: psycopg.Connection[Any], settings: RetentionSettings) -> Plan:
    logs = settings.maximum_spend_logs_retention_period
    contents = min(filter(None, (logs, settings.maximum_spend_log_contents_retention_period)), default=None)
    # The database's clock, one for all processes.
    query = "SELECT date_trunc('day', now() - %s::interval, 'UTC'), date_trunc('day', now() - %s::interval, 'UTC')"
    found = connection.execute(query, (logs, contents)).fetchone()
    assert found is not None
    before = {"spend_logs": found[0], "spend_log_contents": found[1]}
    with connection.cursor(row_factory=class_row(Partition)) as cursor:
        partitions = [
            partition
            for partition in cursor.execute(sql.queries()["partitions"].encode())
            if (limit := before[partition.table]) and partition.day < limit.astimezone(UTC).date()
        ]
    strays = {}
    for table, limit in before.items():
        query = f"SELECT count(*) FROM llmlog.{table}{_DEFAULT} WHERE start_time < %s"  # noqa: S608 - constants
        (strays[table],) = connection.execute(query, (limit,)).fetchone() or (0,)
    audit_logs = audit_chain.older(connection, settings.maximum_audit_logs_retention_period)
    return Plan(partitions, strays, found[0], found[1], audit_logs)


def _prune(connection: psycopg.Connection[Any], todo: Plan, lease: _Lease, settings: RetentionSettings) -> None:
    if todo.logs_before is not None:
        # Before the first row goes: from now on the sums of those days cannot be compared with rows.
        query = "UPDATE llmlog.maintenance SET kept_since = greatest(kept_since, %s) WHERE task = 'retention'"
        with lease.step():
            connection.execute(query, (todo.logs_before,))
    deadline = time.monotonic() + PATIENCE_SECONDS
    for partition in todo.partitions:
        _drop(connection, partition.name, deadline, lease)
    for table, before in (("spend_logs", todo.logs_before), ("spend_log_contents", todo.contents_before)):
        if before is not None and todo.strays[table]:
            _delete(connection, table + _DEFAULT, before, lease)
    if settings.maximum_audit_logs_retention_period:
        audit_chain.prune(connection, settings.maximum_audit_logs_retention_period, lease.step)
    if todo.logs_before is not None:
        for table in ("chain_links", "described_calls", "hidden_calls"):
            _delete(connection, table, todo.logs_before, lease)


def _drop(connection: psycopg.Connection[Any], name: str, deadline: float, lease: _Lease) -> None:
    # Not DETACH CONCURRENTLY: Postgres refuses it beside a default partition.
    statement = f"DROP TABLE IF EXISTS llmlog.{name}"
    while True:
        try:
            with lease.step(_STEP._replace(lock=LOCK_MILLISECONDS / 1000)):
                connection.execute(statement.encode())
                return
        except errors.DependentObjectsStillExist:
            # Who may read can make a view of it: that is left alone, and keeps no rows.
            statement = f"TRUNCATE llmlog.{name}"
            continue
        except errors.LockNotAvailable:
            if time.monotonic() > deadline:
                raise
        # Longer than it waited, so that others have the table for most of the time.
        time.sleep(LOCK_MILLISECONDS / 1000 * random.uniform(1, 4))  # noqa: S311 - spreads tries, keeps no secret


def _delete(connection: psycopg.Connection[Any], table: str, before: datetime, lease: _Lease) -> None:
    table = f"llmlog.{table}"
    old = f"SELECT ctid FROM {table} WHERE start_time < %s LIMIT {_DELETED_AT_ONCE}"  # noqa: S608 - constants
    deleted = -1
    while deleted:
        with lease.step():
            query = f"DELETE FROM {table} WHERE ctid = ANY (ARRAY({old}))"  # noqa: S608 - constants
            deleted = connection.execute(query, (before,)).rowcount


@contextmanager
def _connected(url: str, connect_timeout: int) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    try:
        with connect.connection(connect.conninfo(url, connect_timeout=connect_timeout)) as connection:
            yield connection
    except psycopg.Error as error:
        told = rights.told(error, connect.conninfo(url, connect_timeout=connect_timeout), "owner")
        raise StoreUnavailable(f"old rows could not be removed: {told}") from None

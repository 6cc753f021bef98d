"""The chain of audit logs: whether it is whole, what was known of it before, and what retention takes from its start.

Always true: verifying trusts no function of the database it checks, reads one snapshot, and names the first row that
is wrong; what retention takes is signed off in the chain itself before it goes, with how old it was; whatever could
keep events out of the chain is looked at, too.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from otel_llmlog import files
from otel_llmlog.config import RetentionSettings
from otel_llmlog.errors import ConfigError, StoreUnavailable
from otel_llmlog.store import audit_shape, connect, rights, sql, tables

# Rows a DELETE takes: a transaction of some 10 ms.
_DELETED_AT_ONCE = 2_000
# Bytes of a checkpoint's file, which holds a line.
_MAX_FILE = 4_096
# By how much the clocks of one database may differ from one session to the next, a failover included.
_CLOCKS = timedelta(minutes=5)


class Checkpoint(NamedTuple):
    """What was known of the chain once: the row at `seq` had this hash."""

    seq: int
    hash: bytes
    made_at: datetime
    recorded_at: datetime | None = None
    """When that row was stored; None in checkpoints of older versions."""


class Removal(NamedTuple):
    """Rows up to a place of the chain were signed off as removed."""

    seq: int
    made_at: datetime
    made_by: str
    recorded_at: datetime | None
    """When the last of them was stored; None: an older version did not note it."""


class Finding(NamedTuple):
    """Something that is not as the chain says."""

    seq: int | None
    """Place in the chain; None: of no row."""
    id: str | None
    what: str


class Report(NamedTuple):
    """What `verify` found."""

    rows: int
    first: int | None
    last: Checkpoint | None
    """The end of the chain. None: there are no rows."""
    pruned: int | None
    """Rows up to here were removed by retention."""
    compared: int
    """Checkpoints that the chain was compared with."""
    findings: list[Finding]
    """In the order of the chain; empty when nothing is wrong."""
    removals: list[Removal]
    """What retention took, in the order of time."""
    notes: list[str]
    """What is not wrong by itself, and should be known."""


def verify(
    url: str,
    *,
    checkpoint: Checkpoint | None = None,
    retention: RetentionSettings | None = None,
    limit: int = 100,
    connect_timeout: int = 10,
) -> Report:
    """Check every link, every checkpoint in the database and `checkpoint`, and what keeps the chain.

    `retention`: each removal must be one that this asks for; None: that is not compared. Raises StoreUnavailable.
    """
    try:
        with connect.engine(url, connect_timeout=connect_timeout).connect() as connection:
            connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))
            return _verify(connection, checkpoint, limit, retention)
    except DBAPIError as error:
        told = rights.told(error.orig, connect.conninfo(url, connect_timeout=connect_timeout), "reader")
        raise StoreUnavailable(f"cannot verify the audit logs: {told}") from None


def save(url: str, last: Checkpoint, *, connect_timeout: int = 10) -> None:
    """Keep what `verify` found as a row of audit_checkpoints. Raises StoreUnavailable."""
    try:
        with connect.engine(url, connect_timeout=connect_timeout).begin() as connection:
            connection.execute(text(sql.queries()["audit_save"]), {"seq": last.seq, "hash": last.hash})
    except DBAPIError as error:
        told = rights.told(error.orig, connect.conninfo(url, connect_timeout=connect_timeout), "owner")
        raise StoreUnavailable(f"cannot save the checkpoint: {told}") from None


def read_file(path: Path) -> Checkpoint | None:
    """A checkpoint that `write_file` wrote; None when there is no such file. Raises ConfigError."""
    try:
        said = json.loads(files.read(path, _MAX_FILE))
        recorded_at = datetime.fromisoformat(said["recorded_at"]) if said.get("recorded_at") else None
        made_at = datetime.fromisoformat(said["made_at"])
        return Checkpoint(int(said["seq"]), bytes.fromhex(said["hash"]), made_at, recorded_at)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigError(f"{path} is no checkpoint of llmlog audit verify: {files.reason(error)}") from None
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ConfigError(f"{path} is no checkpoint of llmlog audit verify: {type(error).__name__}") from None


def write_file(path: Path, last: Checkpoint) -> None:
    """Keep a checkpoint outside the database, where who may change rows cannot. Raises ConfigError."""
    known = {"seq": last.seq, "hash": last.hash.hex(), "made_at": last.made_at.isoformat()}
    if last.recorded_at is not None:
        known["recorded_at"] = last.recorded_at.isoformat()
    try:
        files.replace(path, (json.dumps(known) + "\n").encode())
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {files.reason(error)}") from None


def older(connection: psycopg.Connection[Any], period: timedelta | None) -> int:
    """How many audit logs were stored before this period. Raises psycopg's errors."""
    if period is None:
        return 0
    query = "SELECT count(*) FROM llmlog.audit_logs WHERE recorded_at < now() - %s"
    found = connection.execute(query, (period,)).fetchone()
    return int(found[0]) if found else 0


def prune(
    connection: psycopg.Connection[Any], period: timedelta, step: Callable[[], AbstractContextManager[None]]
) -> None:
    """Sign off and remove audit logs stored before this period, in transactions of `step`. Raises psycopg's errors."""
    # The sign-off is committed first: what breaks off in between is removed by the next run.
    with step():
        connection.execute("SELECT llmlog.sign_off_audit(now() - %s)", (period,))
    lot = (
        "DELETE FROM llmlog.audit_logs WHERE seq IN (SELECT seq FROM llmlog.audit_logs WHERE seq <= "  # noqa: S608 - constants
        "(SELECT max(seq) FROM llmlog.audit_checkpoints WHERE kind = 'pruned') "
        f"ORDER BY seq LIMIT {_DELETED_AT_ONCE})"
    )
    deleted = -1
    while deleted:
        with step():
            deleted = connection.execute(lot.encode()).rowcount


def _verify(
    connection: Connection, checkpoint: Checkpoint | None, limit: int, retention: RetentionSettings | None = None
) -> Report:
    def ask(query: str, **given: Any) -> Sequence[Any]:
        return connection.execute(text(sql.queries()[query]), given).all()

    (extent,) = ask("audit_extent")
    known = ask("audit_checkpoints")
    signed = [c for c in known if c.kind == "pruned"]
    last_signed = next((c for c in signed if c.seq == extent.pruned), None)
    given = {"pruned": extent.pruned, "pruned_hash": last_signed.hash if last_signed else None}
    findings = [Finding(row.seq, row.id, _broken(row)) for row in ask("audit_links", limit=limit, **given)]
    compared: list[tuple[Any, str]] = [
        (c, f"the checkpoint of {c.made_at:%Y-%m-%d %H:%M:%S}") for c in known if c.kind == "verified"
    ]
    if checkpoint is not None:
        compared.append((checkpoint, "the given checkpoint"))
    for saved, name in compared:
        if saved.seq > (extent.pruned or 0) and (found := _differs(ask("audit_row", seq=saved.seq), saved, name)):
            findings.append(found)
    findings += [Finding(c.seq, c.row_id, what) for c in signed for what in _wrong_in(c, signed)]
    if retention is not None:
        findings += [Finding(c.seq, None, what) for c in signed for what in _not_asked_for(c, retention)]
        if checkpoint is not None and last_signed is not None and checkpoint.seq <= last_signed.seq:
            gone = checkpoint, last_signed.made_by, last_signed.made_at, last_signed.now
            findings += [Finding(checkpoint.seq, None, what) for what in _too_early(*gone, retention)]
    ((revision,),) = ask("audit_revision")
    if tables.is_newer(revision):
        findings.append(Finding(None, None, f"{tables.newer(revision)}: what keeps the chain cannot be looked at"))
    else:
        shape = ask(
            "audit_shape",
            tables=list(audit_shape.TABLES),
            triggers=audit_shape.triggers(),
            functions=audit_shape.function_names(),
        )
        findings += [
            Finding(None, None, what) for what in audit_shape.differences((row.name, row.says) for row in shape)
        ]
    findings.sort(key=lambda found: (found.seq is None, found.seq or 0))
    notes = [
        f"event trigger {row.name} runs {row.function} at {row.event}: not of otel-llmlog's making"
        for row in ask("audit_event_triggers")
    ]
    notes += [
        f"row {c.seq} was signed off at {c.made_at:%Y-%m-%d %H:%M:%S} by a version that did not note how old it was"
        for c in signed
        if c.recorded_at is None
    ]
    last = None
    if extent.last is not None:
        last = Checkpoint(extent.last, bytes(extent.hash), datetime.now(UTC), extent.recorded_at)
    removals = [Removal(c.seq, c.made_at, c.made_by, c.recorded_at) for c in signed]
    return Report(extent.rows, extent.first, last, extent.pruned, len(compared), findings, removals, notes)


def _wrong_in(sign_off: Any, signed: Sequence[Any]) -> Iterator[str]:
    """What is wrong in a sign-off whatever the setting."""
    if sign_off.hash_now is not None and bytes(sign_off.hash_now) != bytes(sign_off.hash):
        yield "is not the row that was signed off as removed"
    # The row that tells of it was stored right after it, and goes in its own time.
    later = (c for c in signed if c.id > sign_off.id and c.seq > sign_off.seq)
    if not sign_off.told and not any(c.recorded_at is None or c.recorded_at > sign_off.made_at for c in later):
        yield "was signed off as removed, and no row of the chain tells of it"
    if sign_off.told and sign_off.told_recorded_at not in {None, sign_off.recorded_at}:
        yield "was signed off as removed, and the chain tells another time at which it was stored"
    if sign_off.made_at > sign_off.now + _CLOCKS:
        yield f"was signed off as removed at a time that is still to come: {sign_off.made_at:%Y-%m-%d %H:%M:%S}"


def _not_asked_for(sign_off: Any, retention: RetentionSettings) -> Iterator[str]:
    """What is wrong in a sign-off by the setting."""
    period = retention.maximum_audit_logs_retention_period
    by = f"was signed off as removed by {sign_off.made_by} at {sign_off.made_at:%Y-%m-%d %H:%M:%S}"
    if period is None:
        yield f"{by}, and LLMLOG_MAXIMUM_AUDIT_LOGS_RETENTION_PERIOD asks for no removal"
    elif sign_off.recorded_at is not None and sign_off.made_at - sign_off.recorded_at < period:
        age = _days(sign_off.made_at - sign_off.recorded_at)
        yield f"{by}, {age} after it was stored; LLMLOG_MAXIMUM_AUDIT_LOGS_RETENTION_PERIOD keeps it {_days(period)}"


def _too_early(
    known: Checkpoint, made_by: str, made_at: datetime, now: datetime, retention: RetentionSettings
) -> Iterator[str]:
    """By what was kept outside: a row was there, and it was not yet its time."""
    period = retention.maximum_audit_logs_retention_period
    if period is not None and known.recorded_at is not None and min(made_at, now) - known.recorded_at < period:
        yield (
            f"was stored at {known.recorded_at:%Y-%m-%d %H:%M:%S} by the given checkpoint, and was signed off as "
            f"removed by {made_by} before its {_days(period)} were over"
        )


def _days(period: timedelta) -> str:
    days, rest = divmod(int(period.total_seconds()), 86_400)
    return f"{days} days" if days > 1 or (days and not rest) else f"{days * 24 + rest / 3600:.1f} hours"


def _broken(row: Any) -> str:
    if row.edited:
        return "was edited: its hash is not that of what it says"
    if row.gap and row.seq == row.before_seq + 2:
        return f"comes after a gap: row {row.before_seq + 1} is not there"
    if row.gap:
        return f"comes after a gap: rows {row.before_seq + 1} to {row.seq - 1} are not there"
    return "does not follow the row before it: one of the two was put there or moved"


def _differs(found: Sequence[Any], saved: Any, name: str) -> Finding | None:
    if not found:
        return Finding(saved.seq, None, f"is not there, and was at {name}: the end of the chain was dropped")
    if bytes(found[0].hash) != bytes(saved.hash):
        return Finding(saved.seq, found[0].id, f"is not the row of {name}: the chain was written anew")
    return None

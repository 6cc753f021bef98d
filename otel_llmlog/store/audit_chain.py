"""The chain of audit logs: whether it is whole, what was known of it before, and what retention takes from its start.

Always true: verifying trusts no function of the database it checks, reads one snapshot, and names the first row that
is wrong; what retention takes is signed off in the chain itself before it goes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
from sqlalchemy import Connection, text
from sqlalchemy.exc import DBAPIError

from otel_llmlog import files
from otel_llmlog.errors import ConfigError, StoreUnavailable
from otel_llmlog.store import connect, rights, sql

# The triggers that migration 0004 makes.
TRIGGERS = frozenset(
    (table, name)
    for table, names in {
        "llmlog.audit_logs": ("audit_chain", "audit_refuse", "audit_refuse_truncate"),
        "llmlog.audit_checkpoints": ("audit_checkpoint", "audit_refuse", "audit_refuse_truncate"),
    }.items()
    for name in names
)
# Rows a DELETE takes: a transaction of some 10 ms.
_DELETED_AT_ONCE = 2_000
# Bytes of a checkpoint's file, which holds a line.
_MAX_FILE = 4_096


class Checkpoint(NamedTuple):
    """What was known of the chain once: the row at `seq` had this hash."""

    seq: int
    hash: bytes
    made_at: datetime


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
    """In the order of the chain; empty when all is well."""


def verify(url: str, *, checkpoint: Checkpoint | None = None, limit: int = 100, connect_timeout: int = 10) -> Report:
    """Check every link, every checkpoint in the database and `checkpoint`. Raises StoreUnavailable."""
    try:
        with connect.engine(url, connect_timeout=connect_timeout).connect() as connection:
            connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY"))
            connection.execute(text("SET LOCAL search_path = pg_catalog"))
            return _verify(connection, checkpoint, limit)
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
        return Checkpoint(int(said["seq"]), bytes.fromhex(said["hash"]), datetime.fromisoformat(said["made_at"]))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigError(f"{path} is no checkpoint of llmlog audit verify: {files.reason(error)}") from None
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ConfigError(f"{path} is no checkpoint of llmlog audit verify: {type(error).__name__}") from None


def write_file(path: Path, last: Checkpoint) -> None:
    """Keep a checkpoint outside the database, where who may change rows cannot. Raises ConfigError."""
    said = json.dumps({"seq": last.seq, "hash": last.hash.hex(), "made_at": last.made_at.isoformat()}) + "\n"
    try:
        files.replace(path, said.encode())
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


def _verify(connection: Connection, checkpoint: Checkpoint | None, limit: int) -> Report:
    def ask(query: str, **given: Any) -> Sequence[Any]:
        return connection.execute(text(sql.queries()[query]), given).all()

    (extent,) = ask("audit_extent")
    known = ask("audit_checkpoints")
    signed = next((c for c in known if c.kind == "pruned" and c.seq == extent.pruned), None)
    given = {"pruned": extent.pruned, "pruned_hash": signed.hash if signed else None}
    findings = [Finding(row.seq, row.id, _broken(row)) for row in ask("audit_links", limit=limit, **given)]
    compared = [(c, f"the checkpoint of {c.made_at:%Y-%m-%d %H:%M:%S}") for c in known if c.kind == "verified"]
    if checkpoint is not None:
        compared.append((checkpoint, "the given checkpoint"))
    for saved, name in compared:
        if saved.seq > (extent.pruned or 0) and (found := _differs(ask("audit_row", seq=saved.seq), saved, name)):
            findings.append(found)
    findings += [
        Finding(c.seq, None, "was signed off as removed, and no row of the chain tells of it")
        for c in known
        if c.untold
    ]
    missing = TRIGGERS - {(str(row.table_name), row.name) for row in ask("audit_triggers")}
    findings += [Finding(None, None, f"trigger {name} of {table} is missing or off") for table, name in sorted(missing)]
    findings.sort(key=lambda found: (found.seq is None, found.seq or 0))
    last = Checkpoint(extent.last, bytes(extent.hash), datetime.now(UTC)) if extent.last is not None else None
    return Report(extent.rows, extent.first, last, extent.pruned, len(compared), findings)


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

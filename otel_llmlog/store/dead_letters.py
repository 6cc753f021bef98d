"""Dead letters: records that the tables refuse, kept with the reason until they are tried again.

Always true: what is put down here was made fit for Postgres first, so keeping it does not fail for what it holds; a
record is kept once however often it is delivered; it holds content only where content is kept at all.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, NamedTuple

import psycopg
from psycopg.rows import class_row

from otel_llmlog.errors import StoreUnavailable
from otel_llmlog.pipeline.record import Delivery, Exporter, Record
from otel_llmlog.redact import storable
from otel_llmlog.store import connect, rights

_KEEP = """
INSERT INTO llmlog.dead_letters (trace_id, span_id, start_time, reason, record, digest)
VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT (digest) DO NOTHING
"""
_COLUMNS = "id, created_at, trace_id, span_id, start_time, reason, record, retried_at"
# Records that are tried again at once: few enough to be held in memory.
_AT_ONCE = 500


class Letter(NamedTuple):
    """A row of `llmlog.dead_letters`."""

    id: int
    created_at: datetime
    trace_id: str | None
    span_id: str | None
    start_time: datetime | None
    reason: str
    record: dict[str, Any]
    retried_at: datetime | None


def keep(connection: psycopg.Connection[Any], rejected: Sequence[tuple[Record, str]]) -> None:
    """Put records aside in one transaction of their own. Raises psycopg's errors."""
    with connect.transaction(connection), connection.cursor() as cursor:
        cursor.executemany(_KEEP, [_letter(record, reason) for record, reason in rejected])


class DeadLetters:
    """The dead letters of a database. Every method raises StoreUnavailable when it does not answer."""

    def __init__(self, url: str, *, connect_timeout: int = 10) -> None:
        """Raises ConfigError when the URL is none."""
        self._conninfo = connect.conninfo(url, connect_timeout=connect_timeout)

    def entries(self, *, limit: int | None = None, after: int = 0, ids: Sequence[int] | None = None) -> list[Letter]:
        """Letters by id, oldest first; `ids` restricts them to some."""
        query = f"SELECT {_COLUMNS} FROM llmlog.dead_letters WHERE id > %s AND (%s::bigint[] IS NULL OR id = ANY (%s))"  # noqa: S608 - constants
        chosen = None if ids is None else list(ids)
        with (
            self._connected("reader") as connection,
            connect.transaction(connection),
            connection.cursor(row_factory=class_row(Letter)) as cursor,
        ):
            return cursor.execute(f"{query} ORDER BY id LIMIT %s", (after, chosen, chosen, limit)).fetchall()

    def count(self) -> int:
        """How many there are; 0 where there are no tables yet."""
        with self._connected("reader") as connection, connect.transaction(connection):
            there = connection.execute("SELECT to_regclass('llmlog.dead_letters') IS NOT NULL").fetchone()
            if there != (True,):
                return 0
            found = connection.execute("SELECT count(*) FROM llmlog.dead_letters").fetchone()
            return int(str(found[0])) if found else 0

    def retry(self, exporter: Exporter, ids: Sequence[int] | None = None) -> Delivery:
        """Deliver them again, all or those; what is stored now is removed, what is not keeps the new reason.

        The exporter must not put aside what it rejects: it is there already.
        """
        written = duplicates = after = 0
        rejected: list[tuple[Record | None, str]] = []
        while letters := self.entries(limit=_AT_ONCE, after=after, ids=ids):
            after = letters[-1].id
            records = [_record(letter.record) for letter in letters]
            delivery = exporter.export(records)
            exporter.close()  # a pooler may have one connection for it and for what follows
            reasons = {id(record): reason for record, reason in delivery.rejected}
            stored = [letter.id for letter, record in zip(letters, records, strict=True) if id(record) not in reasons]
            refused = [
                (reasons[id(record)], letter.id)
                for letter, record in zip(letters, records, strict=True)
                if id(record) in reasons
            ]
            with (
                self._connected("owner") as connection,
                connect.transaction(connection),
                connection.cursor() as cursor,
            ):
                cursor.execute("DELETE FROM llmlog.dead_letters WHERE id = ANY (%s)", (stored,))
                cursor.executemany(
                    "UPDATE llmlog.dead_letters SET reason = %s, retried_at = now() WHERE id = %s", refused
                )
            written += delivery.written
            duplicates += delivery.duplicates
            rejected += delivery.rejected
        return Delivery(written, duplicates, rejected)

    @contextmanager
    def _connected(self, work: rights.Work) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
        try:
            with connect.connection(self._conninfo) as connection:
                yield connection
        except psycopg.Error as error:
            raise StoreUnavailable(
                f"cannot reach the dead letters: {rights.told(error, self._conninfo, work)}"
            ) from None


def _letter(record: Record, reason: str) -> tuple[object, ...]:
    plain = storable({field.name: getattr(record, field.name) for field in fields(record)} | _attributes(record))
    try:
        text = json.dumps(plain, ensure_ascii=False, allow_nan=False, sort_keys=True)
    except ValueError:  # a number of thousands of digits
        text = json.dumps(storable(_as_text(plain)), ensure_ascii=False, sort_keys=True)
    trace_id, span_id = (value if isinstance(value, str) else None for value in (plain["trace_id"], plain["span_id"]))
    return trace_id, span_id, _time(record.start_ns), storable(reason), text, sha256(text.encode()).digest()


def _attributes(record: Record) -> dict[str, Any]:
    return {"attributes": dict(record.attributes) if isinstance(record.attributes, Mapping) else {}}


def _as_text(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _as_text(item) for key, item in value.items()}
    if isinstance(value, int) and abs(value) >= 1 << 63:
        return hex(value)
    return value


def _time(nanoseconds: Any) -> datetime | None:
    try:
        return datetime.fromtimestamp(nanoseconds // 10**9, UTC)
    except (TypeError, ValueError, OverflowError, OSError):
        return None


def _record(stored: dict[str, Any]) -> Record:
    # Written by a version that knew no kinds, it has none.
    given = {"kind": "span", **stored}
    return Record(**{field.name: given.get(field.name) for field in fields(Record)})  # type: ignore[arg-type]

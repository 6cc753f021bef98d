"""All that is done with a database, once: what holds on one server must hold on every other, and behind a pooler."""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from otel_llmlog.config import RetentionSettings
from otel_llmlog.pipeline.record import Record
from otel_llmlog.pricing import Pricer
from otel_llmlog.store import audit_chain, check, migrate, reprice, retention, sql
from otel_llmlog.store.audit_reader import AuditFilter, AuditReader
from otel_llmlog.store.audit_rows import AuditWriter
from otel_llmlog.store.connect import conninfo
from otel_llmlog.store.dead_letters import DeadLetters
from otel_llmlog.store.postgres import PostgresExporter
from otel_llmlog.store.reader import Filter, Reader
from tests.audit.events import record as event, records as events
from tests.store.records import record, records

DAY_NS = 86_400 * 10**9
RETENTION = RetentionSettings(
    maximum_spend_logs_retention_period=timedelta(days=3), maximum_audit_logs_retention_period=timedelta(days=30)
)
AUDIT_RETENTION = RetentionSettings(maximum_audit_logs_retention_period=timedelta(seconds=1))
BIN = Path(sys.executable).parent
OLD_DAYS = range(4, 8)


def outcome(delivery: Any) -> tuple[int, int, int]:
    return delivery.written, delivery.duplicates, len(delivery.rejected)


def upgraded(url: str) -> None:
    """The tables are made, and made once."""
    migrate.upgrade(url)
    migrate.upgrade(url)
    assert migrate.status(url) == (sql.newest(), sql.newest())


def stored(url: str) -> list[Record]:
    """Rows of every way into the tables: new ones, some again, one that is refused, audit events, one at once."""
    now = time.time_ns()
    calls = [
        record(start_ns=now - 60 * 10**9, session_id="s1", messages="hello", call_type="responses"),
        *(record(start_ns=now - day * DAY_NS, session_id="old", messages="hello") for day in OLD_DAYS),
        *records(
            20,
            session_id="s2",
            cost_source="price_map",
            price_version="old",
            request_tags=["a", "NULL"],
            end_user=r"C:\new\folder",
        ),
    ]
    exporter = PostgresExporter(url, retention=None)
    try:
        assert outcome(exporter.export(calls)) == (25, 0, 0)
        bad = record(start_ns=now, total_tokens=1 << 70)
        assert outcome(exporter.export([*calls[-3:], bad, record(start_ns=now)])) == (1, 3, 1)
        assert outcome(exporter.export(events(5))) == (5, 0, 0)
    finally:
        exporter.close()
    writer = AuditWriter(lambda: conninfo(url), 10.0)
    writer.store(event())
    writer.store(event())
    writer.close()
    return calls


def read(url: str) -> None:
    """What `stored` has stored is told in every way."""
    reader = Reader(url)
    try:
        logs = reader.logs(Filter(), limit=100)
        assert len(logs) == 26
        assert all(row["start_time"].utcoffset() == timedelta(0) for row in logs)
        last = next(row for row in logs if row["session_id"] == "s2")
        assert last["end_user"] == r"C:\new\folder"
        assert sum(line.calls for line in reader.spend("model")) == 26
        assert (
            sum(line.calls for line in reader.spend("day", Filter(since=datetime.now(UTC) - timedelta(days=30)))) == 26
        )
        assert {line["session_id"]: line["calls"] for line in reader.sessions()} == {"s1": 1, "s2": 20, "old": 4}
        assert len(reader.session("s2")) == 20
        assert reader.status().revision == sql.newest()
    finally:
        reader.close()
    assert len(AuditReader(url).audit_logs(AuditFilter(), limit=100)) == 7
    proved = audit_chain.verify(url)
    assert (proved.rows, proved.findings) == (7, [])
    letters = DeadLetters(url)
    assert len(letters.entries()) == 1
    again = PostgresExporter(url, keep_rejected=False)
    try:
        assert outcome(letters.retry(again)) == (0, 0, 1)
    finally:
        again.close()


def maintained(url: str) -> None:
    """Sums are right, costs are worked out again, old days leave."""
    assert check.check(url).differences == []
    check.repair(url)
    assert check.check(url).differences == []
    since = datetime.now(UTC) - timedelta(days=30)
    changed = reprice.reprice(url, Pricer(), since, datetime.now(UTC), changed_by="ada").changed
    assert changed > 0
    assert check.check(url).differences == []
    planned = retention.plan(url, RETENTION)
    assert len(planned.partitions) == 2 * len(OLD_DAYS)
    assert retention.prune(url, RETENTION) == planned
    assert retention.maintain(url, RETENTION) is None
    reader = Reader(url)
    assert len(reader.logs(Filter(), limit=100)) == 22
    assert sum(line.calls for line in reader.spend("model")) == 26
    reader.close()
    events_stored = audit_chain.verify(url).rows
    deadline = time.monotonic() + 30
    while retention.plan(url, AUDIT_RETENTION).audit_logs < events_stored:
        assert time.monotonic() < deadline
    gone = retention.prune(url, AUDIT_RETENTION)
    assert gone is not None
    assert gone.audit_logs == events_stored
    proved = audit_chain.verify(url)
    assert (proved.rows, proved.findings) == (1, [])  # the one that says what has gone


def whole(url: str) -> None:
    """All of it, from no tables to old rows gone."""
    upgraded(url)
    stored(url)
    read(url)
    maintained(url)

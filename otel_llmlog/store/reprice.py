"""Working costs out again: rows whose cost we worked out get what they cost under other prices.

Always true: a row, the sums it is in and the audit record with what it cost before change in one transaction, or none
does; a cost that a provider stated is left alone, and so is a known cost where the prices at hand know none; done twice
it changes nothing more. Rows are locked in the order of their keys, after the locks of chains and before the lines of
the sums, as every writer does it: nobody waits in a circle.
"""

from __future__ import annotations

import json
import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Context, Decimal
from typing import Any, NamedTuple

from pydantic import ValidationError
from sqlalchemy import Connection, RowMapping, text
from sqlalchemy.exc import DBAPIError

from otel_llmlog.dialects import audit
from otel_llmlog.errors import StoreUnavailable
from otel_llmlog.payload import AuditEvent, Usage
from otel_llmlog.pipeline.record import Record
from otel_llmlog.pricing import Pricer
from otel_llmlog.store import audit_rows, connect, rights, sql

# Rows that are read at once, and that change in one transaction: some 50 ms, for which a writer may wait.
_READ_AT_ONCE = 1_000
_WRITTEN_AT_ONCE = 200
OPERATION = "spend.reprice"
_EXACT = Context(prec=200)

# (start_time, trace_id, span_id).
Key = tuple[datetime, str, str]


class Change(NamedTuple):
    """A row and its new cost."""

    key: Key
    provider: str | None
    model: str | None
    before: Decimal | None
    after: Decimal
    price: dict[str, Any]
    """spend, cost_source, price_version, cost_breakdown; money as text."""
    information: dict[str, Any]


class Line(NamedTuple):
    """What changes for one model."""

    provider: str | None
    model: str | None
    calls: int
    newly_priced: int
    before: Decimal
    after: Decimal


@dataclass
class Report:
    """What a run read, and what it changes or has changed."""

    read: int = 0
    """Rows whose cost we worked out, or could not."""
    changed: int = 0
    kept: int = 0
    """Rows with a cost that the prices at hand do not know: left as they are."""
    unknown: int = 0
    """Rows without a cost that stay without one."""
    unreadable: int = 0
    """Rows whose usage cannot be read."""
    overtaken: int = 0
    """Rows that somebody else changed meanwhile: left for the next run."""
    lines: list[Line] = field(default_factory=list)
    """By model, the biggest difference first."""

    @property
    def difference(self) -> Decimal:
        """US dollars more than before, or less."""
        return sum((line.after - line.before for line in self.lines), Decimal(0))


def plan(url: str, pricer: Pricer, since: datetime, until: datetime, *, connect_timeout: int = 10) -> Report:
    """What `reprice` would change. Raises StoreUnavailable."""
    return _run(url, pricer, since, until, None, connect_timeout)


def reprice(
    url: str, pricer: Pricer, since: datetime, until: datetime, *, changed_by: str | None, connect_timeout: int = 10
) -> Report:
    """Give rows that began since <= start < until their cost under these prices. Raises StoreUnavailable.

    What is done when it breaks off stays done; the next run goes on. Needs a role that may change rows.
    """
    run = uuid.uuid4().hex
    return _run(
        url, pricer, since, until, lambda connection, lot: _write(connection, lot, run, changed_by), connect_timeout
    )


def _run(
    url: str,
    pricer: Pricer,
    since: datetime,
    until: datetime,
    write: Callable[[Connection, list[Change]], int] | None,
    connect_timeout: int,
) -> Report:
    report = Report()
    sums: defaultdict[tuple[str | None, str | None], list[Any]] = defaultdict(lambda: [0, 0, Decimal(0), Decimal(0)])
    with _connected(url, connect_timeout) as connection:
        for page in _pages(connection, since, until):
            found = [change for row in page if (change := _change(row, pricer, report))]
            for start in range(0, len(found), _WRITTEN_AT_ONCE):
                lot = found[start : start + _WRITTEN_AT_ONCE]
                done = len(lot) if write is None else write(connection, lot)
                report.changed += done
                report.overtaken += len(lot) - done
            for change in found:
                line = sums[change.provider, change.model]
                line[0] += 1
                line[1] += change.before is None
                line[2] = _EXACT.add(line[2], change.before or Decimal(0))
                line[3] = _EXACT.add(line[3], change.after)
    lines = [Line(*names, *line) for names, line in sums.items()]
    report.lines = sorted(lines, key=lambda line: (-abs(line.after - line.before), str(line.model)))
    return report


def _pages(connection: Connection, since: datetime, until: datetime) -> Iterator[Sequence[RowMapping]]:
    after: Key = (since, "", "")
    while True:
        parameters = {
            "after_time": after[0], "after_trace": after[1], "after_span": after[2], "until": until,
            "limit": _READ_AT_ONCE,
        }  # fmt: skip
        with connection.begin():
            page = connection.execute(text(sql.queries()["reprice_page"]), parameters).mappings().all()
        if page:
            yield page
        if len(page) < _READ_AT_ONCE:
            return
        after = _key(page[-1])


def _key(row: RowMapping) -> Key:
    return row["start_time"], row["trace_id"], row["span_id"]


def _change(row: RowMapping, pricer: Pricer, report: Report) -> Change | None:
    report.read += 1
    try:
        usage = Usage.model_validate(row["usage"])
    except ValidationError:
        report.unreadable += 1
        return None
    cost = pricer.price(
        usage,
        provider=row["provider"],
        response_model=row["response_model"],
        request_model=row["model"],
        call_type=row["call_type"],
        at=float(row["at"]),
        cache_hit=row["cache_hit"],
    )
    before = None if row["spend"] is None else Decimal(row["spend"])
    if cost.total is None or cost.source is None:
        report.kept += before is not None
        report.unknown += before is None
        return None
    if before == cost.total and row["cost_breakdown"] == cost.breakdown:
        # The prices that it has say the same: where it has them from stays true.
        return None
    price = {
        "spend": f"{cost.total:f}",
        "cost_source": f"tiktoken+{cost.source}" if usage.source == "tiktoken" else cost.source,
        "price_version": cost.version,
        "cost_breakdown": cost.breakdown,
    }
    return Change(
        _key(row), row["provider"], row["response_model"] or row["model"], before, cost.total, price,
        cost.model_information.model_dump(mode="json"),
    )  # fmt: skip


def _write(connection: Connection, lot: list[Change], run: str, changed_by: str | None) -> int:
    """Change these rows in one transaction; answers how many were still as they were read."""
    with connection.begin():
        connection.execute(text(sql.queries()["reprice_order"]))
        now = {_key(row): row for row in connection.execute(text(sql.queries()["reprice_lock"]), _keys(lot)).mappings()}
        still = [change for change in lot if change.key in now and _money(now[change.key]["spend"]) == change.before]
        if not still:
            return 0
        found = connection.execute(text(sql.queries()["reprice_write"]), _keys(still) | _values(still)).mappings().one()
        # Last: it takes the lock of the audit chain, for which others wait.
        _record(connection, still, [now[change.key] for change in still], run, changed_by)
        return int(found["rows"])


def _money(text_: str | None) -> Decimal | None:
    return None if text_ is None else Decimal(text_)


def _keys(lot: list[Change]) -> dict[str, Any]:
    times = [change.key[0] for change in lot]
    return {
        "start_times": times,
        "trace_ids": [change.key[1] for change in lot],
        "span_ids": [change.key[2] for change in lot],
        # Written out, they keep all other days out of the query.
        "first": min(times),
        "last": max(times),
    }


def _values(lot: list[Change]) -> dict[str, Any]:
    return {
        "spends": [change.price["spend"] for change in lot],
        "sources": [change.price["cost_source"] for change in lot],
        "versions": [change.price["price_version"] for change in lot],
        "breakdowns": [json.dumps(change.price["cost_breakdown"]) for change in lot],
        "informations": [json.dumps(change.information) for change in lot],
        "before": [None if change.before is None else f"{change.before:f}" for change in lot],
    }


def _record(
    connection: Connection, lot: list[Change], before: list[RowMapping], run: str, changed_by: str | None
) -> None:
    """What the rows cost before and cost now, as an audit record in the same transaction."""
    names = ("spend", "cost_source", "price_version", "cost_breakdown")
    rows = [_named(change.key) | {name: row[name] for name in names} for change, row in zip(lot, before, strict=True)]
    event = AuditEvent(
        id=uuid.uuid4().hex,
        updated_at=time.time(),
        changed_by=changed_by,
        action="updated",
        table_name="LiteLLM_SpendLogs",
        object_id=run,
        before_value={"rows": rows},
        updated_values={"rows": [_named(change.key) | change.price for change in lot]},
        operation=OPERATION,
        source="llmlog",
    )
    now = time.time_ns()
    record = Record("", "", None, now, now, "llmlog", audit.encode(event))
    rejected: list[tuple[Record, str]] = []
    driver: Any = connection.connection.driver_connection
    audit_rows.append(driver, [record], rejected)
    if rejected:
        raise StoreUnavailable(f"the audit record was refused, so nothing was changed: {rejected[0][1]}")


def _named(key: Key) -> dict[str, Any]:
    return {"start_time": key[0].isoformat(), "trace_id": key[1], "span_id": key[2]}


@contextmanager
def _connected(url: str, connect_timeout: int) -> Iterator[Connection]:
    try:
        with connect.engine(url, connect_timeout=connect_timeout, limits=connect.USUAL).connect() as connection:
            yield connection
    except DBAPIError as error:
        told = rights.told(error.orig, connect.conninfo(url, connect_timeout=connect_timeout), "owner")
        raise StoreUnavailable(f"cannot work costs out again: {told}") from None

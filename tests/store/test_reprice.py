"""Costs worked out again: right, once, with the sums, with an audit record, and beside writers at work."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from otel_llmlog.payload import Usage
from otel_llmlog.pipeline.record import Record
from otel_llmlog.pricing import Pricer
from otel_llmlog.store import audit_chain, check, reprice
from otel_llmlog.store.postgres import PostgresExporter
from tests.store.records import record, records

Query = Callable[..., list[tuple[Any, ...]]]
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
FAR = datetime(2100, 1, 1, tzinfo=UTC)
NEW = Pricer({"gpt-4o": {"input_cost_per_token": 0.5, "output_cost_per_token": 1}}, "sha256:new")
NEW_COST = Decimal(70)  # of 100 tokens of input and 20 of output
BREAKDOWN = {
    "input": {"units": 100, "unit_price": "0.5", "cost": "50"},
    "output": {"units": 20, "unit_price": "1", "cost": "20"},
    "total": "70",
}


def priced(**changes: Any) -> Record:
    """A row whose cost we worked out: 0.0125 USD."""
    return record(
        **{"cost_source": "price_map", "price_version": "sha256:old", "cost_breakdown": {"total": "0.0125"}, **changes}
    )


def run(url: str, pricer: Pricer = NEW, since: datetime = EPOCH) -> reprice.Report:
    return reprice.reprice(url, pricer, since, FAR, changed_by="ada")


def check_sums(url: str) -> None:
    assert check.check(url).differences == []


def test_rows_get_their_new_cost_and_say_where_from(
    database_url: str, exporter: PostgresExporter, query: Query
) -> None:
    exporter.export([priced(response_cost_failure_debug_info={"error_str": "old"})])
    report = run(database_url)
    assert (report.read, report.changed, report.difference) == (1, 1, NEW_COST - Decimal("0.0125"))
    assert query("SELECT spend, cost_source, price_version, cost_breakdown FROM llmlog.spend_logs") == [
        (NEW_COST, "price_map", "sha256:new", BREAKDOWN)
    ]
    ((metadata,),) = query("SELECT metadata FROM llmlog.spend_logs")
    assert metadata["model_map_information"]["model_map_key"] == "gpt-4o"
    assert not {"response_cost_failure_debug_info", "response_cost"} & metadata.keys()
    check_sums(database_url)


def test_a_second_run_finds_nothing_to_do(database_url: str, exporter: PostgresExporter, query: Query) -> None:
    exporter.export([priced() for _ in range(5)])
    assert run(database_url).changed == 5
    before = query("SELECT * FROM llmlog.spend_logs ORDER BY span_id"), query("SELECT count(*) FROM llmlog.audit_logs")
    assert (run(database_url).read, run(database_url).changed) == (5, 0)
    assert before == (
        query("SELECT * FROM llmlog.spend_logs ORDER BY span_id"), query("SELECT count(*) FROM llmlog.audit_logs")
    )  # fmt: skip


def test_a_plan_tells_what_a_run_does_and_writes_nothing(
    database_url: str, exporter: PostgresExporter, query: Query
) -> None:
    exporter.export(
        [priced(), priced(spend=None, cost_source=None, response_cost=None), priced(cost_source="provider")]
    )
    planned = reprice.plan(database_url, NEW, EPOCH, FAR)
    assert query("SELECT sum(spend) FROM llmlog.spend_logs") == [(Decimal("0.0250"),)]
    assert planned.lines == [
        reprice.Line("openai", "gpt-4o", 2, 1, Decimal("0.0125"), 2 * NEW_COST),
    ]
    assert planned == run(database_url)


@pytest.mark.parametrize(
    "stated",
    [{"cost_source": "provider"}, {"cost_source": "litellm"}, {"cache_hit": True}, {"cost_source": "somebody"},
     {"spend": Decimal(0), "response_cost": 0.0, "cost_source": None}],
)  # fmt: skip
def test_costs_that_were_stated_and_free_calls_are_left_alone(
    database_url: str, exporter: PostgresExporter, query: Query, stated: dict[str, Any]
) -> None:
    exporter.export([priced(**stated)])
    before = query("SELECT * FROM llmlog.spend_logs")
    assert run(database_url).read == 0
    assert query("SELECT * FROM llmlog.spend_logs") == before


def test_a_known_cost_is_not_lost_to_prices_that_do_not_know_the_model(
    database_url: str, exporter: PostgresExporter, query: Query
) -> None:
    exporter.export(
        [priced(model="own-model"), priced(model="own-model", spend=None, cost_source=None, response_cost=None)]
    )
    report = run(database_url)
    assert (report.changed, report.kept, report.unknown) == (0, 1, 1)
    assert query("SELECT sum(spend) FROM llmlog.spend_logs") == [(Decimal("0.0125"),)]


def test_a_call_counted_by_tiktoken_still_says_so(database_url: str, exporter: PostgresExporter, query: Query) -> None:
    exporter.export([priced(usage=Usage(input_tokens=2, source="tiktoken"), cost_source="tiktoken+genai-prices")])
    run(database_url)
    assert query("SELECT spend, cost_source FROM llmlog.spend_logs") == [(1, "tiktoken+price_map")]


def test_a_row_of_the_version_before_has_its_usage_in_its_metadata(
    database_url: str, exporter: PostgresExporter, query: Query
) -> None:
    exporter.export([priced()])
    query("UPDATE llmlog.spend_logs SET usage = NULL, metadata = metadata || jsonb_build_object('usage_object', usage)")
    assert run(database_url).changed == 1
    query(
        """UPDATE llmlog.spend_logs SET metadata = metadata || '{"usage_object": {"input_tokens": "many", "x": 1}}'"""
    )
    assert run(database_url).unreadable == 1


def test_only_calls_of_the_time_asked_for_change(database_url: str, exporter: PostgresExporter, query: Query) -> None:
    now = time.time_ns()
    exporter.export([priced(start_ns=now - days * 86_400 * 10**9) for days in (0, 1, 3, 9)])
    assert run(database_url, since=datetime.now(UTC) - timedelta(days=2)).changed == 2
    assert query("SELECT spend FROM llmlog.spend_logs ORDER BY start_time DESC") == [
        (NEW_COST,), (NEW_COST,), (Decimal("0.0125"),), (Decimal("0.0125"),)
    ]  # fmt: skip
    check_sums(database_url)


def test_old_costs_are_in_the_audit_log_which_still_verifies(
    database_url: str, exporter: PostgresExporter, query: Query
) -> None:
    exporter.export([priced() for _ in range(450)])
    run(database_url)
    logs = query(
        "SELECT changed_by, action, table_name, operation, source, object_id, before_value, updated_values"
        " FROM llmlog.audit_logs ORDER BY seq"
    )
    assert [len(log[6]["rows"]) for log in logs] == [200, 200, 50]
    assert {log[:5] for log in logs} == {("ada", "updated", "LiteLLM_SpendLogs", "spend.reprice", "llmlog")}
    assert len({log[5] for log in logs}) == 1
    before, after = logs[0][6]["rows"][0], logs[0][7]["rows"][0]
    key = {name: before.pop(name) for name in ("start_time", "trace_id", "span_id")}
    assert before == {
        "spend": "0.0125", "cost_source": "price_map", "price_version": "sha256:old", "cost_breakdown": {"total": "0.0125"}
    }  # fmt: skip
    assert after == {
        **key, "spend": "70", "cost_source": "price_map", "price_version": "sha256:new", "cost_breakdown": BREAKDOWN
    }  # fmt: skip
    assert audit_chain.verify(database_url).findings == []


def test_a_refused_audit_record_leaves_rows_and_sums_as_they_were(
    database_url: str, exporter: PostgresExporter, query: Query
) -> None:
    exporter.export([priced()])
    query("ALTER TABLE llmlog.audit_logs ADD CONSTRAINT nothing CHECK (operation <> 'spend.reprice')")
    with pytest.raises(reprice.StoreUnavailable, match="nothing was changed"):
        run(database_url)
    assert query("SELECT spend FROM llmlog.spend_logs") == [(Decimal("0.0125"),)]
    check_sums(database_url)


SESSIONS = st.sampled_from([None, "a", "b"])
SPENDS = st.sampled_from([None, Decimal("0.0125"), NEW_COST])
STARTS = st.integers(0, 80).map(lambda hours: time.time_ns() - hours * 3600 * 10**9)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(SESSIONS, SPENDS, STARTS, st.sampled_from(["success", "failure"]), st.booleans()), max_size=30)
)
def test_sums_stay_exact_whatever_the_rows(
    database_url: str, exporter: PostgresExporter, query: Query, calls: list[tuple[Any, ...]]
) -> None:
    query("TRUNCATE llmlog.spend_logs, llmlog.spend_hourly, llmlog.spend_daily, llmlog.session_totals")
    query("UPDATE llmlog.maintenance SET folded_until = '-infinity'")
    exporter.export(
        [
            priced(
                session_id=session, spend=spend, response_cost=None if spend is None else float(spend), start_ns=start,
                status=status, cost_source=None if spend is None else "price_map", model="gpt-4o" if known else "own",
            )
            for session, spend, start, status, known in calls
        ]
    )  # fmt: skip
    query("SELECT llmlog.fold_rollups()")
    run(database_url)
    check_sums(database_url)
    assert run(database_url).changed == 0


def test_chains_go_on_joining_while_costs_are_worked_out_again(database_url: str, query: Query) -> None:
    """Writers whose calls move others to another session, and two runs, all at once: none fails, and all adds up."""
    stop, failures = threading.Event(), []

    def write(name: str) -> None:
        exporter = PostgresExporter(database_url, auto_migrate=False)
        try:
            for number in range(12):
                ids = [f"{name}-{number}-{step}" for step in range(6)]
                chain = [
                    priced(id=own, previous_response_id=previous, call_type="responses", spend=Decimal(1))
                    for previous, own in zip([None, *ids], ids, strict=False)
                ]
                # The last comes first: each earlier one then moves those that follow it.
                for made in reversed(chain):
                    found = exporter.export([made, *records(2, session_id=name)])
                    assert not found.rejected
        except BaseException as error:  # told by the test's own thread
            failures.append(error)
        finally:
            exporter.close()

    def again() -> None:
        try:
            cheap = Pricer({"gpt-4o": {"input_cost_per_token": 0.25, "output_cost_per_token": 2}})
            while not stop.is_set():
                run(database_url)
                run(database_url, cheap)
        except BaseException as error:
            failures.append(error)

    writers = [threading.Thread(target=write, args=(name,)) for name in ("x", "y")]
    runs = [threading.Thread(target=again) for _ in range(2)]
    for thread in (*writers, *runs):
        thread.start()
    for thread in writers:
        thread.join()
    stop.set()
    for thread in runs:
        thread.join()
    assert failures == []
    check_sums(database_url)
    run(database_url)
    check_sums(database_url)
    assert query("SELECT DISTINCT spend FROM llmlog.spend_logs WHERE cost_source = 'price_map'") == [(NEW_COST,)]


def test_a_row_that_was_changed_meanwhile_is_left_for_the_next_run(
    database_url: str, exporter: PostgresExporter, query: Query, monkeypatch: pytest.MonkeyPatch
) -> None:
    exporter.export([priced(), priced()])
    real = reprice._write

    def late(connection: Any, lot: Any, *rest: Any) -> int:
        with psycopg.connect(database_url, autocommit=True) as other:
            other.execute("UPDATE llmlog.spend_logs SET spend = 3 WHERE span_id = %s", (lot[0].key[2],))
        monkeypatch.setattr(reprice, "_write", real)
        return real(connection, lot, *rest)

    monkeypatch.setattr(reprice, "_write", late)
    report = run(database_url)
    assert (report.changed, report.overtaken) == (1, 1)
    assert run(database_url).changed == 1

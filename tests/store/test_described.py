"""One request is one row, whoever described it: in every order, in every batching, from several writers, twice."""

from __future__ import annotations

import dataclasses
import itertools
import random
import threading
import time
from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from otel_llmlog.config import Settings
from otel_llmlog.pipeline.record import Record
from otel_llmlog.store import check, retention
from otel_llmlog.store.postgres import PostgresExporter
from tests.store.records import record

START = int(time.time()) // 86_400 * 86_400 * 10**9 + 3600 * 10**9
MS = 10**6
TABLES = (
    "spend_logs", "spend_log_contents", "spend_hourly", "spend_daily", "session_totals", "described_calls", "hidden_calls",
    "waiting_contents", "chain_links",
)  # fmt: skip


class Said(NamedTuple):
    """One description of a request: its span's number, its parent's, whose it is, the response id it gives."""

    span: int
    parent: int | None = None
    by: str | None = None
    response: str | None = None
    tokens: int = 100
    begins: int = 0
    lasts: int = 1000
    """Milliseconds."""
    session: str | None = None
    trace: int = 1
    call_type: str = "completion"
    priced: bool = True


def made(said: Said) -> Record:
    changes: dict[str, Any] = {"id": said.response} if said.response else {"id": f"call-{said.span}"}
    start = START + said.trace * 10**9 + said.begins * MS
    return record(
        **{
            **changes,
            "call_id": f"call-{said.span}",
            "trace_id": f"{said.trace:032x}",
            "span_id": f"{said.span:016x}",
            "parent_span_id": None if said.parent is None else f"{said.parent:016x}",
            "described_by": said.by,
            "call_type": said.call_type,
            "total_tokens": said.tokens,
            "prompt_tokens": said.tokens,
            "session_id": said.session,
            "spend": Decimal(said.span) / 1000 if said.priced else None,
            "response_cost": said.span / 1000 if said.priced else None,
            "start_ns": start,
            "end_ns": start + said.lasts * MS,
        }
    )


def shown(url: str) -> set[int]:
    """The spans that are rows; and the sums must be theirs."""
    with psycopg.connect(url) as connection:
        found = connection.execute("SELECT span_id, trace_id FROM llmlog.spend_logs").fetchall()
        hidden = connection.execute(
            "SELECT count(*) FROM llmlog.described_calls d WHERE hidden <> EXISTS (SELECT FROM llmlog.hidden_calls h"
            " WHERE (h.start_time, h.trace_id, h.span_id) = (d.start_time, d.trace_id, d.span_id))"
        ).fetchone()
    assert hidden == (0,)
    assert check.check(url).differences == []
    return {int(span, 16) for span, _ in found}


def emptied(url: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("TRUNCATE " + ", ".join(f"llmlog.{table}" for table in TABLES))


def batchings(count: int) -> Iterator[list[int]]:
    """The ways to cut so many records into batches, as their sizes."""
    for cuts in itertools.product((False, True), repeat=count - 1):
        sizes = [1]
        for cut in cuts:
            if cut:
                sizes.append(1)
            else:
                sizes[-1] += 1
        yield sizes


def store(exporter: PostgresExporter, records: Sequence[Record], sizes: Sequence[int]) -> None:
    at = 0
    for size in sizes:
        delivery = exporter.export(records[at : at + size])
        assert delivery.rejected == []
        at += size


OUTER, NATIVE, OURS = Said(1, 9, "openinference"), Said(2, 1, "anthropic", "r"), Said(3, 2, None, "r")
CASES = {
    "ours inside another's": ([Said(1, 9, "openlit", "r"), Said(2, 1, None, "r")], {2}),
    "ours inside the SDK's own inside another's": ([OUTER, NATIVE, OURS], {3}),
    "a failed call, without a response": ([Said(1, 9, "openlit", tokens=0), Said(2, 1, tokens=0)], {2}),
    "beside ours with the same response": ([Said(1, 9, "openllmetry", "r"), Said(2, 9, None, "r")], {2}),
    "beside ours and around it in time": ([Said(1, 9, "langfuse"), Said(2, 9, None, "r", begins=5, lasts=900)], {2}),
    "beside ours, but before it": ([Said(1, 9, "langfuse", lasts=10), Said(2, 9, None, "r", begins=20)], {1, 2}),
    "two that ours is not among: the better informed": ([Said(1, 9, "pydantic_ai", "r"), Said(2, 1, "genai", "r")], {2}),
    "the one with tokens": ([Said(1, 9, "pydantic_ai", "r"), Said(2, 1, "genai", tokens=0)], {1}),
    "an SDK's retry: two requests inside one span": (
        [Said(1, 9, "openlit", "r"), Said(2, 1, None, None, 0), Said(3, 1, None, "r", begins=50)], {2, 3},
    ),
    "two requests inside one span, seen by others": (
        [Said(1, 9, "pydantic_ai", "r"), Said(2, 1, "genai", None, 0), Said(3, 1, "genai", "r")], {2, 3},
    ),
    "one request inside a span that ours sees, and one that it does not": (
        [Said(1, 9, "pydantic_ai"), Said(2, 1, None, "r"), Said(3, 1, "genai", "q")], {2, 3},
    ),
    "the same response id in another trace": ([Said(1, 9, "genai", "r"), Said(2, 9, None, "r", trace=2)], {1, 2}),
    "the same response id, but a minute apart": ([Said(1, 9, "genai", "r"), Said(2, 1, None, "r", begins=60_000)], {1, 2}),
    "ours around another's": ([Said(1, 9, None, "r"), Said(2, 1, "genai", "r")], {1}),
    "three around each other, without ours": (
        [Said(1, 9, "langfuse", lasts=2000), Said(2, 9, "openllmetry", "r", begins=1), Said(3, 2, "genai", "r", begins=2)], {3},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_in_every_order_and_batching_one_request_is_the_same_row(
    exporter: PostgresExporter, database_url: str, case: str
) -> None:
    said, expected = CASES[case]
    records = [made(one) for one in said]
    for order in itertools.permutations(records):
        for sizes in batchings(len(records)):
            store(exporter, order, sizes)
            assert shown(database_url) == expected, (order, sizes)
            emptied(database_url)


@pytest.mark.parametrize(
    "case", ["ours inside the SDK's own inside another's", "an SDK's retry: two requests inside one span"]
)
def test_what_is_delivered_again_changes_nothing(exporter: PostgresExporter, database_url: str, case: str) -> None:
    said, expected = CASES[case]
    records = [made(one) for one in said]
    generator = random.Random(case)
    for _ in range(12):
        twice = [*records, *records]
        generator.shuffle(twice)
        sizes = generator.choice([[6], [1] * 6, [2, 2, 2], [3, 3], [4, 1, 1]])
        store(exporter, twice, sizes)
        assert shown(database_url) == expected, twice
        emptied(database_url)


def test_the_row_says_whose_span_it_was_read_from(exporter: PostgresExporter, query: Any) -> None:
    exporter.export([made(Said(1, None, "openlit", "r")), made(Said(2, trace=2))])
    asked = "SELECT described_by FROM llmlog.spend_logs ORDER BY span_id"
    assert query(asked) == [("openlit",), (None,)]


def test_a_row_that_is_hidden_leaves_its_session_and_takes_its_cost_along(
    exporter: PostgresExporter, database_url: str, query: Any
) -> None:
    alone, around, ours = (
        Said(5, None, "genai", "q", session="s", trace=2),
        Said(1, 9, "genai", "r", session="s"),
        Said(2, 1),
    )
    exporter.export([made(around), made(alone)])
    assert query("SELECT session_id, calls, spend FROM llmlog.session_totals") == [("s", 2, Decimal("0.006"))]
    exporter.export([made(ours)])
    assert shown(database_url) == {2, 5}
    assert query("SELECT session_id, calls, spend FROM llmlog.session_totals") == [("s", 1, Decimal("0.005"))]
    exporter.export([made(Said(6, 5, None, "q", trace=2))])
    assert shown(database_url) == {2, 6}
    assert query("SELECT session_id, calls FROM llmlog.session_totals") == []


@pytest.mark.parametrize("status", ["success", "failure"])
def test_a_sum_without_any_price_is_null_again(
    exporter: PostgresExporter, database_url: str, query: Any, status: str
) -> None:
    priced, unpriced = Said(1, 9, "genai", "r"), Said(7, 9, "genai", "q", priced=False)
    changed = [record_of(made(priced), status), record_of(made(unpriced), status)]
    exporter.export(changed)
    exporter.export([record_of(made(Said(2, 1, priced=False)), status)])
    assert shown(database_url) == {2, 7}
    assert query("SELECT spend FROM llmlog.spend_hourly") == [(None,)]


def record_of(one: Record, status: str) -> Record:
    return Record(
        one.trace_id, one.span_id, one.parent_span_id, one.start_ns, one.end_ns, one.service_name,
        {**one.attributes, "llmlog.status": status},
    )  # fmt: skip


def test_sums_of_folded_days_follow_too(exporter: PostgresExporter, database_url: str, query: Any) -> None:
    three_days = 3 * 86_400 * 10**9

    def then(said: Said) -> Record:
        one = made(said)
        return Record(
            one.trace_id, one.span_id, one.parent_span_id, one.start_ns - three_days, one.end_ns - three_days,
            one.service_name, one.attributes,
        )  # fmt: skip

    exporter.export([then(Said(1, 9, "genai", "r", priced=False))])
    query("SELECT llmlog.fold_rollups()")
    exporter.export([then(Said(2, 1))])
    exporter.export([then(Said(3, 2, "genai"))])
    assert shown(database_url) == {2}
    assert query("SELECT calls, spend FROM llmlog.spend_daily") == [(1, Decimal("0.002"))]


@st.composite
def traces(draw: st.DrawFn) -> list[Said]:
    count = draw(st.integers(2, 6))
    said = []
    for span in range(1, count + 1):
        parent = draw(st.sampled_from([None, 99, *range(1, span)]))
        by = draw(st.sampled_from([None, "openlit", "genai", "openinference", "langfuse", "litellm"]))
        said.append(
            Said(
                span,
                parent,
                by,
                draw(st.sampled_from([None, "r", "q"])),
                draw(st.sampled_from([0, 100])),
                draw(st.integers(0, 20)),
                draw(st.integers(0, 30)),
                draw(st.sampled_from([None, "s"])),
                1,
                draw(st.sampled_from(["completion", "responses"])),
                draw(st.booleans()),
            )
        )
    return said


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(traces(), st.randoms(use_true_random=False))
def test_the_rows_depend_on_what_was_said_and_not_on_when(
    exporter: PostgresExporter, database_url: str, said: list[Said], generator: random.Random
) -> None:
    records = [made(one) for one in said]
    found = []
    for _ in range(3):
        emptied(database_url)
        order = [*records, *generator.sample(records, generator.randint(0, 2))]
        generator.shuffle(order)
        store(exporter, order, [generator.randint(1, 3) for _ in order])
        found.append(shown(database_url))
    assert found[0] == found[1] == found[2]
    assert {one.span for one in said if one.by is None} <= found[0]


def test_writers_that_meet_in_the_same_traces_agree(database_url: str) -> None:
    records = []
    for trace in range(60):
        records += [
            made(Said(3 * trace + 1, 9_000, "openlit", f"r{trace}", trace=trace, session=f"s{trace % 5}")),
            made(Said(3 * trace + 2, 3 * trace + 1, "genai", f"r{trace}", trace=trace, begins=1)),
            made(Said(3 * trace + 3, 3 * trace + 2, None, f"r{trace}", trace=trace, begins=2, call_type="responses")),
        ]
    failures: list[BaseException] = []

    def write(number: int) -> None:
        own = [*records[number::3], *records[number + 1 :: 9]]
        random.Random(number).shuffle(own)
        exporter = PostgresExporter(database_url, auto_migrate=False)
        try:
            for start in range(0, len(own), 7):
                exporter.export(own[start : start + 7])
        except BaseException as error:
            failures.append(error)
        finally:
            exporter.close()

    threads = [threading.Thread(target=write, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert shown(database_url) == {3 * trace + 3 for trace in range(60)}


def test_without_spans_of_others_nobody_looks_for_them(exporter: PostgresExporter, query: Any) -> None:
    exporter.export([made(Said(1)), made(Said(2))])
    assert query("SELECT llmlog.are_described()") == [(False,)]
    exporter.export([made(Said(3, by="genai", trace=2))])
    assert query("SELECT llmlog.are_described()") == [(True,)]
    assert query("SELECT span_id FROM llmlog.described_calls") == [(f"{3:016x}",)]


def test_what_our_own_capture_stored_before_the_first_span_of_others_is_found(
    exporter: PostgresExporter, database_url: str
) -> None:
    exporter.export([made(Said(2, 1, None, "r", begins=3))])
    exporter.export([made(Said(1, 9, "genai", "r"))])
    assert shown(database_url) == {2}


@pytest.mark.parametrize("days", [0, 3, 400])
@pytest.mark.parametrize("ours_first", [True, False])
def test_our_own_row_is_found_on_any_day(
    exporter: PostgresExporter, database_url: str, query: Any, days: int, ours_first: bool
) -> None:
    exporter.export([made(Said(8, by="genai"))])
    indexed = query("SELECT count(*) FROM pg_class WHERE relname ~ '^spend_logs_.*_own_calls$'")
    assert indexed >= [(3,)]
    # The span begins on one day, and the request on the next.
    midnight = START - 3600 * 10**9 - days * 86_400 * 10**9
    span, ours = (
        dataclasses.replace(made(said), start_ns=midnight + at * MS, end_ns=midnight + 900 * MS)
        for said, at in ((Said(1, 9, "genai", "r", trace=2), -500), (Said(2, 1, None, "r", trace=2), 300))
    )
    for one in (ours, span) if ours_first else (span, ours):
        exporter.export([one])
    assert shown(database_url) == {8, 2}


def test_what_a_span_costs_does_not_depend_on_what_is_stored_already(
    exporter: PostgresExporter, database_url: str
) -> None:
    exporter.export([made(Said(8, by="genai", trace=9000))])

    fetched = (
        "SELECT CAST(sum(pg_stat_get_xact_blocks_fetched(oid)) AS int) FROM pg_class"
        " WHERE relnamespace = CAST('llmlog' AS regnamespace) AND relname ~ '^(spend_logs|described_calls)'"
    )

    def pages_read() -> int:
        with psycopg.connect(database_url) as connection:
            connection.execute(
                "INSERT INTO llmlog.spend_logs (start_time, end_time, trace_id, span_id, parent_span_id, request_id, call_id,"
                " call_type, status, request_duration_ms, described_by) VALUES"
                " (to_timestamp(%s), now(), 't', 's', 'p', 'r', '', '', 'success', 0, 'genai'),"
                " (to_timestamp(%s), now(), 't', 'o', 'x', '', '', '', 'success', 0, NULL)",
                (START / 1e9, START / 1e9),
            )
            [(inserting,)] = connection.execute(fetched).fetchall()
            connection.execute(
                "SELECT count(*) FROM llmlog.settle_described(ARRAY[to_timestamp(%s)], ARRAY['t'], ARRAY['s'], ARRAY['p'],"
                " ARRAY['r'], ARRAY[to_timestamp(%s)], ARRAY['m'], '{0}', '{1}', ARRAY[to_timestamp(%s)], ARRAY['t'], ARRAY['o'],"
                " ARRAY['x'], ARRAY[NULL], ARRAY['m'])",
                (START / 1e9, START / 1e9 + 5, START / 1e9),
            )
            [(both,)] = connection.execute(fetched).fetchall()
            connection.rollback()
        return int(both) - int(inserting)

    before = pages_read()
    stored = [
        dataclasses.replace(made(said), start_ns=START + at * MS)
        for at in range(2000)
        for said in (Said(1, 9, "genai", "r", trace=at), Said(2, 7, trace=at))
    ]
    exporter.export(stored)
    # An index or two has become a level deeper.
    assert pages_read() < before + 20


def content(said: Said, **texts: str) -> Record:
    one = made(said)
    attributes = {f"llmlog.{name}": text for name, text in texts.items()}
    return Record(one.trace_id, one.span_id, None, one.start_ns, one.start_ns, "shop", attributes, "content")


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_contents_find_their_row_in_every_order(exporter: PostgresExporter, query: Any, order: tuple[int, ...]) -> None:
    said = Said(1, None, "genai", "r")
    arriving = [made(said), content(said, messages='[{"role":"user"}]'), content(said, response='["hello"]')]
    for at in order:
        assert exporter.export([arriving[at]]).written == 1
        exporter.export([arriving[at]])
    asked = "SELECT c.messages, c.response FROM llmlog.spend_logs JOIN llmlog.spend_log_contents c USING (start_time, trace_id, span_id)"
    assert query(asked) == [([{"role": "user"}], ["hello"])]
    assert query("SELECT count(*) FROM llmlog.waiting_contents") == [(0,)]


def test_contents_of_a_hidden_row_come_back_with_it(exporter: PostgresExporter, database_url: str, query: Any) -> None:
    inner = Said(2, 1, "openlit", "r")
    exporter.export([made(inner), content(inner, messages='["inner"]')])
    exporter.export([made(Said(1, 9, "genai", "r"))])
    assert shown(database_url) == {1}
    assert query("SELECT count(*) FROM llmlog.spend_log_contents") == [(0,)]
    exporter.export([made(Said(3, 1, "openlit", "q", begins=1))])
    assert shown(database_url) == {2, 3}
    assert query("SELECT span_id, messages FROM llmlog.spend_log_contents") == [(f"{2:016x}", ["inner"])]


def test_contents_without_their_span_leave_after_a_day(exporter: PostgresExporter, query: Any) -> None:
    exporter.export([content(Said(1), messages='["lost"]')])
    query("UPDATE llmlog.waiting_contents SET arrived_at = now() - interval '25 hours'")
    exporter.export([content(Said(2), messages='["new"]')])
    assert query("SELECT messages FROM llmlog.waiting_contents") == [(["new"],)]


def test_a_content_that_is_no_json_is_rejected_alone(exporter: PostgresExporter, query: Any) -> None:
    good, bad = content(Said(1), messages='["good"]'), content(Said(2), messages="{")
    delivery = exporter.export([bad, good])
    assert delivery.written == 1
    assert [reason for _, reason in delivery.rejected] == ["messages or response: JSON text is not JSON"]


def test_retention_takes_the_lines_along(exporter: PostgresExporter, database_url: str, query: Any) -> None:
    exporter.export([made(Said(1, 9, "genai", "r")), made(Said(2, 1, "openlit", "r"))])
    query("UPDATE llmlog.described_calls SET start_time = start_time - interval '40 days'")
    query("UPDATE llmlog.hidden_calls SET start_time = start_time - interval '40 days'")
    wanted = Settings({"maximum_spend_logs_retention_period": "30d"}).retention
    retention.prune(database_url, wanted)
    assert query("SELECT count(*) FROM llmlog.described_calls") == [(0,)]
    assert query("SELECT count(*) FROM llmlog.hidden_calls") == [(0,)]


def test_a_span_that_claims_to_last_for_years_is_looked_up_within_an_hour(
    exporter: PostgresExporter, database_url: str
) -> None:
    exporter.export([made(Said(2, 1, None, "r", begins=7_200_000))])
    exporter.export([made(Said(1, 9, "genai", lasts=10**10))])
    assert shown(database_url) == {1, 2}

"""A provider's export beside the table: what is missing on either side is found, and nothing else."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given, strategies as st

from otel_llmlog.errors import ConfigError
from otel_llmlog.payload import Usage
from otel_llmlog.pricing.exports import FORMATS, MEASURES, read
from otel_llmlog.store import reconcile
from otel_llmlog.store.postgres import PostgresExporter
from tests.store.records import record

DAY = date(2026, 11, 20)
MIDNIGHT = int(datetime(2026, 11, 20, tzinfo=UTC).timestamp())
NOON_NS = (MIDNIGHT + 12 * 3600) * 10**9
NONE = Decimal(0)


def openai_usage(*results: dict[str, Any], start: int = MIDNIGHT, **more: Any) -> bytes:
    filled = [{"object": "organization.usage.completions.result", "project_id": None, **result} for result in results]
    bucket = {"object": "bucket", "start_time": start, "end_time": start + 86_400, "results": filled}
    return json.dumps({"object": "page", "data": [bucket], "has_more": False, "next_page": None, **more}).encode()


def openai_costs(*items: tuple[str | None, float], currency: str = "usd") -> bytes:
    results = [
        {"object": "organization.costs.result", "amount": {"value": value, "currency": currency}, "line_item": item}
        for item, value in items
    ]
    return json.dumps(
        {"object": "page", "data": [{"object": "bucket", "start_time": MIDNIGHT, "results": results}]}
    ).encode()


def anthropic(*results: dict[str, Any], at: str = "2026-11-20T00:00:00Z") -> bytes:
    return json.dumps({"data": [{"starting_at": at, "ending_at": at, "results": results}], "has_more": False}).encode()


GPT = {
    "model": "gpt-4o-2024-08-06",
    "num_model_requests": 2,
    "input_tokens": 200,
    "input_cached_tokens": 80,
    "output_tokens": 40,
}


def test_openai_usage_is_read_by_day_and_model() -> None:
    export = read("openai", openai_usage(GPT, {**GPT, "project_id": "p"}, {**GPT, "model": None}))
    assert export.measures == ("requests", "input_tokens", "cached_tokens", "output_tokens")
    assert export.amounts[DAY, "gpt-4o-2024-08-06"] == {
        "requests": 4, "input_tokens": 400, "cached_tokens": 160, "output_tokens": 80
    }  # fmt: skip
    assert export.amounts[DAY, None]["requests"] == 2


def test_openai_embeddings_have_no_output_and_pages_may_follow_each_other() -> None:
    embedding = {
        "object": "organization.usage.embeddings.result",
        "model": "e",
        "num_model_requests": 1,
        "input_tokens": 9,
    }
    pages = openai_usage(GPT, has_more=True) + b"\n" + openai_usage(embedding, start=MIDNIGHT + 86_400)
    export = read("openai", pages)
    assert export.amounts[date(2026, 11, 21), "e"] == {"requests": 1, "input_tokens": 9}
    assert export.notes == ()
    assert "more pages" in read("openai", openai_usage(GPT, has_more=True)).notes[0]
    both = b"[" + openai_usage(GPT) + b"," + openai_usage(GPT) + b"]"
    assert read("openai", both).amounts[DAY, "gpt-4o-2024-08-06"]["requests"] == 4


def test_openai_costs_are_of_the_model_that_the_line_item_names() -> None:
    export = read(
        "openai", openai_costs(("gpt-4o-2024-08-06, input", 0.06), ("gpt-4o-2024-08-06, output", 0.1), (None, 1))
    )
    assert export.measures == ("cost",)
    assert export.amounts == {(DAY, "gpt-4o-2024-08-06"): {"cost": Decimal("0.16")}, (DAY, None): {"cost": 1}}


def test_anthropic_usage_counts_input_as_the_table_does() -> None:
    usage = {
        "uncached_input_tokens": 1500, "cache_read_input_tokens": 200, "output_tokens": 500, "model": "claude-x",
        "cache_creation": {"ephemeral_1h_input_tokens": 1000, "ephemeral_5m_input_tokens": 500},
        "server_tool_use": {"web_search_requests": 10}, "service_tier": "standard",
    }  # fmt: skip
    assert read("anthropic", anthropic(usage)).amounts == {
        (DAY, "claude-x"): {"input_tokens": 3200, "cached_tokens": 200, "output_tokens": 500}
    }


def test_anthropic_costs_are_in_cents() -> None:
    lines = [{"amount": amount, "currency": "USD", "model": "claude-x"} for amount in ("123.45", "0.05")]
    assert read("anthropic", anthropic(*lines)).amounts == {(DAY, "claude-x"): {"cost": Decimal("1.235")}}


def test_csv_has_a_date_a_model_and_any_of_the_measures() -> None:
    text = '\ufeffCost,Date,model,ours\n$0.25,2026-11-20,gpt-4o,x\n"1,000.5",2026-11-20T23:30:00+00:00,gpt-4o,\n,2026-11-21,,\n'
    export = read("csv", text.encode())
    assert export.measures == ("cost",)
    assert export.amounts == {(DAY, "gpt-4o"): {"cost": Decimal("1000.75")}}
    assert export.days == {DAY, date(2026, 11, 21)}


@pytest.mark.parametrize(
    ("format_", "data", "said"),
    [
        ("openai", b"no", "is not JSON"),
        ("openai", b"[" * 100_000, "is not JSON"),
        ("openai", b"{}", "must be pages"),
        ("openai", b'{"data": [1]}', "no list of results"),
        ("openai", b'{"data": []}', "no usage and no cost"),
        ("openai", openai_costs(("x, input", 1), currency="eur"), "is in 'eur'"),
        ("openai", openai_usage({**GPT, "input_tokens": "many"}), "an amount that is none: 'many'"),
        ("openai", openai_usage(GPT, start=10**18), "a day that is none"),
        ("anthropic", anthropic({"amount": "NaN"}), "an amount that is none"),
        ("anthropic", anthropic({"amount": "1"}, at="soon"), "a day that is none: 'soon'"),
        ("csv", b"", "must have the columns"),
        ("csv", b"date,model\n", "must have the columns"),
        ("csv", b"\xff", "no CSV"),
        ("csv", b"date,model,cost\n2026-11-20,x,dear\n", "an amount that is none: 'dear'"),
    ],
)
def test_a_file_that_is_no_export_is_told_in_one_line(format_: str, data: bytes, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        read(format_, data)
    assert "\n" not in str(caught.value)


@given(st.sampled_from(sorted(FORMATS)), st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_hostile_files_are_read_or_refused(format_: str, data: bytes) -> None:
    try:
        export = read(format_, data)
    except ConfigError:
        return
    assert set(export.measures) <= set(MEASURES)


@pytest.fixture
def calls(exporter: PostgresExporter) -> None:
    """Two of a model that the provider names with its date, one that is not billed, one of another provider."""
    exporter.export(
        [
            record(start_ns=NOON_NS, response_model="gpt-4o-2024-08-06"),
            record(start_ns=NOON_NS, response_model="gpt-4o-2024-08-06"),
            record(start_ns=NOON_NS, model="o3", spend=None, response_cost=None),
            record(start_ns=NOON_NS, custom_llm_provider="groq"),
            record(start_ns=NOON_NS + 3 * 86_400 * 10**9),
            record(start_ns=NOON_NS, status="failure", model="o3", usage=Usage(), prompt_tokens=0, completion_tokens=0,
                   total_tokens=0, spend=None, response_cost=None),
        ]
    )  # fmt: skip


def found(url: str, data: bytes, tolerance: str = "0.005", format_: str = "openai") -> list[tuple[str | None, str]]:
    lines = reconcile.reconcile(url, read(format_, data), ["openai"], tolerance=Decimal(tolerance))
    return [(line.model, line.finding) for line in lines]


@pytest.mark.usefixtures("calls")
def test_what_is_missing_on_either_side_is_found(database_url: str) -> None:
    unseen = {**GPT, "model": "gpt-unseen"}
    assert found(database_url, openai_usage(GPT, unseen)) == [
        ("gpt-4o-2024-08-06", reconcile.AGREES),
        ("gpt-unseen", reconcile.NOT_LOGGED),
        ("o3", reconcile.NOT_BILLED),
    ]


@pytest.mark.usefixtures("calls")
def test_a_model_is_matched_without_its_date_too(database_url: str) -> None:
    o3 = {
        **GPT,
        "model": "o3",
        "num_model_requests": 1,
        "input_tokens": 100,
        "input_cached_tokens": 40,
        "output_tokens": 20,
    }
    assert [finding for _, finding in found(database_url, openai_usage({**GPT, "model": "gpt-4o"}, o3))] == [
        reconcile.AGREES
    ] * 2


@pytest.mark.usefixtures("calls")
def test_a_difference_counts_from_the_tolerance_on(database_url: str) -> None:
    one_more = openai_usage({**GPT, "input_tokens": 202})
    assert found(database_url, one_more)[0][1] == reconcile.DIFFERS
    assert found(database_url, one_more, "0.01")[0][1] == reconcile.AGREES


@pytest.mark.usefixtures("calls")
def test_an_export_without_models_is_compared_by_day(database_url: str) -> None:
    assert found(database_url, openai_costs((None, 0.025))) == [(None, reconcile.AGREES)]
    assert found(database_url, openai_costs((None, 0.02))) == [(None, reconcile.DIFFERS)]
    lines = reconcile.reconcile(database_url, read("openai", openai_costs((None, 0.025))), ["openai"], tolerance=NONE)
    assert (lines[0].ours, lines[0].unpriced) == ({"cost": Decimal("0.0250")}, 1)


@pytest.mark.usefixtures("calls")
def test_a_day_on_which_nothing_was_billed_is_compared_and_one_the_export_leaves_out_is_not(database_url: str) -> None:
    empty = json.dumps({"data": [{"start_time": MIDNIGHT + 3 * 86_400, "results": []}]}).encode()
    assert found(database_url, openai_usage(GPT, start=MIDNIGHT - 86_400) + empty) == [
        ("gpt-4o-2024-08-06", reconcile.NOT_LOGGED),
        ("gpt-4o", reconcile.NOT_BILLED),
    ]


def test_sums_of_days_that_are_folded_or_whose_rows_are_gone_are_compared_too(
    database_url: str, exporter: PostgresExporter, query: Any
) -> None:
    exporter.export([record(start_ns=NOON_NS, response_model="gpt-4o-2024-08-06") for _ in range(2)])
    query("SELECT llmlog.fold_rollups()")
    query("DELETE FROM llmlog.spend_logs")
    assert found(database_url, openai_usage(GPT)) == [("gpt-4o-2024-08-06", reconcile.AGREES)]

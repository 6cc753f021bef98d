"""A record becomes a row and its contents, and nothing of the payload is lost on the way."""

from __future__ import annotations

import json
import math
from decimal import Decimal
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from otel_llmlog.errors import RowRejected
from otel_llmlog.payload import CallPayload
from otel_llmlog.pipeline.record import Record
from otel_llmlog.store import rows
from otel_llmlog.store.copy import NULL, field, lines, value
from otel_llmlog.store.metadata import RENAMED
from otel_llmlog.store.postgres import PostgresExporter
from tests.payloads import PAYLOADS
from tests.store.records import record

TIMES = st.floats(0, 4e9)
BIGINT = 2**63 - 1


@st.composite
def storable_payloads(draw: st.DrawFn) -> CallPayload:
    """Payloads that our own emitter could make: times are times, amounts are amounts."""
    payload = draw(PAYLOADS)
    spend = payload.spend
    follows = payload.previous_response_id or payload.conversation_id
    return payload.model_copy(
        update={
            # Without one, the store finds out the session of what the call follows.
            "session_id": draw(st.text("abc", min_size=1)) if follows else payload.session_id,
            "startTime": draw(TIMES),
            "endTime": draw(TIMES),
            "completionStartTime": draw(st.none() | TIMES),
            "saved_cache_cost": draw(st.floats(0, 1e6)),
            # A cost without an exact spend is the float of one.
            "response_cost": None if spend is None else draw(st.just(float(spend)) | st.floats(0, 1e6)),
        }
    )


def payload_of(row: dict[str, Any], messages: Any, response: Any) -> dict[str, Any]:
    """The payload that a row and its contents hold, as JSON-like data. The inverse of rows.row()."""
    metadata = row["metadata"]
    payload: dict[str, Any] = {}
    inner = {}
    for name in CallPayload.model_fields:
        shown = RENAMED.get(name, name)
        if shown in metadata and name not in rows.TEXTS.values():
            payload[name] = metadata[shown]
    for name in CallPayload.model_fields["metadata"].annotation.model_fields:
        shown = RENAMED.get(f"metadata.{name}", name)
        if shown in metadata and shown != "guardrail_information":
            inner[name] = metadata[shown]
    payload["metadata"] = inner
    for column, path in {**rows.TEXTS, **rows.COUNTS}.items():
        *parents, leaf = path.split(".")
        here = payload
        for parent in parents:
            here = here.setdefault(parent, {}) if row[column] is not None else {}
        if row[column] is not None:
            here[leaf] = row[column]
    for name in ("cache_hit", "stream", "cost_breakdown", "model_parameters", "hidden_params", "request_tags", "usage"):
        if row[name] is not None:
            payload[name] = row[name]
    payload["spend"] = row["spend"]
    payload["saved_cache_cost"] = float(row["saved_cache_cost"])
    payload.setdefault("response_cost", None if row["spend"] is None else float(row["spend"]))
    payload.setdefault("trace_id", row["trace_id"])
    for name, column in {
        "startTime": "start_time",
        "endTime": "end_time",
        "completionStartTime": "completion_start_time",
    }.items():
        if row[column] is not None:
            payload.setdefault(name, row[column].timestamp())
    payload["messages"], payload["response"] = messages, response
    return payload


def differences(left: Any, right: Any, path: str = "payload") -> list[str]:
    """Where the two are not equal; times and other floats to the microsecond."""
    if isinstance(left, dict) and isinstance(right, dict):
        missing = [f"{path}.{key} only on one side" for key in left.keys() ^ right.keys()]
        return missing + [
            d for key in left.keys() & right.keys() for d in differences(left[key], right[key], f"{path}.{key}")
        ]
    if isinstance(left, list) and isinstance(right, list) and len(left) == len(right):
        return [d for i, pair in enumerate(zip(left, right, strict=True)) for d in differences(*pair, f"{path}[{i}]")]
    kinds = {type(left), type(right)}
    # jsonb writes 1e16 out in full, which Python then reads as an int.
    if kinds in ({float}, {int, float}) and math.isclose(float(left), float(right), rel_tol=1e-15, abs_tol=3e-6):
        return []
    return [] if left == right else [f"{path}: {left!r} != {right!r}"]


@pytest.fixture(scope="module")
def store(module_database_url: str) -> tuple[PostgresExporter, psycopg.Connection[Any]]:
    connection = psycopg.connect(module_database_url, autocommit=True, row_factory=psycopg.rows.dict_row)
    exporter = PostgresExporter(module_database_url)
    yield exporter, connection
    exporter.close()
    connection.close()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(payload=storable_payloads())
def test_the_row_and_its_contents_hold_the_whole_payload(
    store: tuple[PostgresExporter, psycopg.Connection[Any]], payload: CallPayload
) -> None:
    exporter, connection = store
    made = record(payload, start_ns=round(payload.startTime * 1e6) * 1000)
    assert exporter.export([made]).rejected == []
    key = (made.trace_id, made.span_id)
    row = connection.execute("SELECT * FROM llmlog.spend_logs WHERE (trace_id, span_id) = (%s, %s)", key).fetchone()
    kept = connection.execute(
        "SELECT messages, response FROM llmlog.spend_log_contents WHERE (trace_id, span_id) = (%s, %s)", key
    ).fetchone()
    found = CallPayload.model_validate(payload_of(row, **(kept or {"messages": None, "response": None})))
    assert differences(found.model_dump(), payload.model_dump()) == []


def test_the_columns_of_the_row_are_those_of_the_migrated_tables(database_url: str) -> None:
    with psycopg.connect(database_url) as connection:
        for table, row, own in (
            ("spend_logs", rows.SpendLogRow, ("created_at",)),
            ("spend_log_contents", rows.SpendLogContent, ()),
        ):
            columns = connection.execute(f"SELECT * FROM llmlog.{table}").description
            assert {column.name for column in columns} == {*row._fields, *own}


def test_a_row_reads_as_postgres_reads_it() -> None:
    made = record(
        start_ns=1_700_000_000_123_456_789,
        trace_id="a" * 32,
        span_id="b" * 16,
        id="r",
        call_id="c",
        request_tags=["x", 'a "quoted" \\ tag', ""],
        cache_hit=False,
        user_api_key_team_id="t1",
        model_parameters={"temperature": 0.5},
        startTime=1_700_000_000.123456,
        endTime=1_700_000_001.123456,
    )
    made.attributes["llmlog.trace_id"] = "a" * 32
    assert {name: value for name, value in rows.row(made)._asdict().items() if value != NULL} == {
        "trace_id": "a" * 32,
        "span_id": "b" * 16,
        "request_id": "r",
        "call_id": "c",
        "call_type": "completion",
        "status": "success",
        "start_time": "2023-11-14 22:13:20.123456+00",
        "end_time": "2023-11-14 22:13:21.123456+00",
        "request_duration_ms": "1000",
        "model": "gpt-4o",
        "provider": "openai",
        "spend": "0.0125",
        "saved_cache_cost": "0",
        "prompt_tokens": "100",
        "completion_tokens": "20",
        "total_tokens": "120",
        "cache_read_tokens": "40",
        "cache_creation_tokens": "0",
        "reasoning_tokens": "0",
        "team_id": "t1",
        "cache_hit": "f",
        "request_tags": field('{"x","a \\"quoted\\" \\\\ tag",""}'),
        "service_name": "shop",
        "model_parameters": '{"temperature":0.5}',
        "hidden_params": "{}",
        "metadata": '{"response_time":0.0,"operation":"chat","requester_custom_headers":{},'
        '"model_map_information":{"model_map_key":""}}',
        "usage": '{"input_tokens":100,"output_tokens":20,"cache_read_tokens":40,"source":"provider"}',
    }


@given(
    text=st.none()
    | st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
    | st.text("\\N\t\n\r tnr")
)
def test_a_field_gives_its_value_back(text: str | None) -> None:
    assert value(field(text)) == text
    assert not {"\t", "\n", "\r"} & {*field(text)}


def test_postgres_reads_the_very_texts(database_url: str) -> None:
    texts = [None, "", "\\N", "\\", "a\\nb", "a\nb\tc\rd", "\\\\N", 'quo"ted', "naïve \U0001f600"]
    with psycopg.connect(database_url) as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TEMP TABLE texts (n int, t text)")
        with cursor.copy("COPY texts FROM STDIN") as writer:
            writer.write(lines([(str(n), field(text)) for n, text in enumerate(texts)])[0])
        assert [text for (text,) in cursor.execute("SELECT t FROM texts ORDER BY n")] == texts


def test_spend_falls_back_to_the_response_cost() -> None:
    assert rows.row(record(spend=None, response_cost=1e-07)).spend == "0.0000001"
    assert rows.row(record(spend=None, response_cost=None)).spend == NULL
    assert rows.row(record(spend=Decimal("1E-12"), response_cost=1e-12)).spend == "0.000000000001"


def test_numbers_that_json_has_not_are_null() -> None:
    row = rows.row(record(attributes={"llmlog.response_cost": float("inf"), "llmlog.response_time": float("nan")}))
    metadata = json.loads(value(row.metadata))
    assert (metadata["response_cost"], metadata["response_time"]) == (None, None)


def test_no_contents_no_row_for_them() -> None:
    assert rows.content(record()) is None
    found = rows.content(record(messages=[{"role": "user"}]))
    assert found is not None
    assert (json.loads(found.messages), found.response) == ([{"role": "user"}], NULL)


@pytest.mark.parametrize(
    ("attribute", "value"),
    [
        ("prompt_tokens", -1),
        ("prompt_tokens", 10**30),
        ("prompt_tokens", BIGINT + 1),
        ("spend", "-1"),
        ("spend", "NaN"),
        ("spend", "1E+200000"),
        ("spend", "secret"),
        ("status", "secret"),
        ("model", 7),
        ("request_tags", (1, 2)),
        ("cost_breakdown", "{secret"),
        ("cost_breakdown", "[" * 100_000),
        ("completionStartTime", 1e300),
        ("completionStartTime", float("nan")),
        ("cache_hit", "secret"),
        ("hidden_params", '{"model_id":{"a":"secret"}}'),
    ],
)
def test_a_value_of_a_wrong_kind_rejects_its_record_and_is_not_quoted(attribute: str, value: Any) -> None:
    with pytest.raises(RowRejected) as caught:
        rows.row(record(attributes={"llmlog." + attribute: value}))
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("missing", ["id", "call_id", "call_type", "status"])
def test_a_record_without_a_required_field_is_rejected(missing: str) -> None:
    made = record()
    del made.attributes["llmlog." + missing]
    with pytest.raises(RowRejected, match=missing):
        rows.row(made)


def test_what_the_full_decoder_understands_is_stored() -> None:
    row = rows.row(record(attributes={"llmlog.prompt_tokens": "12", "llmlog.usage.cache_read_tokens": -5}))
    assert (row.prompt_tokens, row.cache_read_tokens) == ("12", "0")


@pytest.mark.parametrize("bad", ["\0", "\ud800", "a\0b"])
def test_text_that_postgres_refuses_is_cleaned(bad: str) -> None:
    made = record(
        attributes={
            "llmlog.metadata.user_api_key_user_email": bad,
            "llmlog.model_parameters": json.dumps({"stop": bad}),
        }
    )
    row = rows.row(made)
    assert "�" in json.loads(value(row.metadata))["user_api_key_user_email"]
    assert "�" in json.loads(value(row.model_parameters))["stop"]


def test_an_escaped_backslash_before_u0000_is_left_alone() -> None:
    row = rows.row(record(model_parameters={"stop": "\\u0000"}, user_api_key_user_email="\\u0000"))
    assert json.loads(value(row.model_parameters)) == {"stop": "\\u0000"}
    assert json.loads(value(row.metadata))["user_api_key_user_email"] == "\\u0000"


KEYS = sorted(record(messages="q", response="a", session_id="s", cache_hit=True).attributes)
VALUES = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary()


@given(attributes=st.dictionaries(st.sampled_from(KEYS), VALUES | st.lists(VALUES)))
def test_hostile_attributes_make_a_row_or_are_rejected(attributes: dict[str, Any]) -> None:
    made = record(attributes=attributes)
    try:
        row, content = rows.row(made), rows.content(made)
    except RowRejected:
        return
    assert all(type(field) is str for field in row + (content or ()))


def test_a_hostile_record_is_rejected_too() -> None:
    for broken in (
        record(trace_id=None),
        record(start_ns=10**30),
        record(end_ns=-(10**30)),
        Record("t", "s", None, 0, 0, "x", {}),
    ):
        with pytest.raises(RowRejected):
            rows.row(broken)

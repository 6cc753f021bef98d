"""A writer or a reader that means harm: the calls of others stay as they are, and so does the work of the owner."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from psycopg import errors
from psycopg.types.json import Jsonb

from otel_llmlog.config import RetentionSettings
from otel_llmlog.store import check, retention
from otel_llmlog.store.postgres import PostgresExporter
from otel_llmlog.store.reader import Reader
from tests.store.conftest import Login
from tests.store.records import record
from tests.store.test_roles import LINE, SUMS, call, owner

Query = Callable[..., list[tuple[Any, ...]]]
LINK = (
    "SELECT llmlog.add_calls(ARRAY[{start}]::timestamptz[], '{{t}}', '{{s}}', '{{resp-1}}', ARRAY[NULL], ARRAY[NULL],"
    " '{{mine}}', '{{}}'::llmlog.hour_sums[], '{{}}'::llmlog.session_sums[])"
)


def store(login: Login, *calls: Any) -> None:
    exporter = PostgresExporter(login("writer"), auto_migrate=False)
    assert exporter.export(list(calls)).written == len(calls)
    exporter.close()


def test_a_writer_books_no_calls_of_others_to_come_under_names_of_its_own(login: Login) -> None:
    line = LINE.format(names="'mine', " + "NULL, " * 8, calls=1, tokens=0, spend=0)
    with psycopg.connect(login("writer")) as connection, pytest.raises(errors.CheckViolation, match="of its names"):
        connection.execute(SUMS.format(line))


def test_a_writer_adds_to_whole_hours_only(login: Login) -> None:
    line = LINE.format(names="NULL, " * 9, calls=1, tokens=0, spend=0)
    line = line.replace("date_trunc('hour', now())", "date_trunc('hour', now()) + interval '1 minute'")
    with psycopg.connect(login("writer")) as connection, pytest.raises(errors.CheckViolation, match="absurd"):
        connection.execute(SUMS.format(line))


def test_a_writer_moves_no_call_of_others_by_a_link_without_a_row(login: Login, query: Query) -> None:
    store(login, call(id="resp-2", call_type="responses", previous_response_id="resp-1", session_id=None))
    sessions = "SELECT session_id FROM llmlog.spend_logs"
    assert query(sessions) == [("resp-1",)]
    with psycopg.connect(login("writer"), autocommit=True) as connection:
        for start in ("now() - interval '2 hours'", "'-infinity'", "NULL"):
            connection.execute(LINK.format(start=start))
    assert query(sessions) == [("resp-1",)]
    assert query("SELECT count(*) FROM llmlog.chain_links") == [(1,)]


def test_a_view_of_a_readers_keeps_no_old_rows(login: Login, query: Query) -> None:
    for day in (1, 2):
        name = f"llmlog.spend_logs_2001010{day}"
        days = f"FROM ('2001-01-0{day}') TO ('2001-01-0{day + 1}')"
        made = f"CREATE TABLE {name} PARTITION OF llmlog.spend_logs FOR VALUES {days}"
        query(f"SET ROLE {owner(query)}; {made}; RESET ROLE")
    query("CREATE SCHEMA board")
    query("GRANT ALL ON SCHEMA board TO PUBLIC")
    store(login, call(), record(start_ns=978_307_200 * 10**9))
    with psycopg.connect(login("reader")) as connection:
        connection.execute("CREATE VIEW board.mine AS SELECT trace_id FROM llmlog.spend_logs_20010101")
        connection.execute("GRANT SELECT ON board.mine TO PUBLIC")
    count = "SELECT count(*) FROM board.mine"
    assert query(count) == [(1,)]
    period = RetentionSettings(maximum_spend_logs_retention_period=timedelta(days=1))
    assert retention.prune(login("owner"), period) is not None
    assert query(count) == [(0,)]
    assert query("SELECT count(*) FROM llmlog.spend_logs") == [(1,)]
    assert query("SELECT to_regclass('llmlog.spend_logs_20010102')") == [(None,)]
    query("DROP SCHEMA board CASCADE")


ROW = "INSERT INTO llmlog.spend_logs ({columns}) SELECT {columns} FROM jsonb_populate_record({row}, %s)"
EVENT = "INSERT INTO llmlog.audit_logs (id, updated_at, action, table_name) VALUES ('x', {}, 'a', 't')"
LETTER = "INSERT INTO llmlog.dead_letters ({}, reason, record, digest) VALUES ({}, 'r', '{{}}', 'd')"
FAR = ["infinity", "-infinity", "4000-01-01 BC", "200000-01-01"]


def test_no_row_of_a_writers_keeps_others_from_reading(login: Login, query: Query, database_url: str) -> None:
    store(login, call())
    [(row,)] = query("SELECT to_jsonb(s) FROM llmlog.spend_logs s")
    row["trace_id"] = "other"
    columns = ", ".join(row)
    odd = [(name, time) for name in ("start_time", "end_time", "completion_start_time", "created_at") for time in FAR]
    odd += [("spend", "NaN"), ("spend", -1), ("saved_cache_cost", "NaN"), ("prompt_tokens", -1)]
    odd += [(name, 2**63 - 1) for name in row if name.endswith("_tokens")]
    statement = ROW.format(columns=columns, row="NULL::llmlog.spend_logs")
    with psycopg.connect(login("writer"), autocommit=True) as connection:
        for name, value in odd:
            with pytest.raises(errors.CheckViolation, match="within_bounds"):
                connection.execute(statement, (Jsonb({**row, name: value}),))
        for time in FAR:
            with pytest.raises((errors.CheckViolation, errors.NumericValueOutOfRange, errors.FeatureNotSupported)):
                connection.execute(EVENT.format(f"'{time}'"))
            for name in ("created_at", "start_time", "retried_at"):
                with pytest.raises(errors.CheckViolation):
                    connection.execute(LETTER.format(name, f"'{time}'"))
            line = LINE.format(names="NULL, " * 9, calls=1, tokens=0, spend=0)
            with pytest.raises(errors.CheckViolation, match="absurd"):
                connection.execute(SUMS.format(line.replace("date_trunc('hour', now())", f"'{time}'::timestamptz")))
    assert len(Reader(database_url).logs()) == 1
    assert check.check(database_url).differences == []


def test_partitions_to_come_refuse_the_same(login: Login, query: Query) -> None:
    query("SELECT llmlog.ensure_partition(current_date + 5)")
    constraints = query(
        "SELECT count(*), count(DISTINCT conrelid) FROM pg_constraint c JOIN pg_inherits ON inhrelid = conrelid"
        " WHERE inhparent = 'llmlog.spend_logs'::regclass AND conname = 'within_bounds'"
    )
    assert constraints == query(
        "SELECT count(*), count(*) FROM pg_inherits WHERE inhparent = 'llmlog.spend_logs'::regclass"
    )

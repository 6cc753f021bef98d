"""Chains: calls that follow one another end up in one session, in whatever order and by however many they are stored."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from otel_llmlog.config import Settings
from otel_llmlog.pipeline.record import Record
from otel_llmlog.store import check, retention, rollups, rows
from otel_llmlog.store.copy import value
from otel_llmlog.store.postgres import PostgresExporter
from tests.store.conftest import Login
from tests.store.records import record

ROOT = Path(__file__).resolve().parents[2]
# One day, whatever the time of the day.
START = int(time.time()) // 86_400 * 86_400 * 10**9 + 3600 * 10**9
# A program that stores the calls of many chains that other processes store, too, in an order of its own.
STORE_SHARE = """
import random, sys
from otel_llmlog.store.postgres import PostgresExporter
from tests.store.test_chains import many
exporter = PostgresExporter(sys.argv[1])
part, parts, length = map(int, sys.argv[2:])
share = many(length)[part::parts]
random.Random(part).shuffle(share)
sys.stdin.readline()
for start in range(0, len(share), 7):
    exporter.export(share[start : start + 7])
"""


class Turn(NamedTuple):
    """A call: its response id, what it follows, the session its caller names."""

    id: str | None
    previous: str | None = None
    session: str | None = None
    conversation: str | None = None


def call(turn: Turn, at: int, **changes: Any) -> Record:
    own = {"id": turn.id} if turn.id else {"id": f"call-of-{at}", "call_id": f"call-of-{at}", "status": "failure"}
    return record(
        **{
            **own,
            "call_type": "responses",
            "previous_response_id": turn.previous,
            "conversation_id": turn.conversation,
            "session_id": turn.session,
            "start_ns": START + at * 10**9,
            "trace_id": f"{at + 1:032x}",
            "span_id": f"{at + 1:016x}",
            **changes,
        }
    )


def calls(turns: Sequence[Turn]) -> list[Record]:
    """Calls one after the other, a second apart."""
    return [call(turn, at) for at, turn in enumerate(turns)]


def sessions_of(turns: Sequence[Turn]) -> list[str | None]:
    """What the sessions must be, from the rules alone."""
    by_id = {turn.id: turn for turn in reversed(turns) if turn.id}
    first_of = {turn.conversation: turn for turn in reversed(turns) if turn.conversation}

    def session(turn: Turn) -> str | None:
        if turn.session:
            return turn.session
        if turn.previous:
            followed = by_id.get(turn.previous)
            return turn.previous if followed is None else session(followed) or turn.previous
        if turn.conversation:
            return first_of[turn.conversation].session or turn.conversation
        return None

    found = [session(turn) for turn in turns]
    joined = {turn.previous for turn, own in zip(turns, found, strict=True) if own and own == turn.previous}
    return [turn.id if own is None and turn.id in joined else own for turn, own in zip(turns, found, strict=True)]


def many(length: int) -> list[Record]:
    """20 chains, every second one named by its first call."""
    turns = []
    for step in range(length):
        for chain in range(20):
            previous = f"r{chain}-{step - 1}" if step else None
            turns.append(Turn(f"r{chain}-{step}", previous, f"s{chain}" if not step and chain % 2 else None))
    return calls(turns)


def stored(url: str) -> list[str | None]:
    with psycopg.connect(url) as connection:
        rows = connection.execute("SELECT session_id FROM llmlog.spend_logs ORDER BY start_time, trace_id").fetchall()
        links = connection.execute(
            "SELECT count(*) FROM llmlog.chain_links l JOIN llmlog.spend_logs s USING (start_time, trace_id, span_id)"
            " WHERE l.session_id IS DISTINCT FROM s.session_id"
        ).fetchone()
    assert links == (0,)
    assert check.check(url).differences == []
    return [session for (session,) in rows]


CHAIN = [Turn("a"), Turn("b", "a"), Turn("c", "b"), Turn("d", "c")]


def test_a_chain_without_a_name_is_a_session_named_after_its_first_response(
    exporter: PostgresExporter, database_url: str, query: Any
) -> None:
    first, *rest = calls(CHAIN)
    exporter.export([first])
    assert stored(database_url) == [None]
    for each in rest:
        exporter.export([each])
    assert stored(database_url) == ["a"] * 4
    assert query("SELECT session_id, calls, spend FROM llmlog.session_totals") == [("a", 4, Decimal("0.05"))]


@pytest.mark.parametrize("order", [[3, 2, 1, 0], [1, 0, 3, 2], [2, 0, 3, 1]])
@pytest.mark.parametrize("size", [1, 2, 4])
@pytest.mark.parametrize("name", [None, "chat-7"])
def test_calls_stored_before_what_they_follow_are_moved_when_that_arrives(
    exporter: PostgresExporter, database_url: str, order: list[int], size: int, name: str | None
) -> None:
    turns = [CHAIN[0]._replace(session=name), *CHAIN[1:]]
    arriving = [calls(turns)[at] for at in order]
    for start in range(0, 4, size):
        exporter.export(arriving[start : start + size])
    assert stored(database_url) == [name or "a"] * 4


def test_a_call_that_follows_nothing_and_is_followed_by_nothing_has_no_session(
    exporter: PostgresExporter, database_url: str, query: Any
) -> None:
    exporter.export([*calls([Turn("a"), Turn("b")]), record(session_id=None, start_ns=START + 5 * 10**9)])
    assert stored(database_url) == [None, None, None]
    assert query("SELECT count(*) FROM llmlog.chain_links") == [(2,)]


def test_calls_of_other_apis_have_no_links(exporter: PostgresExporter, query: Any) -> None:
    exporter.export([record(), record(session_id="s", call_type="embedding")])
    assert query("SELECT count(*) FROM llmlog.chain_links") == [(0,)]


def test_a_named_session_wins_over_the_chain_for_its_call_and_those_that_follow_it(
    exporter: PostgresExporter, database_url: str
) -> None:
    turns = [Turn("a"), Turn("b", "a"), Turn("c", "b", "chat-7"), Turn("d", "c"), Turn("e", "b")]
    for each in calls(turns):
        exporter.export([each])
    assert stored(database_url) == ["a", "a", "chat-7", "chat-7", "a"] == sessions_of(turns)


def test_a_first_call_whose_only_follower_names_another_session_stays_alone(
    exporter: PostgresExporter, database_url: str
) -> None:
    exporter.export(calls([Turn("a"), Turn("b", "a", "chat-7")]))
    assert stored(database_url) == [None, "chat-7"]


def test_a_session_that_the_process_knew_already_takes_the_first_call_along(
    exporter: PostgresExporter, database_url: str
) -> None:
    # What the memory of a process found out arrives like a name.
    first, second = calls([Turn("a"), Turn("b", "a", "a")])
    exporter.export([second])
    exporter.export([first])
    assert stored(database_url) == ["a", "a"]


def test_a_failed_follower_belongs_to_the_chain(exporter: PostgresExporter, database_url: str) -> None:
    exporter.export(calls([Turn("a"), Turn(None, "a"), Turn("b", "a")]))
    assert stored(database_url) == ["a", "a", "a"]


def test_a_call_that_follows_an_unknown_response_is_in_the_session_of_that_name(
    exporter: PostgresExporter, database_url: str
) -> None:
    exporter.export(calls([Turn("b", "a"), Turn("c", "a"), Turn("d", "b")]))
    assert stored(database_url) == ["a", "a", "a"]


def test_calls_of_a_conversation_are_in_the_session_its_first_call_named_else_in_one_of_its_name(
    exporter: PostgresExporter, database_url: str
) -> None:
    turns = [
        Turn("a", conversation="conv_1", session="chat-7"),
        Turn("b", conversation="conv_1"),
        Turn("c", conversation="conv_2"),
        Turn("d", conversation="conv_2", session="chat-8"),
        Turn("e", conversation="conv_2"),
        Turn("f", "e"),
    ]
    expected = ["chat-7", "chat-7", "conv_2", "chat-8", "conv_2", "conv_2"]
    assert sessions_of(turns) == expected
    for each in reversed(calls(turns)):
        exporter.export([each])
    assert stored(database_url) == expected


def test_ids_that_follow_each_other_in_a_circle_end_up_somewhere(exporter: PostgresExporter, database_url: str) -> None:
    exporter.export(calls([Turn("a", "a")]))
    exporter.export(calls([Turn("-"), Turn("b", "d"), Turn("c", "b"), Turn("d", "c")])[1:])
    late = [call(Turn("e", "f"), 10), call(Turn("f", "e"), 11), call(Turn("g", "f"), 12)]
    for each in late:
        exporter.export([each])
    exporter.export([call(Turn("b", None, "chat-7"), 0, trace_id="0" * 32)])
    assert None not in stored(database_url)


def test_an_id_that_a_provider_gave_twice_joins_no_row_to_two_sessions(
    exporter: PostgresExporter, database_url: str
) -> None:
    turns = [Turn("a"), Turn("a"), Turn("b", "a"), Turn("a", None, "chat-7"), Turn("c", "a")]
    for each in calls(turns):
        exporter.export([each])
    assert stored(database_url) == ["a", "a", "a", "chat-7", "a"]


def test_what_is_delivered_again_joins_nothing_again(exporter: PostgresExporter, database_url: str, query: Any) -> None:
    batch = calls([*CHAIN, Turn("e"), Turn("f", "x")])
    for _ in range(3):
        exporter.export(batch)
        exporter.export([*batch[::-1][:3], record(start_ns=START)])
    assert stored(database_url).count("a") == 4
    assert query("SELECT calls FROM llmlog.session_totals WHERE session_id = 'a'") == [(4,)]


@pytest.mark.parametrize("at", [3, 8])
def test_a_session_that_some_of_its_calls_leave_keeps_the_others(
    exporter: PostgresExporter, database_url: str, query: Any, at: int
) -> None:
    # Somebody names the very session that calls were in for want of a better one.
    exporter.export([call(Turn("b", "a"), 5, model="m5"), call(Turn("c", "b"), 6, spend=None, response_cost=None)])
    exporter.export([call(Turn("x", None, "a"), at, model="mx", spend=None, response_cost=None)])
    exporter.export([call(Turn("a", None, "chat-7"), 1)])
    assert sorted(stored(database_url)) == ["a", "chat-7", "chat-7", "chat-7"]
    assert query("SELECT session_id, calls, spend, last_model FROM llmlog.session_totals ORDER BY 1") == [
        ("a", 1, None, "mx"),
        ("chat-7", 3, Decimal("0.025"), "gpt-4o"),
    ]


def test_a_session_whose_oldest_rows_are_gone_loses_what_leaves_it_and_no_more(
    exporter: PostgresExporter, database_url: str, query: Any
) -> None:
    exporter.export([call(Turn("b", "a"), -3 * 86_400), call(Turn("c", "a"), 1), call(Turn("d", "c"), 2)])
    settings_ = Settings({"maximum_spend_logs_retention_period": "1d"}).retention
    assert retention.prune(database_url, settings_) is not None
    exporter.export([call(Turn("a", None, "chat-7"), 0)])
    assert stored(database_url) == ["chat-7"] * 3
    assert query("SELECT session_id, calls, spend, total_tokens FROM llmlog.session_totals ORDER BY 1") == [
        ("a", 1, Decimal("0.0125"), 120),
        ("chat-7", 3, Decimal("0.0375"), 360),
    ]


def test_rows_of_several_days_are_moved(exporter: PostgresExporter, database_url: str) -> None:
    day = 86_400
    exporter.export([call(Turn("c", "b"), 0), call(Turn("b", "a"), -day)])
    exporter.export([call(Turn("a", "z"), -400 * day), call(Turn("d", "c"), 2)])
    exporter.export([call(Turn("z", None, "chat-7"), -401 * day)])
    assert stored(database_url) == ["chat-7"] * 5


def test_a_refused_row_leaves_the_chain_of_the_others_whole(
    exporter: PostgresExporter, database_url: str, query: Any
) -> None:
    query("ALTER TABLE llmlog.spend_logs ADD CONSTRAINT no_c CHECK (request_id <> 'c')")
    assert len(exporter.export(calls(CHAIN)).rejected) == 1
    assert stored(database_url) == ["a", "a", "c"]
    query("ALTER TABLE llmlog.spend_logs DROP CONSTRAINT no_c")
    exporter.export(calls(CHAIN))
    assert stored(database_url) == ["a"] * 4


def test_a_role_that_may_only_write_joins_chains(database_url: str, login: Login) -> None:
    writer = PostgresExporter(login("writer"), auto_migrate=False)
    for each in reversed(calls(CHAIN)):
        writer.export([each])
    writer.close()
    assert stored(database_url) == ["a"] * 4


@pytest.mark.parametrize(("parts", "length"), [(3, 12), pytest.param(7, 60, marks=pytest.mark.slow)])
def test_processes_that_store_parts_of_the_same_chains_at_once_join_them(
    database_url: str, query: Any, parts: int, length: int
) -> None:
    running = [
        subprocess.Popen(
            [sys.executable, "-c", STORE_SHARE, database_url, str(part), str(parts), str(length)],
            stdin=subprocess.PIPE,
            cwd=ROOT,
        )
        for part in range(parts)
    ]
    for process in running:
        process.stdin.write(b"\n")
        process.stdin.flush()
    assert [process.communicate(timeout=100) and process.returncode for process in running] == [0] * parts
    assert stored(database_url) == [f"s{n % 20}" if n % 2 else f"r{n % 20}-0" for n in range(20 * length)]
    assert query("SELECT count(*) FROM llmlog.session_totals") == [(20,)]
    assert query("SELECT deadlocks::int FROM pg_stat_database WHERE datname = current_database()") == [(0,)]


class Unfinished:
    """A writer that has stored a call and not committed yet."""

    def __init__(self, url: str, turn: Turn, at: int) -> None:
        self._connection = psycopg.connect(url)
        made = rows.row(call(turn, at))
        listed = ", ".join(made._fields)
        values = ", ".join(["%s"] * len(made))
        self._connection.execute(f"INSERT INTO llmlog.spend_logs ({listed}) VALUES ({values})", [*map(value, made)])
        added = rollups.Added()
        added.add([made])
        self._connection.execute(added.statement(lambda literal: b"'" + literal.replace(b"'", b"''") + b"'", set()))

    def commit_once_others_wait(self, url: str, writing: threading.Thread) -> None:
        with psycopg.connect(url, autocommit=True) as watching:
            waits = "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype IN ('tuple', 'transactionid') AND NOT granted)"
            while writing.is_alive() and watching.execute(waits).fetchone() == (False,):
                time.sleep(0.01)
        self._connection.commit()
        self._connection.close()
        writing.join()


def test_a_follower_waits_for_the_call_it_follows_to_be_committed(
    exporter: PostgresExporter, database_url: str
) -> None:
    unfinished = Unfinished(database_url, Turn("a"), 0)
    writing = threading.Thread(target=exporter.export, args=(calls(CHAIN)[1:2],))
    writing.start()
    unfinished.commit_once_others_wait(database_url, writing)
    assert stored(database_url) == ["a", "a"]


def test_who_moves_calls_waits_for_followers_that_are_not_committed(
    exporter: PostgresExporter, database_url: str, query: Any
) -> None:
    # Ids whose locks are not the same ones.
    ids = [
        id_
        for (id_,) in query(
            "SELECT min(i) FROM (SELECT 'r' || n AS i FROM generate_series(1, 50) n) GROUP BY hashtext(i) & 63"
        )
    ]
    exporter.export([call(Turn(ids[1], ids[0]), 1), call(Turn(ids[2], ids[1]), 2)])
    unfinished = Unfinished(database_url, Turn(ids[3], ids[2]), 3)
    writing = threading.Thread(target=exporter.export, args=([call(Turn(ids[0], None, "chat-7"), 0)],))
    writing.start()
    unfinished.commit_once_others_wait(database_url, writing)
    assert stored(database_url) == ["chat-7"] * 4


@pytest.fixture(scope="module")
def shared(module_database_url: str) -> Iterator[tuple[PostgresExporter, str]]:
    made = PostgresExporter(module_database_url, auto_migrate=False)
    yield made, module_database_url
    made.close()


@st.composite
def histories(draw: st.DrawFn) -> list[Turn]:
    """Calls in the order in which they were made; what they follow may be unknown."""
    turns: list[Turn] = []
    for number in range(draw(st.integers(1, 10))):
        known = [turn.id for turn in turns if turn.id] + ["unknown"]
        kind = draw(st.sampled_from(["first", "follows", "follows", "converses"]))
        turns.append(
            Turn(
                draw(st.sampled_from([f"r{number}", f"r{number}", f"r{number}", None])),
                draw(st.sampled_from(known)) if kind == "follows" else None,
                draw(st.sampled_from([None, None, None, "s1", "s2"])),
                draw(st.sampled_from(["conv_1", "conv_2"])) if kind == "converses" else None,
            )
        )
    return turns


@given(turns=histories(), seed=st.integers(0, 1000), sizes=st.lists(st.integers(1, 4), min_size=10, max_size=10))
@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_sessions_depend_on_what_follows_what_and_not_on_the_order_of_arrival(
    shared: tuple[PostgresExporter, str], turns: list[Turn], seed: int, sizes: list[int]
) -> None:
    exporter, url = shared
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "TRUNCATE llmlog.spend_logs, llmlog.chain_links, llmlog.session_totals, llmlog.spend_hourly, llmlog.spend_daily"
        )
    arriving = calls(turns)
    random.Random(seed).shuffle(arriving)
    while arriving:
        size = sizes.pop() if sizes else 1
        exporter.export(arriving[:size])
        arriving = arriving[size:]
    assert stored(url) == sessions_of(turns)

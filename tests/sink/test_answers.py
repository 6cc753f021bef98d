"""What the sink answers, and when: success after COMMIT, "try again" while it cannot store, the reason for what it refuses."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import grpc
import httpx
import psycopg
import pytest

from otel_llmlog.pipeline.record import Record
from tests.sink.conftest import Query
from tests.sink.receiving import JSON, LOGS, TRACES, Reply, Sink, as_json, body, over_grpc, over_http, reply_of
from tests.store.records import record, records


def test_a_bad_span_is_rejected_alone_with_the_reason_and_lands_in_dead_letters(sink: Sink, query: Query) -> None:
    good, bad = record(), record(attributes={"llmlog.spend": "-1"})
    keyless = record(trace_id="00" * 16)
    for answer in (
        over_grpc(sink, body([good, bad, keyless])),
        reply_of(over_http(sink, body([good, bad, keyless]))),
    ):
        assert answer == Reply("OK", "an amount is negative, too large or no number (1); the record has no key (1)", 2)
    told = over_http(sink, as_json([good, bad]), kind=JSON).json()["partialSuccess"]
    assert told == {"rejectedSpans": "1", "errorMessage": "an amount is negative, too large or no number (1)"}
    assert len(query("SELECT 1 FROM llmlog.spend_logs WHERE span_id = %s", good.span_id)) == 1
    letters = query("SELECT reason FROM llmlog.dead_letters WHERE span_id = ANY (%s)", [bad.span_id, keyless.span_id])
    assert sorted(letter["reason"].split(" ")[0] for letter in letters) == ["an", "the"]


def test_each_request_of_a_group_hears_of_its_own_spans_only(sink: Sink) -> None:
    bodies = [body([record(), *([record(attributes={"llmlog.spend": "-1"})] if n % 3 == 0 else [])]) for n in range(30)]
    with ThreadPoolExecutor(30) as pool:
        answers = list(pool.map(lambda one: over_grpc(sink, one), bodies))
    assert [answer.rejected for answer in answers] == [int(n % 3 == 0) for n in range(30)]


@pytest.mark.parametrize("content", [b"\xff\xff\xff", b"\x0a\xff", b"no protobuf"])
def test_what_is_no_otlp_is_refused_for_good(content: bytes, sink: Sink) -> None:
    assert over_grpc(sink, content) == reply_of(over_http(sink, content))
    assert over_grpc(sink, content).code == "INVALID_ARGUMENT"
    assert over_http(sink, content, kind=JSON).json()["code"] == 3


def test_an_empty_request_is_taken(sink: Sink) -> None:
    assert over_grpc(sink, b"") == over_grpc(sink, b"", method=LOGS) == reply_of(over_http(sink, b"")) == Reply("OK")
    assert over_http(sink, b"{}", kind=JSON).json() == {}


def test_http_requests_of_another_shape_are_refused(sink: Sink) -> None:
    assert over_http(sink, b"", path="/v1/profiles").status_code == 404
    assert over_http(sink, b"", kind="text/plain").status_code == 415
    assert over_http(sink, b"", headers={"content-encoding": "zstd"}).status_code == 415
    assert httpx.get(f"{sink.http}/v1/traces").status_code == 405
    assert httpx.get(f"{sink.http}/healthz").text == "alive\n"


def test_success_is_not_answered_before_commit(sink: Sink, module_database_url: str) -> None:
    sent = record()
    with psycopg.connect(module_database_url) as holding, ThreadPoolExecutor(1) as pool:
        holding.execute("LOCK TABLE llmlog.spend_hourly IN EXCLUSIVE MODE")
        answer = pool.submit(over_grpc, sink, body([sent]))
        with psycopg.connect(module_database_url, autocommit=True) as watching:
            waits = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
            deadline = time.monotonic() + 20
            while not watching.execute(waits).fetchone():
                assert time.monotonic() < deadline
                watching.execute("SELECT pg_stat_clear_snapshot()")
        assert not answer.done()
        holding.rollback()
        assert answer.result(30) == Reply("OK")


def test_many_small_senders_share_transactions(start: Callable[..., Sink], database_url: str) -> None:
    """As many commits as requests would be the other way: here all that wait for the first go together."""
    sink = start(sink_max_requests="61")
    sink.wait_until_ready()
    refused = threading.Semaphore(0)
    sent = records(80)

    async def send_all() -> list[str]:
        async def send(one: Record) -> str:
            try:
                await channel.unary_unary(TRACES)(body([one]))
            except grpc.aio.AioRpcError as error:
                refused.release()
                return error.code().name
            return "OK"

        async with grpc.aio.insecure_channel(sink.grpc) as channel:
            return await asyncio.gather(*map(send, sent))

    with psycopg.connect(database_url) as holding, ThreadPoolExecutor(2) as pool:
        # Whoever comes first waits for this; the others gather behind it.
        holding.execute("LOCK TABLE llmlog.spend_logs IN EXCLUSIVE MODE")
        first = pool.submit(over_grpc, sink, body([record()]))
        with psycopg.connect(database_url, autocommit=True) as watching:
            waits = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
            while not first.done() and not watching.execute(waits).fetchone():
                watching.execute("SELECT pg_stat_clear_snapshot()")
        rest = pool.submit(asyncio.run, send_all())
        for _ in range(20):  # no more are taken: as many as may be wait
            assert refused.acquire(timeout=30)
        holding.rollback()
        assert first.result(30) == Reply("OK")
        assert Counter(rest.result(30)) == {"OK": 60, "RESOURCE_EXHAUSTED": 20}
    with psycopg.connect(database_url) as connection:
        [commits] = connection.execute("SELECT count(DISTINCT xmin::text) FROM llmlog.spend_logs").fetchone() or ()
    assert commits <= 3


def test_an_outage_is_told_at_once_with_a_time_to_try_again_and_nothing_is_kept(
    start: Callable[..., Sink], database_url: str, postgres_server: str
) -> None:
    name = psycopg.conninfo.conninfo_to_dict(database_url)["dbname"]
    sink = start()
    sink.wait_until_ready()
    before, during = record(), record()
    assert over_grpc(sink, body([before])) == Reply("OK")
    with psycopg.connect(postgres_server, autocommit=True) as server:
        # No session is left and none is let in: as far as this database goes, the server is gone.
        server.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        server.execute("SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = %s", (name,))
        for answer in (over_grpc(sink, body([during])), reply_of(over_http(sink, body([during])))):
            assert (answer.code, answer.retry_after) == ("UNAVAILABLE", 3.0)
            assert "database" in answer.message
        assert httpx.get(f"{sink.http}/readyz").status_code == 503
        assert httpx.get(f"{sink.http}/healthz").status_code == 200
        assert _health(sink) == b"\x08\x02"
        # What leaves no rows needs no database.
        assert over_grpc(sink, b"") == Reply("OK")
        server.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
    sink.wait_until_ready()
    assert _health(sink) == b"\x08\x01"
    with psycopg.connect(database_url, autocommit=True) as connection:
        count = "SELECT count(*) FROM llmlog.spend_logs"
        assert connection.execute(count).fetchone() == (1,)
        assert over_grpc(sink, body([during])) == Reply("OK")
        assert connection.execute(count).fetchone() == (2,)
    code, said = sink.stop()
    assert code == 0
    assert said.count("senders are told to try again") == 1


def _health(sink: Sink) -> bytes:
    with grpc.insecure_channel(sink.grpc) as channel:
        return channel.unary_unary("/grpc.health.v1.Health/Check")(b"", timeout=10)


def test_more_requests_than_fit_are_told_to_come_again(start: Callable[..., Sink], database_url: str) -> None:
    sink = start(sink_max_requests="3")
    sink.wait_until_ready()
    sent = records(20)
    with psycopg.connect(database_url) as holding, ThreadPoolExecutor(20) as pool:
        holding.execute("LOCK TABLE llmlog.spend_logs IN EXCLUSIVE MODE")
        answers = [pool.submit(over_grpc if n % 2 else _over_http, sink, body([one])) for n, one in enumerate(sent)]
        deadline = time.monotonic() + 30
        while sum(answer.done() for answer in answers) < 17:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        holding.rollback()
    said = [answer.result(30) for answer in answers]
    taken = [one for one, answer in zip(sent, said, strict=True) if answer == Reply("OK")]
    busy = Reply("RESOURCE_EXHAUSTED", "too many requests wait for their commit; try again", 0, 1.0)
    assert sorted(said) == sorted([Reply("OK")] * 3 + [busy] * 17)
    with psycopg.connect(database_url) as connection:
        stored = connection.execute("SELECT span_id FROM llmlog.spend_logs").fetchall()
    assert sorted(stored) == sorted((one.span_id,) for one in taken)


@pytest.mark.slow
def test_what_waits_is_bounded_even_when_its_senders_do_not_wait(start: Callable[..., Sink], database_url: str) -> None:
    sink = start(sink_max_pending_bytes=str(1 << 20))
    sink.wait_until_ready()
    sent = [records(40) for _ in range(30)]
    assert sum(len(body(batch)) for batch in sent) > 1 << 20

    async def send_all() -> list[grpc.StatusCode]:
        said = []
        async with grpc.aio.insecure_channel(sink.grpc) as channel:
            export = channel.unary_unary(TRACES)
            for batch in sent:
                try:
                    await export(body(batch), timeout=0.2)
                except grpc.aio.AioRpcError as error:
                    said.append(error.code())
        return said

    with psycopg.connect(database_url) as holding:
        holding.execute("LOCK TABLE llmlog.spend_logs IN EXCLUSIVE MODE")
        said = asyncio.run(send_all())
        assert set(said) == {grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.RESOURCE_EXHAUSTED}
        holding.rollback()
    # Those that did not wait will send again; what was taken is stored meanwhile, and its room is free again.
    deadline = time.monotonic() + 30
    while over_grpc(sink, body(sent[-1])) != Reply("OK"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    with psycopg.connect(database_url) as connection:
        [stored] = connection.execute("SELECT count(*) FROM llmlog.spend_logs").fetchone() or ()
    assert stored == 40 * (said.count(grpc.StatusCode.DEADLINE_EXCEEDED) + 1)


def _over_http(sink: Sink, content: bytes) -> Reply:
    return reply_of(over_http(sink, content))


def test_status_and_settings_account_for_every_call(
    start: Callable[..., Sink], database_url: str, tmp_path: object
) -> None:
    import subprocess

    from tests.sink.receiving import LLMLOG, environment

    sink = start(disable_error_logs="true")
    sink.wait_until_ready()
    good, failed, bad = record(), record(status="failure"), record(attributes={"llmlog.spend": "-1"})
    assert over_grpc(sink, body([good, good, failed, bad])).rejected == 1
    assert sink.stop()[0] == 0
    command = [LLMLOG, "status", "--json"]
    env = environment(database_url, tmp_path)  # type: ignore[arg-type]
    said = json.loads(subprocess.run(command, env=env, capture_output=True, text=True, check=True).stdout)
    told = {name: said[name] for name in ("captured", "written", "duplicates_ignored", "dead_letters", "not_logged")}
    assert told == {"captured": 4, "written": 1, "duplicates_ignored": 1, "dead_letters": 1, "not_logged": 1}

"""Senders with a token of their own keep to themselves, whatever ids of others they know."""

from __future__ import annotations

import json
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import httpx
import psycopg
import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from psycopg.rows import dict_row

from otel_llmlog import config
from otel_llmlog.config import SENDER_MARK
from otel_llmlog.errors import ConfigError
from otel_llmlog.pipeline.record import Record
from otel_llmlog.sink.ownership import OTHER, Lines, claim
from otel_llmlog.sink.senders import ANYBODY, Sender, Senders, line, read
from otel_llmlog.store.check import check
from otel_llmlog.store.postgres import PostgresExporter
from tests.audit.events import record as audit_record
from tests.sink.receiving import (
    JSON,
    LLMLOG,
    LOGS,
    METRICS,
    TRACES,
    Reply,
    Sink,
    body,
    environment,
    in_json,
    over_grpc,
    over_http,
    reply_of,
)
from tests.store.records import record

ACME, BOLT = "acme-token-0123456789", "bolt-token-0123456789"
DAY_NS = 86_400 * 10**9


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    path = tmp_path / "tokens"
    path.write_text(f"# senders\n\n{line('acme', ACME, 'T-acme')}\n{line('bolt', BOLT, None)}\n")
    return path


def _rows(
    url: str, statement: str = "SELECT * FROM llmlog.spend_logs ORDER BY start_time, span_id"
) -> list[dict[str, Any]]:
    with psycopg.connect(url, row_factory=dict_row) as connection:
        return connection.execute(statement).fetchall()  # type: ignore[call-overload]


def _send(sink: Sink, token: str, *records: Record, method: str | None = None) -> Reply:
    shown = [("authorization", f"Bearer {token}")]
    return over_grpc(sink, body(records), metadata=shown, **({"method": method} if method else {}))


def _call(**given: Any) -> Record:
    return record(call_type="responses", **given)


def test_who_knows_anothers_ids_gets_nothing_of_it(start: Callable[..., Sink], database_url: str, tokens: Path) -> None:
    own = _call(id="resp_1", user_api_key_team_id="T-own")
    exporter = PostgresExporter(database_url)
    exporter.export([own])
    exporter.close()
    sink = start(sink_tokens=str(tokens))
    sink.wait_until_ready()
    first = replace(_call(id="resp_2", session_id="s"), start_ns=own.start_ns + 1000)
    assert _send(sink, ACME, first) == Reply("OK")
    # Bolt knows all ids: of the app's own call, and of acme's.
    same = [replace(own, attributes={**own.attributes, "llmlog.sender": "acme"}), first]
    follows = [_call(id="resp_3", previous_response_id="resp_1"), _call(id="resp_4", previous_response_id="resp_2")]
    forged = _call(id="resp_5", previous_response_id=f"resp_2{SENDER_MARK}acme", session_id=f"s{SENDER_MARK}acme")
    assert _send(sink, BOLT, *same, *follows, forged) == Reply("OK")
    # Acme's own go on joining, from whichever process.
    assert _send(sink, ACME, _call(id="resp_6", previous_response_id="resp_2"), first) == Reply("OK")
    rows = {(row["sender"], row["request_id"].partition(SENDER_MARK)[0]): row for row in _rows(database_url)}
    assert set(rows) == {(None, "resp_1"), ("acme", "resp_2"), ("acme", "resp_6")} | {
        ("bolt", f"resp_{number}") for number in range(1, 6)
    }
    assert rows[None, "resp_1"]["session_id"] is None
    assert rows[None, "resp_1"]["team_id"] == "T-own"
    assert rows["acme", "resp_2"]["session_id"] == rows["acme", "resp_6"]["session_id"] == f"s{SENDER_MARK}acme"
    assert {row["team_id"] for (sender, _), row in rows.items() if sender == "acme"} == {"T-acme"}
    sessions = {row["session_id"]: row["calls"] for row in _rows(database_url, "SELECT * FROM llmlog.session_totals")}
    assert sessions[f"s{SENDER_MARK}acme"] == 2
    assert all(name.endswith(f"{SENDER_MARK}bolt") for name in set(sessions) - {f"s{SENDER_MARK}acme"})


def test_descriptions_and_events_of_another_hide_nothing(
    start: Callable[..., Sink], database_url: str, tokens: Path
) -> None:
    sink = start(sink_tokens=str(tokens))
    sink.wait_until_ready()
    trace, own = "ab" * 16, record()
    own = replace(own, trace_id=trace)
    assert _send(sink, ACME, own) == Reply("OK")
    described = {"llmlog.described_by": "openllmetry"}
    inside = replace(record(), trace_id=trace, parent_span_id=own.span_id, start_ns=own.start_ns + 1000)
    inside = replace(inside, attributes={**inside.attributes, **described, "llmlog.id": own.attributes["llmlog.id"]})
    # Another's description of the same request is another's row; acme's own is the same request.
    assert _send(sink, BOLT, inside) == Reply("OK")
    assert [row["sender"] for row in _rows(database_url)] == ["acme", "bolt"]
    assert _send(sink, ACME, replace(inside, span_id="cd" * 8)) == Reply("OK")
    assert [row["sender"] for row in _rows(database_url)] == ["acme", "bolt"]
    event = audit_record()
    assert _send(sink, BOLT, event, method=LOGS) == _send(sink, ACME, event, method=LOGS) == Reply("OK")
    assert len(_rows(database_url, "SELECT * FROM llmlog.audit_logs")) == 2


def test_a_start_more_than_a_day_ahead_is_refused_with_the_reason(sink: Sink) -> None:
    good, bad = record(), record()
    now = time.time_ns()
    bad = replace(bad, start_ns=now + 2 * DAY_NS, end_ns=now + 2 * DAY_NS)
    soon = replace(record(), start_ns=now + DAY_NS // 2, end_ns=now + DAY_NS // 2)
    answer = over_grpc(sink, body([good, bad, soon]))
    assert (answer.code, answer.rejected) == ("OK", 1)
    assert answer.message == "it starts more than 24 hours ahead of this machine's clock (1)"


def test_names_beyond_the_limit_are_booked_on_other_and_sums_agree(
    start: Callable[..., Sink], database_url: str, tokens: Path
) -> None:
    sink = start(sink_tokens=str(tokens), sink_max_lines="3")
    sink.wait_until_ready()
    for token in (ACME, BOLT):
        calls = [record(user_api_key_user_id=f"user-{number}") for number in range(10)]
        assert _send(sink, token, *calls) == Reply("OK")
    users = [row["user_id"] for row in _rows(database_url)]
    assert users.count(OTHER) == 14
    rows = [row for row in _rows(database_url) if row["user_id"] == OTHER]
    assert {row["team_id"] for row in rows if row["sender"] == "acme"} == {"T-acme"}
    assert any("user_api_key_user_id was user-" in note for note in rows[0]["metadata"]["notes"])
    assert check(database_url).differences == []


def test_lines_are_counted_by_the_hour_of_the_clock_and_by_sender() -> None:
    now = [0.0]
    lines = Lines(1, lambda: now[0])

    def book(model: str, sender: Sender, start_ns: int = 0) -> bool:
        return lines.bound({"llmlog.model": model, "llmlog.status": "success"}, start_ns, sender)

    assert [book(model, ANYBODY) for model in "aab"] == [False, False, True]
    assert book("a", ANYBODY, 3_600 * 10**9)  # the same names in another hour are another line
    assert not book("b", Sender("acme"))
    now[0] = 3601
    assert not book("b", ANYBODY)


def test_claiming_costs_no_id_that_is_none_and_no_type() -> None:
    call: dict[str, Any] = {"llmlog.session_id": 5, "llmlog.id": "", "llmlog.sender": "forged"}
    made = claim(Record("", "", None, 0, 0, "", call), call, Sender("acme"))
    assert call == {"llmlog.session_id": f"5{SENDER_MARK}acme", "llmlog.id": "", "llmlog.sender": "acme"}
    assert made.span_id == ""
    call = {"llmlog.session_id": f"x{SENDER_MARK}acme", "llmlog.sender": "forged"}
    claim(Record("", "", None, 0, 0, "", call), call, ANYBODY)
    assert call == {"llmlog.session_id": "x>acme"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "holds no line"),
        ("# nobody\n", "holds no line"),
        ("acme\n", "line 1: what follows acme must be the token's SHA-256"),
        (f"acme {ACME}\n", "line 1: what follows acme must be the token's SHA-256"),
        (f"\nac me {'0' * 64}\n", "line 2: what follows ac must be"),
        (f"-x {'0' * 64}\n", "line 1: a name has letters"),
        (f"a {'0' * 64}\nb {'0' * 64}\n", "line 2: the token stands in a line above"),
        (f"a {'0' * 64} T1\na {'1' * 64} T2\n", "line 2: a has another team in a line above"),
    ],
)
def test_a_wrong_line_is_told_at_the_start_in_one_line(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "tokens"
    path.write_text(text)
    with pytest.raises(ConfigError) as raised:
        read(path)
    assert said in str(raised.value)
    assert str(raised.value).endswith("make a line with: llmlog sink token NAME --team TEAM")
    assert "\n" not in str(raised.value)
    assert ACME not in str(raised.value)


def test_a_token_that_is_made_lets_its_sender_in(tmp_path: Path) -> None:
    env = environment("postgresql://nobody@127.0.0.1:1/none", tmp_path)
    command = [LLMLOG, "sink", "token", "acme", "--team", "the team"]
    made = subprocess.run(command, env=env, capture_output=True, text=True, check=True, timeout=60)
    (tmp_path / "tokens").write_text(made.stdout)
    token = made.stderr.split()[-1]
    senders = Senders(config.SinkSettings(sink_tokens=tmp_path / "tokens"))
    assert token not in made.stdout
    for shown in ([f"Bearer {token}"], [f"bearer  {token}\t".encode()], [f"BEARER {token}"]):
        assert senders.who(shown) == Sender("acme", "the team")
    for shown in (
        [], [""], [token], [f"Basic {token}"], [f"Bearer\t{token}"], [f"Bearer{token}"], [f"Bearer {token}", f"Bearer {token}"],
        [f"Bearer {token}, Bearer x"], [f"Bearer {token} x"], [f"Bearer {token[:-1]}"], ["Bearer \xe9"],
    ):  # fmt: skip
        assert senders.who(shown) is None, shown


def test_two_credentials_are_none_over_either_transport(start: Callable[..., Sink], tokens: Path) -> None:
    sink = start(sink_tokens=str(tokens), sink_token="the-single-token-0123")
    sink.wait_until_ready()
    both = [("authorization", f"Bearer {ACME}"), ("authorization", f"Bearer {BOLT}")]
    assert over_grpc(sink, body([record()]), metadata=both).code == "UNAUTHENTICATED"
    kind = ("content-type", "application/x-protobuf")
    answer = httpx.post(f"{sink.http}/v1/traces", content=body([record()]), headers=[kind, *both], timeout=20)
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert _send(sink, "the-single-token-0123", record()) == Reply("OK")


def test_a_sender_that_never_ends_its_messages_leaves_room_for_others(start: Callable[..., Sink], tokens: Path) -> None:
    sink = start(sink_tokens=str(tokens))
    sink.wait_until_ready()
    hang = threading.Event()

    def never() -> Iterator[bytes]:
        hang.wait(60)
        yield from ()

    shown = [("authorization", f"Bearer {ACME}")]
    with grpc.insecure_channel(sink.grpc) as channel:
        hanging = [channel.stream_unary(TRACES).future(never(), metadata=shown, timeout=60) for _ in range(64)]
        answers = [_send(sink, BOLT, record()) for _ in range(3)]
        hang.set()
        for one in hanging:
            one.cancel()
    assert answers == [Reply("OK")] * 3


@pytest.mark.parametrize(
    "headers",
    [
        b"content-length: 3\r\ntransfer-encoding: chunked\r\n",
        b"transfer-encoding: chunked\r\ncontent-length: 3\r\n",
        b"content-length: 3\r\ncontent-length: 4\r\n",
        b"content-length: 3, 4\r\n",
        b"content-length: +3\r\n",
        b"transfer-encoding: gzip, chunked\r\n",
        b"transfer-encoding : chunked\r\n",
    ],
)
def test_a_request_whose_end_is_in_doubt_is_refused_and_its_connection_closed(headers: bytes, sink: Sink) -> None:
    host, port = sink.http.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        head = b"POST /v1/traces HTTP/1.1\r\nhost: sink\r\ncontent-type: application/x-protobuf\r\n"
        smuggled = b"GET /healthz HTTP/1.1\r\nhost: sink\r\n\r\n"
        connection.sendall(head + headers + b"\r\n0\r\n\r\n" + smuggled)
        said = b""
        while part := connection.recv(4096):
            said += part
    assert said.startswith(b"HTTP/1.1 400 ")
    assert said.count(b"HTTP/1.1 ") == 1


def test_metrics_are_taken_and_counted_and_nothing_is_kept(start: Callable[..., Sink]) -> None:
    request = ExportMetricsServiceRequest()
    metrics = request.resource_metrics.add().scope_metrics.add().metrics
    for name in ("a", "b"):
        metrics.add().name = name
    sink = start()
    sink.wait_until_ready()
    content = request.SerializeToString()
    assert over_grpc(sink, content, method=METRICS) == Reply("OK")
    assert reply_of(over_http(sink, content, path="/v1/metrics")) == Reply("OK")
    assert over_http(sink, in_json(request), path="/v1/metrics", kind=JSON).json() == {}
    assert over_http(sink, b"\xff", path="/v1/metrics").status_code == 400
    assert over_http(sink, content, path="/v1development/profiles").status_code == 404
    spans = ExportTraceServiceRequest()
    spans.resource_spans.add().scope_spans.add().spans.add().name = "GET /"
    assert over_grpc(sink, spans.SerializeToString()) == Reply("OK")
    sink.stop()
    told = subprocess.run(
        [LLMLOG, "status", "--json"], env=sink._env, capture_output=True, text=True, check=True, timeout=60
    )
    found = json.loads(told.stdout)
    assert (found["passed_over.metrics"], found["passed_over.spans"], found["passed_over"]) == (6, 1, 7)

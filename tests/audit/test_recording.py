"""What the app records is in the table: once, with the right actor, and nothing of it can fail the app."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime as dt
import logging
import os
import signal
import threading
import time
from decimal import Decimal
from typing import Any
from uuid import UUID

import psycopg
import pytest
from opentelemetry import _logs, trace
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.trace import TracerProvider
from pydantic import BaseModel, SecretStr

import otel_llmlog
from otel_llmlog import audit, redact
from otel_llmlog.audit import recording
from otel_llmlog.errors import AuditNotRecorded
from otel_llmlog.pipeline.logs import LLMLogLogProcessor
from otel_llmlog.redact import key_hash
from otel_llmlog.stats import Stats
from tests.audit.conftest import Auditing

REFERENCE = {  # what LiteLLM records by itself, by object
    "user": {"create", "update", "delete", "permission", "enable", "disable"},
    "key": {"create", "update", "delete", "rotate", "permission", "block", "unblock"},
    "team": {"create", "update", "delete", "member_add", "member_remove", "budget", "block", "unblock"},
    "model": {"create", "update", "delete", "permission"},
}


def test_the_catalogue_has_every_operation_of_the_reference() -> None:
    for object_, verbs in REFERENCE.items():
        assert {f"{object_}.{verb}" for verb in verbs} <= audit.OPERATIONS.keys()
    assert {found.action for found in audit.OPERATIONS.values()} == {
        "created", "updated", "deleted", "blocked", "unblocked", "rotated"
    }  # fmt: skip


def test_every_operation_recorded_once_is_one_row_as_it_was_said(audited: Auditing) -> None:
    before, after = {"name": "old", "n": 1}, {"name": "new", "n": 1}
    for operation in audit.OPERATIONS.values():
        audit.record(
            operation, object_id=operation.name, before=before, after=after, changed_by="ada", outcome="refused"
        )
        audit.record(operation, object_id=operation.name, before=before, after=after, changed_by="ada")
    rows = audited.new_rows()
    assert [(row["operation"], row["action"], row["table_name"], row["object_id"], row["outcome"]) for row in rows] == [
        (o.name, o.action, o.table_name, o.name, outcome)
        for o in audit.OPERATIONS.values()
        for outcome in ("refused", "success")
    ]
    assert {row["changed_by"] for row in rows} == {"ada"}
    assert all((row["before_value"], row["updated_values"]) == (before, after) for row in rows)


def test_an_operation_of_the_apps_own_needs_no_catalogue(audited: Auditing) -> None:
    audit.record(action="archived", table_name="documents", object_id=UUID(int=7), changed_by="ada")
    audit.record(audit.Operation("document.share", "updated", "documents"), object_id=4711, changed_by="ada")
    first, second = audited.new_rows()
    assert (first["action"], first["table_name"], first["operation"]) == ("archived", "documents", None)
    assert first["object_id"] == str(UUID(int=7))
    assert (second["action"], second["operation"], second["object_id"]) == ("updated", "document.share", "4711")


def test_the_actor_comes_from_the_context_when_none_is_given(audited: Auditing) -> None:
    with otel_llmlog.context(user="ada"):
        audit.record(audit.KEY_CREATE, object_id="k")
        audit.record(audit.KEY_CREATE, object_id="k", changed_by="bob")
    audit.record(audit.KEY_CREATE, object_id="k")
    audit.record(audit.KEY_CREATE, object_id="k", changed_by_api_key="Bearer sk-1234")
    audit.record(audit.KEY_CREATE, object_id="k", changed_by_api_key=key_hash("sk-1234"))
    rows = audited.new_rows()
    assert [row["changed_by"] for row in rows] == ["ada", "bob", None, None, None]
    assert [row["notes"] for row in rows] == [[], [], ["who did it is not known"], [], []]
    assert [row["changed_by_api_key"] for row in rows[3:]] == [key_hash("sk-1234")] * 2


def test_a_row_leads_to_its_trace(audited: Auditing) -> None:
    tracer = TracerProvider().get_tracer("app")
    with tracer.start_as_current_span("request") as span:
        audit.record(audit.TEAM_BUDGET, object_id="t", changed_by="ada")
    (row,) = audited.new_rows()
    assert row["trace_id"] == trace.format_trace_id(span.get_span_context().trace_id)
    assert row["span_id"] == trace.format_span_id(span.get_span_context().span_id)


def test_later_changes_to_what_was_handed_over_do_not_reach_the_row(audited: Auditing) -> None:
    value = {"models": ["a"]}
    audit.record(audit.TEAM_UPDATE, object_id="t", after=value, changed_by="ada")
    value["models"].append("b")
    value.clear()
    (row,) = audited.new_rows()
    assert row["updated_values"] == {"models": ["a"]}


# Bad input.


class Hostile:
    def __str__(self) -> str:
        raise RuntimeError

    __repr__ = __str__


class HostileDict(dict[str, Any]):
    def items(self) -> Any:
        raise KeyError("no")


class Model(BaseModel):
    name: str
    api_key: SecretStr
    inner: dict[str, Any]


@dataclasses.dataclass
class Plain:
    name: str
    password: str


def _cycle() -> list[Any]:
    value: list[Any] = [1]
    value.append({"again": value})
    return value


def _deep() -> Any:
    value: Any = 1
    for _ in range(5_000):
        value = [value]
    return value


BAD = [
    (_cycle(), [1, {"again": "[contains itself]"}], "contains itself"),
    (_deep(), None, "nested too deep"),
    (object(), "[object]", "is a object, which is no data"),
    (Hostile(), "[Hostile]", "is a Hostile"),
    ({"x": lambda: 1}, {"x": "[function]"}, "after.x: is a function".replace("after", "updated_values")),
    (HostileDict(a=1), "[left out]", "could not be read (KeyError)"),
    ({"n": float("nan"), "i": float("inf")}, {"n": "nan", "i": "inf"}, "no finite number"),
    ({"n": 10**5000}, {"n": "[left out]"}, "too many digits"),
    (b"\x00\xff", "[2 bytes]", "is bytes"),
    ("\ud800\0x", "\ufffd\ufffdx", None),
    ({1: "a", None: "b", (1, 2): "c"}, {"1": "a", "NoneType": "b", "tuple": "c"}, None),
    ({"d": Decimal("1.10"), "t": dt.date(2026, 1, 2), "u": UUID(int=1)}, {"d": "1.10", "t": "2026-01-02", "u": str(UUID(int=1))}, None),
    ({3, 1, 2}, [1, 2, 3], None),
    (Model(name="m", api_key=SecretStr("hunter2"), inner={"a": 1}), {"name": "m", "api_key": "[redacted]", "inner": {"a": 1}}, None),
    (Plain("p", "hunter2"), {"name": "p", "password": "[redacted]"}, None),
]  # fmt: skip


@pytest.mark.parametrize(("value", "kept", "note"), BAD)
def test_a_value_that_is_no_data_is_a_row_with_what_could_be_kept_and_a_note(
    audited: Auditing, value: Any, kept: Any, note: str | None
) -> None:
    audit.record(audit.USER_UPDATE, object_id="u", after=value, changed_by="ada")
    (row,) = audited.new_rows()
    if kept is not None:
        assert row["updated_values"] == kept
    assert (note is None and row["notes"] == []) or note in row["notes"][0]


def test_a_huge_value_is_cut_and_noted(audited: Auditing) -> None:
    began = time.process_time()
    audit.record(
        audit.USER_UPDATE, object_id="u", before="x" * 50_000_000, after=list(range(3_000_000)), changed_by="ada"
    )
    audit.record(audit.USER_UPDATE, object_id="u", after={f"k{n}": "y" * 30_000 for n in range(500)}, changed_by="ada")
    assert time.process_time() - began < 20
    first, second = audited.new_rows()
    assert len(str(first["before_value"])) < 40_000
    assert len(first["updated_values"]) < 30_000
    assert [note.partition(":")[0] for note in first["notes"]] == ["before_value", "updated_values"]
    assert len(str(second["updated_values"])) < 2_000_000
    assert "too large" in second["notes"][0]


@pytest.mark.parametrize(
    ("said", "column", "kept", "note"),
    [
        ({"at": 4e12}, "action", "created", "is no time"),
        ({"at": -1}, "action", "created", "is no time"),
        ({"at": "yesterday"}, "action", "created", "is no time"),
        ({"outcome": "perhaps"}, "outcome", "failure", "not success, failure or refused"),
        ({"object_id": Hostile()}, "object_id", "Hostile", None),
        ({"object_id": "x" * 5000}, "object_id", redact.name("x" * 5000), None),
        ({"status_code": "many"}, "status_code", None, None),
    ],
)
def test_a_detail_that_makes_no_sense_is_noted(
    audited: Auditing, said: dict[str, Any], column: str, kept: Any, note: str | None
) -> None:
    audit.record(audit.USER_CREATE, changed_by="ada", **said)
    (row,) = audited.new_rows()
    assert row[column] == kept
    assert note is None or note in row["notes"][0]


def test_an_operation_without_action_and_table_is_a_row_that_says_so(audited: Auditing) -> None:
    audit.record(object_id="x")
    (row,) = audited.new_rows()
    assert (row["action"], row["table_name"]) == ("unknown", "unknown")
    assert row["notes"] == ["who did it is not known", "action: not given", "table_name: not given"]


@pytest.mark.parametrize("given", ["key.burnt", Hostile(), 7], ids=["text", "object", "number"])
def test_an_operation_that_is_none_is_kept_as_the_action(audited: Auditing, given: Any) -> None:
    audit.record(given, object_id="x", table_name="keys", changed_by="ada")
    (row,) = audited.new_rows()
    assert (row["action"], row["table_name"]) == ("Hostile" if isinstance(given, Hostile) else str(given), "keys")
    assert row["notes"] == ["what was given as the operation is none: it is kept as the action"]


def test_a_clock_that_is_off_is_kept_beside_the_databases_own(audited: Auditing) -> None:
    audit.record(audit.USER_CREATE, object_id="u", changed_by="ada", at=time.time() - 86_400)
    (row,) = audited.new_rows()
    assert dt.timedelta(hours=23) < row["recorded_at"] - row["updated_at"] < dt.timedelta(hours=25)


# Secrets.

CANARIES = {
    "api_key": "canary-a1", "key": "canary-a2", "token": "canary-a3", "secret": "canary-a4", "password": "canary-a5",
    "authorization": "canary-a6", "cookie": "canary-a7", "credential": "canary-a8", "session_token": "canary-a9",
    "aws_session_token": "canary-b1", "client_secret": "canary-b2", "accessToken": "canary-b3", "keys": ["canary-b4"],
    "tokens": ["canary-b5"], "Set-Cookie": "canary-b6", "private_key_pem": "canary-b7", "passwd": "canary-b8",
    "virtual-key": "canary-b9", "refresh_token": "canary-c1", "credentials": {"user": "canary-c2"}, "signature": "canary-c3",
}  # fmt: skip
SHAPES = [
    "sk-canary1", "Bearer canary-0123456789", "sk-proj-canary0123456789", "ghp_canary0123456789012345", "AKIACANARY0123456789",
    "Basic Y2FuYXJ5OmNhbmFyeQ==", "postgresql://bob:canaryd1@host/db", "https://x:canaryd2@host",
    "eyJcanary0123.eyJcanary012345.canary_signature", "-----BEGIN PRIVATE KEY-----\ncanary\n-----END PRIVATE KEY-----",
]  # fmt: skip


def test_no_secret_reaches_the_table_the_spool_or_a_log_record(database_url: str, tmp_path: Any) -> None:
    exporter = InMemoryLogRecordExporter()
    provider = LoggerProvider()
    provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    stopped = Auditing(database_url.replace("/llmlog_test", "/no_such"), tmp_path / "spool")
    previous = _logs._internal._LOGGER_PROVIDER
    _logs._internal._LOGGER_PROVIDER = provider
    try:
        for depth in range(3):
            value: Any = {**CANARIES, "texts": SHAPES, SHAPES[0]: 1, "max_tokens": 7, "api_key_count": 3}
            for _ in range(depth):
                value = {"metadata": [value]}
            audit.record(
                audit.KEY_UPDATE, object_id="sk-canary1", before=value, after=[value, *SHAPES], changed_by="Bearer canary-e1",
                changed_by_api_key="sk-canary1", route="POST /key/sk-canary1/regenerate",
            )  # fmt: skip
    finally:
        _logs._internal._LOGGER_PROVIDER = previous
        stopped.close(0)
    spooled = b"".join(path.read_bytes() for path in (tmp_path / "spool").iterdir())
    assert len(spooled) > 2000
    assert b"canary" not in spooled
    assert b"max_tokens" in spooled
    assert key_hash("sk-canary1").encode() in spooled
    logged = str([(log.log_record.body, log.log_record.attributes) for log in exporter.get_finished_logs()])
    assert "max_tokens" in logged
    assert "canary" not in logged


def test_half_a_key_does_not_stand_at_the_cut_of_a_long_text(audited: Auditing) -> None:
    for at in range(10_900, 10_940, 3):
        text = "a" * at + " sk-" + "canary" * 8 + " " + "b " * 40_000
        audit.record(audit.USER_UPDATE, object_id="u", after=text + "sk-" + "canary" * 8, changed_by="ada")
    assert "canary" not in str(audited.new_rows())


# OpenTelemetry.


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> tuple[LoggerProvider, InMemoryLogRecordExporter]:
    """A logger provider that is the app's, with a backend of its own."""
    exporter, provider = InMemoryLogRecordExporter(), LoggerProvider()
    provider.add_log_record_processor(SimpleLogRecordProcessor(exporter))
    monkeypatch.setattr(_logs._internal, "_LOGGER_PROVIDER", provider)
    return provider, exporter


def test_an_event_is_a_log_record_of_the_apps_logger_provider(audited: Auditing, logged: Any) -> None:
    provider, exporter = logged
    provider.add_log_record_processor(audited.processor)
    tracer = TracerProvider().get_tracer("app")
    with tracer.start_as_current_span("request") as span:
        made = audit.record(
            audit.KEY_BLOCK, object_id="k", before={"blocked": False}, after={"blocked": True}, changed_by="ada"
        )
    (log,) = exporter.get_finished_logs()
    given = log.log_record
    assert (given.event_name, given.body) == ("llmlog.audit", "blocked LiteLLM_VerificationToken k")
    assert (given.trace_id, given.span_id) == (span.get_span_context().trace_id, span.get_span_context().span_id)
    assert dict(given.attributes) == {
        "log.record.uid": made.id,
        "llmlog.audit.id": made.id,
        "llmlog.audit.updated_at": made.updated_at,
        "llmlog.audit.changed_by": "ada",
        "llmlog.audit.action": "blocked",
        "llmlog.audit.table_name": "LiteLLM_VerificationToken",
        "llmlog.audit.object_id": "k",
        "llmlog.audit.before_value": '{"blocked": false}',
        "llmlog.audit.updated_values": '{"blocked": true}',
        "llmlog.audit.operation": "key.block",
        "llmlog.audit.outcome": "success",
        "llmlog.audit.source": "app",
        "llmlog.audit.trace_id": made.trace_id,
        "llmlog.audit.span_id": made.span_id,
    }
    # Our own processor on that provider does not store it a second time.
    assert [row["id"] for row in audited.new_rows()] == [made.id]


def test_a_log_record_of_another_scope_becomes_a_row_with_its_secrets_masked(audited: Auditing, logged: Any) -> None:
    provider, _ = logged
    provider.add_log_record_processor(audited.processor)
    logger = provider.get_logger("somebody-else")
    attributes = {
        "llmlog.audit.id": "from-elsewhere", "llmlog.audit.updated_at": 1_700_000_000.5, "llmlog.audit.action": "created",
        "llmlog.audit.table_name": "T", "llmlog.audit.updated_values": '{"password": "canary", "n": 1}',
        "llmlog.audit.changed_by_api_key": "sk-canary",
    }  # fmt: skip
    logger.emit(event_name="llmlog.audit", attributes=attributes)
    logger.emit(event_name="something.else", attributes=attributes)
    logger.emit(event_name="llmlog.audit", attributes={"llmlog.audit.id": "no event"})
    (row,) = audited.new_rows()
    assert (row["id"], row["updated_values"]) == ("from-elsewhere", {"password": "[redacted]", "n": 1})
    assert row["changed_by_api_key"] == key_hash("sk-canary")


def test_a_logger_provider_that_fails_costs_no_row(audited: Auditing, monkeypatch: pytest.MonkeyPatch) -> None:
    class Failing(LoggerProvider):
        def get_logger(self, *_: Any, **__: Any) -> Any:
            raise OSError

    monkeypatch.setattr(_logs._internal, "_LOGGER_PROVIDER", Failing())
    audit.record(audit.KEY_BLOCK, object_id="k", changed_by="ada")
    assert len(audited.new_rows()) == 1


# At once, or not.


def test_with_sync_the_row_is_committed_when_the_call_returns(audited: Auditing) -> None:
    with psycopg.connect(audited.url, autocommit=True) as other:
        made = audit.record(audit.KEY_DELETE, object_id="k", changed_by="ada", sync=True)
        found = other.execute("SELECT count(*) FROM llmlog.audit_logs WHERE id = %s", (made.id,)).fetchone()
    assert found == (1,)
    assert [row["id"] for row in audited.new_rows()] == [made.id]


async def test_with_sync_the_event_loop_goes_on_while_the_database_is_waited_for(audited: Auditing) -> None:
    with psycopg.connect(audited.url) as holding:
        holding.execute("SELECT llmlog.take_locks('audit_logs', '{0}')")
        waiting = asyncio.create_task(audit.arecord(audit.KEY_DELETE, object_id="k", changed_by="ada", sync=True))
        for _ in range(20):
            await asyncio.sleep(0.01)
        assert not waiting.done()
        holding.rollback()
        made = await waiting
    assert [row["id"] for row in audited.new_rows()] == [made.id]


async def test_without_sync_arecord_is_record(audited: Auditing) -> None:
    made = await audit.arecord(audit.KEY_DELETE, object_id="k", changed_by="ada")
    assert [row["id"] for row in audited.new_rows()] == [made.id]


def test_without_a_database_sync_raises_and_the_event_waits_in_the_spool(database_url: str, tmp_path: Any) -> None:
    away = Auditing(database_url.replace("/llmlog_test", "/no_such"), tmp_path / "spool")
    with pytest.raises(AuditNotRecorded, match="it waits in the spool") as raised:
        audit.record(audit.KEY_DELETE, object_id="k", changed_by="ada", sync=True)
    away.close(0)
    back = Auditing(database_url, tmp_path / "spool")
    back.worker.adopt()
    assert [row["id"] for row in back.rows()] == [raised.value.event_id]
    back.close()


def test_an_interrupted_wait_leaves_the_event_in_the_queue(audited: Auditing) -> None:
    with psycopg.connect(audited.url) as holding:
        holding.execute("SELECT llmlog.take_locks('audit_logs', '{0}')")
        threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
        with pytest.raises(KeyboardInterrupt):
            audit.record(audit.KEY_DELETE, object_id="interrupted", changed_by="ada", sync=True)
    assert [row["object_id"] for row in audited.new_rows()] == ["interrupted"]


def test_sync_raises_where_nothing_can_be_waited_for(audited: Auditing, caplog: pytest.LogCaptureFixture) -> None:
    settings = audited.settings.audit
    to_collector = LLMLogLogProcessor(audited.worker, None, settings, Stats(), lambda: "shop")
    off = LLMLogLogProcessor(
        audited.worker, audited.writer, settings.model_copy(update={"store_audit_logs": False}), Stats(), lambda: "s"
    )
    recording.install(to_collector)
    with pytest.raises(AuditNotRecorded, match="needs a database"):
        audit.record(audit.KEY_DELETE, object_id="queued", changed_by="ada", sync=True)
    recording.install(off)
    with pytest.raises(AuditNotRecorded, match="LLMLOG_STORE_AUDIT_LOGS is off"):
        audit.record(audit.KEY_DELETE, object_id="off", changed_by="ada", sync=True)
    audit.record(audit.KEY_DELETE, object_id="off", changed_by="ada")
    recording.install(None)
    with pytest.raises(AuditNotRecorded, match="not switched on"):
        audit.record(audit.KEY_DELETE, object_id="nowhere", changed_by="ada", sync=True)
    with caplog.at_level(logging.WARNING):
        audit.record(audit.KEY_DELETE, object_id="nowhere", changed_by="ada")
    assert "no row" in caplog.text
    assert [row["object_id"] for row in audited.new_rows()] == ["queued"]


def test_the_same_event_id_is_one_row(audited: Auditing) -> None:
    for sync in (False, True, False):
        audit.record(audit.KEY_DELETE, object_id="k", changed_by="ada", event_id="order-4711", sync=sync)
    assert [row["id"] for row in audited.new_rows()] == ["order-4711"]

"""Management routes are recorded where they are served and where they are called; nothing else is touched."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import Iterator
from typing import Any

import httpx
import httpx2
import pytest
import uvicorn
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.routing import Mount

import otel_llmlog
from otel_llmlog import audit
from otel_llmlog.audit import asgi, client
from otel_llmlog.audit.routes import Routes
from otel_llmlog.capture import patch
from otel_llmlog.errors import ConfigError
from otel_llmlog.redact import key_hash
from tests.audit.conftest import Auditing
from tests.audit.management import CALLS, management_app
from tests.capture.conftest import Capture

ADMIN = {"authorization": "Bearer sk-canary-admin"}


def _client(app: Any) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(app, raise_app_exceptions=False), base_url="http://proxy", headers=ADMIN
    )


def _check(row: dict[str, Any], call: Any, source: str) -> None:
    method, path, _, operation, object_id, after = call
    known = audit.OPERATIONS[operation]
    assert (row["operation"], row["action"], row["table_name"]) == (known.name, known.action, known.table_name)
    assert (row["object_id"], row["outcome"], row["source"]) == (object_id, "success", source)
    assert (row["route"], row["status_code"]) == (f"{method} {path}", 200)
    assert row["changed_by_api_key"] == key_hash("sk-canary-admin")
    if known.action == "deleted":
        assert row["updated_values"] is None
    else:
        assert after.items() <= row["updated_values"].items()
    assert "canary" not in str(row)


# Where they are served.


async def test_every_operation_over_its_route_is_one_row(audited: Auditing) -> None:
    async with _client(audit.AuditMiddleware(management_app())) as http:
        for method, path, body, *_ in CALLS:
            answer = await http.request(method, path, json=body)
            assert answer.status_code == 200
    rows = audited.new_rows()
    assert len(rows) == len(CALLS)
    for row, call in zip(rows, CALLS, strict=True):
        _check(row, call, "asgi")


@pytest.mark.parametrize(
    ("status", "outcome", "error_class"),
    [("401", "refused", None), ("403", "refused", None), ("400", "failure", None), ("500", "failure", None), ("raise", "failure", "RuntimeError")],
)  # fmt: skip
async def test_refused_and_failed_attempts_are_rows_too(
    audited: Auditing, status: str, outcome: str, error_class: str | None
) -> None:
    async with _client(audit.AuditMiddleware(management_app())) as http:
        for method, path, body, *_ in CALLS:
            await http.request(method, path, json=body, headers={"x-refuse": status})
    rows = audited.new_rows()
    assert [(row["operation"], row["outcome"]) for row in rows] == [(call[3], outcome) for call in CALLS]
    assert {(row["status_code"], row["error_class"]) for row in rows} == {
        (500 if status == "raise" else int(status), error_class)
    }
    assert "canary" not in str(rows)


async def test_a_request_about_several_objects_is_a_row_for_each(audited: Auditing) -> None:
    async with _client(audit.AuditMiddleware(management_app())) as http:
        await http.post("/key/delete", json={"keys": ["sk-canary-1", "ab" * 32]})
        await http.post("/team/delete", json={"team_ids": [f"t{n}" for n in range(150)]})
    rows = audited.new_rows()
    assert [row["object_id"] for row in rows[:2]] == [key_hash("sk-canary-1"), "ab" * 32]
    assert len(rows) == 102
    assert rows[-1]["notes"] == ["50 more objects"]


async def test_the_actor_is_whom_the_header_the_login_or_the_context_names(audited: Auditing) -> None:
    class User:
        is_authenticated, display_name = True, "bob"

        @property
        def identity(self) -> str:
            raise NotImplementedError

    async def logged_in(scope: Any, receive: Any, send: Any) -> None:
        scope["user"] = User()
        await management_app()(scope, receive, send)

    async def in_context(scope: Any, receive: Any, send: Any) -> None:
        with otel_llmlog.context(user="ada"):
            await management_app()(scope, receive, send)

    for app, headers in (
        (logged_in, {}),
        (in_context, {}),
        (management_app(), {"litellm-changed-by": "carol"}),
        (management_app(), {}),
    ):
        async with _client(audit.AuditMiddleware(app)) as http:
            await http.post("/team/block", json={"team_id": "t"}, headers=headers)
    named = audit.AuditMiddleware(management_app(), changed_by=lambda scope: scope["path"])
    async with _client(named) as http:
        await http.post("/team/block", json={"team_id": "t"})
    assert [row["changed_by"] for row in audited.new_rows()] == ["bob", "ada", "carol", None, "/team/block"]


async def test_a_handler_that_records_the_operation_itself_is_not_recorded_twice(audited: Auditing) -> None:
    app = FastAPI()

    @app.post("/team/update")
    def update() -> dict[str, str]:  # in a thread, as FastAPI runs it
        audit.record(audit.TEAM_UPDATE, object_id="t", before={"a": 1}, after={"a": 2}, changed_by="ada")
        return {}

    async with _client(audit.AuditMiddleware(app)) as http:
        await http.post("/team/update", json={"team_id": "t"})
    (row,) = audited.new_rows()
    assert (row["source"], row["before_value"]) == ("app", {"a": 1})


async def test_own_routes_come_from_a_small_table(audited: Auditing) -> None:
    app = audit.AuditMiddleware(
        management_app(),
        {
            "DELETE /admin/users/{id}": "user.delete",
            "POST /docs/{id}/share": audit.Operation("document.share", "updated", "documents"),
        },
        litellm=False,
    )
    async with _client(app) as http:
        await http.delete("/admin/users/u7")
        await http.post("/docs/a/b/share", json={"with": "bob"})
        await http.post("/team/update", json={"team_id": "t"})
        await http.post("/docs/a", json={})
    first, second = audited.new_rows()
    assert (first["operation"], first["object_id"]) == ("user.delete", "u7")
    assert (second["table_name"], second["object_id"], second["updated_values"]) == (
        "documents",
        "a/b",
        {"with": "bob"},
    )


@pytest.mark.parametrize("route", ["POST", "POST admin", "/x", "POST /x"])
def test_a_table_of_routes_that_makes_no_sense_is_refused_at_once(route: str) -> None:
    with pytest.raises(ConfigError, match="LLMLOG_AUDIT_ROUTES must be like"):
        Routes({route: "no.such"})


@pytest.mark.parametrize(
    ("method", "path", "operation"),
    [
        ("POST", "/litellm/key/generate", "key.create"),
        ("POST", "/a/b/key/generate/", "key.create"),
        ("POST", "/key/a/b/regenerate", "key.rotate"),
        ("POST", "/key/bulk_update", "key.update"),
        ("GET", "/key/generate", None),
        ("GET", "/key/info", None),
        ("POST", "/v1/chat/completions", None),
        ("POST", "/key", None),
        ("POST", "/", None),
        ("POST", "", None),
        ("POST", "/monkey/generate", None),
        ("POST", "/" * 5000, None),
        ("POST", "/key/" + "x" * 100_000 + "/regenerate", None),
    ],
)
def test_a_path_is_recognised_below_a_prefix_and_not_by_accident(method: str, path: str, operation: str | None) -> None:
    found = Routes().match(method, path)
    assert (found.operation.name if found else None) == operation


async def _raw(app: Any, path: str, pieces: list[bytes]) -> tuple[list[Any], list[str]]:
    """Drive an app by hand: the messages it sent, and in which order receive and send happened."""
    sent: list[Any] = []
    order: list[str] = []
    left = list(pieces)

    async def receive() -> Any:
        order.append("receive")
        if not left:
            await asyncio.Event().wait()  # the client stays
        return {"type": "http.request", "body": left.pop(0), "more_body": bool(left)}

    async def send(message: Any) -> None:
        order.append("send")
        sent.append(dict(message))

    scope = {"type": "http", "asgi": {"version": "3.0", "spec_version": "2.4"}, "method": "POST", "path": path, "raw_path": path.encode(), "headers": [], "query_string": b"",
             "http_version": "1.1", "scheme": "http", "server": ("t", 80), "client": ("10.0.0.9", 1), "root_path": ""}  # fmt: skip
    await app(scope, receive, send)
    return sent, order


async def test_other_routes_stream_as_without_it_and_get_the_very_same_functions() -> None:
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen[:] = [receive, send]

    async def receive() -> Any: ...

    async def send(_message: Any) -> None: ...

    await audit.AuditMiddleware(app)({"type": "http", "method": "POST", "path": "/stream"}, receive, send)
    assert seen == [receive, send]
    for kind in ("lifespan", "websocket"):
        await audit.AuditMiddleware(app)({"type": kind, "path": "/key/generate"}, receive, send)
        assert seen == [receive, send]
    pieces = [b"one", b"two", b"three", b""]
    assert await _raw(audit.AuditMiddleware(management_app()), "/stream", pieces) == await _raw(
        management_app(), "/stream", pieces
    )


async def test_a_watched_route_passes_on_piece_by_piece_whatever_its_size(audited: Auditing) -> None:
    async def echo(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while True:
            message = await receive()
            await send({"type": "http.response.body", "body": message["body"], "more_body": message["more_body"]})
            if not message["more_body"]:
                return

    pieces = [b"x" * 300_000] * 10
    assert await _raw(audit.AuditMiddleware(echo), "/team/update", pieces) == await _raw(echo, "/team/update", pieces)
    (row,) = audited.new_rows()
    assert row["notes"][0] == "the request's body could not be read"
    assert row["requester_ip_address"] == "10.0.0.9"


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[1]", b'"x"', b"\xff\xfe", b"[" * 100_000, b'{"team_id": {"a": 1}, "keys": 7}']
)
async def test_a_body_that_is_not_what_it_should_be_is_a_row_all_the_same(audited: Auditing, body: bytes) -> None:
    with contextlib.suppress(ValueError, RecursionError):  # the app's own, for what is no JSON
        await _raw(audit.AuditMiddleware(management_app()), "/team/block", [body])
    (row,) = audited.new_rows()
    assert row["operation"] == "team.block"


async def test_a_middleware_that_fails_leaves_the_answer_as_it_is(audited: Auditing, monkeypatch: Any) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise OSError

    monkeypatch.setattr(audit.recording, "record", broken)
    async with _client(audit.AuditMiddleware(management_app())) as http:
        assert (await http.post("/team/block", json={"team_id": "t"})).json() == {"team_id": "t"}


@pytest.fixture
def switched_on() -> Iterator[None]:
    asgi.install({"DELETE /admin/{id}": "user.delete"})
    yield
    asgi.remove()


async def test_switched_on_by_a_setting_every_starlette_and_fastapi_app_is_watched_once(
    audited: Auditing, switched_on: None
) -> None:
    inner = management_app()
    for app in (inner, Starlette(routes=[Mount("/below", inner)])):
        async with _client(app) as http:
            await http.post("/below/team/block" if app is not inner else "/team/block", json={"team_id": "t"})
            await http.delete("/admin/u1")
    assert [row["operation"] for row in audited.new_rows()] == [
        "team.block",
        "user.delete",
        "team.block",
        "user.delete",
    ]


async def test_switched_off_again_nothing_is_watched(audited: Auditing) -> None:
    before = Starlette.__call__
    asgi.install({})
    assert Starlette.__call__ is not before
    asgi.remove()
    assert Starlette.__call__ is before
    async with _client(management_app()) as http:
        await http.post("/team/block", json={"team_id": "t"})
    assert audited.new_rows() == []


# Where they are called.


class Server(uvicorn.Server):
    """The management API on loopback."""

    def __enter__(self) -> str:
        self._thread = threading.Thread(target=self.run)
        self._thread.start()
        while not self.started:
            self._thread.join(0.01)
        port = self.servers[0].sockets[0].getsockname()[1]
        return f"http://127.0.0.1:{port}"

    def __exit__(self, *_: object) -> None:
        self.should_exit = True
        self._thread.join()


@pytest.fixture(scope="module")
def proxy_url() -> Iterator[str]:
    with Server(uvicorn.Config(management_app(), host="127.0.0.1", port=0, log_level="error")) as url:
        yield url


@pytest.fixture
def watched(audited: Auditing) -> Iterator[Auditing]:
    patch.install(
        Capture().recorder,
        inject_usage=False,
        managed=client.watcher({"127.0.0.1": "openai", "localhost": "litellm_proxy"}),
    )
    yield audited
    patch.remove()


async def _ask(library: Any, is_async: bool, url: str, calls: Any, **headers: str) -> None:
    given = {**ADMIN, **{name.replace("_", "-"): value for name, value in headers.items()}}
    if is_async:
        async with library.AsyncClient(base_url=url, headers=given) as http:
            for method, path, body, *_ in calls:
                (await http.request(method, path, json=body)).read()
    else:
        with library.Client(base_url=url, headers=given) as http:
            for method, path, body, *_ in calls:
                http.request(method, path, json=body).read()


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("library", [httpx, httpx2], ids=["httpx", "httpx2"])
async def test_every_operation_asked_of_a_proxy_is_one_row(
    watched: Auditing, proxy_url: str, library: Any, is_async: bool
) -> None:
    with otel_llmlog.context(user="ada"):
        await _ask(library, is_async, proxy_url, CALLS)
    rows = watched.new_rows()
    assert len(rows) == len(CALLS)
    for row, call in zip(rows, CALLS, strict=True):
        _check(row, call, "client")
        assert row["changed_by"] == "ada"


@pytest.mark.parametrize("library", [httpx, httpx2], ids=["httpx", "httpx2"])
async def test_what_a_proxy_refuses_is_a_row_of_its_caller_too(watched: Auditing, proxy_url: str, library: Any) -> None:
    await _ask(library, False, proxy_url, CALLS, x_refuse="403")
    rows = watched.new_rows()
    assert [(row["operation"], row["outcome"], row["status_code"]) for row in rows] == [
        (call[3], "refused", 403) for call in CALLS
    ]
    assert "canary" not in str(rows)


def test_a_proxy_that_is_not_there_is_a_failure_and_the_same_exception(watched: Auditing) -> None:
    with pytest.raises(httpx.ConnectError), httpx.Client(headers=ADMIN) as http:
        http.post("http://127.0.0.1:9/team/block", json={"team_id": "t"})
    (row,) = watched.new_rows()
    assert (row["outcome"], row["error_class"], row["object_id"]) == ("failure", "ConnectError", "t")


def test_nobody_elses_api_is_recorded(watched: Auditing, proxy_url: str) -> None:
    with httpx.Client(base_url=proxy_url) as http:
        http.post("/user/update", json={"user_id": "u"})  # the path alone proves nothing
        http.post("/user/update", json={"user_id": "u"}, headers={"authorization": "Bearer abc"})
        http.post("/other", json={"user_id": "u"}, headers=ADMIN)
        http.get("/key/info", headers=ADMIN)
    assert watched.new_rows() == []


def test_a_host_that_is_named_a_proxy_is_recorded_whatever_the_key(watched: Auditing, proxy_url: str) -> None:
    with httpx.Client(base_url=proxy_url.replace("127.0.0.1", "localhost")) as http:
        http.post("/user/update", json={"user_id": "u"}, headers={"authorization": "Bearer abc"})
    (row,) = watched.new_rows()
    assert row["changed_by_api_key"] == key_hash("abc")


async def test_a_managed_answer_that_is_streamed_is_not_read(watched: Auditing, proxy_url: str) -> None:
    async with httpx.AsyncClient(base_url=proxy_url, headers=ADMIN) as http:
        async with http.stream("POST", "/team/update", json={"team_id": "t", "max_budget": 1}) as answer:
            assert not answer.is_stream_consumed
            assert json.loads(b"".join([piece async for piece in answer.aiter_bytes()])) == {
                "team_id": "t",
                "max_budget": 1,
            }
    (row,) = watched.new_rows()
    assert (row["operation"], row["updated_values"]) == ("team.budget", {"team_id": "t", "max_budget": 1})


async def test_a_cancelled_call_is_a_failure(watched: Auditing) -> None:
    async def silent(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(60)
        writer.close()  # a writer that nobody holds closes by itself

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with httpx.AsyncClient(headers=ADMIN) as http:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(http.post(f"http://127.0.0.1:{port}/team/block", json={"team_id": "t"}), 0.2)
    server.close()
    (row,) = watched.new_rows()
    assert (row["outcome"], row["error_class"]) == ("failure", "CancelledError")

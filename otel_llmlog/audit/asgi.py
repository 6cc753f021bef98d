"""AuditMiddleware: management routes of an ASGI app are recorded as they are answered, refused and failed ones too.

Always true: requests to other routes go through untouched, byte for byte and without waiting; those that are watched
are passed on piece by piece as they come, and only their first `MAX_BODY` bytes are kept; no failure of ours reaches
the app. A handler that records the operation itself is not recorded twice.
"""

from __future__ import annotations

import asyncio
import functools
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

from wrapt import register_post_import_hook

from otel_llmlog.audit import recording, routes
from otel_llmlog.audit.catalogue import Operation
from otel_llmlog.audit.changing import status_of
from otel_llmlog.audit.routes import MAX_BODY, Match, Routes
from otel_llmlog.capture import context

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

# Seconds that a refusal may wait for the rest of what it refuses.
_PATIENCE = 1.0
# In the scope of a request that is watched: an app mounted in another one does not watch it again.
_WATCHED = "otel_llmlog.audit"


class AuditMiddleware:
    """Wraps any ASGI app: `app.add_middleware(AuditMiddleware)`, or `AuditMiddleware(app)`."""

    def __init__(
        self,
        app: App,
        routes: Mapping[str, str | Operation] | None = None,
        *,
        litellm: bool = True,
        changed_by: Callable[[Scope], str | None] | None = None,
    ) -> None:
        """`routes`: own ones beside LiteLLM's. `changed_by`: who asks, from the scope; by default as headers and
        `otel_llmlog.context` say, and the user that an authentication middleware found. Raises ConfigError.
        """
        self._app = app
        self._routes = Routes(routes, litellm=litellm)
        self._changed_by = changed_by

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One connection, as ASGI has it."""
        match = None
        if scope["type"] == "http" and _WATCHED not in scope:
            match = self._routes.match(scope["method"], scope.get("path", ""))
        if match is None:
            await self._app(scope, receive, send)
            return
        await _Exchange(match, scope, receive, send, self._changed_by).run(self._app)


class _Exchange:
    """One watched request: what passes is noted, then recorded."""

    def __init__(
        self, match: Match, scope: Scope, receive: Receive, send: Send, changed_by: Callable[[Scope], str | None] | None
    ) -> None:
        self._match = match
        self._scope = scope
        self._receive_on = receive
        self._send_on = send
        self._changed_by = changed_by
        self._request = bytearray()
        self._answer = bytearray()
        self._too_long = False
        self._whole = False
        # What was read before the app asked for it; the app gets it first.
        self._ahead: deque[Message] = deque()
        self._status: int | None = None
        self._context_user: str | None = None

    async def run(self, app: App) -> None:
        self._scope[_WATCHED] = True
        token = recording.recorded_tables.set(set())
        error: BaseException | None = None
        try:
            await app(self._scope, self._receive, self._send)
        except BaseException as raised:  # passed on; the event says that the operation failed
            error = raised
            raise
        finally:
            recorded = recording.recorded_tables.get() or set()
            recording.recorded_tables.reset(token)
            if self._match.operation.table_name not in recorded:
                self._record(error)

    async def _receive(self) -> Message:
        return self._ahead.popleft() if self._ahead else await self._next()

    async def _next(self) -> Message:
        message = await self._receive_on()
        self._whole = message["type"] != "http.request" or not message.get("more_body", False)
        if message["type"] == "http.request" and (body := message.get("body")):
            self._too_long = self._too_long or len(self._request) + len(body) > MAX_BODY
            self._request += body[: MAX_BODY - len(self._request)]
        return message

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            # While the handler's context is still there: what it said of itself is gone when it has returned.
            self._context_user = context.current().user
            if self._status >= 400 and not self._whole:
                await self._read_ahead()
        elif message["type"] == "http.response.body" and (body := message.get("body")):
            self._answer += body[: MAX_BODY + 1 - len(self._answer)]
        await self._send_on(message)

    async def _read_ahead(self) -> None:
        """A request that is refused by its headers was not read: what it asked for is known from its body alone."""
        try:
            async with asyncio.timeout(_PATIENCE):
                while not self._whole and not self._too_long:
                    self._ahead.append(await self._next())
        except (TimeoutError, RuntimeError):  # a client that is slow to say it, a loop that is not asyncio's
            self._too_long = True

    def _record(self, error: BaseException | None) -> None:
        try:
            headers = {
                name.decode("latin-1").lower(): value.decode("latin-1") for name, value in self._scope["headers"]
            }
            who = routes.actor(headers)
            if (by := self._who(who.get("changed_by"))) is not None:
                who["changed_by"] = by
            client = self._scope.get("client")
            status = self._status if self._status is not None or error is None else status_of(error) or 500
            for operation, details in routes.events(
                self._match, None if self._too_long else bytes(self._request), bytes(self._answer), status, error
            ):
                told: dict[str, Any] = {
                    **details,
                    **who,
                    "source": "asgi",
                    "route": f"{self._scope['method']} {self._scope.get('path', '')}",
                    "requester_ip_address": client[0] if client else None,
                }
                recording.record(operation, **told)
        except Exception as failed:  # the app's answer is on its way, whatever we make of it
            recording.warn("audit.asgi", f"a management request could not be recorded: {type(failed).__name__}")

    def _who(self, said: str | None) -> str | None:
        if self._changed_by is not None and (found := self._changed_by(self._scope)) is not None:
            return found
        if said is not None:
            return said
        return _authenticated(self._scope.get("user")) or self._context_user


def _authenticated(user: Any) -> str | None:
    """The user that Starlette's authentication middleware, or one like it, has found."""
    if user is None or not getattr(user, "is_authenticated", False):
        return None
    for name in ("identity", "display_name", "username"):
        try:
            if found := getattr(user, name, None):
                return str(found)
        except NotImplementedError:  # Starlette's SimpleUser has no identity
            continue
    return None


_original: tuple[type[Any], Any, Any] | None = None
_table: Routes | None = None
_hooked = False


def install(own: Mapping[str, str]) -> None:
    """Watch every Starlette and FastAPI app, those that are there and those to come. Raises ConfigError."""
    global _table, _hooked  # noqa: PLW0603 - a class-wide wrap is global by nature
    _table = Routes(own)
    if not _hooked:
        _hooked = True
        register_post_import_hook(_wrap, "starlette.applications")
    else:
        import sys

        if "starlette.applications" in sys.modules:
            _wrap(sys.modules["starlette.applications"])


def remove() -> None:
    """Give Starlette its own `__call__` back."""
    global _original, _table  # noqa: PLW0603 - see `install`
    _table = None
    if _original is not None:
        cls, original, ours = _original
        if cls.__dict__.get("__call__") is ours:
            cls.__call__ = original
        _original = None


def _wrap(module: Any) -> None:
    global _original  # noqa: PLW0603 - see `install`
    table = _table
    if table is None or _original is not None:
        return
    cls = module.Starlette
    original = cls.__call__

    # FastAPI's own `__call__` comes through this one, too.
    @functools.wraps(original)
    async def call(self: Any, scope: Scope, receive: Receive, send: Send) -> None:
        match = None
        if scope["type"] == "http" and _WATCHED not in scope:
            match = table.match(scope["method"], scope.get("path", ""))
        if match is None:
            await original(self, scope, receive, send)
            return
        await _Exchange(match, scope, receive, send, None).run(functools.partial(original, self))

    _original = (cls, original, call)
    cls.__call__ = call

"""For processes that are frozen once they have answered: what an answer called is stored before it goes out.

Functions (AWS Lambda, Cloud Functions) and containers whose CPU is throttled between requests (Cloud Run) stop at any
point after the answer, for minutes or for good. So each wrapper flushes at the last moment that is surely its own.

Always true: the app's result, its exceptions and the pieces of its answer pass unchanged; a flush that takes too long
is left, and what waits is stored when the process runs again.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable, Iterable, Iterator
from typing import Any, ParamSpec, TypeVar, cast

from otel_llmlog import configure

_P = ParamSpec("_P")
_R = TypeVar("_R")

# Seconds that an answer may wait for the database. The first one of a process connects, and may upgrade the tables.
TIMEOUT = 5.0


def flush_after(handler: Callable[_P, _R] | None = None, *, timeout: float = TIMEOUT) -> Any:
    """Decorate a function's handler, plain or async: its calls are stored when it returns or raises.

    timeout: seconds that this may take.
    """
    if handler is None:
        return functools.partial(flush_after, timeout=timeout)
    wrapped: Any = handler
    if inspect.iscoroutinefunction(handler):

        @functools.wraps(handler)
        async def run_async(*args: Any, **kwargs: Any) -> Any:
            try:
                return await wrapped(*args, **kwargs)
            finally:
                await _flush(timeout)

        return run_async

    @functools.wraps(handler)
    def run(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        try:
            return cast("_R", wrapped(*args, **kwargs))
        finally:
            configure.flush(timeout)

    return run


async def _flush(timeout: float) -> None:  # noqa: ASYNC109 - it is the flush's own, which leaves what waits where it is
    await asyncio.to_thread(configure.flush, timeout)


class FlushASGI:
    """Wraps an ASGI app: its calls are stored before the last piece of an answer goes out.

    timeout: seconds that this may take.
    """

    def __init__(self, app: Any, *, timeout: float = TIMEOUT) -> None:
        self.app = app
        self.timeout = timeout

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one request or connection."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return

        async def flush_before_the_last(message: Any) -> None:
            kind = message["type"]
            if (kind == "http.response.body" and not message.get("more_body")) or kind == "websocket.close":
                await _flush(self.timeout)
            await send(message)

        try:
            await self.app(scope, receive, flush_before_the_last)
        finally:  # what runs after the answer, and what raises
            await _flush(self.timeout)


class FlushWSGI:
    """Wraps a WSGI app: its calls are stored before the last piece of an answer goes out.

    That an answer which is made as it is read has no further piece is known only after the last one: then its calls are
    stored before the server ends the answer. timeout: seconds that this may take.
    """

    def __init__(self, app: Any, *, timeout: float = TIMEOUT) -> None:
        self.app = app
        self.timeout = timeout

    def __call__(self, environ: Any, start_response: Any) -> Iterable[bytes]:
        """Serve one request."""
        try:
            answer: Iterable[bytes] = self.app(environ, start_response)
        except BaseException:  # passed on: the answer is then the server's
            configure.flush(self.timeout)
            raise
        if isinstance(answer, list | tuple):
            configure.flush(self.timeout)
            return answer
        return _Answer(answer, self.timeout)


class _Answer:
    """The pieces of an answer, with a flush at their end."""

    def __init__(self, pieces: Iterable[bytes], timeout: float) -> None:
        self._pieces = pieces
        self._timeout = timeout

    def __iter__(self) -> Iterator[bytes]:
        try:
            yield from self._pieces
        finally:
            configure.flush(self._timeout)

    def close(self) -> None:
        """The server has read all that it wanted."""
        try:
            if (close := getattr(self._pieces, "close", None)) is not None:
                close()
        finally:
            configure.flush(self._timeout)

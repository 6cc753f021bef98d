"""What an app can see of one call, written down, so that it can be compared with and without us."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from tests.capture.clients import Http


@dataclass
class Seen:
    """All that httpx shows of a reply, and the exception if there was one."""

    status: int = 0
    reason: str = ""
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    extensions: list[str] = field(default_factory=list)
    request_is_its_own: bool = False
    pieces: list[bytes] = field(default_factory=list)
    body: bytes | None = None
    text: str | None = None
    downloaded: int = 0
    closed: list[bool] = field(default_factory=list)
    elapsed: list[bool] = field(default_factory=list)
    consumed: list[bool] = field(default_factory=list)
    error: tuple[str, str, str | None] | None = None

    def head(self, response: Any, request: Any) -> None:
        self.status, self.reason = response.status_code, response.reason_phrase
        self.headers = response.headers.raw
        self.extensions = sorted(response.extensions)
        self.request_is_its_own = response.request is request
        self.state(response)

    def state(self, response: Any) -> None:
        """Where the reply stands now: noted before and after each step."""
        self.closed.append(response.is_closed)
        self.consumed.append(response.is_stream_consumed)
        self.downloaded = response.num_bytes_downloaded
        try:
            self.elapsed.append(response.elapsed is not None)
        except RuntimeError:
            self.elapsed.append(False)

    def failed(self, error: BaseException) -> None:
        cause = error.__cause__
        self.error = (
            f"{type(error).__module__}.{type(error).__name__}",
            str(error),
            cause and f"{type(cause).__module__}.{type(cause).__name__}: {cause}",
        )


Way = Callable[[Http, Any, Seen], Awaitable[None]]


async def plain(http: Http, request: Any, seen: Seen) -> None:
    response = await http.send(request)
    seen.head(response, request)
    seen.body, seen.text = response.content, response.text


async def streamed(http: Http, request: Any, seen: Seen) -> None:
    response = await http.send(request, stream=True)
    seen.head(response, request)
    try:
        async for piece in http.pieces(response):
            seen.pieces.append(piece)
    finally:
        seen.state(response)
        await http.close(response)
        seen.state(response)


async def streamed_then_read(http: Http, request: Any, seen: Seen) -> None:
    response = await http.send(request, stream=True)
    seen.head(response, request)
    try:
        seen.body = await http.read(response)
        seen.text = response.text
    finally:
        seen.state(response)
        await http.close(response)
        seen.state(response)


async def closed_early(http: Http, request: Any, seen: Seen) -> None:
    response = await http.send(request, stream=True)
    seen.head(response, request)
    pieces = http.pieces(response)
    seen.pieces.append(await anext(pieces))
    await http.close(response)
    seen.state(response)
    await pieces.aclose()
    # A closed reply cannot be read: the app is told so in httpx's own words.
    await http.read(response)


async def dropped(http: Http, request: Any, seen: Seen) -> None:
    response = await http.send(request, stream=True)
    seen.head(response, request)


async def watch(http: Http, request: Any, way: Way) -> Seen:
    """Do it, and note also how it failed."""
    seen = Seen()
    try:
        await way(http, request, seen)
    except Exception as error:
        seen.failed(error)
    return seen

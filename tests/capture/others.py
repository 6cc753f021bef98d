"""One face for the clients that are not httpx: aiohttp, requests and botocore's own session.

Their methods are async for all; a sync client simply blocks in them.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable
from typing import Any

import aiohttp
import requests
from botocore.awsrequest import AWSRequest
from botocore.httpsession import URLLib3Session
from botocore.response import StreamingBody

from tests.capture.clients import CHAT, chat_body


class Other:
    """A client; `ways` are those in which its replies can be read piece by piece."""

    name = ""
    is_async = False
    ways: tuple[str, ...] = ()

    def __init__(self, url: str, *, timeout: float = 20.0) -> None:
        self.url, self.timeout = url, timeout

    async def post(self, body: Any = None, *, headers: Any = None, stream: bool = False, path: str = CHAT) -> Any:
        """The reply; with `stream`, its body is still in the connection."""
        raise NotImplementedError

    async def read(self, response: Any) -> bytes:
        """All of the reply."""
        raise NotImplementedError

    def pieces(self, response: Any, way: str) -> AsyncIterator[bytes]:
        """The reply in pieces, as they come."""
        raise NotImplementedError

    def status(self, response: Any) -> int:
        return int(response.status_code)

    async def close(self, response: Any) -> None:
        response.close()

    async def end(self) -> None: ...


async def _one_by_one(pieces: Iterable[bytes]) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


class Requests(Other):
    name = "requests"
    ways = ("iter_content", "iter_lines", "raw_read", "raw_stream", "raw_read1")

    def __init__(self, url: str, **options: Any) -> None:
        super().__init__(url, **options)
        self.session = requests.Session()
        self.session.trust_env = False

    async def post(self, body: Any = None, *, headers: Any = None, stream: bool = False, path: str = CHAT) -> Any:
        given = body or chat_body()
        return self.session.post(self.url + path, json=given, headers=headers, stream=stream, timeout=self.timeout)

    async def read(self, response: Any) -> bytes:
        return bytes(response.content)

    def pieces(self, response: Any, way: str) -> AsyncIterator[bytes]:
        if way == "raw_read":
            return _one_by_one(iter(lambda: response.raw.read(50), b""))
        if way == "raw_read1":
            return _one_by_one(iter(lambda: response.raw.read1(50), b""))
        if way == "raw_stream":
            return _one_by_one(response.raw.stream(50, decode_content=False))
        return _one_by_one(response.iter_content(50) if way == "iter_content" else response.iter_lines())

    async def end(self) -> None:
        self.session.close()


class Botocore(Other):
    name = "botocore"
    ways = ("chunks", "stream")

    def __init__(self, url: str, **options: Any) -> None:
        super().__init__(url, **options)
        self.session = URLLib3Session(timeout=self.timeout)

    async def post(self, body: Any = None, *, headers: Any = None, stream: bool = False, path: str = CHAT) -> Any:
        given = json.dumps(body or chat_body()).encode()
        asked = AWSRequest("POST", self.url + path, headers or {}, given, stream_output=stream)
        return self.session.send(asked.prepare())

    async def read(self, response: Any) -> bytes:
        return bytes(response.content)

    def pieces(self, response: Any, way: str) -> AsyncIterator[bytes]:
        if way == "stream":
            return _one_by_one(response.raw.stream())
        return _one_by_one(StreamingBody(response.raw, None).iter_chunks(50))

    async def close(self, response: Any) -> None:
        response.raw.close()

    async def end(self) -> None:
        self.session.close()


class Aiohttp(Other):
    name = "aiohttp"
    is_async = True
    ways = ("lines", "iter_any", "iter_chunked", "iter_chunks", "readexactly")

    def __init__(self, url: str, **options: Any) -> None:
        super().__init__(url, **options)
        self.session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None, sock_read=self.timeout))

    async def post(self, body: Any = None, *, headers: Any = None, stream: bool = False, path: str = CHAT) -> Any:
        response = await self.session.post(self.url + path, json=body or chat_body(), headers=headers)
        if not stream:
            await response.read()
        return response

    def status(self, response: Any) -> int:
        return int(response.status)

    async def read(self, response: Any) -> bytes:
        return bytes(await response.read())

    async def pieces(self, response: Any, way: str) -> AsyncIterator[bytes]:
        content = response.content
        if way == "iter_chunks":
            async for piece, _ in content.iter_chunks():
                yield piece
        elif way == "readexactly":
            while True:
                try:
                    yield await content.readexactly(50)
                except asyncio.IncompleteReadError as error:
                    yield error.partial
                    return
        else:
            reader = {"lines": content, "iter_any": content.iter_any(), "iter_chunked": content.iter_chunked(50)}[way]
            async for piece in reader:
                yield piece

    async def end(self) -> None:
        await self.session.close()


OTHERS = (Requests, Botocore, Aiohttp)

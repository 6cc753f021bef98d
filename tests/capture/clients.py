"""One face for the sync and async clients of httpx and httpx2, so that a behaviour is written down once."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

import anthropic
import httpx
import httpx2
import openai
import pytest

FLAVOURS = [
    pytest.param((library, is_async), id=f"{library.__name__}-{'async' if is_async else 'sync'}")
    for library in (httpx, httpx2)
    for is_async in (False, True)
]
CHAT = "/v1/chat/completions"
USAGE = {"include_usage": True}
KEY = "sk-test-0123456789abcdefghij"


def said(text: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": text}]


def chat_body(text: str = "hello", **more: Any) -> dict[str, Any]:
    return {"model": "gpt-4o-mini", "messages": said(text), **more}


class Http:
    """A client of either library. Its methods are async for both; a sync client simply blocks in them."""

    def __init__(self, library: Any, is_async: bool, url: str, **options: Any) -> None:
        self.library, self.is_async = library, is_async
        # No TLS here, and loading certificates is most of a client's start.
        settings = {"base_url": url, "timeout": 20.0, "verify": False, **options}
        self.client = (library.AsyncClient if is_async else library.Client)(**settings)

    def request(self, body: Any = None, path: str = CHAT, **options: Any) -> Any:
        return self.client.build_request("POST", path, json=body or chat_body(), **options)

    async def send(self, request: Any, *, stream: bool = False) -> Any:
        sent = self.client.send(request, stream=stream)
        return await sent if self.is_async else sent

    async def post(self, body: Any = None, **options: Any) -> Any:
        return await self.send(self.request(body, **options))

    async def open(self, body: Any = None, **options: Any) -> Any:
        """Send it and leave the reply's stream to the caller."""
        return await self.send(self.request(body or chat_body(stream=True), **options), stream=True)

    async def pieces(self, response: Any) -> AsyncIterator[bytes]:
        """The raw pieces of a reply, as they come."""
        if self.is_async:
            async with contextlib.aclosing(response.aiter_raw()) as raw:
                async for piece in raw:
                    yield piece
        else:
            with contextlib.closing(response.iter_raw()) as raw:
                for piece in raw:
                    yield piece

    async def read(self, response: Any) -> bytes:
        body = response.aread() if self.is_async else response.read()
        return await body if self.is_async else body

    async def close(self, response: Any) -> None:
        if self.is_async:
            await response.aclose()
        else:
            response.close()

    async def end(self) -> None:
        if self.is_async:
            await self.client.aclose()
        else:
            self.client.close()


def openai_client(url: str, *, is_async: bool = False, **options: Any) -> Any:
    kind, transport = (
        (openai.AsyncOpenAI, openai.DefaultAsyncHttpxClient) if is_async else (openai.OpenAI, openai.DefaultHttpxClient)
    )
    settings = {"api_key": KEY, "timeout": 20.0, "http_client": transport(verify=False), **options}
    return kind(base_url=f"{url}/v1", **settings)


def anthropic_client(url: str, *, is_async: bool = False, **options: Any) -> Any:
    kind, transport = (
        (anthropic.AsyncAnthropic, anthropic.DefaultAsyncHttpxClient)
        if is_async
        else (anthropic.Anthropic, anthropic.DefaultHttpxClient)
    )
    settings = {"api_key": KEY, "timeout": 20.0, "http_client": transport(verify=False), **options}
    return kind(base_url=url, **settings)

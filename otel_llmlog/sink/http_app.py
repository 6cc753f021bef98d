"""OTLP/HTTP: `/v1/traces`, `/v1/logs` and `/v1/metrics` in protobuf and JSON, `/healthz`, `/readyz`. A bare ASGI app.

Always true: a request without the right token is refused before its body is read, and none is held beyond the limit;
"try again" is 503 or 429 with Retry-After; an answer is in the encoding of its request, errors as google.rpc.Status.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, NamedTuple

from otel_llmlog.config import SinkSettings
from otel_llmlog.sink import receiver, responses
from otel_llmlog.sink.receiver import Answer, Bad, Oversized, Receiver, Refused, Signal

_SIGNALS: dict[str, Signal] = {"/v1/traces": "traces", "/v1/logs": "logs", "/v1/metrics": "metrics"}
_PROTOBUF, _JSON = b"application/x-protobuf", b"application/json"
_PACKED = {b"": False, b"identity": False, b"gzip": True, b"deflate": True}
_AUTHORIZATION, _LENGTH, _TRANSFER = b"authorization", b"content-length", b"transfer-encoding"
_UNAUTHENTICATED = 401
# Seconds that the body of a request may take to arrive, and any part of it.
_ARRIVAL, _SILENCE = 30.0, 10.0
# Of a body that is too large, seconds and bodies of the allowed size that are passed over before the answer.
_PATIENCE, _PATIENCE_BODIES = 5.0, 8

_Receive = Callable[[], Awaitable[dict[str, Any]]]
_Send = Callable[[dict[str, Any]], Awaitable[None]]


class _Reply(NamedTuple):
    status: int
    content_type: bytes
    body: bytes
    again: int = 0
    """Seconds after which to try again."""
    unread: bool = False
    """It was given without reading the request's body to its end."""


class App:
    """The ASGI app. `ready`: why rows cannot be stored now; None when they can."""

    def __init__(self, receiving: Receiver, settings: SinkSettings, ready: Callable[[], Awaitable[str | None]]) -> None:
        self._receiver = receiving
        self._limit = settings.sink_max_message_bytes
        self._ready = ready

    async def __call__(self, scope: dict[str, Any], receive: _Receive, send: _Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            raise NotImplementedError("HTTP only")
        signal = _SIGNALS.get(scope["path"])
        if signal is None:
            reply = await self._about_itself(scope)
        elif scope["method"] != "POST":
            reply = _plain(405, "OTLP is sent with POST", unread=True)
        else:
            headers = _together(scope["headers"])
            kind = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
            if _TRANSFER in headers and (_LENGTH in headers or scope["http_version"] == "1.0"):
                # RFC 9112, 6.1: where proxies may disagree on its end, a request is one too many.
                reply = _plain(400, "transfer-encoding goes with neither content-length nor HTTP/1.0", unread=True)
            elif kind not in {_PROTOBUF, _JSON}:
                reply = _plain(415, "OTLP is application/x-protobuf or application/json", unread=True)
            else:
                reply = await self._export(signal, kind, headers, receive)
        again = [(b"retry-after", str(reply.again).encode())] if reply.again else []
        # What of the body has not been read is not waited for.
        close = [(b"connection", b"close")] if reply.unread else []
        if reply.status == _UNAUTHENTICATED:
            close.append((b"www-authenticate", b"Bearer"))
        start = [(b"content-type", reply.content_type), (b"content-length", str(len(reply.body)).encode())]
        await send({"type": "http.response.start", "status": reply.status, "headers": [*start, *again, *close]})
        await send({"type": "http.response.body", "body": reply.body})

    async def _export(self, signal: Signal, kind: bytes, headers: dict[bytes, bytes], receive: _Receive) -> _Reply:
        unread = True
        try:
            sender = self._receiver.check([headers[_AUTHORIZATION]] if _AUTHORIZATION in headers else [])
            packed = _PACKED.get(headers.get(b"content-encoding", b"").strip().lower())
            if packed is None:
                return _plain(415, "content-encoding is gzip, deflate or identity", unread=True)
            with self._receiver.in_hand(sender):
                async with asyncio.timeout(_ARRIVAL):
                    body = await self._body(headers, receive)
                unread = False
                answer = await self._receiver.take(signal, body, sender, packed=packed, as_json=kind == _JSON)
            return _taken(signal, kind, answer)
        except TimeoutError:
            return _plain(408, "the body did not arrive in time", unread=True)
        except Refused as refused:
            return _refused(kind, refused)._replace(unread=unread)

    async def _body(self, headers: dict[bytes, bytes], receive: _Receive) -> bytes:
        parts: list[bytes] = []
        size, over = 0, int(headers.get(_LENGTH, b"0")) > self._limit
        while not over:
            async with asyncio.timeout(_SILENCE):
                message = await receive()
            if message["type"] == "http.disconnect":
                raise Bad("the sender has gone")
            parts.append(message.get("body", b""))
            size += len(parts[-1])
            over = size > self._limit
            if not over and not message.get("more_body", False):
                return b"".join(parts)
        parts.clear()
        await _pass_over(receive, _PATIENCE_BODIES * self._limit)
        raise Oversized(receiver.too_large(self._limit))

    async def _about_itself(self, scope: dict[str, Any]) -> _Reply:
        if scope["path"] == "/healthz":
            return _plain(200, "alive")
        if scope["path"] == "/readyz":
            away = await self._ready()
            return _plain(200, "ready") if away is None else _plain(503, away, receiver.AGAIN_WHEN_AWAY)
        return _plain(404, "here are /v1/traces, /v1/logs, /v1/metrics, /healthz and /readyz", unread=True)


def _together(headers: Sequence[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """Headers by name; several of one name are one list, of which no credential or media type can be made."""
    found: dict[bytes, bytes] = {}
    for name, value in headers:
        found[name] = found[name] + b", " + value if name in found else value
    return found


async def _pass_over(receive: _Receive, most: int) -> None:
    """Let the sender finish, within limits. One that is cut off before it reads its answer would try again for ever."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_PATIENCE):
            while most > 0:
                message = await receive()
                most -= len(message.get("body", b""))
                if not message.get("more_body", False):
                    return


def _plain(status: int, text: str, again: int = 0, *, unread: bool = False) -> _Reply:
    return _Reply(status, b"text/plain; charset=utf-8", f"{text}\n".encode(), again, unread)


# HTTP status, gRPC's code for the same, and seconds after which to try again.
_CODES: dict[type[Refused], tuple[int, int, int]] = {
    receiver.Unauthenticated: (401, 16, 0),
    receiver.Bad: (400, 3, 0),
    receiver.Oversized: (413, 8, 0),
    receiver.Busy: (429, 8, receiver.AGAIN_WHEN_BUSY),
    receiver.Away: (503, 14, receiver.AGAIN_WHEN_AWAY),
}


def _refused(kind: bytes, refused: Refused) -> _Reply:
    status, code, again = _CODES[type(refused)]
    if kind == _JSON:
        return _Reply(status, kind, json.dumps({"code": code, "message": str(refused)}).encode(), again)
    return _Reply(status, kind, responses.status(code, str(refused), again), again)


def _taken(signal: Signal, kind: bytes, answer: Answer) -> _Reply:
    if kind == _PROTOBUF:
        return _Reply(200, kind, responses.taken(signal, answer))
    said: dict[str, Any] = {}
    if answer.rejected:
        field = "rejectedSpans" if signal == "traces" else "rejectedLogRecords"
        # A 64-bit number is a string in protobuf's JSON.
        said["partialSuccess"] = {field: str(answer.rejected), "errorMessage": answer.message}
    return _Reply(200, kind, json.dumps(said).encode())

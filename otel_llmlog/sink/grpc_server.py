"""OTLP/gRPC: the export services of traces, logs and metrics, and grpc.health.v1.

Always true: a request without the right token, or over a limit, is refused before its message is read; a message is
unpacked by us alone, since gRPC's own unpacking has no limit; "try again" is said with RetryInfo, without which the
protocol takes RESOURCE_EXHAUSTED for final.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc

from otel_llmlog.config import SinkSettings
from otel_llmlog.sink import connections, receiver, responses
from otel_llmlog.sink.receiver import Receiver, Refused, Signal
from otel_llmlog.sink.senders import Sender

_METHODS: dict[str, Signal] = {
    "/opentelemetry.proto.collector.trace.v1.TraceService/Export": "traces",
    "/opentelemetry.proto.collector.logs.v1.LogsService/Export": "logs",
    "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export": "metrics",
}
_HEALTH = "/grpc.health.v1.Health/Check"
# grpc.health.v1.HealthCheckResponse, whose one field is a status: SERVING, NOT_SERVING.
_SERVING, _NOT_SERVING = b"\x08\x01", b"\x08\x02"
# Seconds that the message of a request may take to arrive.
_ARRIVAL = 30.0
# Messages that arrive at a time, each up to the limit of its size, of all senders and of one. Others wait, unread.
_ARRIVING, _ARRIVING_OF_ONE = 32, 16

# Seconds that a connection may be without a request. gRPC lets nobody in for one that is silent, so these must go soon;
# a sender is told before and connects again by itself.
_IDLE = 15.0
# Requests that one connection may have under way: more wait at the sender.
_STREAMS = 128

_Behaviour = Callable[[AsyncIterator[bytes], Any], Awaitable[bytes]]


class Calls(grpc.GenericRpcHandler):  # type: ignore[misc] # untyped in the library
    """Says who answers a request, before anything of it is read."""

    def __init__(self, receiving: Receiver, ready: Callable[[], Awaitable[str | None]]) -> None:
        """`ready`: why rows cannot be stored now; None when they can."""
        self._receiver = receiving
        self._ready = ready
        self._arriving = asyncio.Semaphore(_ARRIVING)
        # Names are those of the operator's file: there are no more.
        self._arriving_of = defaultdict[str, asyncio.Semaphore](lambda: asyncio.Semaphore(_ARRIVING_OF_ONE))

    def service(self, handler_call_details: Any) -> Any:
        """The handler of a request: the last moment before its message is read."""
        signal = _METHODS.get(handler_call_details.method)
        if signal is None:
            return _handler(self._health) if handler_call_details.method == _HEALTH else None
        authorization = [value for name, value in handler_call_details.invocation_metadata if name == "authorization"]
        try:
            sender = self._receiver.check(authorization)
        except Refused as refused:
            return _handler(_refusal(refused))
        return _handler(self._export(signal, sender))

    def _export(self, signal: Signal, sender: Sender) -> _Behaviour:
        async def export(messages: AsyncIterator[bytes], context: Any) -> bytes:
            with self._receiver.in_hand(sender):
                try:
                    async with asyncio.timeout(_ARRIVAL), self._arriving_of[sender.name], self._arriving:
                        body = await anext(messages, b"")
                    return responses.taken(signal, await self._receiver.take(signal, body, sender))
                except TimeoutError:
                    await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "the message did not arrive in time")
                except Refused as refused:
                    await _abort(context, refused)
            raise AssertionError  # abort raises

        return export

    async def _health(self, _messages: AsyncIterator[bytes], _context: Any) -> bytes:
        return _SERVING if await self._ready() is None else _NOT_SERVING


def server(calls: Calls, settings: SinkSettings, address: str, *, shared: bool) -> tuple[grpc.aio.Server, int]:
    """A server that listens there, and its port. `shared`: with the other workers. Raises RuntimeError."""
    # It logs a traceback for each message that it refuses as too large.
    logging.getLogger("grpc._cython.cygrpc").setLevel(logging.CRITICAL)
    made = grpc.aio.server(
        options=[
            ("grpc.so_reuseport", int(shared)),
            ("grpc.max_receive_message_length", settings.sink_max_message_bytes),
            ("grpc.per_message_decompression", 0),
            ("grpc.max_metadata_size", 16_384),
            # gRPC closes what is beyond the limit at once, whoever it is; what is silent goes soon to make room.
            ("grpc.max_allowed_incoming_connections", connections.most()),
            ("grpc.server_handshake_timeout_ms", round(connections.HANDSHAKE * 1000)),
            ("grpc.http2.settings_timeout", round(connections.HANDSHAKE * 1000)),
            ("grpc.max_connection_idle_ms", round(_IDLE * 1000)),
            ("grpc.keepalive_time_ms", round(connections.IDLE * 1000)),
            ("grpc.keepalive_timeout_ms", round(connections.HEADERS * 1000)),
            ("grpc.max_concurrent_streams", _STREAMS),
        ]
    )
    made.add_generic_rpc_handlers((calls,))
    if settings.sink_tls_cert and settings.sink_tls_key:
        pair = (settings.sink_tls_key.read_bytes(), settings.sink_tls_cert.read_bytes())
        ca = settings.sink_tls_client_ca
        credentials = grpc.ssl_server_credentials(
            [pair], ca.read_bytes() if ca else None, require_client_auth=ca is not None
        )
        return made, made.add_secure_port(address, credentials)
    return made, made.add_insecure_port(address)


def _handler(behaviour: _Behaviour) -> Any:
    # As if the request were a stream: its one message is read when we ask for it.
    return grpc.stream_unary_rpc_method_handler(behaviour)


def _refusal(refused: Refused) -> _Behaviour:
    async def refuse(_messages: AsyncIterator[bytes], context: Any) -> bytes:
        await _abort(context, refused)
        raise AssertionError  # abort raises

    return refuse


async def _abort(context: Any, refused: Refused) -> None:
    code, again = _CODES[type(refused)]
    if not again:
        await context.abort(code, str(refused))
    status = responses.status(code.value[0], str(refused), again)
    await context.abort(code, str(refused), (("grpc-status-details-bin", status),))


_CODES: dict[type[Refused], tuple[grpc.StatusCode, int]] = {
    receiver.Unauthenticated: (grpc.StatusCode.UNAUTHENTICATED, 0),
    receiver.Bad: (grpc.StatusCode.INVALID_ARGUMENT, 0),
    receiver.Oversized: (grpc.StatusCode.RESOURCE_EXHAUSTED, 0),
    receiver.Busy: (grpc.StatusCode.RESOURCE_EXHAUSTED, receiver.AGAIN_WHEN_BUSY),
    receiver.Away: (grpc.StatusCode.UNAVAILABLE, receiver.AGAIN_WHEN_AWAY),
}

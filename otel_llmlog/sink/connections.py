"""Connections of the HTTP server: how many there are, how long each may be silent, and which one has to go for another.

Always true: there are fewer connections than the process may have open files; where there would be too many, the one
goes that has been silent longest, of the same address if that has too many; so nobody who sends a request soon can be
kept out by any who do not. A request under way is never cut off for another; how many there are is limited elsewhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
import socket
import ssl
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol

from otel_llmlog.stats import Stats

# Seconds that a handshake of TLS and the headers of a request may take.
HANDSHAKE, HEADERS = 5.0, 10.0
# Seconds that a connection may wait for its next request: longer than senders' usual pauses.
IDLE = 60.0
# Seconds that a sender may take nothing of an answer, and that a connection may take to end.
_STALLED, _ENDING = 30.0, 5.0
# Seconds between two looks at them all, and before the next try when none could be accepted.
_LOOK, _PAUSE = 1.0, 0.1
# Files that a process needs for itself: libraries, logs, the database.
_OWN_FILES = 128
# More of them than this help nobody: requests in hand are far fewer.
_MOST = 8192


def most() -> int:
    """Connections that each of the two servers may have, by the limit of open files."""
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return _MOST if files == resource.RLIM_INFINITY else max(16, min(_MOST, (files - _OWN_FILES) // 2))


class Connection:
    """One that was accepted."""

    __slots__ = ("address", "end", "patience", "since")

    def __init__(self, address: str) -> None:
        self.address = address
        self.end: Callable[[], object] = lambda: None
        """Cuts it off."""
        self.since = 0.0
        self.patience: float | None = None
        """Seconds for which something is waited for, from `since` on; None while a request is under way."""


class Connections:
    """All of one server. For one event loop."""

    def __init__(self, limit: int, stats: Stats) -> None:
        self._limit = limit
        # Behind a proxy all senders have one address, so half of all may.
        self._limit_of_one = max(1, limit // 2)
        self._stats = stats
        self._all: set[Connection] = set()
        self._of: Counter[str] = Counter()
        # Those that are silent, the longest so first.
        self._silent: dict[Connection, None] = {}

    def enter(self, connection: Connection) -> None:
        """One more; another may have to go. Raises ConnectionRefusedError where all have requests under way."""
        crowded = self._of[connection.address] >= self._limit_of_one
        if crowded or len(self._all) >= self._limit:
            gone = next((one for one in self._silent if not crowded or one.address == connection.address), None)
            self._stats.count("sink.connections.cut_off" if gone else "sink.connections.refused")
            self._stats.warn(
                "connections",
                f"more than {self._limit_of_one if crowded else self._limit} connections"
                f"{' of one address' if crowded else ''}; those that send nothing are closed for others",
            )
            if gone is None:
                raise ConnectionRefusedError
            self.leave(gone)
            gone.end()
        self._all.add(connection)
        self._of[connection.address] += 1

    def leave(self, connection: Connection) -> None:
        """It has ended."""
        if connection in self._all:
            self._all.discard(connection)
            self._silent.pop(connection, None)
            self._of[connection.address] -= 1
            if not self._of[connection.address]:
                del self._of[connection.address]

    def waits(self, connection: Connection, patience: float) -> None:
        """Something is waited for from now on, for so many seconds."""
        if connection in self._all:
            self._silent.pop(connection, None)
            self._silent[connection] = None
            connection.since, connection.patience = time.monotonic(), patience

    def works(self, connection: Connection) -> None:
        """A request is under way."""
        self._silent.pop(connection, None)
        connection.patience = None

    def end_the_silent(self) -> None:
        """Cut off those that were waited for long enough."""
        now = time.monotonic()
        for one in [one for one in self._silent if one.patience is not None and now - one.since > one.patience]:
            self._stats.count("sink.connections.timed_out")
            self.leave(one)
            one.end()


class Protocol(H11Protocol):
    """uvicorn's, which waits for headers without end, and for a sender that takes no answer."""

    def __init__(self, door: Door, connection: Connection, **given: Any) -> None:
        super().__init__(**given)
        self._door = door
        self._connection = connection
        self._in_headers = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn's
        super().connection_made(transport)
        self._door.connections.waits(self._connection, HEADERS)
        self._in_headers = True

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._door.connections.leave(self._connection)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._look()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._look()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._door.connections.waits(self._connection, _STALLED)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._door.connections.works(self._connection)
        self._look()

    def _look(self) -> None:
        """See what is waited for now."""
        connections = self._door.connections
        if self.transport.is_closing():
            connections.waits(self._connection, _ENDING)
        elif self.cycle is not None and not self.cycle.response_complete:
            self._in_headers = False
            connections.works(self._connection)
        elif bool(self.conn.trailing_data[0]) != self._in_headers or self._connection.patience is None:
            # From the first byte of the headers on they have so many seconds, however slowly the others come.
            self._in_headers = not self._in_headers
            connections.waits(self._connection, HEADERS if self._in_headers else IDLE)


class Door:
    """Accepts connections until it is shut."""

    def __init__(
        self, connections: Connections, make: Callable[..., asyncio.Protocol], tls: ssl.SSLContext | None
    ) -> None:
        self.connections = connections
        self._make = make
        self._tls = tls
        self._loop = asyncio.get_running_loop()
        self._greeting: set[asyncio.Task[None]] = set()

    async def stand_open(self, listening: socket.socket, stats: Stats) -> None:
        """Until it is cancelled."""
        listening.setblocking(False)
        listening.listen(2048)
        looking = asyncio.create_task(self._look())
        try:
            while True:
                try:
                    accepted, address = await self._loop.sock_accept(listening)
                except OSError as error:
                    # Too many open files, say: what is silent may end meanwhile.
                    stats.warn("accept", f"no connection can be accepted: {error.strerror or error}")
                    stats.count("sink.connections.failed")
                    await asyncio.sleep(_PAUSE)
                else:
                    self._let_in(accepted, str(address[0]))
        finally:
            looking.cancel()
            for task in self._greeting:
                task.cancel()
            listening.close()

    def _let_in(self, accepted: socket.socket, address: str) -> None:
        connection = Connection(address)
        try:
            self.connections.enter(connection)
        except ConnectionRefusedError:
            accepted.close()
            return
        self.connections.waits(connection, HANDSHAKE)
        task = self._loop.create_task(self._greet(accepted, connection))
        self._greeting.add(task)
        task.add_done_callback(self._greeting.discard)
        # Whoever has the socket by then sees its end: closing it ourselves would give its number to another.
        connection.end = lambda: _hang_up(accepted)

    async def _greet(self, accepted: socket.socket, connection: Connection) -> None:
        protocol = self._make(self, connection)
        try:
            transport, _ = await self._loop.connect_accepted_socket(
                lambda: protocol,
                accepted,
                ssl=self._tls,
                ssl_handshake_timeout=HANDSHAKE if self._tls else None,
                ssl_shutdown_timeout=_ENDING if self._tls else None,
            )
        except OSError:
            self.connections.leave(connection)  # it went, said no TLS, or had to go for another
        else:
            connection.end = transport.abort

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(_LOOK)
            with contextlib.suppress(Exception):  # a look that fails must not be the last one
                self.connections.end_the_silent()


def _hang_up(accepted: socket.socket) -> None:
    with contextlib.suppress(OSError):
        accepted.shutdown(socket.SHUT_RDWR)

"""One process that receives: both servers on one event loop, the writer beside it, and an orderly end.

Always true: on SIGTERM and SIGINT nothing new is taken, what is in hand is stored and answered within
LLMLOG_SHUTDOWN_TIMEOUT, and the process ends with 0.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from typing import NamedTuple

import uvicorn

from otel_llmlog import destination, sdk
from otel_llmlog.config import Settings
from otel_llmlog.errors import ConfigError, LLMLogError
from otel_llmlog.pipeline import report
from otel_llmlog.sink import connections, grpc_server, http_app, metrics
from otel_llmlog.sink.commit import Committer
from otel_llmlog.sink.intake import Intake
from otel_llmlog.sink.receiver import Receiver
from otel_llmlog.stats import Stats

_VERSION = version("otel-llmlog")
# Seconds for which an answer of the database to "are you there?" holds.
_FRESH = 2.0
# Seconds between two reports of the numbers.
_TICK = 5.0
# Seconds ahead of the clock that a call may start. Beyond, a sender's clock is wrong, or it means harm: its rows would
# stand where partitions are to be made.
_MOST_AHEAD = 86_400.0
_ENDING = (signal.SIGTERM, signal.SIGINT)


class Ports(NamedTuple):
    """Where the two servers listen."""

    grpc: int
    http: int


async def serve(settings: Settings, ports: Ports, announce: Callable[[Ports], None], supervisor: int | None) -> None:
    """Receive until a signal ends it. Raises ConfigError.

    `supervisor`: a pipe that ends when the supervisor does. Other workers listen on the same ports then.
    """
    running = _Running(settings)
    await running.start(ports, shared=supervisor is not None)
    if supervisor is not None:
        running.stop_with(supervisor)
    announce(running.ports)
    await running.until_stopped()


class _OnceAMinute(logging.Filter):
    """Of a message that is repeated, one line a minute: whoever sends rubbish must not fill the log."""

    def __init__(self, stats: Stats) -> None:
        super().__init__()
        self._stats = stats

    def filter(self, record: logging.LogRecord) -> bool:
        said = str(record.exc_info[1]) if record.exc_info else ""
        kind = f"{record.name}.{record.msg}"
        self._stats.warn(kind, f"{record.name}: {str(record.msg).strip()} {said}".strip())
        return False


class _Http(uvicorn.Server):
    """Takes connections from a door of ours: uvicorn's own accepts without a limit, and logs each failure to."""

    def __init__(self, config: uvicorn.Config, stats: Stats) -> None:
        super().__init__(config)
        self._stats = stats
        self.listens = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup([])

        def make(door: connections.Door, connection: connections.Connection) -> connections.Protocol:
            given = {"config": self.config, "server_state": self.server_state, "app_state": self.lifespan.state}
            return connections.Protocol(door, connection, **given)

        door = connections.Door(connections.Connections(connections.most(), self._stats), make, self.config.ssl)
        self._doors = [asyncio.create_task(door.stand_open(one, self._stats)) for one in sockets or ()]
        self.listens.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for door in self._doors:
            door.cancel()
        await asyncio.gather(*self._doors, return_exceptions=True)
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are ours to handle: both servers stop together."""
        yield


class _Running:
    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.stats = Stats()
        sdk.ensure_provider(_VERSION, self.stats)
        exporter = destination.exporter(settings, self.stats, lambda: None, most_ahead=_MOST_AHEAD)
        if exporter is None:
            raise ConfigError("no database to store in: set LLMLOG_DATABASE_URL")
        self._fatal: ConfigError | None = None
        self._stop = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._committer = Committer(exporter, self.stats, self._on_fatal)
        self._receiver = Receiver(Intake(settings), self._committer, settings.sink, self.stats)
        self._asked_at = -_FRESH
        self._answered: str | None = None
        self._asking = asyncio.Lock()
        report.observe(_VERSION, self.stats, lambda: 0, lambda: 0)
        metrics.observe(_VERSION, self.stats, self._receiver.pending)

    def _on_fatal(self, error: ConfigError) -> None:
        self._fatal = error
        self._loop.call_soon_threadsafe(self._stop.set)

    async def start(self, ports: Ports, *, shared: bool) -> None:
        """Listen. Raises ConfigError when a port is taken or a certificate is none."""
        sink = self._settings.sink
        host = f"[{sink.sink_host}]" if ":" in sink.sink_host else sink.sink_host
        calls = grpc_server.Calls(self._receiver, self.ready)
        try:
            self._grpc, grpc_port = grpc_server.server(calls, sink, f"{host}:{ports.grpc}", shared=shared)
        except RuntimeError:
            raise ConfigError(f"cannot listen on {host}:{ports.grpc}: LLMLOG_SINK_GRPC_PORT is taken") from None
        try:
            listening = bound(sink.sink_host, ports.http, shared=shared)
        except OSError as error:
            raise ConfigError(f"cannot listen on {host}:{ports.http}: {error.strerror or error}") from None
        self.ports = Ports(grpc_port, listening.getsockname()[1])
        app = http_app.App(self._receiver, sink, self.ready)
        self._http = _Http(_http_config(app, self._settings), self.stats)
        self._committer.start()
        await self._grpc.start()
        self._serving = asyncio.create_task(self._http.serve(sockets=[listening]))
        await self._http.listens.wait()
        for name in ("uvicorn.error", "asyncio"):
            logging.getLogger(name).addFilter(_OnceAMinute(self.stats))
        for number in _ENDING:
            self._loop.add_signal_handler(number, self._stop.set)

    def stop_with(self, pipe: int) -> None:
        """Stop when whoever holds the other end of a pipe is gone."""

        def gone() -> None:
            self._loop.remove_reader(pipe)
            self._stop.set()

        self._loop.add_reader(pipe, gone)

    async def until_stopped(self) -> None:
        """Return after a signal, once what was in hand is answered. Raises ConfigError."""
        directory = destination.spool_directory(self._settings)
        while not self._stop.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), _TICK)
            report.write(directory, self.stats, 0)
        patience = self._settings.pipeline.shutdown_timeout
        deadline = time.monotonic() + patience
        self._http.should_exit = True
        await asyncio.gather(self._grpc.stop(patience), self._serving)
        await asyncio.to_thread(self._committer.close, max(0.1, deadline - time.monotonic()))
        self._receiver.close()
        # All is said and done: one who is impatient and signals once more must not make a failure of it.
        signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
        for number in _ENDING:
            self._loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_IGN)
        report.write(directory, self.stats, 0)
        if self._fatal is not None:
            raise self._fatal

    async def ready(self) -> str | None:
        """Why rows cannot be stored now; None when they can. The database is asked, at most every two seconds."""
        if self._stop.is_set():
            return "the sink is stopping"
        if (away := self._committer.away()) is not None:
            return away
        async with self._asking:
            if time.monotonic() - self._asked_at > _FRESH:
                self._answered = await asyncio.to_thread(_ask, self._settings)
                self._asked_at = time.monotonic()
        return self._answered


def _ask(settings: Settings) -> str | None:
    from otel_llmlog.store import connect

    try:
        connect.ping(destination.database_url(settings), connect_timeout=settings.store.connect_timeout)
    except LLMLogError as error:
        return str(error)
    return None


def bound(host: str, port: int, *, shared: bool) -> socket.socket:
    """A socket that is bound there. `shared`: other processes may be, too. Raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        made.bind((host, port))
    except OSError:
        made.close()
        raise
    return made


def _http_config(app: http_app.App, settings: Settings) -> uvicorn.Config:
    sink = settings.sink
    config = uvicorn.Config(
        app,
        http="h11",
        timeout_keep_alive=round(connections.IDLE),
        ws="none",
        lifespan="off",
        loop="asyncio",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=round(settings.pipeline.shutdown_timeout),
        ssl_certfile=sink.sink_tls_cert,
        ssl_keyfile=sink.sink_tls_key,
        ssl_ca_certs=str(sink.sink_tls_client_ca) if sink.sink_tls_client_ca else None,
        ssl_cert_reqs=ssl.CERT_REQUIRED if sink.sink_tls_client_ca else ssl.CERT_NONE,
    )
    for name in ("uvicorn.error", "asyncio"):
        logging.getLogger(name).setLevel(logging.WARNING)
    try:
        config.load()
    except (ssl.SSLError, OSError) as error:
        raise ConfigError(f"LLMLOG_SINK_TLS_CERT, _KEY or _CLIENT_CA cannot be read: {type(error).__name__}") from None
    return config

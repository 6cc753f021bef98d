"""`--workers N`: processes that listen on the same ports, and one that looks after them.

Always true: gRPC and the database are first touched after the fork, since neither survives one; a worker that dies is
replaced, ever more slowly if they keep dying; when the supervisor is told to end, it ends after its workers; when it is
killed, they end by themselves.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import select
import signal
import socket
import sys
import time
from collections.abc import Callable

from otel_llmlog.config import Settings
from otel_llmlog.errors import ConfigError, LLMLogError
from otel_llmlog.sink import guard

# Seconds before a worker that died is replaced: the first time, and at most. One that lived this long begins anew.
_FIRST_PAUSE, _LAST_PAUSE = 0.1, 10.0
_LIVED = 30.0
# Seconds beyond LLMLOG_SHUTDOWN_TIMEOUT after which a worker that does not end is killed.
_PATIENCE = 5.0
# Objects after which the garbage collector looks for circles. Spans have none: at the usual 700 it takes a tenth of the
# time for nothing. Requests do have some, and hold their bytes till then: higher saves no more, and takes memory.
_GARBAGE = 10_000
# Exit code of a process that a setting stopped: the same would stop another one.
_MISCONFIGURED = 2

Announce = Callable[[int, int], None]


def run(settings: Settings, announce: Announce) -> int:
    """Receive until a signal ends it; answers the exit code. `announce` hears the ports. Raises ConfigError."""
    guard.check(settings)
    sink = settings.sink
    if sink.sink_workers == 1:
        _serve(settings, sink.sink_grpc_port, sink.sink_http_port, announce, None)
        return 0
    with contextlib.ExitStack() as held:
        # Bound, never listening: so the ports stay ours while workers come and go.
        ports = [_reserved(held, sink.sink_host, port) for port in (sink.sink_grpc_port, sink.sink_http_port)]
        announce(*ports)
        return _Supervisor(settings, *ports).run()


def _serve(settings: Settings, grpc_port: int, http_port: int, announce: Announce, supervisor: int | None) -> None:
    # Here, after any fork.
    from otel_llmlog.sink import serving

    gc.freeze()
    gc.set_threshold(_GARBAGE, *gc.get_threshold()[1:])
    ports = serving.Ports(grpc_port, http_port)
    asyncio.run(serving.serve(settings, ports, lambda found: announce(*found), supervisor))


def _reserved(held: contextlib.ExitStack, host: str, port: int) -> int:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        if port:
            # Alone first: with SO_REUSEPORT two programs could share a port without knowing.
            with socket.socket(family, socket.SOCK_STREAM) as alone:
                alone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                alone.bind((host, port))
        reserved = held.enter_context(socket.socket(family, socket.SOCK_STREAM))
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        reserved.bind((host, port))
    except OSError as error:
        raise ConfigError(f"cannot listen on {host}:{port}: {error.strerror or error}") from None
    return int(reserved.getsockname()[1])


class _Supervisor:
    def __init__(self, settings: Settings, grpc_port: int, http_port: int) -> None:
        self._settings = settings
        self._ports = grpc_port, http_port
        self._began: dict[int, float] = {}  # by process id
        self._pause = _FIRST_PAUSE
        self._stopping = False
        self._code = 0
        # Nothing is ever written: a worker that reads its end is this process's.
        self._end, self._own_end = os.pipe()

    def run(self) -> int:
        """Keep the workers running until a signal comes; answers the exit code."""
        woken, wake = socket.socketpair()
        for end in (woken, wake):
            end.setblocking(False)
        signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._stop)
        signal.signal(signal.SIGCHLD, lambda *_: None)  # so that it wakes us
        wanted, start_at = self._settings.sink.sink_workers, 0.0
        while True:
            while not self._stopping and len(self._began) < wanted and time.monotonic() >= start_at:
                self._fork()
            missing = not self._stopping and len(self._began) < wanted
            pause = max(0.0, start_at - time.monotonic()) if missing else 1.0
            if select.select([woken], [], [], pause)[0]:
                with contextlib.suppress(BlockingIOError):
                    woken.recv(4096)
            if self._reaped():
                start_at = time.monotonic() + self._pause
                self._pause = min(2 * self._pause, _LAST_PAUSE)
            if self._stopping:
                if not self._began:
                    return self._code
                if time.monotonic() > self._deadline:
                    self._signal(signal.SIGKILL)

    def _stop(self, *_: object) -> None:
        if not self._stopping:
            self._stopping = True
            self._deadline = time.monotonic() + self._settings.pipeline.shutdown_timeout + _PATIENCE
            self._signal(signal.SIGTERM)

    def _signal(self, number: signal.Signals) -> None:
        for pid in list(self._began):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def _fork(self) -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid == 0:
            os._exit(self._work())
        self._began[pid] = time.monotonic()

    def _work(self) -> int:
        os.close(self._own_end)
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        try:
            _serve(self._settings, *self._ports, lambda *_: None, self._end)
        except ConfigError as error:
            sys.stderr.write(f"llmlog: {error}\n")
            return _MISCONFIGURED
        except (LLMLogError, KeyboardInterrupt) as error:
            sys.stderr.write(f"llmlog: {error}\n")
            return 1
        finally:
            sys.stderr.flush()
        return 0

    def _reaped(self) -> bool:
        """Whether a worker died that must be replaced."""
        died = False
        while self._began:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if not pid:
                break
            began = self._began.pop(pid, None)
            if began is None or self._stopping:
                continue
            code = os.waitstatus_to_exitcode(status)
            if code == _MISCONFIGURED:
                self._code = 1
                self._stop()
                continue
            if time.monotonic() - began > _LIVED:
                self._pause = _FIRST_PAUSE
            sys.stderr.write(f"llmlog sink: worker {pid} ended with {code}; another takes its place\n")
            died = True
        return died

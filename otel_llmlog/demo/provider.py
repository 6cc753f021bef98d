"""A provider on localhost that speaks the OpenAI and Anthropic wire formats, and breaks them on request.

    with LocalProvider() as provider:
        client = OpenAI(base_url=f"{provider.url}/v1", api_key="any")

`python -m otel_llmlog.demo.provider [--port N] [--log FILE]` prints its URL and runs until it is told to
stop. Always true: it listens on loopback only; every parsed request is in `requests`; what it replies
follows from the request and from how many came before.

**Paths**, after any prefix: `chat/completions`, `completions`, `responses`, `GET responses/{id}`,
`embeddings`, `v1/messages`, `v1/messages/count_tokens`; `GET /healthz`. Anything else is a 404 in OpenAI's
shape. `/openai/deployments/{d}/…` adds Azure's ways, `/openai/v1/…` Groq's, `/api/v1/…` OpenRouter's.

**Usage**: 11 input and 7 output tokens, unless the last user text holds `[usage: input=120 output=40 …]` or
the header `x-usage: input=120 output=40 …` says other. Names: input, output, cached, cache_write (all of
it), cache_write_1h (the part kept an hour), reasoning, audio, audio_output, accepted, rejected, web_search,
cost. Input includes what was cached, for Anthropic too, so its `input_tokens` is input - cached - cache_write.

**Scenario**: header `x-scenario: NAME key=value …`, else `[scenario: NAME key=value …]` in the last user text
(or tool result), else plain. A value with spaces goes in double quotes. `after` counts events, default 2.

| name | does |
|---|---|
| plain | replies |
| echo | replies with the last user text |
| tools calls=1 | calls the request's tools in turn |
| incomplete | ends for length: `length`, `response.incomplete`, `max_tokens` |
| litellm_proxy | plain with a LiteLLM proxy's `x-litellm-*` headers; cost=, model_id=, group= |
| error status=500 type= code= param= message= | an error reply. times=N key=K: the first N requests with that key fail, the rest are plain. retry_after=S (default: 0.02 s on 429 and 5xx) |
| error_in_stream after=2 | an error after 200 and some events; status= type= code= message=; style=failed is `response.failed`, style=x_groq an error inside the last chunk. Without stream: as error |
| invalid_json after=2 | truncated JSON; in a stream, one event |
| not_json | an HTML page with 200; status= |
| no_terminator keep=N | a stream ends in order but too soon: N events, default all but the last |
| cut after=2 how=reset | the connection closes inside a chunk (plain: inside the body); how=reset: with a reset |
| stall after=2 seconds=10 | says nothing for a while, then goes on |
| slow seconds=1 | the same before the headers |
| nul, surrogate | a reply text with U+0000, with a lone surrogate |
| nan value=nan field=output | a usage number gone wrong: nan, inf, -inf, negative, huge, bigint, string, digits, float, bool, null, list; in input, output, total or all |
| huge bytes=1000000 | that much reply text |
| nest depth=500 | an extra field of nested arrays in front of the usage |
| empty | 200 and no body |
| raw status=200 | the header x-raw-body, base64, as the body; type in x-raw-content-type |

**Any scenario** also takes these, as header or parameter (`x-chunk-bytes: 7`, `chunk_bytes=7`):
x-chunk-bytes (body in HTTP chunks of N bytes, across events), x-encoding (gzip, deflate, br, zstd; flushed
after each event), x-events (content deltas, default 5), x-event-delay-ms, x-response-id (param `id`),
x-response-model (`model`), x-service-tier (`tier`). Pauses end after 30 s at most.
"""  # noqa: E501 - a table row is one line

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TextIO

from otel_llmlog.demo.answers import Answers, Route
from otel_llmlog.demo.framing import MAX_HEADER_BYTES, Line, Request, deliver, read_request, read_shape
from otel_llmlog.demo.replies import Call
from otel_llmlog.demo.scenarios import Ask

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

# Requests kept for reading. At 1 KB a request this is 100 MB.
DEFAULT_KEEP_REQUESTS = 100_000
# A load test opens all its connections at once.
BACKLOG = 1_024
START_SECONDS = 10.0


@dataclass(slots=True)
class ServedRequest:
    """One request and what became of it. `ended` is None while it runs and is set last."""

    id: str
    """The id in the reply; where the reply has none, the request id."""
    request_id: str
    """What the header `x-request-id` or `request-id` of the reply says."""
    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    started: float
    scenario: str = "plain"
    model: str | None = None
    status: int = 0
    sent_bytes: int = 0
    """Body bytes as the client's raw iterator would see them: content-encoded, without HTTP framing."""
    completed: bool = False
    """All that was to be sent was sent."""
    outcome: str = "running"
    """running, complete, client_gone, cut or stopped."""
    ended: float | None = None


class _Connection(asyncio.StreamReaderProtocol):
    """A stream that tells when its client has left, also while nothing is read from it."""

    def __init__(self, serve: Callable[[Line], Any], loop: asyncio.AbstractEventLoop) -> None:
        self._gone = asyncio.Event()

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await serve(Line(reader, writer, self._gone))

        super().__init__(asyncio.StreamReader(limit=MAX_HEADER_BYTES, loop=loop), connected, loop=loop)

    def eof_received(self) -> bool | None:
        self._gone.set()
        return super().eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._gone.set()
        super().connection_lost(exc)


class LocalProvider:
    """Runs in a background thread with its own event loop. Context manager."""

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 0,
        *,
        log_path: Path | None = None,
        keep_requests: int = DEFAULT_KEEP_REQUESTS,
        routes: Sequence[Route] = (),
    ) -> None:
        """`routes`: APIs of more wire formats, looked at before those that are built in."""
        if not host.startswith("127."):
            raise ValueError(f"host must be a loopback address, found {host}")
        self._host = host
        self._port = port
        self._log_path = log_path
        self._keep_requests = keep_requests
        self._answers = Answers(routes)
        self._log: TextIO | None = None
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None
        self._ready = threading.Event()
        self._broken: BaseException | None = None
        self._changed = threading.Condition()
        self._number = 0
        self.requests: list[ServedRequest] = []
        """What was served, oldest first; the oldest tenth goes when `keep_requests` is passed."""

    # --- life

    @property
    def url(self) -> str:
        return f"http://{self._host}:{self._port}"

    def start(self) -> Self:
        if self._thread is not None:
            raise RuntimeError("already started")
        self._ready.clear()
        self._thread = threading.Thread(target=self._run, name="local-provider", daemon=True)
        self._thread.start()
        if not self._ready.wait(START_SECONDS):
            raise RuntimeError(f"not listening after {START_SECONDS:g} s")
        if self._broken is not None:
            self._thread.join()
            self._thread, broken, self._broken = None, self._broken, None
            raise broken
        return self

    def stop(self) -> None:
        """Close the socket and every connection. Requests still running end as `stopped`."""
        thread, self._thread = self._thread, None
        if thread is None:
            return
        assert self._loop is not None
        assert self._stopping is not None
        self._loop.call_soon_threadsafe(self._stopping.set)
        thread.join()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def wait_ended(self, count: int = 1, seconds: float = 5.0) -> list[ServedRequest]:
        """The kept requests, once `count` of them have ended: the client can be ahead of the server's books."""

        def enough() -> bool:
            return sum(request.ended is not None for request in self.requests) >= count

        with self._changed:
            if not self._changed.wait_for(enough, seconds):
                raise TimeoutError(f"fewer than {count} requests ended in {seconds:g} s")
        return list(self.requests)

    def clear(self) -> None:
        """Forget what was served."""
        self.requests.clear()

    def _run(self) -> None:
        try:
            asyncio.run(self._main())
        except BaseException as error:
            # start() raises it in the caller's thread.
            self._broken = error
            self._ready.set()

    async def _main(self) -> None:
        loop = asyncio.get_running_loop()
        self._loop = loop
        self._stopping = asyncio.Event()
        server = await loop.create_server(
            lambda: _Connection(self._serve, loop), self._host, self._port, backlog=BACKLOG
        )
        self._port = server.sockets[0].getsockname()[1]
        if self._log_path is not None:
            # Line buffered: whoever reads it while we run sees whole lines.
            self._log = self._log_path.open("a", buffering=1, encoding="utf-8")
        self._ready.set()
        try:
            await self._stopping.wait()
        finally:
            server.close()
            tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            if self._log is not None:
                self._log.close()
                self._log = None

    # --- one connection, one request

    async def _serve(self, line: Line) -> None:
        try:
            while (request := await read_request(line)) is not None:
                if not await self._answer(request, line):
                    break
        except (ConnectionError, EOFError, ValueError, asyncio.LimitOverrunError):
            # The client left, or sent what is not HTTP: there is nobody to tell.
            pass
        except asyncio.CancelledError:
            # stop() was called; a cancelled connection task would be logged as an error.
            pass
        finally:
            line.writer.close()

    async def _answer(self, request: Request, line: Line) -> bool:
        """Serve one request. True: the connection can take another."""
        self._number += 1
        call = Call(self._number, Ask(headers=request.headers), {}, request.path.partition("?")[0], int(time.time()))
        served = ServedRequest(
            id=f"req_{self._number:012d}",
            request_id=f"req_{self._number:012d}",
            method=request.method,
            path=request.path,
            headers=request.headers,
            body=request.body,
            started=time.monotonic(),
        )
        self._remember(served)
        keep = request.headers.get("connection", "").lower() != "close"
        try:
            call, reply, ask = self._answers.answer(call, request)
            if call.body:
                served.id, served.model, served.scenario = call.id, str(call.body["model"]), call.ask.scenario
            served.status = reply.status
            if reply.status >= 400:
                served.id = served.request_id
            if ask.scenario == "slow":
                await line.pause(ask.seconds("seconds", 1.0))
                if line.gone.is_set():
                    served.outcome = "client_gone"
                    return False

            def count(sent: int) -> None:
                served.sent_bytes = sent

            served.outcome = await deliver(reply, read_shape(ask), line, keep=keep, count=count)
            served.completed = served.outcome == "complete"
        except ConnectionError:
            served.outcome = "client_gone"
        except asyncio.CancelledError:
            served.outcome = "stopped"
            raise
        finally:
            self._finish(served)
        return keep and served.completed

    def _remember(self, served: ServedRequest) -> None:
        self.requests.append(served)
        if len(self.requests) > self._keep_requests:
            del self.requests[: max(1, self._keep_requests // 10)]

    def _finish(self, served: ServedRequest) -> None:
        with self._changed:
            served.ended = time.monotonic()
            self._changed.notify_all()
        if self._log is not None:
            entry = {
                "id": served.id,
                "request_id": served.request_id,
                "path": served.path,
                "model": served.model,
                "scenario": served.scenario,
                "status": served.status,
                "ended": served.outcome,
            }
            self._log.write(json.dumps(entry) + "\n")


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m otel_llmlog.demo.provider", description="Local LLM provider.")
    parser.add_argument("--port", type=int, default=0, help="0 lets the system choose (default)")
    parser.add_argument("--log", type=Path, help="file that gets one JSON line a request")
    options = parser.parse_args(argv)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    # Nobody can read `requests` from another process.
    with LocalProvider(port=options.port, log_path=options.log, keep_requests=100) as provider:
        sys.stdout.write(provider.url + "\n")
        sys.stdout.flush()
        stop.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())

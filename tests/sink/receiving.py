"""A real `llmlog sink` in a process of its own, and senders of OTLP."""

from __future__ import annotations

import gzip
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import grpc
import httpx
from google.protobuf import json_format
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from otel_llmlog.pipeline import otlp, otlp_logs
from otel_llmlog.pipeline.record import Record

LLMLOG = str(Path(sys.executable).parent / "llmlog")
TRACES = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
LOGS = "/opentelemetry.proto.collector.logs.v1.LogsService/Export"
METRICS = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export"
PROTOBUF, JSON = "application/x-protobuf", "application/json"


def environment(database_url: str, directory: Path, **settings: str) -> dict[str, str]:
    outside = {name: value for name, value in os.environ.items() if not name.startswith(("LLMLOG_", "OTEL_"))}
    own = {"LLMLOG_DATABASE_URL": database_url, "LLMLOG_SPOOL_DIR": str(directory)}
    return {**outside, **own, **{f"LLMLOG_{name.upper()}": value for name, value in settings.items()}}


class Sink:
    """Listens on free ports of loopback, which stay the same when it is started again."""

    def __init__(self, env: dict[str, str], *arguments: str, files: int | None = None) -> None:
        """`files`: how many the process may have open."""
        self._env = env
        self._limit = [] if files is None else ["sh", "-c", 'ulimit -n "$0" && exec "$@"', str(files)]
        self._arguments = arguments
        self._ports = ["0", "0"]
        self.start()

    def start(self) -> None:
        grpc_port, http_port = self._ports
        command = [*self._limit, LLMLOG, "sink", "--grpc-port", grpc_port, "--http-port", http_port, *self._arguments]
        self.process = subprocess.Popen(
            command, env=self._env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, bufsize=1
        )
        assert self.process.stdout is not None
        said = self.process.stdout.readline()
        found = re.search(r"gRPC on \w+://(\S+:(\d+)), OTLP/HTTP on (\S+:(\d+))", said)
        assert found, said or self.process.communicate()[1]
        self.grpc, self.http, self._ports = found[1], found[3], [found[2], found[4]]

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()

    def stop(self) -> tuple[int, str]:
        """SIGTERM; answers the exit code and what was written to stderr."""
        self.process.send_signal(signal.SIGTERM)
        said = self.process.communicate(timeout=40)[1]
        return self.process.returncode, said

    def wait_until_ready(self, **client: Any) -> None:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            try:
                if httpx.get(f"{self.http}/readyz", **client).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.02)
        raise AssertionError("the sink does not get ready")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.stop()


class Reply(NamedTuple):
    """What the sink said, whatever it was asked over: `code` is gRPC's name of the status."""

    code: str
    message: str = ""
    rejected: int = 0
    retry_after: float | None = None


def body(records: Sequence[Record]) -> bytes:
    """The records as the request that an app sends with LLMLOG_EXPORTER=otlp."""
    return (otlp_logs if records and records[0].kind == "log" else otlp).encode(records).SerializeToString()


def as_json(records: Sequence[Record]) -> bytes:
    """The same as OTLP/JSON: protobuf's mapping, but for ids, which are hex."""
    return in_json((otlp_logs if records and records[0].kind == "log" else otlp).encode(records))


def in_json(request: Any) -> bytes:
    """A request of OpenTelemetry's own classes as OTLP/JSON."""
    given = json_format.MessageToDict(request)

    def hexed(value: Any) -> Any:
        if isinstance(value, list):
            return [hexed(item) for item in value]
        if not isinstance(value, dict):
            return value
        import base64

        ids = {"traceId", "spanId", "parentSpanId"}
        return {name: base64.b64decode(item).hex() if name in ids else hexed(item) for name, item in value.items()}

    return json.dumps(hexed(given)).encode()


def over_http(
    sink: Sink, content: bytes, *, kind: str = PROTOBUF, path: str = "/v1/traces", headers: dict[str, str] | None = None
) -> httpx.Response:
    return httpx.post(sink.http + path, content=content, headers={"content-type": kind, **(headers or {})}, timeout=60)


def reply_of(response: httpx.Response, *, logs: bool = False) -> Reply:
    """An HTTP answer, its status in gRPC's words."""
    name = {200: "OK", 400: "INVALID_ARGUMENT", 401: "UNAUTHENTICATED", 413: "RESOURCE_EXHAUSTED",
            429: "RESOURCE_EXHAUSTED", 503: "UNAVAILABLE"}[response.status_code]  # fmt: skip
    again = response.headers.get("retry-after")
    if response.status_code != 200:
        status = Status.FromString(response.content)
        return Reply(name, status.message, 0, float(again) if again else None)
    partial = (ExportLogsServiceResponse if logs else ExportTraceServiceResponse).FromString(response.content)
    return Reply(name, *_partial(partial.partial_success))


def over_grpc(
    sink: Sink,
    content: bytes,
    *,
    method: str = TRACES,
    metadata: Sequence[tuple[str, str]] = (),
    credentials: grpc.ChannelCredentials | None = None,
    compression: grpc.Compression | None = None,
) -> Reply:
    options = [("grpc.max_send_message_length", -1)]
    target = sink.grpc
    channel = (
        grpc.insecure_channel(target, options, compression)
        if credentials is None
        else grpc.secure_channel(target, credentials, options, compression)
    )
    with channel:
        try:
            answer = channel.unary_unary(method)(content, timeout=60, metadata=metadata)
        except grpc.RpcError as error:
            return Reply(error.code().name, error.details(), 0, _retry_info(error))
    partial = (ExportLogsServiceResponse if method == LOGS else ExportTraceServiceResponse).FromString(answer)
    return Reply("OK", *_partial(partial.partial_success))


def _partial(partial: Any) -> tuple[str, int]:
    number = getattr(partial, "rejected_spans", 0) or getattr(partial, "rejected_log_records", 0)
    return partial.error_message, number


def _retry_info(error: Any) -> float | None:
    for name, value in error.trailing_metadata() or ():
        if name == "grpc-status-details-bin":
            for detail in Status.FromString(value).details:
                info = RetryInfo()
                if detail.Unpack(info):
                    return info.retry_delay.ToTimedelta().total_seconds()
    return None


def packed(content: bytes) -> bytes:
    return gzip.compress(content, 1)

"""The programs on the way from an app to its rows, as real processes: collector, Jaeger, Rotel, sink.

Each has ports of its own for as long as the test lasts, so that it can be killed and started again under the same
address. `start` returns when the program says that it is ready.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import sysconfig
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import pytest

ROOT = Path(__file__).parents[2]
CONFIGURATION = ROOT / "collector_config"
BACKENDS = ROOT / ".cache" / "backends"
OTELCOL = BACKENDS / "otelcol" / "otelcol"
KAFKA = BACKENDS / "kafka"
BIN = Path(sys.executable).parent
TOKEN = "token-of-the-tests"
# Seconds until a program that has not started never will.
_STARTED = 120.0


def jaeger() -> Path:
    """The one that `make backends` built."""
    return next(iter(sorted(BACKENDS.glob("jaeger-*"))), BACKENDS / "jaeger")


def need_backends() -> None:
    """Skip the test where collector and Jaeger have not been built; in CI that is a failure."""
    if OTELCOL.exists() and jaeger().exists():
        return
    if os.environ.get("CI") == "true":
        pytest.fail("there is no collector or no Jaeger: `make backends` comes first", pytrace=False)
    pytest.skip("needs a real collector and Jaeger: make backends (with Go)")


def need_kafka() -> None:
    """The same for Kafka, which needs Java and not Go."""
    need_backends()
    if KAFKA.is_dir():
        return
    if os.environ.get("CI") == "true":
        pytest.fail("there is no Kafka: `make backends` comes first", pytrace=False)
    pytest.skip("needs a real Kafka: make backends (with Maven)")


def free_ports(number: int) -> list[int]:
    """Ports that nobody listens on now."""
    sockets = [socket.socket() for _ in range(number)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def clean(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The environment without settings of whoever runs the tests."""
    prefixes = ("LLMLOG_", "OTEL_", "OTELCOL_", "JAEGER_", "ROTEL_", "KAFKA_")
    return {name: value for name, value in environ.items() if not name.startswith(prefixes)}


def get(url: str, timeout: float = 5.0) -> tuple[int, bytes]:
    """Status and body of a page; 0 when nobody answers."""
    try:
        with urllib.request.urlopen(url, timeout=timeout) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()
    except OSError:
        return 0, b""


class Program:
    """A process that listens. `log` has what it says."""

    def __init__(self, command: Sequence[str | Path], environment: Mapping[str, str], health: str, log: Path) -> None:
        self._command = [str(part) for part in command]
        self._environment = {**clean(), **environment}
        self._health = health
        self.log = log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Self:
        self.launch()
        self.wait_until_ready()
        return self

    def launch(self) -> None:
        with self.log.open("ab") as out:
            self._process = subprocess.Popen(
                self._command, env=self._environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out
            )

    def wait_until_ready(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + _STARTED
        while get(self._health)[0] != 200:
            assert self._process.poll() is None, self.log.read_text()[-2000:]
            assert time.monotonic() < deadline, self.log.read_text()[-2000:]
            time.sleep(0.02)

    def kill(self) -> None:
        """kill -9, and gone."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(30)

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(30)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(30)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


class Sink(Program):
    """`llmlog sink`."""

    def __init__(self, database_url: str, directory: Path, **settings: str) -> None:
        self.grpc, self.http = free_ports(2)
        super().__init__(
            [BIN / "llmlog", "sink"],
            {
                "LLMLOG_DATABASE_URL": database_url,
                "LLMLOG_SPOOL_DIR": str(directory / "sink-spool"),
                "LLMLOG_SINK_GRPC_PORT": str(self.grpc),
                "LLMLOG_SINK_HTTP_PORT": str(self.http),
                "LLMLOG_SINK_TOKEN": TOKEN,
                **settings,
            },
            f"http://127.0.0.1:{self.http}/readyz",
            directory / "sink.log",
        )


class Jaeger(Program):
    """Jaeger with our configuration; its query API."""

    def __init__(self, directory: Path) -> None:
        self.otlp, self._query, query_grpc, health = free_ports(4)
        super().__init__(
            [jaeger(), "--config", CONFIGURATION / "jaeger.yaml"],
            {
                "JAEGER_OTLP_PORT": str(self.otlp),
                "JAEGER_QUERY_PORT": str(self._query),
                "JAEGER_QUERY_GRPC_PORT": str(query_grpc),
                "JAEGER_HEALTH_PORT": str(health),
                "JAEGER_DIR": str(directory / "jaeger"),
            },
            f"http://127.0.0.1:{health}/status",
            directory / "jaeger.log",
        )

    def stop(self) -> None:
        """At once: it takes ten seconds to end by itself, and nothing of it is needed afterwards."""
        self.kill()

    def trace(self, trace_id: str, spans: int, seconds: float = 30.0) -> dict[str, Any]:
        """The trace, once it has so many spans."""
        deadline = time.monotonic() + seconds
        while True:
            status, body = get(f"http://127.0.0.1:{self._query}/api/traces/{trace_id}")
            found = json.loads(body)["data"] if status == 200 else []
            if found and len(found[0]["spans"]) >= spans:
                return found[0]
            assert time.monotonic() < deadline, f"{status} {body[:1000]!r}"
            time.sleep(0.05)


class Collector(Program):
    """The OpenTelemetry Collector with our configuration, between apps, Jaeger and the sink."""

    def __init__(
        self, directory: Path, *, sink: int = 9, jaeger: int = 9, configuration: str = "otelcol.yaml", **settings: str
    ) -> None:
        directory.mkdir(exist_ok=True)
        self.grpc, http, health, self._metrics = free_ports(4)
        self.url = f"http://127.0.0.1:{http}"
        self.queue = directory / "queue"
        super().__init__(
            [
                OTELCOL,
                "--config",
                CONFIGURATION / "processors.yaml",
                "--config",
                CONFIGURATION / configuration,
            ],
            {
                "OTELCOL_GRPC_PORT": str(self.grpc),
                "OTELCOL_HTTP_PORT": str(http),
                "OTELCOL_HEALTH": f"127.0.0.1:{health}",
                "OTELCOL_METRICS_PORT": str(self._metrics),
                "OTELCOL_QUEUE_DIR": str(self.queue),
                "LLMLOG_SINK_ENDPOINT": f"127.0.0.1:{sink}",
                "LLMLOG_SINK_TOKEN": TOKEN,
                "JAEGER_ENDPOINT": f"127.0.0.1:{jaeger}",
                **settings,
            },
            f"http://127.0.0.1:{health}/",
            directory / "collector.log",
        )

    def metric(self, name: str, label: str = "") -> float:
        """One of its own metrics, summed up over what has this label."""
        _, body = get(f"http://127.0.0.1:{self._metrics}/metrics")
        return sum(
            float(line.rsplit(" ", 1)[1])
            for line in body.decode().splitlines()
            if line.startswith(name) and label in line
        )


class Rotel(Program):
    """Rotel with our environment file."""

    def __init__(self, directory: Path, *, to: int, headers: str = "") -> None:
        """`to`: port of the OTLP/gRPC that it sends to."""
        import rotel

        grpc, http = free_ports(2)
        self.url = f"http://127.0.0.1:{http}"
        lines = (CONFIGURATION / "rotel.env").read_text(encoding="utf-8").splitlines()
        given = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
        library = sysconfig.get_config_var("LIBDIR") or ""  # it is linked with the Python that its wheel is for
        super().__init__(
            [Path(rotel.__file__).parent / "rotel-agent", "start"],
            {
                **given,
                "LD_LIBRARY_PATH": os.pathsep.join(filter(None, (os.environ.get("LD_LIBRARY_PATH"), library))),
                "ROTEL_OTLP_GRPC_ENDPOINT": f"127.0.0.1:{grpc}",
                "ROTEL_OTLP_HTTP_ENDPOINT": f"127.0.0.1:{http}",
                "ROTEL_OTLP_EXPORTER_ENDPOINT": f"http://127.0.0.1:{to}",
                **({"ROTEL_OTLP_EXPORTER_CUSTOM_HEADERS": headers} if headers else {}),
                "ROTEL_PID_FILE": str(directory / "rotel.pid"),
            },
            self.url,
            directory / "rotel.log",
        )

    def wait_until_ready(self) -> None:
        deadline = time.monotonic() + _STARTED
        while get(self.url)[0] == 0:  # any answer: it has no page of its own health
            assert self._process is not None
            assert self._process.poll() is None, self.log.read_text()[-2000:]
            assert time.monotonic() < deadline, self.log.read_text()[-2000:]
            time.sleep(0.02)


class Kafka(Program):
    """One broker, with the topics that agents and gateways expect."""

    def __init__(self, directory: Path) -> None:
        broker, controller = free_ports(2)
        self.brokers = f"127.0.0.1:{broker}"
        self._properties = directory / "kafka.properties"
        text = (Path(__file__).parent / "kafka" / "server.properties").read_text(encoding="utf-8")
        self._properties.write_text(text.format(broker=broker, controller=controller, data=directory / "kafka"))
        super().__init__(self._java("kafka.Kafka", self._properties), {}, "", directory / "kafka.log")

    def _java(self, *command: str | Path) -> list[str]:
        return ["java", "-Xmx512m", "-cp", f"{KAFKA}/*", *map(str, command)]

    def _run(self, *command: str | Path) -> None:
        done = subprocess.run(
            self._java(*command), env=clean(), capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr

    def launch(self) -> None:
        self._run("kafka.tools.StorageTool", "format", "-t", "g4GWPA8i--LB88L65GW41w", "-c", self._properties)
        super().launch()

    def wait_until_ready(self) -> None:
        """It is when it has made the topics: who asks it to waits until it answers."""
        for topic in ("otlp_spans", "otlp_logs"):
            self._run(
                *("org.apache.kafka.tools.TopicCommand", "--bootstrap-server", self.brokers, "--create"),
                *("--topic", topic, "--partitions", "4", "--replication-factor", "1"),
                *("--config", "max.message.bytes=16777216"),  # as kafka/agent.yaml wants them
            )

"""However it is switched on it behaves alike, and whatever ends the program, the rows are written."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from tests.e2e.conftest import SCRIPTS, Run

Rows = Callable[[], list[dict[str, Any]]]
BIN = Path(sys.executable).parent
SCRIPT = str(SCRIPTS / "one_call.py")

DOORS = {
    "opentelemetry-instrument": ([str(BIN / "opentelemetry-instrument"), sys.executable, SCRIPT], {}),
    "exporter named": (
        [str(BIN / "opentelemetry-instrument"), sys.executable, SCRIPT],
        {"OTEL_TRACES_EXPORTER": "console,llmlog"},
    ),
    "exporter named, instrumentor switched off": (
        [str(BIN / "opentelemetry-instrument"), sys.executable, SCRIPT],
        {
            "OTEL_TRACES_EXPORTER": "llmlog",
            "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "httpx",
        },
    ),
    "llmlog run": ([str(BIN / "llmlog"), "run", "--", sys.executable, SCRIPT], {}),
    "in code": ([sys.executable, SCRIPT, "code"], {}),
    "in code and around it": ([str(BIN / "llmlog"), "run", "--", sys.executable, SCRIPT, "code"], {}),
}


@pytest.mark.parametrize("door", DOORS)
def test_every_door_leads_to_one_row(app_environment: dict[str, str], rows: Rows, door: str) -> None:
    command, extra = DOORS[door]
    environment = {**app_environment, **extra, "OTEL_SERVICE_NAME": "shop"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    (row,) = rows()
    assert (row["model"], row["status"], row["service_name"]) == ("gpt-4o-mini", "success", "shop")
    assert done.stderr == ""


@pytest.mark.parametrize("door", ["opentelemetry-instrument", "llmlog run", "in code"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_program_that_is_ended_dies_by_that_signal_and_its_rows_are_written(
    app_environment: dict[str, str], rows: Rows, number: signal.Signals, door: str
) -> None:
    process = subprocess.Popen(
        [*DOORS[door][0], "forever"],
        env={**app_environment, "LLMLOG_FLUSH_INTERVAL": "60"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stdout.readline() == "called\n"
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode == -number
    assert len(rows()) == 1


def test_a_wrong_setting_ends_the_program_at_once_in_one_line(run: Run, rows: Rows) -> None:
    done = run("one_call.py", ok=False, LLMLOG_QUEUE_SIZE="-5")
    assert done.returncode == 2
    assert done.stderr == "otel-llmlog: LLMLOG_QUEUE_SIZE must be greater than 0, found '-5'\n"
    assert done.stdout == ""
    assert rows() == []


def test_a_database_that_is_away_disturbs_nobody_and_the_rows_wait_on_disk(
    run: Run, app_environment: dict[str, str]
) -> None:
    away = {"LLMLOG_DATABASE_URL": "postgresql://nobody:secret-password@127.0.0.1:9/none"}
    done = run("one_call.py", **away, LLMLOG_SHUTDOWN_TIMEOUT="1")
    assert done.stdout == "called\n"
    assert "secret-password" not in done.stderr
    said = done.stderr.splitlines()
    assert all(line.startswith("otel-llmlog: ") and "postgres 127.0.0.1:9/none" in line for line in said), said
    assert "1 record(s) wait in the spool" in said[-1]
    command = [str(BIN / "llmlog"), "spool", "status", "--json"]
    environment = {**app_environment, **away}
    status = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=True)
    found = json.loads(status.stdout)
    assert (found["orphans"], found["outcomes"], found["intents"]) == (1, 1, 0)


class _Collector:
    """Stands in for a collector: takes OTLP over HTTP and keeps the spans."""

    def __init__(self) -> None:
        spans: list[Any] = []
        self.spans = spans

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.path == "/v1/traces":
                    for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                        for scope in resource.scope_spans:
                            spans.extend(scope.spans)
                self.send_response(200)
                self.end_headers()

            def log_message(self, *args: Any) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def collector() -> Iterator[_Collector]:
    made = _Collector()
    thread = threading.Thread(target=made.server.serve_forever)
    thread.start()
    yield made
    made.server.shutdown()
    thread.join()
    made.server.server_close()


def test_the_span_reaches_a_backend_with_its_http_child_and_the_row_has_its_ids(
    run: Run, rows: Rows, collector: _Collector
) -> None:
    run("one_call.py", OTEL_EXPORTER_OTLP_ENDPOINT=collector.url, OTEL_TRACES_EXPORTER="otlp,llmlog")
    (row,) = rows()
    by_name = {span.name: span for span in collector.spans}
    assert by_name.keys() == {"chat gpt-4o-mini", "POST"}
    ours, http = by_name["chat gpt-4o-mini"], by_name["POST"]
    assert (ours.trace_id.hex(), ours.span_id.hex()) == (row["trace_id"], row["span_id"])
    assert http.parent_span_id == ours.span_id
    attributes = {attribute.key: attribute.value for attribute in ours.attributes}
    assert attributes["gen_ai.usage.input_tokens"].int_value == row["prompt_tokens"] == 11
    assert attributes["llmlog.spend"].string_value == f"{row['spend']:f}"


def test_where_rows_are_all_that_is_wanted_no_spans_are_made(app_environment: dict[str, str], rows: Rows) -> None:
    command = [sys.executable, str(SCRIPTS / "counting_app.py")]
    done = subprocess.run(command, env=app_environment, capture_output=True, text=True, timeout=60, check=True)
    # The first one shows whether its trace is sampled.
    assert done.stdout == "1 of 4\n"
    assert len(rows()) == 4


AWAY = {"LLMLOG_DATABASE_URL": "postgresql://nobody:password@127.0.0.1:9/none", "LLMLOG_SHUTDOWN_TIMEOUT": "1"}


@pytest.mark.parametrize("database", [{}, AWAY], ids=["there", "away"])
@pytest.mark.parametrize("ending", ["force_flush", "shutdown"])
def test_an_app_that_flushes_or_shuts_down_its_provider_right_after_a_call_has_the_span(
    app_environment: dict[str, str], ending: str, database: dict[str, str]
) -> None:
    command = [sys.executable, str(SCRIPTS / "flushing_app.py"), ending]
    environment = {**app_environment, **database}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "chat gpt-4o-mini\n"

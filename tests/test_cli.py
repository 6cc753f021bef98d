"""The command line as a person meets it: run for real against a database with rows."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from otel_llmlog import config
from otel_llmlog.dialects import llmlog
from otel_llmlog.errors import ConfigError
from otel_llmlog.payload import CallPayload, StandardLoggingMetadata, StandardLoggingPayloadErrorInformation, Usage
from otel_llmlog.pipeline.record import Record
from otel_llmlog.store.postgres import PostgresExporter

LLMLOG = str(Path(sys.executable).parent / "llmlog")
# 2026-11-01 12:00 UTC
START = 1_793_534_400

Command = Callable[..., subprocess.CompletedProcess[str]]


def _record(number: int, **fields: object) -> Record:
    failed = fields.get("status") == "failure"
    payload = CallPayload(
        **{
            "id": f"resp-{number}",
            "trace_id": f"{number:032x}",
            "call_type": "completion",
            "operation": "chat",
            "call_id": f"call-{number}",
            "status": "success",
            "startTime": START + number,
            "endTime": START + number + 1.5,
            "model": "gpt-4o-mini",
            "custom_llm_provider": "openai",
            "prompt_tokens": 100,
            "completion_tokens": 10,
            "total_tokens": 110,
            "usage": Usage(input_tokens=100, output_tokens=10, source="provider"),
            "spend": "0.0125",
            "error_information": StandardLoggingPayloadErrorInformation(error_class="RateLimitError")
            if failed
            else None,
            **fields,
        }
    )
    start = (START + number) * 10**9
    attributes = llmlog.encode(payload)
    return Record(payload.trace_id, f"{number + 1:016x}", None, start, start + 1_500_000_000, "shop", attributes)


RECORDS = [
    _record(1, metadata=StandardLoggingMetadata(user_api_key_user_id="ada", user_api_key_team_id="blue")),
    _record(2, model="claude", custom_llm_provider="anthropic", spend="0.5", request_tags=["a", "b"]),
    _record(3, status="failure", spend=None, session_id="s\x1b[31m1"),
    _record(4, model="unknown-model", spend=None),
]


@pytest.fixture
def command(database_url: str, tmp_path: Path) -> Command:
    exporter = PostgresExporter(database_url)
    assert exporter.export(RECORDS).written == len(RECORDS)
    exporter.close()

    def run(*arguments: str, ok: bool = True, **extra: str) -> subprocess.CompletedProcess[str]:
        environment = {
            "PATH": "",
            "HOME": str(tmp_path),
            "COLUMNS": "200",
            "LLMLOG_DATABASE_URL": database_url,
            **extra,
        }
        done = subprocess.run(
            [LLMLOG, *arguments], env=environment, capture_output=True, text=True, timeout=60, check=False
        )
        if ok:
            assert done.returncode == 0, done.stderr
        return done

    return run


def test_logs_come_newest_first_with_all_columns_as_json(command: Command) -> None:
    lines = [json.loads(line) for line in command("logs", "--json").stdout.splitlines()]
    assert [line["request_id"] for line in lines] == ["resp-4", "resp-3", "resp-2", "resp-1"]
    assert lines[2]["spend"] == "0.5"
    assert lines[2]["request_tags"] == ["a", "b"]


@pytest.mark.parametrize(
    ("options", "found"),
    [
        (["--model", "claude"], [2]),
        (["--provider", "openai", "--status", "success"], [4, 1]),
        (["--user", "ada"], [1]),
        (["--team", "blue"], [1]),
        (["--tag", "b"], [2]),
        (["--min-cost", "0.1"], [2]),
        (["--since", "2026-11-01T12:00:03"], [4, 3]),
        (["--until", "2026-11-01T12:00:02+00:00"], [1]),
        (["--limit", "1"], [4]),
        (["--trace", f"{2:032x}"], [2]),
        (["--trace", "0000000A"], []),
        (["--model", "'; DROP TABLE llmlog.spend_logs; --"], []),
    ],
)
def test_logs_can_be_filtered(command: Command, options: list[str], found: list[int]) -> None:
    lines = command("logs", "--json", *options).stdout.splitlines()
    assert [json.loads(line)["request_id"] for line in lines] == [f"resp-{number}" for number in found]


def test_the_table_of_logs_shows_failures_and_no_control_characters(command: Command) -> None:
    shown = command("logs").stdout
    assert "RateLimitError" in shown
    assert "unknown" in shown
    assert "\x1b" not in shown


def test_calls_lead_to_their_traces(command: Command) -> None:
    template = {"LLMLOG_TRACE_URL_TEMPLATE": "http://jaeger:16686/trace/{trace_id}?uiFind={span_id}"}
    urls = [f"http://jaeger:16686/trace/{n:032x}?uiFind={n + 1:016x}" for n in (4, 3, 2, 1)]
    lines = command("logs", "--json", **template).stdout.splitlines()
    assert [json.loads(line)["trace_url"] for line in lines] == urls
    session = json.loads(command("session", "s\x1b[31m1", "--json", **template).stdout)
    assert [call["trace_url"] for call in session["log"]] == [urls[1]]
    for arguments in (["logs"], ["session", "s\x1b[31m1"]):
        # As links of the terminal (OSC 8), where there is one.
        assert f";{urls[1]}\x1b" in command(*arguments, **template, FORCE_COLOR="1").stdout


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("http://jaeger/trace/", "must contain {trace_id}"),
        ("http://jaeger/{trace_id}/{when}", "no other name in braces"),
        ("javascript:alert('{trace_id}')", "must be an address"),
    ],
)
def test_an_address_that_leads_to_no_trace_is_refused_at_once(
    monkeypatch: pytest.MonkeyPatch, template: str, said: str
) -> None:
    monkeypatch.setenv("LLMLOG_TRACE_URL_TEMPLATE", template)
    with pytest.raises(ConfigError, match="LLMLOG_TRACE_URL_TEMPLATE must") as raised:
        config.load()
    assert said in str(raised.value)
    assert len(str(raised.value).splitlines()) == 1


def test_ids_cannot_change_where_an_address_leads() -> None:
    traces = config.TraceSettings(trace_url_template="http://jaeger/trace/{trace_id}#{span_id}")
    assert (
        traces.trace_url("../../x?{span_id}", "\x1b]8;;")
        == "http://jaeger/trace/..%2F..%2Fx%3F%7Bspan_id%7D#%1B%5D8%3B%3B"
    )


def test_spend_is_summed_up_exactly(command: Command) -> None:
    lines = [
        json.loads(line)
        for line in command("spend", "--by", "model", "--since", "2026-01-01", "--json").stdout.splitlines()
    ]
    assert [(line["key"], line["calls"], line["failures"], line["spend"], line["unpriced"]) for line in lines] == [
        ("claude", 1, 0, "0.5", 0),
        ("gpt-4o-mini", 2, 1, "0.0125", 0),
        ("unknown-model", 1, 0, None, 1),
    ]


def test_spend_as_csv_has_a_header_and_a_line_a_group(command: Command) -> None:
    out = command("spend", "--by", "provider", "--since", "2026-01-01", "--csv").stdout
    lines = list(csv.DictReader(io.StringIO(out)))
    assert [(line["key"], line["spend"]) for line in lines] == [("anthropic", "0.5"), ("openai", "0.0125")]


@pytest.mark.parametrize("by", ["model", "provider", "team", "user", "end_user", "tag", "key", "session", "day"])
def test_spend_by_anything_is_a_table_with_bars(command: Command, by: str) -> None:
    shown = command("spend", "--by", by, "--since", "2026-01-01").stdout
    assert "█" in shown
    assert ("total" in shown) == (by != "tag")


@pytest.mark.parametrize(
    "arguments",
    [
        ["spend", "--by", "colour"],
        ["logs", "--since", "soon"],
        ["logs", "--status", "odd"],
        ["logs", "--min-cost", "x"],
    ],
)
def test_wrong_usage_is_told_with_what_is_allowed(command: Command, arguments: list[str]) -> None:
    done = command(*arguments, ok=False)
    assert done.returncode == 2
    assert arguments[-1] in done.stderr
    assert "Traceback" not in done.stderr


def test_a_database_that_is_away_is_one_line_without_the_password(command: Command) -> None:
    done = command("logs", ok=False, LLMLOG_DATABASE_URL="postgresql://ada:hidden-word@127.0.0.1:9/none")
    assert done.returncode == 1
    assert done.stderr.startswith("llmlog: ")
    assert len(done.stderr.splitlines()) == 1
    assert "hidden-word" not in done.stderr


def test_a_wrong_setting_is_one_line(command: Command) -> None:
    done = command("logs", ok=False, LLMLOG_CONNECT_TIMEOUT="soon")
    assert done.returncode == 2
    assert done.stderr.startswith("llmlog: LLMLOG_CONNECT_TIMEOUT must be")


def test_doctor_finds_all_well_and_says_what_is_covered(command: Command) -> None:
    found = [json.loads(line) for line in command("doctor", "--json").stdout.splitlines()]
    says = {finding["what"]: (finding["mark"], finding["says"]) for finding in found}
    assert says["database"][0] == says["tables"][0] == "ok"
    assert "covered" in says["httpx2"][1]
    assert "covered" in says["openai"][1]


def test_doctor_names_a_misspelt_setting_and_fails_without_a_database(command: Command) -> None:
    done = command(
        "doctor", "--json", ok=False, LLMLOG_DATABSE_URL="x", LLMLOG_DATABASE_URL="postgresql://127.0.0.1:9/x"
    )
    assert done.returncode == 1
    assert "did you mean LLMLOG_DATABASE_URL?" in done.stdout


def test_db_upgrade_makes_the_tables_and_status_shows_them(empty_database_url: str, tmp_path: Path) -> None:
    environment = {"PATH": "", "HOME": str(tmp_path), "LLMLOG_DATABASE_URL": empty_database_url}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [LLMLOG, "db", *arguments], env=environment, capture_output=True, text=True, timeout=60, check=False
        )

    assert "llmlog db upgrade" in run("status").stdout
    assert run("upgrade").returncode == 0
    status = run("status", "--json")
    assert status.returncode == 0, status.stderr
    assert json.loads(status.stdout)["rows"] == 0


def test_follow_shows_calls_as_they_come(command: Command, database_url: str, tmp_path: Path) -> None:
    environment = {"PATH": "", "HOME": str(tmp_path), "LLMLOG_DATABASE_URL": database_url, "PYTHONUNBUFFERED": "1"}
    following = subprocess.Popen(
        [LLMLOG, "logs", "--follow", "--json", "--limit", "1"], env=environment, stdout=subprocess.PIPE, text=True
    )
    # Nothing shown ends the wait with an empty line instead of hanging.
    ending = threading.Timer(30, following.terminate)
    ending.start()
    try:
        assert following.stdout is not None
        assert json.loads(following.stdout.readline())["request_id"] == "resp-4"
        exporter = PostgresExporter(database_url)
        number = int(time.time()) - START
        exporter.export([_record(number)])
        exporter.close()
        assert json.loads(following.stdout.readline())["request_id"] == f"resp-{number}"
    finally:
        ending.cancel()
        following.terminate()
        following.wait(10)


def test_run_says_what_is_wrong_before_it_starts_anything(command: Command) -> None:
    done = command("run", "--", "no-such-program", ok=False)
    assert done.returncode == 2
    assert "no such program: no-such-program" in done.stderr

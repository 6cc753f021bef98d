"""What commands print of hostile rows: nothing that a terminal, a table program or a reader's eye takes for something else."""

from __future__ import annotations

import csv
import io
import json
import re
import sys
import unicodedata
from decimal import Decimal
from pathlib import Path

import psycopg
import pytest
from hypothesis import given, strategies as st

from otel_llmlog import cli
from otel_llmlog.cli import render
from otel_llmlog.payload import CallPayload, StandardLoggingMetadata, Usage
from otel_llmlog.store.postgres import PostgresExporter
from tests.store.records import record

INVISIBLE = "\u200b\u200d\u2060\ufeff\u00ad\u034f\u115f\u3164\ufe00\U000e0100\U000e0041"
BIDI = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
CONTROL = "".join(map(chr, [*range(1, 32), *range(127, 160)])) + "\u2028\u2029\u0085"
# Each with the start of a formula, a link of a terminal's, a colour, a title, and all of the above.
HOSTILE = (
    f"=cmd|' /C calc'!A0\x1b]8;;http://evil\x1b\\x\x1b[31m\x1b]0;owned\x07[red]r[/red]\x9b31m{BIDI}{INVISIBLE}{CONTROL}"
)
# What Rich itself writes to a terminal: colours, and links of ours.
OF_OURS = re.compile(r"\x1b\[[0-9;]*m|\x1b\]8;[^\x1b\x07]*\x1b\\|\r\n")


def _is_harmless(shown: str) -> bool:
    return not any(
        (unicodedata.category(c) in {"Cc", "Cf", "Cs", "Zl", "Zp"} and c != "\n") or c in INVISIBLE for c in shown
    )


ANYTHING = st.text() | st.text(alphabet=st.sampled_from("=+-@\t\r\n ;,\"'\x1b\x9b\u202e\u200b\ufe0f\uff1d1.5e"))


@given(st.dictionaries(ANYTHING, ANYTHING | st.integers() | st.none()))
def test_json_says_the_same_and_nothing_in_it_is_hidden(value: dict[str, object]) -> None:
    shown = render.as_json(value)
    assert _is_harmless(shown)
    assert "\n" not in shown
    assert json.loads(shown) == value


@given(st.lists(ANYTHING, min_size=1))
def test_no_cell_of_csv_begins_a_formula_or_ends_its_line(cells: list[str]) -> None:
    shown = render.csv_line(cells)
    assert _is_harmless(shown)
    assert "\n" not in shown
    (read,) = list(csv.reader(io.StringIO(shown))) or [[""]]
    assert len(read) == len(cells)
    for cell in read:
        assert cell.strip()[:1] not in {"=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20"} or re.fullmatch(
            r"-?\d+(\.\d+)?([eE][+-]?\d+)?", cell, re.ASCII
        )


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        (-1.5, "-1.5"), (Decimal("-0.00000015"), "-0.00000015"), ("-1.5", "-1.5"), (7, "7"), (None, ""), (True, "True"),
        ("=1+1", "\"'=1+1\""), ("+1", "\"'+1\""), ("-1+1", "\"'-1+1\""), ("@SUM", "\"'@SUM\""), ("\tx", "\"'\\tx\""),
        ("\rx", "\"'\\rx\""), (" =x", "\"' =x\""), ("\u200b=x", "\"'\\u200b=x\""), ("\uff1dx", "\"'\uff1dx\""),
        ("a;=x", '"a;=x"'), ("a,b", '"a,b"'), ('say "x"', '"say ""x"""'), ("gpt-4o-mini", "gpt-4o-mini"),
        ("a\nb", '"a\\nb"'), ("\x1b[31m", '"\\u001b[31m"'),
    ],
)  # fmt: skip
def test_cells_are_written_so(value: object, cell: str) -> None:
    assert render.csv_line([value]) == cell


@given(ANYTHING)
def test_a_line_of_a_terminal_is_one_line_of_what_is_seen(value: str) -> None:
    shown = render.line(value)
    assert _is_harmless(re.sub("[\ufe0e\ufe0f]", "", shown))
    assert "\n" not in shown
    assert len(shown) == len(value)


@pytest.fixture(scope="module")
def rows(module_database_url: str) -> str:
    """A database in which every text is hostile that a sender can set."""
    h = HOSTILE
    payload = CallPayload(
        id=h, trace_id="1" * 32, call_id=h, call_type="completion", operation="chat", status="failure",
        startTime=1_793_534_400, endTime=1_793_534_401, model=h, custom_llm_provider=h, prompt_tokens=1,
        completion_tokens=1, total_tokens=2, usage=Usage(input_tokens=1, output_tokens=1, source="provider"), session_id=h,
        end_user=h, request_tags=[h], api_base=h, error_str=h,
        metadata=StandardLoggingMetadata(
            user_api_key_user_id=h, user_api_key_team_id=h, user_api_key_team_alias=h, user_api_key_alias=h
        ),
    )  # fmt: skip
    exporter = PostgresExporter(module_database_url)
    answered = payload.model_copy(update={"status": "success", "trace_id": "2" * 32})  # without a price
    exporter.export([record(each, start_ns=1_793_534_400 * 10**9) for each in (payload, answered)])
    exporter.close()
    # What the front door would have cleaned: a row may come from anywhere.
    texts = (
        "model",
        "provider",
        "session_id",
        "end_user",
        "user_id",
        "team_id",
        "team_alias",
        "error_class",
        "request_id",
    )
    with psycopg.connect(module_database_url, autocommit=True) as connection:
        connection.execute("ALTER TABLE llmlog.spend_logs DISABLE TRIGGER USER")
        for name in texts:
            connection.execute(f"UPDATE llmlog.spend_logs SET {name} = %s", (h,))
        connection.execute("UPDATE llmlog.spend_logs SET request_tags = %s", ([h],))
        connection.execute("UPDATE llmlog.spend_hourly SET model = %s, provider = %s, user_id = %s", (h, h, h))
        connection.execute("UPDATE llmlog.session_totals SET session_id = %s", (h,))
        connection.execute(
            "INSERT INTO llmlog.audit_logs (id, updated_at, changed_by, action, table_name, object_id, outcome, before_value, updated_values)"
            " VALUES (%s, '2026-11-01', %s, %s, %s, %s, 'success', %s, %s)",
            (h, h, h, h, h, json.dumps({h.replace(chr(0), ""): h}), json.dumps({"x": h})),
        )
        connection.execute("ALTER TABLE llmlog.audit_logs DISABLE TRIGGER USER")
        connection.execute("UPDATE llmlog.audit_logs SET object_id = object_id || 'x'")
        connection.execute(
            "INSERT INTO llmlog.dead_letters (reason, trace_id, record, digest) VALUES (%s, %s, %s, %s)",
            (h, "1" * 32, json.dumps({"attributes": {"llmlog.model": h}}), b"digest"),
        )
    return module_database_url


COMMANDS = [
    ["logs"], ["logs", "--json"], ["sessions"], ["sessions", "--json"], ["session", HOSTILE], ["session", HOSTILE, "--json"],
    ["session", "no" + HOSTILE], *(["spend", "--since", "2026-01-01", "--by", by, *form] for by in
    ("model", "provider", "team", "user", "end_user", "tag", "key", "session", "day") for form in ([], ["--csv"])),
    ["spend", "--since", "2026-01-01", "--json"], ["audit", "list"], ["audit", "list", "--json"], ["audit", "show", HOSTILE],
    ["audit", "show", HOSTILE, "--json"], ["audit", "show", "no" + HOSTILE], ["audit", "export"], ["audit", "export", "--format", "csv"],
    ["audit", "verify"], ["audit", "verify", "--json"], ["dead-letters", "list"], ["dead-letters", "list", "--json"],
    ["dead-letters", "retry"], ["db", "check"], ["db", "check", "--json"], ["db", "status"], ["prices", "check", "--since", "2026-01-01"],
    ["prices", "check", "--since", "2026-01-01", "--json"], ["prices", "show", HOSTILE], ["prices", "diff", HOSTILE, HOSTILE],
    ["reprice", "--since", "2026-01-01", "--dry-run"], ["reprice", "--since", "2026-01-01", "--json"], ["status"], ["doctor"],
    ["spool", "status"], ["spool", "drain", "--from", HOSTILE], ["reconcile", "--provider", "csv", "--of", HOSTILE, "FILE"],
    ["reconcile", "--provider", "csv", "--of", HOSTILE, "--csv", "FILE"], ["reconcile", "--provider", HOSTILE, "FILE"],
    ["logs", "--status", HOSTILE], ["logs", "--min-cost", HOSTILE], ["logs", "--since", HOSTILE], ["logs", f"--{HOSTILE}"], [HOSTILE],
    ["run", "--", HOSTILE], ["db", HOSTILE], ["logs", "-n", HOSTILE], ["reconcile", HOSTILE, "--provider", "csv"],
]  # fmt: skip


def _run(command: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> tuple[str, str]:
    """What a command writes to stdout and stderr."""
    monkeypatch.setattr(sys, "argv", ["llmlog", *command])
    with pytest.raises(SystemExit):
        cli.main()
    done = capsys.readouterr()
    return done.out, done.err


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: " ".join(command).replace(HOSTILE, "HOSTILE"))
def test_no_command_lets_anything_hidden_through(
    rows: str,
    command: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / "export.csv"
    file.write_text(f'date,model,cost\n2026-11-01,"{HOSTILE.replace(chr(34), "")}",1.5\n')
    command = [str(file) if word == "FILE" else word for word in command]
    for name, value in {
        "HOME": str(tmp_path),
        "COLUMNS": "500",
        "LLMLOG_DATABASE_URL": rows,
        "LLMLOG_SPOOL_DIR": str(tmp_path / "spool"),
        "LLMLOG_TRACE_URL_TEMPLATE": "http://traces/{trace_id}",
        "TERM": "xterm-256color",
    }.items():
        monkeypatch.setenv(name, value)
    shown, told = _run(command, monkeypatch, capsys)
    assert shown or told or "--json" in command
    assert _is_harmless(shown)
    assert _is_harmless(told)
    if "--json" in command:
        for line in shown.splitlines():
            json.loads(line)
        return
    monkeypatch.setenv("FORCE_COLOR", "1")  # as to a terminal: with colours and links
    for written in _run(command, monkeypatch, capsys):
        assert _is_harmless(OF_OURS.sub("\n", written))
        assert "evil" not in "".join(re.findall(r"\x1b\]8[^\x1b]*", written))

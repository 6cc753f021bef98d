"""`llmlog audit` as a person meets it, and what a program under auto-instrumentation leaves for it."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest
from click.testing import Result
from typer.testing import CliRunner

from otel_llmlog.cli.app import app
from otel_llmlog.redact import key_hash
from otel_llmlog.store.postgres import PostgresExporter
from tests.audit.events import record

BIN = Path(sys.executable).parent
Command = Callable[..., Result]
EVENTS = [
    record(id="a", changed_by="ada", operation="team.budget", object_id="t1", before_value={"max_budget": 1, "models": ["m"]}, updated_values={"max_budget": 2, "models": ["m"]}),
    record(id="b", changed_by=None, changed_by_api_key=key_hash("sk-1234"), action="created", table_name="LiteLLM_VerificationToken", operation="key.create", object_id="cd" * 32, before_value=None, updated_values={"alias": "x\x1b[31m"}),
    record(id="c", changed_by="bob", outcome="refused", table_name="documents", operation=None, object_id="d1", status_code=403),
]  # fmt: skip


@pytest.fixture(scope="module")
def llmlog(module_database_url: str) -> Command:
    exporter = PostgresExporter(module_database_url, auto_migrate=False)
    exporter.export(EVENTS)
    exporter.close()
    environment = {"LLMLOG_DATABASE_URL": module_database_url, "COLUMNS": "160"}

    def run(*arguments: str, code: int = 0) -> Result:
        done = CliRunner().invoke(app, ["audit", *arguments], env=environment)
        assert done.exit_code == code, done.output
        return done

    return run


def test_list_shows_who_did_what_and_filters(llmlog: Command) -> None:
    shown = llmlog("list").stdout
    assert "team.budget" in shown
    assert f"key {key_hash('sk-1234')[:8]}" in shown
    assert "refused" in shown
    assert "max_budget" in shown
    found = [json.loads(line)["id"] for line in llmlog("list", "--json", "--key", "sk-1234").stdout.splitlines()]
    assert found == ["b"]
    found = [json.loads(line)["id"] for line in llmlog("list", "--json", "--table", "key").stdout.splitlines()]
    assert found == ["b"]
    assert "must be success" in llmlog("list", "--outcome", "maybe", code=2).stderr


def test_show_tells_what_changed_field_by_field(llmlog: Command) -> None:
    shown = llmlog("show", "a").stdout
    assert "- max_budget: 1" in shown
    assert "+ max_budget: 2" in shown
    assert "- models" not in shown
    assert json.loads(llmlog("show", "2", "--json").stdout)["changes"] == [
        {"field": "alias", "change": "added", "before": None, "after": "x\x1b[31m"}
    ]
    assert "\x1b[31m" not in llmlog("show", "b").stdout
    assert "No audit log" in llmlog("show", "nobody", code=1).stderr


def test_export_writes_every_row_with_its_hashes(llmlog: Command) -> None:
    lines = [json.loads(line) for line in llmlog("export").stdout.splitlines()]
    assert [line["id"] for line in lines] == ["c", "b", "a"]
    assert lines[0]["previous_hash"] == lines[1]["hash"]
    rows = list(csv.DictReader(io.StringIO(llmlog("export", "--format", "csv", "--actor", "ada").stdout)))
    assert [row["id"] for row in rows] == ["a"]
    assert json.loads(rows[0]["before_value"]) == {"max_budget": 1, "models": ["m"]}


def test_verify_keeps_a_checkpoint_and_names_the_first_row_that_is_wrong(
    llmlog: Command, module_database_url: str, tmp_path: Path
) -> None:
    path = str(tmp_path / "checkpoint")
    assert "3 audit logs, 1 to 3; 0 checkpoints compared: all is well" in llmlog("verify", "--checkpoint", path).stdout
    assert "1 checkpoint compared: all is well" in llmlog("verify", "--checkpoint", path, "--save").stdout
    found = json.loads(llmlog("verify", "--json").stdout)
    assert (found["compared"], found["findings"]) == (1, [])
    with psycopg.connect(module_database_url) as connection:
        connection.execute("ALTER TABLE llmlog.audit_logs DISABLE TRIGGER audit_refuse")
        connection.execute("UPDATE llmlog.audit_logs SET changed_by = 'eve' WHERE seq = 2")
    said = llmlog("verify", "--checkpoint", path, code=1).stdout
    assert said.splitlines()[0] == "row 2 (b) was edited: its hash is not that of what it says"
    assert said.splitlines()[1] == "the tables: trigger audit_refuse of audit_logs is missing or off"


APP = """
import httpx, sys, threading, uvicorn
from fastapi import FastAPI
app = FastAPI()
@app.post("/team/new")
def new(body: dict): return {"team_id": "t-new", **body}
@app.delete("/admin/{name}")
def remove(name: str): return {}
server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error"))
thread = threading.Thread(target=server.run)
thread.start()
while not server.started: thread.join(0.01)
url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
httpx.post(f"{url}/team/new", json={"team_alias": "blue"}, headers={"x-llm": "1"})
httpx.delete(f"{url}/admin/u1")
httpx.post(f"{url}/team/new", json={"team_alias": "red"}, headers={"authorization": "Bearer sk-canary"})
server.should_exit = True
thread.join()
"""


def test_a_program_that_knows_nothing_of_it_is_audited_by_settings_alone(database_url: str, tmp_path: Path) -> None:
    outside = {name: value for name, value in os.environ.items() if not name.startswith(("LLMLOG_", "OTEL_"))}
    environment = {
        **outside, "LLMLOG_DATABASE_URL": database_url, "LLMLOG_SPOOL_DIR": str(tmp_path / "spool"), "LLMLOG_AUDIT_ASGI": "true",
        "LLMLOG_AUDIT_ROUTES": "DELETE /admin/{id}=user.delete", "LLMLOG_DISABLE_SPEND_LOGS": "true",
    }  # fmt: skip
    command = [str(BIN / "opentelemetry-instrument"), sys.executable, "-c", APP]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    with psycopg.connect(database_url) as connection:
        rows = connection.execute(
            "SELECT source, operation, object_id, trace_id, service_name FROM llmlog.audit_logs ORDER BY seq"
        ).fetchall()
    # Server and client of the last request finish in whichever order.
    assert sorted(row[:3] for row in rows) == [
        ("asgi", "team.create", "t-new"),
        ("asgi", "team.create", "t-new"),
        ("asgi", "user.delete", "u1"),
        ("client", "team.create", "t-new"),
    ]

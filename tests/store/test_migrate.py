"""Migrations: once, quietly, however many start at once."""

from __future__ import annotations

import logging
import subprocess
import sys
import zipfile
from pathlib import Path

import psycopg
import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory

from otel_llmlog.errors import StoreUnavailable
from otel_llmlog.store import migrate, sql

ROOT = Path(__file__).resolve().parents[2]


def test_upgrade_brings_an_empty_database_to_the_newest_revision(empty_database_url: str) -> None:
    assert migrate.status(empty_database_url) == (None, sql.newest())
    migrate.upgrade(empty_database_url)
    migrate.upgrade(empty_database_url.replace("postgresql://", "postgresql+psycopg://"))
    assert migrate.status(empty_database_url) == (sql.newest(), sql.newest())


def test_every_sql_file_has_its_revision() -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(migrate.__file__).parent / "migrations"))
    scripts = ScriptDirectory.from_config(config)
    assert sorted(script.revision for script in scripts.walk_revisions()) == sorted(sql.migrations())
    assert scripts.get_current_head() == sql.newest()


def test_processes_that_start_together_upgrade_once(empty_database_url: str) -> None:
    program = "import sys; from otel_llmlog.store import migrate; migrate.upgrade(sys.argv[1])"
    running = [
        subprocess.Popen([sys.executable, "-c", program, empty_database_url], cwd=ROOT, stderr=subprocess.PIPE)
        for _ in range(4)
    ]
    assert [(process.communicate(timeout=60)[1], process.returncode) for process in running] == [(b"", 0)] * 4
    with psycopg.connect(empty_database_url) as connection:
        assert connection.execute("SELECT version_num FROM llmlog.alembic_version").fetchall() == [(sql.newest(),)]


def test_upgrade_leaves_the_apps_log_alone(empty_database_url: str, caplog: pytest.LogCaptureFixture) -> None:
    handlers = logging.getLogger().handlers[:]
    with caplog.at_level(logging.DEBUG):
        migrate.upgrade(empty_database_url)
    assert [record.name for record in caplog.records if record.name.startswith("alembic")] == []
    assert logging.getLogger().handlers == handlers
    assert logging.getLogger("alembic.runtime.migration").filters == []


def test_a_server_that_does_not_answer_is_told_without_the_password() -> None:
    with pytest.raises(StoreUnavailable) as caught:
        migrate.upgrade("postgresql://someone:hunter2@127.0.0.1:1/nowhere")
    assert "nothing listens" in str(caught.value)
    assert "hunter2" not in str(caught.value)


def test_queries_have_a_purpose_and_are_found_by_name() -> None:
    assert {"logs", "spend"} <= sql.queries().keys()
    assert all(text.startswith("-- ") for text in sql.queries().values())


def test_the_sql_files_are_in_the_wheel(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    shipped = {f"otel_llmlog/sql/{file.relative_to(ROOT / 'sql')}" for file in (ROOT / "sql").rglob("*.sql")}
    assert shipped <= names
    assert "otel_llmlog/store/migrations/versions/0001_spend_logs.py" in names


def test_installed_sql_files_win_over_those_of_a_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sql" / "migrations").mkdir(parents=True)
    (tmp_path / "sql" / "migrations" / "0009_x.sql").write_text("SELECT 1")
    monkeypatch.setattr(sql, "files", lambda _package: tmp_path)
    assert sql.migrations() == {"0009": "SELECT 1"}

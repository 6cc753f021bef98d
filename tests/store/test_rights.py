"""What is told when a right is missing: SQL that works as it stands, and which statement failed."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import psycopg
import pytest

from otel_llmlog.config import RetentionSettings
from otel_llmlog.errors import StoreUnavailable
from otel_llmlog.store import audit_chain, check, migrate, retention, roles, sql
from otel_llmlog.store.dead_letters import DeadLetters
from otel_llmlog.store.postgres import PostgresExporter
from otel_llmlog.store.reader import Reader
from tests.store.conftest import ROLES, Login
from tests.store.records import record
from tests.store.test_roles import at_the_version_before, work_of_a_writer

Query = Callable[..., list[tuple[Any, ...]]]
PERIOD = RetentionSettings.model_validate({"maximum_spend_logs_retention_period": "3d"})


def advice(work: Callable[[], Any]) -> tuple[str, str]:
    """What failed, and the SQL that should help."""
    with pytest.raises(StoreUnavailable) as caught:
        work()
    said = str(caught.value)
    assert "\n" not in said
    what, _, statements = said.partition(" run: ")
    assert statements, said
    return what, statements


@pytest.mark.parametrize(
    ("right", "statement"),
    [
        ("USAGE ON SCHEMA llmlog", ""),
        ("SELECT ON llmlog.alembic_version", "SELECT llmlog.alembic_version"),
        ("INSERT ON llmlog.spend_logs", "COPY llmlog.spend_logs"),
        ("SELECT ON llmlog.spend_logs", "SELECT llmlog.spend_logs"),
        ("INSERT ON llmlog.audit_logs", "INSERT llmlog.audit_logs"),
        ("EXECUTE ON FUNCTION llmlog.ensure_partition(date)", "SELECT llmlog.ensure_partition"),
        ("EXECUTE ON FUNCTION llmlog.are_described()", "SELECT llmlog.are_described"),
        (
            "EXECUTE ON FUNCTION llmlog.add_to_rollups(llmlog.hour_sums[], llmlog.session_sums[])",
            "llmlog.add_to_rollups",
        ),
        ("ALL ON ALL FUNCTIONS IN SCHEMA llmlog", "SELECT llmlog."),
        ("ALL ON ALL TABLES IN SCHEMA llmlog", "SELECT llmlog.alembic_version"),
    ],
)
def test_a_writer_without_a_right_is_told_the_grant_that_helps(
    login: Login, query: Query, right: str, statement: str
) -> None:
    query(f"REVOKE {right} FROM {roles.identifier(ROLES.writer)}")
    what, statements = advice(lambda: work_of_a_writer(login("writer")))
    assert statement in what
    query(statements)
    work_of_a_writer(login("writer"))


def test_dead_letters_that_cannot_be_kept_tell_the_grant_too(login: Login, query: Query) -> None:
    query(f"REVOKE INSERT ON llmlog.dead_letters FROM {roles.identifier(ROLES.writer)}")
    exporter = PostgresExporter(login("writer"), auto_migrate=False)
    refused = record(attributes={"llmlog.messages": "[1e200000]"})
    with pytest.raises(StoreUnavailable, match=r"\(INSERT llmlog.dead_letters\)") as told:
        exporter.export([refused])
    query(str(told.value).partition(" run: ")[2])
    assert len(exporter.export([refused]).rejected) == 1
    exporter.close()
    assert query("SELECT count(*) FROM llmlog.dead_letters") == [(1,)]


@pytest.mark.parametrize(
    ("right", "work"),
    [
        ("USAGE ON SCHEMA llmlog", lambda url: Reader(url).logs()),
        ("SELECT ON llmlog.spend_logs", lambda url: Reader(url).logs()),
        ("SELECT ON llmlog.sessions", lambda url: Reader(url).sessions()),
        ("SELECT ON llmlog.dead_letters", lambda url: DeadLetters(url).entries()),
        ("SELECT ON llmlog.audit_logs", audit_chain.verify),
        ("EXECUTE ON FUNCTION llmlog.spend_hourly_of_rows(timestamptz)", check.check),
    ],
)
def test_a_reader_without_a_right_is_told_the_grant_that_helps(
    login: Login, query: Query, right: str, work: Callable[[str], Any]
) -> None:
    query(f"REVOKE {right} FROM {roles.identifier(ROLES.reader)}")
    _, statements = advice(lambda: work(login("reader")))
    query(statements)
    work(login("reader"))


@pytest.mark.parametrize("work", [check.repair, lambda url: retention.prune(url, PERIOD)])
def test_who_does_not_own_the_tables_is_told_to_become_a_member(
    login: Login, query: Query, work: Callable[[str], Any]
) -> None:
    _, statements = advice(lambda: work(login("reader")))
    assert statements.startswith(f"GRANT {roles.identifier(ROLES.owner)} TO ")
    query(statements)
    work(login("reader"))


# Upgrades.


@pytest.fixture
def stranger(empty_database_url: str) -> Any:
    """Somebody who may nothing in an empty database: name, URL."""
    name = f'Some "body\'s" {os.getpid()}'
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {roles.identifier(name)} LOGIN")
        yield roles.identifier(name), empty_database_url.replace("postgres:@", f"{quote(name)}:@"), connection.execute
        connection.execute(f"DROP OWNED BY {roles.identifier(name)} CASCADE")
        connection.execute(f"DROP ROLE {roles.identifier(name)}")


def test_who_may_not_make_the_schema_is_told_the_grant(stranger: Any) -> None:
    name, url, execute = stranger
    what, statements = advice(lambda: migrate.upgrade(url))
    assert "CREATE SCHEMA llmlog" in what
    assert statements.startswith("GRANT CREATE ON DATABASE ")
    execute(statements)
    migrate.upgrade(url)
    assert migrate.status(url)[0] == sql.newest()
    assert name


def test_who_may_not_make_tables_in_the_schema_is_told_the_grant(stranger: Any) -> None:
    name, url, execute = stranger
    execute("CREATE SCHEMA llmlog")
    _, statements = advice(lambda: migrate.upgrade(url))
    assert statements == f"GRANT USAGE, CREATE ON SCHEMA llmlog TO {name}"
    execute(statements)
    migrate.upgrade(url)


def test_who_owns_the_schema_upgrades_without_a_right_on_the_database(stranger: Any) -> None:
    name, url, execute = stranger
    execute(f"CREATE SCHEMA llmlog AUTHORIZATION {name}")
    migrate.upgrade(url)
    assert migrate.status(url)[0] == sql.newest()


def test_who_is_no_member_of_the_owner_is_told_to_become_one_and_what_is_left_over(stranger: Any) -> None:
    name, url, execute = stranger
    at_the_version_before(url.replace(url[url.index("://") + 3 : url.index(":@")], "postgres"))
    owner = roles.identifier(f"owner {os.getpid()}")
    execute(f"CREATE ROLE {owner}")
    try:
        execute(f"ALTER SCHEMA llmlog OWNER TO {owner}")
        execute(f"ALTER TABLE llmlog.alembic_version OWNER TO {owner}")
        execute(f"GRANT USAGE ON SCHEMA llmlog TO {name}")
        _, statements = advice(lambda: migrate.upgrade(url))
        assert statements == f"GRANT {owner} TO {name}"
        execute(statements)
        # All else belongs to a superuser.
        what, statements = advice(lambda: migrate.upgrade(url))
        assert "MIGRATION llmlog.0009" in what
        assert "ALTER TABLE llmlog.spend_logs OWNER TO " in statements
        execute(statements)
        migrate.upgrade(url)
        assert migrate.status(url)[0] == sql.newest()
    finally:
        execute(f"DROP OWNED BY {owner} CASCADE")
        execute(f"DROP ROLE {owner}")

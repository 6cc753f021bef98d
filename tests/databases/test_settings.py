"""Whatever a role, a database or a URL sets for its sessions: tables are made, written, read and pruned all the same."""

from __future__ import annotations

import os
from collections.abc import Iterator
from urllib.parse import quote

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from otel_llmlog.store import connect
from tests.databases import life

# A value for each setting that changes what statements do, what they answer, or how long they may take.
HOSTILE = {
    "DateStyle": "'SQL, DMY'",
    "IntervalStyle": "'iso_8601'",
    "TimeZone": "'Asia/Kathmandu'",
    "default_transaction_isolation": "'serializable'",
    "default_transaction_deferrable": "on",
    "statement_timeout": "'200ms'",
    "lock_timeout": "'1ms'",
    "idle_in_transaction_session_timeout": "'500ms'",
    "transaction_timeout": "'500ms'",
    "idle_session_timeout": "'500ms'",
    "client_encoding": "'latin1'",
    "standard_conforming_strings": "off",
    "backslash_quote": "off",
    "search_path": "nowhere",
    "array_nulls": "off",
    "bytea_output": "'escape'",
    "extra_float_digits": "-15",
    "quote_all_identifiers": "on",
    "exit_on_error": "on",
    "client_min_messages": "debug5",
    "transform_null_equals": "on",
    "row_security": "off",
    "xmloption": "'document'",
    "enable_partition_pruning": "off",
    "enable_indexscan": "off",
    "enable_seqscan": "off",
    "enable_nestloop": "off",
    "jit": "on",
    "jit_above_cost": "0",
    "work_mem": "'64kB'",
    "plan_cache_mode": "'force_generic_plan'",
    "debug_parallel_query": "on",
    "lc_numeric": "'C'",
    "default_statistics_target": "1",
    "plpgsql.extra_errors": "'all'",
    "plpgsql.variable_conflict": "'use_column'",
}
# These two, each alone: with both, what one breaks the other may hide.
LONELY = {
    "default_transaction_isolation": "'repeatable read'",
    "DateStyle": "'German'",
    "TimeZone": "'America/St_Johns'",
    "search_path": "evil, pg_catalog",
}


def _named(settings: dict[str, str]) -> list[tuple[str, str]]:
    return list(settings.items())


@pytest.fixture
def hostile_url(request: pytest.FixtureRequest, empty_database_url: str) -> Iterator[str]:
    """URL of a database of its own whose role has hostile settings."""
    role = f"llmlog_hostile_{os.getpid()}"
    database = conninfo_to_dict(empty_database_url)["dbname"]
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {role} LOGIN")
        connection.execute(f"ALTER DATABASE {database} OWNER TO {role}")
        # Names that would be met first if the search path decided.
        connection.execute("CREATE SCHEMA evil")
        connection.execute("CREATE FUNCTION evil.now() RETURNS int LANGUAGE sql AS 'SELECT 1 / 0'")
        connection.execute(f"GRANT USAGE ON SCHEMA evil TO {role}")
        for name, value in request.param:
            connection.execute(f"ALTER ROLE {role} IN DATABASE {database} SET {name} = {value}")
    yield empty_database_url.replace("postgres:@", f"{role}:@")
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        connection.execute(f"REASSIGN OWNED BY {role} TO postgres; DROP OWNED BY {role}; DROP ROLE {role}")


@pytest.mark.parametrize(
    "hostile_url",
    [_named(HOSTILE), *([setting] for setting in _named(LONELY))],
    indirect=True,
    ids=lambda settings: settings[0][1].strip("'").replace(" ", "_") if len(settings) == 1 else "all",
)
def test_nothing_depends_on_what_a_role_sets(hostile_url: str) -> None:
    life.whole(hostile_url)


@pytest.mark.slow
@pytest.mark.parametrize("hostile_url", [[setting] for setting in _named(HOSTILE)], indirect=True, ids=list(HOSTILE))
def test_nothing_depends_on_any_single_one_of_them(hostile_url: str) -> None:
    life.whole(hostile_url)


def test_nothing_depends_on_what_a_database_sets(empty_database_url: str) -> None:
    database = conninfo_to_dict(empty_database_url)["dbname"]
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        for name in ("DateStyle", "default_transaction_isolation", "statement_timeout", "standard_conforming_strings"):
            connection.execute(f"ALTER DATABASE {database} SET {name} = {HOSTILE[name]}")
    life.whole(empty_database_url)


def test_nothing_depends_on_what_the_url_and_the_environment_set(
    empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGDATESTYLE", "German")
    monkeypatch.setenv("PGTZ", "Asia/Kathmandu")
    monkeypatch.setenv("PGCLIENTENCODING", "latin1")
    options = "-c IntervalStyle=iso_8601 -c default_transaction_isolation=serializable -c statement_timeout=200"
    life.whole(f"{empty_database_url}&options={quote(options)}")


def test_a_session_that_may_not_write_says_so(empty_database_url: str) -> None:
    life.upgraded(empty_database_url)
    url = f"{empty_database_url}&options={quote('-c default_transaction_read_only=on')}"
    with pytest.raises(Exception, match="default_transaction_read_only"):
        life.stored(url)


def test_what_a_transaction_sets_ends_with_it(database_url: str) -> None:
    """Behind a pooler the next transaction is somebody else's."""
    every = "SELECT name, setting FROM pg_settings WHERE name <> 'transaction_isolation' ORDER BY name"
    with connect.connection(connect.conninfo(database_url)) as connection:
        before = connection.execute(every).fetchall()
        with connect.transaction(connection):
            assert connection.execute(every).fetchall() != before
        assert connection.execute(every).fetchall() == before

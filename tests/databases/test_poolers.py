"""Behind a real PgBouncer: all that is done with a database, on one connection to the server, beside other clients."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator

import psycopg
import pytest

from otel_llmlog.errors import StoreUnavailable
from otel_llmlog.store import check, migrate
from otel_llmlog.store.postgres import PostgresExporter
from otel_llmlog.store.reader import Filter, Reader
from tests.databases import life, servers
from tests.databases.test_settings import HOSTILE
from tests.store.records import records

pytestmark = pytest.mark.slow
NEWEST = 18
# What a session has to hide when the next client gets it. An own transaction: the pooler gives it as it is.
LEFT_BEHIND = """
SELECT (SELECT count(*) FROM pg_class WHERE relpersistence = 't'), (SELECT count(*) FROM pg_prepared_statements), (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'),
       current_setting('statement_timeout'),
       current_setting('search_path'), current_setting('DateStyle'), current_setting('TimeZone'), current_setting('lock_timeout')
"""


@pytest.fixture(scope="module")
def server() -> Iterator[servers.Server]:
    servers.pgbouncer()
    with servers.server(NEWEST) as running:
        yield running


def through(port: int, name: str, options: str = "") -> str:
    return f"postgresql://{name}@127.0.0.1:{port}/{name}{options}"


@pytest.mark.parametrize(
    ("mode", "size", "settings"),
    [
        ("transaction", 1, {}),
        ("transaction", 1, {"server_reset_query_always": 1}),
        ("transaction", 3, {"server_reset_query": ""}),
        ("session", 2, {}),
        ("session", 1, {}),
    ],
)
def test_all_of_it_works_behind_a_pooler(
    server: servers.Server, mode: str, size: int, settings: dict[str, int]
) -> None:
    name = f"{mode}_{size}_{len(settings)}_{'_'.join(settings)}"
    server.database(name)
    for setting in (
        "statement_timeout = '300ms'",
        "DateStyle = 'German'",
        "default_transaction_isolation = 'serializable'",
    ):
        server.ask(f"ALTER ROLE {name} SET {setting}")
    with servers.pooler(server, mode, size, **settings) as port:
        before = seen(port, name)
        life.whole(through(port, name))
        assert seen(port, name) == before


def seen(port: int, name: str) -> tuple[object, ...]:
    """What a client of the same pool finds in its session."""
    with psycopg.connect(through(port, name), prepare_threshold=None, autocommit=True) as other:
        row = other.execute(LEFT_BEHIND).fetchone()
        assert row is not None
        return row


def test_what_another_client_has_left_in_the_session_does_not_matter(server: servers.Server) -> None:
    """In transaction mode nothing is reset between clients."""
    server.database("leaking")
    with servers.pooler(server, "transaction", 1) as port:
        url = through(port, "leaking")
        for step in (life.upgraded, life.stored, life.read, life.maintained):
            with psycopg.connect(url, autocommit=True, prepare_threshold=None) as other:
                for name, value in HOSTILE.items():
                    if name not in {"client_encoding", "idle_session_timeout"} and "." not in name:
                        other.execute(f"SET {name} = {value}")
            with psycopg.connect(url, autocommit=True, prepare_threshold=None) as other:
                assert other.execute("SHOW statement_timeout").fetchone() == ("200ms",)
            step(url)


def test_an_app_beside_another_on_one_connection(server: servers.Server) -> None:
    """Two writers, a reader, retention and a check at once; each waits for its turn."""
    server.database("beside")
    failed: list[BaseException] = []
    with servers.pooler(server, "transaction", 1) as port:
        url = through(port, "beside")
        migrate.upgrade(url)

        def write() -> None:
            exporter = PostgresExporter(url, auto_migrate=False, retention=life.RETENTION)
            try:
                for _ in range(20):
                    delivery = exporter.export(records(50, session_id="s"))
                    assert life.outcome(delivery) == (50, 0, 0)
            except BaseException as error:
                failed.append(error)
            finally:
                exporter.close()

        writing = [threading.Thread(target=write) for _ in range(2)]
        for thread in writing:
            thread.start()
        reader = Reader(url)
        while any(thread.is_alive() for thread in writing):
            assert len(reader.logs(Filter(), limit=10)) <= 10
        for thread in (*writing, *(t for t in threading.enumerate() if t.name == "llmlog-retention")):
            thread.join(60)
        assert failed == []
        assert sum(line.calls for line in reader.spend("model")) == 2000
        assert check.check(url).differences == []


def test_the_commands_go_one_after_the_other_on_one_connection_of_a_session_pool(
    server: servers.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.database("commands")
    with servers.pooler(server, "session", 1) as port:
        monkeypatch.setenv("LLMLOG_DATABASE_URL", through(port, "commands"))
        monkeypatch.setenv("LLMLOG_MAXIMUM_SPEND_LOGS_RETENTION_PERIOD", "30d")
        for command in ("db upgrade", "db status", "logs", "spend", "db check --repair", "db prune", "audit verify",
                        "dead-letters retry"):  # fmt: skip
            done = subprocess.run(
                [life.BIN / "llmlog", *command.split()], capture_output=True, text=True, timeout=120, check=False
            )
            assert done.returncode == 0, (command, done.stderr)


def test_statement_mode_is_refused_in_one_line_that_says_what_to_set(server: servers.Server) -> None:
    server.database("statements")
    with servers.pooler(server, "statement", 1) as port:
        url = through(port, "statements")
        for attempt in (
            lambda: migrate.upgrade(url),
            lambda: PostgresExporter(url).open(),
            lambda: Reader(url).status(),
        ):
            with pytest.raises(StoreUnavailable, match="pool_mode") as refused:
                attempt()
            assert len(str(refused.value).splitlines()) == 1


def test_options_that_a_pooler_does_not_take_are_named(server: servers.Server) -> None:
    server.database("options")
    with servers.pooler(server, "transaction", 1) as port:
        url = through(port, "options", "?options=-c%20statement_timeout%3D1s")
        with pytest.raises(StoreUnavailable, match=r"options.*ignore_startup_parameters"):
            migrate.upgrade(url)
    with servers.pooler(server, "transaction", 1, ignore_startup_parameters="options") as port:
        migrate.upgrade(through(port, "options", "?options=-c%20statement_timeout%3D1s"))


def test_a_pool_without_a_free_connection_is_told_as_such(server: servers.Server) -> None:
    server.database("none_free")
    with servers.pooler(server, "session", 1, query_wait_timeout=1) as port:
        url = through(port, "none_free")
        with psycopg.connect(url) as holder:
            holder.execute("SELECT 1")
            with pytest.raises(StoreUnavailable, match="pooler"):
                migrate.upgrade(url)
        migrate.upgrade(url)


def test_a_pooler_that_closes_idle_clients_costs_neither_a_row_nor_a_word(server: servers.Server) -> None:
    server.database("idle")
    with servers.pooler(server, "transaction", 1, client_idle_timeout=1) as port:
        exporter = PostgresExporter(through(port, "idle"))
        exporter.export(records(1))
        servers.until(
            lambda: exporter._session is not None and exporter._session.is_lost(), "the pooler did not close it"
        )
        assert life.outcome(exporter.export(records(1))) == (1, 0, 0)
        exporter.close()

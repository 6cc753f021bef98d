"""Several hosts in one URL: the one that takes writes is found, also when it is another one than before."""

from __future__ import annotations

import pytest

from otel_llmlog.errors import StoreUnavailable
from otel_llmlog.store import connect, migrate
from otel_llmlog.store.postgres import PostgresExporter
from otel_llmlog.store.reader import Filter, Reader
from tests.databases import life, servers
from tests.store.records import records

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("major", [connect.OLDEST, 18])
def test_the_primary_is_found_before_and_after_a_failover(major: int) -> None:
    with servers.server(major) as first, servers.directory() as place:
        first.database("app")
        second = first.standby(place)
        try:
            second.start()
            url = f"postgresql://app@127.0.0.1:{second.port},127.0.0.1:{first.port}/app"
            migrate.upgrade(url)
            exporter = PostgresExporter(url)
            assert life.outcome(exporter.export(records(10))) == (10, 0, 0)
            servers.until(
                lambda: (
                    second.ask("SELECT to_regclass('llmlog.spend_logs') IS NOT NULL", "app") == [(True,)]
                    and second.ask("SELECT count(*) FROM llmlog.spend_logs", "app") == [(10,)]
                ),
                "the standby did not follow",
            )
            assert Reader(url).status().rows == 10

            with pytest.raises(StoreUnavailable, match="standby"):
                migrate.upgrade(f"postgresql://app@127.0.0.1:{second.port}/app")

            first.stop()
            late = records(5)
            # The session that broke is told first, then that no host takes writes.
            for _ in range(3):
                with pytest.raises(StoreUnavailable) as refused:
                    exporter.export(late)
            assert "none of the hosts in LLMLOG_DATABASE_URL takes writes" in str(refused.value)
            with pytest.raises(StoreUnavailable, match="none of the hosts"):
                Reader(url).logs(Filter())
            assert len(Reader(f"{url}?target_session_attrs=any").logs(Filter(), limit=100)) == 10

            second.ask("SELECT pg_promote()")
            assert life.outcome(exporter.export(late)) == (5, 0, 0)
            assert life.outcome(exporter.export(late)) == (0, 5, 0)
            exporter.close()
            assert second.ask("SELECT count(*) FROM llmlog.spend_logs", "app") == [(15,)]
        finally:
            second.stop()


def test_a_url_that_says_which_host_it_wants_is_obeyed() -> None:
    assert "target_session_attrs=read-write" in connect.conninfo("postgresql://a,b/app")
    assert "target_session_attrs=any" in connect.conninfo("postgresql://a,b/app?target_session_attrs=any")
    assert "target_session_attrs" not in connect.conninfo("postgresql://a/app")
    assert "target_session_attrs" not in connect.conninfo("postgresql:///app?host=/tmp")


def test_hosts_none_of_which_takes_writes_are_told_as_such() -> None:
    with servers.server(18) as first:
        url = first.database("app").replace(f":{first.port}", f":{first.port},127.0.0.1:{servers.free_port()}")
        first.ask("ALTER ROLE app SET default_transaction_read_only = on")
        with pytest.raises(StoreUnavailable, match="none of the hosts in LLMLOG_DATABASE_URL takes writes"):
            migrate.upgrade(url)

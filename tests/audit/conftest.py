"""Audit as it runs in an app: recorded into a real spool, batch worker and Postgres; nothing in between is faked."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

from otel_llmlog import config
from otel_llmlog.audit import recording
from otel_llmlog.pipeline.batch import BatchWorker
from otel_llmlog.pipeline.logs import LLMLogLogProcessor
from otel_llmlog.pipeline.source import Source
from otel_llmlog.pipeline.spool import Spool
from otel_llmlog.stats import Stats
from otel_llmlog.store import audit_chain
from otel_llmlog.store.audit_rows import AuditWriter
from otel_llmlog.store.connect import conninfo
from otel_llmlog.store.postgres import PostgresExporter


class Auditing:
    """The pipeline of this test, and the rows it made."""

    def __init__(self, url: str, spool: Path, **values: Any) -> None:
        self.url, self.stats = url, Stats()
        self.settings = config.Settings({"flush_interval": 0.05, **values})
        directory = str(spool)
        source = Source(Spool(directory, stats=self.stats), 100)
        exporter = PostgresExporter(url, auto_migrate=False)
        self.worker = BatchWorker(exporter, source, self.settings.pipeline, self.stats, directory)
        self.writer = AuditWriter(lambda: conninfo(url), 10)
        self.processor = LLMLogLogProcessor(self.worker, self.writer, self.settings.audit, self.stats, lambda: "shop")
        self._seen = 0
        recording.install(self.processor)

    @functools.cached_property
    def _reading(self) -> psycopg.Connection[dict[str, Any]]:
        return psycopg.connect(self.url, autocommit=True, row_factory=dict_row)

    def rows(self, after: int = 0) -> list[dict[str, Any]]:
        """All rows, oldest first."""
        assert self.worker.flush(20)
        query = "SELECT * FROM llmlog.audit_logs WHERE seq > %s ORDER BY seq"
        return self._reading.execute(query, (after,)).fetchall()

    def new_rows(self) -> list[dict[str, Any]]:
        """Those that came since the last time."""
        rows = self.rows(self._seen)
        self._seen = rows[-1]["seq"] if rows else self._seen
        return rows

    def close(self, timeout: float = 10) -> None:
        recording.install(None)
        self.worker.close(timeout)
        self.writer.close()
        if "_reading" in vars(self):
            self._reading.close()


@pytest.fixture
def auditing(database_url: str, tmp_path: Path) -> Iterator[Auditing]:
    made = Auditing(database_url, tmp_path / "spool")
    yield made
    made.close()


@pytest.fixture(scope="module")
def shared(module_database_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Auditing]:
    made = Auditing(module_database_url, tmp_path_factory.mktemp("spool"))
    yield made
    made.close()
    assert audit_chain.verify(module_database_url).findings == []


@pytest.fixture
def audited(shared: Auditing) -> Auditing:
    """The same for many tests: look at `new_rows`."""
    recording.install(shared.processor)
    shared.new_rows()  # what the test before has not looked at
    return shared

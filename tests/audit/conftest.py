"""Audit as it runs in an app: recorded into a real spool, batch worker and Postgres; nothing in between is faked."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from otel_llmlog import config
from otel_llmlog.audit import recording
from otel_llmlog.pipeline.batch import BatchWorker
from otel_llmlog.pipeline.logs import LLMLogLogProcessor
from otel_llmlog.pipeline.source import Source
from otel_llmlog.pipeline.spool import Spool
from otel_llmlog.stats import Stats
from otel_llmlog.store import audit_chain
from otel_llmlog.store.audit_reader import AuditReader
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
        recording.install(self.processor)

    def rows(self) -> list[dict[str, Any]]:
        """All rows, oldest first, of a chain that is whole."""
        assert self.worker.flush(20)
        assert audit_chain.verify(self.url).findings == []
        return AuditReader(self.url).audit_logs(limit=None)[::-1]

    def new_rows(self) -> list[dict[str, Any]]:
        """Those that came since the last time."""
        rows = self.rows()
        new, self._seen = rows[getattr(self, "_seen", 0) :], len(rows)
        return new

    def close(self, timeout: float = 10) -> None:
        recording.install(None)
        self.worker.close(timeout)
        self.writer.close()


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


@pytest.fixture
def audited(shared: Auditing) -> Auditing:
    """The same for many tests: look at `new_rows`."""
    recording.install(shared.processor)
    shared.new_rows()
    return shared

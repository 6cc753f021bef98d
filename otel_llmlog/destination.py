"""Where records go and where they wait for it, as the settings say; made when it is first needed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from otel_llmlog import config, files, forks, waiting
from otel_llmlog.errors import ConfigError
from otel_llmlog.pipeline.batch import BatchWorker
from otel_llmlog.pipeline.logs import Writer
from otel_llmlog.pipeline.record import Delivery, Exporter, Record
from otel_llmlog.pipeline.source import Source
from otel_llmlog.pipeline.spool import Spool
from otel_llmlog.pricing import Pricer, parse_price_map
from otel_llmlog.stats import Stats


def exporter(
    settings: config.Settings, stats: Stats, on_connect: Callable[[], None], *, most_ahead: float | None = None
) -> Exporter | None:
    """What delivers records; None, and a word about it, where there is no database. `on_connect`: when it is made.

    `most_ahead`: as in PostgresExporter.
    """
    if settings.pipeline.exporter == "otlp":
        from otel_llmlog.pipeline import otlp

        return otlp.OTLPExporter(otlp.endpoint(), otlp.headers(), otlp.logs_endpoint())
    # Imported here and on first use: database libraries take longer to import than most apps take to start.
    from otel_llmlog.store import embedded

    store = settings.store

    def connect(url: str | Callable[[], str]) -> Exporter:
        with forks.held_off():
            from otel_llmlog.store.postgres import PostgresExporter

        return PostgresExporter(
            url,
            auto_migrate=store.auto_migrate,
            connect_timeout=store.connect_timeout,
            retention=settings.retention,
            stats=stats,
            most_ahead=most_ahead,
        )

    if store.database_url is not None:
        if word := store.left_out():
            stats.warn("database_url", word)
        url = store.database_url.get_secret_value()
        return _Lazy(lambda: connect(url), on_connect)
    if not embedded.installed():
        stats.warn(
            "no_database",
            "no database: LLM calls leave spans but no rows; set LLMLOG_DATABASE_URL, "
            "or pip install 'otel-llmlog[embedded]'",
        )
        return None

    def joined() -> str:
        # Before each connection: the server may have crashed, and a process that was forked is one more that uses it.
        url = embedded.start(store.embedded_dir or embedded.default_path())
        on_connect()
        return url

    return _Lazy(lambda: connect(joined), on_connect)


def audit_writer(settings: config.Settings, on_connect: Callable[[], None]) -> Writer | None:
    """What stores an audit event while its caller waits; None where rows go to a collector, or nowhere."""
    from otel_llmlog.store import embedded

    if settings.pipeline.exporter != "postgres" or (settings.store.database_url is None and not embedded.installed()):
        return None
    return _LazyWriter(
        lambda: database_url(settings),
        settings.store,
        settings.audit.audit_sync_timeout,
        on_connect,
    )


def database_url(settings: config.Settings) -> str:
    """Where rows are stored: the configured database, or the embedded one, started if need be.

    Raises ConfigError, StoreUnavailable.
    """
    from otel_llmlog.store import embedded

    if settings.store.database_url is not None:
        return settings.store.database_url.get_secret_value()
    return embedded.start(settings.store.embedded_dir or embedded.default_path())


def pricer(settings: config.Settings) -> Pricer:
    """Prices of calls. Raises ConfigError."""
    path = settings.pricing.price_map
    return Pricer(*parse_price_map(price_file(path))) if path else Pricer()


def price_file(path: Path, name: str = "LLMLOG_PRICE_MAP", *, pipes: bool = False) -> bytes:
    """What a list of prices holds. `pipes`: a pipe may bring it, too. Raises ConfigError."""
    try:
        return files.read(path, files.MAX_PRICES, pipes=pipes)
    except OSError as error:
        raise ConfigError(f"{name} must name a readable file of prices, found {path}: {files.reason(error)}") from None


def worker(exporter: Exporter, settings: config.Settings, stats: Stats, prices: Pricer) -> tuple[BatchWorker, Source]:
    """What takes records to the exporter, and where they wait for it."""
    places, limits = waiting.folders(settings), settings.spool
    spool = Spool(
        places.own,
        limits.spool_max_bytes,
        fsync=limits.spool_fsync,
        stats=stats,
        destination=places.destination,
    )
    source = Source(spool, settings.pipeline.queue_size)
    working = BatchWorker(
        exporter,
        source,
        settings.pipeline,
        stats,
        places.own,
        prices,
        adopt_from=places.all,
        destination=places.destination,
    )
    return working, source


def drain(settings: config.Settings, folder: str | None = None) -> int:
    """Deliver what dead processes left in the spool, or in this folder. Answers how many records.

    Raises ConfigError.
    """
    stats = Stats()
    delivering = exporter(settings, stats, lambda: None)
    if delivering is None:
        raise ConfigError("no database to deliver to: set LLMLOG_DATABASE_URL")
    places = waiting.folders(settings)
    draining = BatchWorker(
        delivering,
        Source(None, 0),
        settings.pipeline,
        stats,
        places.own,
        pricer(settings),
        adopt_from=places.all if folder is None else [folder],
        destination=places.destination,
    )
    try:
        return draining.adopt()
    finally:
        draining.close(0.0)  # says what became of them, too


def spool_directory(settings: config.Settings) -> str:
    """Where records for this destination wait."""
    return waiting.folders(settings).own


class _Lazy(Exporter):
    """An exporter that is made, its server started, with the first batch and off the app's thread."""

    def __init__(self, connect: Callable[[], Exporter], on_connect: Callable[[], None]) -> None:
        self._connect = connect
        self._on_connect = on_connect
        self._exporter: Exporter | None = None

    def open(self) -> None:
        self._made().open()

    def export(self, records: Sequence[Record]) -> Delivery:
        return self._made().export(records)

    def export_all(self, batches: Iterable[Sequence[Record]]) -> Iterator[Delivery]:
        yield from self._made().export_all(batches)

    def _made(self) -> Exporter:
        if self._exporter is None:
            self._exporter = self._connect()
            self._on_connect()
        return self._exporter

    def close(self) -> None:
        if self._exporter is not None:
            self._exporter.close()


class _LazyWriter:
    """The same for a writer that is waited for. It sees to the tables, too: nothing may have been stored before."""

    def __init__(
        self, url: Callable[[], str], store: config.StoreSettings, timeout: float, on_connect: Callable[[], None]
    ) -> None:
        self._url = url
        self._settings = store
        self._timeout = timeout
        self._on_connect = on_connect
        self._writer: Writer | None = None

    def store(self, record: Record) -> None:
        with forks.held_off():
            from otel_llmlog.store import audit_rows, connect
            from otel_llmlog.store.postgres import PostgresExporter
        if self._writer is None:
            seconds = min(self._settings.connect_timeout, max(1, round(self._timeout)))
            tables = PostgresExporter(self._joined, auto_migrate=self._settings.auto_migrate, connect_timeout=seconds)
            try:
                tables.open()
            finally:
                tables.close()
            self._writer = audit_rows.AuditWriter(
                lambda: connect.conninfo(self._joined(), connect_timeout=seconds), self._timeout
            )
        self._writer.store(record)

    def _joined(self) -> str:
        url = self._url()
        self._on_connect()
        return url

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()

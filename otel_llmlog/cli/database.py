"""Which database a command speaks to: the same one that the app's calls go to."""

from __future__ import annotations

from otel_llmlog import config, destination
from otel_llmlog.store.reader import Reader


def url(settings: config.Settings | None = None) -> str:
    """The configured database, or the embedded one, started if need be. Raises ConfigError, StoreUnavailable."""
    return destination.database_url(settings or config.load())


def reader(settings: config.Settings | None = None) -> Reader:
    """A reader of that database."""
    return Reader(url(settings))

"""Which database a command speaks to: the same one that the app's calls go to."""

from __future__ import annotations

from otel_llmlog import config
from otel_llmlog.store import embedded
from otel_llmlog.store.reader import Reader


def url(settings: config.Settings | None = None) -> str:
    """The configured database, or the embedded one, started if need be. Raises ConfigError, StoreUnavailable."""
    store = (settings or config.load()).store
    if store.database_url is not None:
        return store.database_url.get_secret_value()
    return embedded.start(store.embedded_dir or embedded.default_path())


def reader() -> Reader:
    """A reader of that database."""
    return Reader(url())

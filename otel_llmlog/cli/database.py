"""Which database a command speaks to: the same one that the app's calls go to."""

from __future__ import annotations

import sys

from otel_llmlog import config, destination
from otel_llmlog.store import tables
from otel_llmlog.store.reader import Reader


def url(settings: config.Settings | None = None, *, changes: bool = False) -> str:
    """The configured database, or the embedded one, started if need be. Raises ConfigError, StoreUnavailable.

    Says so when its tables are newer than this program; raises StoreUnavailable then if the command `changes` them.
    """
    settings = settings or config.load()
    found = destination.database_url(settings)
    revision = tables.look(found, connect_timeout=settings.store.connect_timeout)
    if changes:
        tables.refuse_to_change(revision)
    elif tables.is_newer(revision):
        sys.stderr.write(f"llmlog: {tables.newer(revision)}\n")
    return found


def reader(settings: config.Settings | None = None) -> Reader:
    """A reader of that database."""
    return Reader(url(settings))

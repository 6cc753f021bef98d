"""Where records wait: the folders of the configured destination, and those that nobody serves.

Always true: records of two destinations never share a folder, since what is adopted must go where it was meant to; a
folder that earlier versions named in another way is still delivered.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from otel_llmlog import config
from otel_llmlog.pipeline import spool
from otel_llmlog.pipeline.spool import folder, purpose
from otel_llmlog.store import embedded


class Folders(NamedTuple):
    """Folders of one destination."""

    own: str
    """Where this process puts its records."""
    others: tuple[str, ...]
    """Where other versions and other days put theirs; they are delivered, too."""
    destination: str
    """In words, without credentials."""

    @property
    def all(self) -> tuple[str, ...]:
        """Every one of them."""
        return (self.own, *self.others)


class Unserved(NamedTuple):
    """A folder with records that no process with today's settings delivers."""

    folder: str
    destination: str
    """In words; empty where the folder does not say."""
    records: int
    """Calls cut off by the death of their process included."""
    written_at: float
    """Epoch seconds: when records were last put there."""


def folders(settings: config.Settings) -> Folders:
    """The folders of the configured destination. Nothing is made."""
    words, above = destination(settings), _above(settings)
    named = above / purpose.folder_name(words)
    own = folder.first_usable(named)
    # The plain one is somebody else's while the one for this user is used, or was so until now.
    candidates = [named, folder.beside(named), above / _former_name(settings)]
    others = [str(place) for place in dict.fromkeys(candidates) if place != own and os.path.lexists(place)]
    return Folders(str(own), tuple(others), words)


def destination(settings: config.Settings) -> str:
    """Where records go, in words: what identifies it, without credentials and options of the connection."""
    if settings.pipeline.exporter == "otlp":
        from otel_llmlog.pipeline import otlp

        return purpose.of_collector(otlp.endpoint())
    if settings.store.database_url is not None:
        return purpose.of_postgres(settings.store.database_url.get_secret_value())
    return purpose.of_embedded(settings.store.embedded_dir or embedded.default_path())


def unserved(settings: config.Settings) -> list[Unserved]:
    """Folders with records of dead processes that are not of the configured destination, and have no live process."""
    known = {Path(place).name for place in folders(settings).all}
    found = []
    for place in _listed(_above(settings)):
        if place.name in known:
            continue
        there = spool.status(place)
        if there.live or not (there.orphaned or there.intents) or there.written_at is None:
            continue
        found.append(Unserved(str(place), words_of(place), there.orphaned + there.intents, there.written_at))
    return found


def words_of(place: Path) -> str:
    """What a folder is for, as it says itself; empty when it does not."""
    try:
        return purpose.noted(place, folder.check(place))
    except OSError:
        return ""


def find(settings: config.Settings, name: str) -> list[Path]:
    """Folders that are meant: one by its path, or those whose names begin so."""
    if os.sep in name:
        return [Path(name)] if Path(name).is_dir() else []
    return [place for place in _listed(_above(settings)) if name and place.name.startswith(name)]


def _listed(above: Path) -> list[Path]:
    try:
        return sorted(place for place in above.iterdir() if place.is_dir())
    except OSError:
        return []


def _above(settings: config.Settings) -> Path:
    if settings.spool.spool_dir is not None:
        return settings.spool.spool_dir
    state = os.environ.get("XDG_STATE_HOME")
    return (Path(state) if state else Path.home() / ".local" / "state") / "otel-llmlog" / "spool"


def _former_name(settings: config.Settings) -> str:
    """As versions up to 0.1.0 named it: with the options of the connection."""
    url, embedded_dir = settings.store.database_url, settings.store.embedded_dir
    if settings.pipeline.exporter == "otlp":
        from otel_llmlog.pipeline import otlp

        told = f"otlp:{otlp.endpoint()}"
    elif url is None:
        told = f"embedded:{embedded_dir or ''}"
    else:
        try:
            parts = urlsplit(url.get_secret_value())
            told = f"{parts.hostname}:{parts.port}{parts.path}?{parts.query}"
        except ValueError:  # several hosts, or a password that is not encoded: those versions did not start with them
            told = ""
    return hashlib.sha256(told.encode()).hexdigest()[:16]

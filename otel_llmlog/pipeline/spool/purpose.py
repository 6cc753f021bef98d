"""What a spool's folder is for: the destination of the records in it, in words and as the folder's name.

Always true: words and name are made of what identifies a destination (hosts, ports, database; the embedded server's
directory; a collector's address), never of credentials or of options of the connection.
"""

from __future__ import annotations

import contextlib
import getpass
import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from otel_llmlog import address
from otel_llmlog.pipeline.spool import files

# The file in a folder that says what it is for.
_FILE = "destination.txt"
_MAX_WORDS = 1000
_POSTGRES_PORT = "5432"


def of_postgres(url: str, environ: Mapping[str, str] = os.environ) -> str:
    """A database by the addresses that libpq would make of its URL, which was found sound at the start."""
    given = address.read(url).parameters

    def said(parameter: str, variable: str) -> str:
        return given.get(parameter) or environ.get(variable, "")

    hosts = said("host", "PGHOST") or said("hostaddr", "PGHOSTADDR")
    ports = said("port", "PGPORT")
    database = said("dbname", "PGDATABASE") or said("user", "PGUSER")
    service = said("service", "PGSERVICE")
    names = hosts.split(",")
    numbers = ports.split(",")
    if len(numbers) != len(names):  # one for all of them
        numbers = numbers[:1] * len(names)
    addresses = {f"{_host(name)}:{number or _POSTGRES_PORT}" for name, number in zip(names, numbers, strict=True)}
    where = f"service {service}" if service and not hosts else ",".join(sorted(addresses))
    return f"postgres {where}/{database or _login()}"


def of_embedded(directory: Path) -> str:
    """The embedded server by its directory, whichever way leads there."""
    return f"embedded postgres in {os.path.realpath(directory.expanduser())}"


def of_collector(endpoint: str) -> str:
    """A collector by its address."""
    parts = urlsplit(endpoint)
    with contextlib.suppress(ValueError):  # no number where the port should be
        port = parts.port or (443 if parts.scheme == "https" else 80)
        return f"otlp {_host(parts.hostname or '')}:{port}{parts.path.rstrip('/')}"
    return f"otlp {endpoint.rpartition('@')[2].partition('?')[0]}"


def folder_name(words: str) -> str:
    """The folder for this destination."""
    return hashlib.sha256(words.encode("utf-8", "replace")).hexdigest()[:16]


def note(directory: Path, words: str) -> None:
    """Say in the folder what it is for, unless that is not known or it says so already. Never raises."""
    place = directory / _FILE
    if not words or place.exists():
        return
    with contextlib.suppress(OSError), os.fdopen(files.make(place), "wb") as file:
        file.write(f"{words}\n".encode("utf-8", "replace"))


def noted(directory: Path, uid: int) -> str:
    """What a folder is for; empty when it does not say so."""
    descriptor = files.open_existing(directory / _FILE, uid, write=False)
    if descriptor is None:
        return ""
    with os.fdopen(descriptor, "rb") as file:
        words = file.read(_MAX_WORDS).decode("utf-8", "replace").strip()
    return words if words.isprintable() else ""


def _host(host: str) -> str:
    if host.startswith("/"):
        return os.path.normpath(host)
    return f"[{host.lower()}]" if ":" in host else host.lower().rstrip(".") or "local"


def _login() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return ""

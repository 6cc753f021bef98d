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
from urllib.parse import unquote, urlsplit

from otel_llmlog.pipeline.spool import files

# The file in a folder that says what it is for.
_FILE = "destination.txt"
_MAX_WORDS = 1000
_POSTGRES_PORT = "5432"


def of_postgres(url: str, environ: Mapping[str, str] = os.environ) -> str:
    """A database by the addresses that libpq would make of its URL."""
    address, _, query = url.partition("://")[2].partition("?")
    authority, _, path = address.partition("/")
    login, _, places = authority.rpartition("@")
    options = {name: unquote(value) for name, _, value in (part.partition("=") for part in query.split("&"))}

    def said(option: str, variable: str, written: str = "") -> str:
        return options.get(option) or written or environ.get(variable, "")

    pairs = [_split_port(place) for place in places.split(",")]
    written = [",".join(part) if any(part) else "" for part in zip(*pairs, strict=True)]
    hosts = said("host", "PGHOST", written[0]) or said("hostaddr", "PGHOSTADDR")
    ports = said("port", "PGPORT", written[1])
    database = said("dbname", "PGDATABASE", unquote(path)) or said("user", "PGUSER", unquote(login.partition(":")[0]))
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


def _split_port(place: str) -> tuple[str, str]:
    host, separator, port = place.rpartition(":")
    if not separator or port.endswith("]"):  # an address of IPv6 without a port
        return unquote(place), ""
    return unquote(host), port


def _host(host: str) -> str:
    if host.startswith("/"):
        return os.path.normpath(host)
    return host.lower().rstrip(".") or "local"


def _login() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return ""

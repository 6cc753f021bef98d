"""The address of a database, as people and their other tools write it: a URL or a DSN -> parameters that libpq knows.

Always true: no network, no database library; what is raised holds nothing of the text but names of schemes and
parameters, because the rest may be a password; what is left out changes neither where the address leads nor how
well the way there is protected.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from typing import NamedTuple
from urllib.parse import unquote

EXAMPLE = "postgresql://user:password@host/database"
_ENCODE = "write @ : / ? # % in a password as %40 %3A %2F %3F %23 %25"
_SCHEMES = frozenset({"postgresql", "postgres", "pgsql", "psql"})


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# What libpq takes: https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-PARAMKEYWORDS
PARAMETERS = _words("""
    host hostaddr port dbname user password passfile require_auth channel_binding connect_timeout client_encoding
    options application_name fallback_application_name keepalives keepalives_idle keepalives_interval keepalives_count
    tcp_user_timeout gssencmode sslmode requiressl sslnegotiation sslcompression sslcert sslkey sslkeylogfile
    sslpassword
    sslcertmode sslrootcert sslcrl sslcrldir sslsni requirepeer ssl_min_protocol_version ssl_max_protocol_version
    min_protocol_version max_protocol_version krbsrvname gsslib gssdelegation scram_client_key scram_server_key service
    servicefile target_session_attrs load_balance_hosts oauth_issuer oauth_client_id oauth_client_secret oauth_scope
    """)
_NUMBERS = _words("connect_timeout keepalives keepalives_idle keepalives_interval keepalives_count tcp_user_timeout")
_CHOICES = {
    "sslmode": "disable allow prefer require verify-ca verify-full",
    "channel_binding": "disable prefer require",
    "gssencmode": "disable prefer require",
    "sslnegotiation": "postgres direct",
    "target_session_attrs": "any read-write read-only primary standby prefer-standby",
    "load_balance_hosts": "disable random",
}
# What other tools say about themselves: pools, caches, timeouts of theirs. They are no typing errors of ours.
_OF_OTHERS = _words("""
    schema connection_limit pool_timeout socket_timeout pgbouncer statement_cache_size sslidentity
    single_use_connections currentschema applicationname logintimeout sockettimeout preparethreshold
    targetservertype tcpkeepalive rewritebatchedinserts loadbalancehosts reconnect
    prepared_statement_cache_size prepared_statement_name_func statement_cache_mode async_fallback command_timeout
    timeout server_settings max_cached_statement_lifetime max_cacheable_statement_size
    pool pool_size max_overflow pool_pre_ping pool_recycle pool_max_conns pool_min_conns max_connections min_connections
    prepared_statements encoding reaping_frequency conn_max_age uselibpqcompat search_path binary_parameters
    default_query_exec_mode executemany_mode prepare_threshold workaround supa direct connect_args
    """)
# How other tools ask for TLS: JDBC and asyncpg by `ssl`, Prisma by `sslaccept`, node-postgres by `no-verify`.
_SSL = {"true": "require", "1": "require", "on": "require", "false": "disable", "0": "disable", "off": "disable"}
_SSLACCEPT = {"strict": "verify-full", "accept_invalid_certs": "require"}

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9.-]*)(?:\+([A-Za-z0-9_+]*))?://", re.ASCII)
_HOST = r"(?:\[[0-9A-Fa-f:.%]+\]|[^\s\[\]@/?#:,&=]*)"
_PORT = r"(?::\d{0,5})?"
# What may stand behind a user and a password: hosts, a database, parameters.
_REST = re.compile(
    rf"(?P<hosts>{_HOST}{_PORT}(?:,{_HOST}{_PORT})*)(?:/(?P<database>[^@/?]*)/?)?"
    r"(?:\?(?P<query>(?:[A-Za-z0-9_.-]+=[^&]*(?:&|$))*))?"
)
_PAIR = re.compile(r"\s*([A-Za-z_]+)\s*=\s*(?:'((?:[^'\\]|\\.)*)'|((?:[^\s'\\]|\\.)*))(?:\s+|$)", re.DOTALL)


class Address(NamedTuple):
    """Where a database is."""

    parameters: dict[str, str]
    """For libpq."""
    left_out: tuple[str, ...]
    """Names of parameters that are other tools', in the order given."""


def read(text: str) -> Address:
    """The address that a text gives. Raises ValueError, whose message goes on a sentence that names the setting."""
    text = text.strip()
    while len(text) > 1 and text[0] == text[-1] and text[0] in "\"'`":
        text = text[1:-1].strip()
    if not text:
        raise ValueError(f"must not be empty: unset it, or give an address such as {EXAMPLE}")
    if "\0" in text or "\n" in text or "\r" in text:
        raise ValueError("must be one line, without control characters")
    given = list(_of_url(text) if "://" in text.partition("=")[0] or _SCHEME.match(text) else _of_dsn(text))
    return _understood(given)


def _of_url(text: str) -> Iterator[tuple[str, str]]:
    found = _SCHEME.match(text[5:] if text[:5].lower() == "jdbc:" else text)
    if found is None:
        raise ValueError(f"must be an address such as {EXAMPLE}")
    scheme = found[1].lower()
    if scheme == "prisma" or (scheme, found[2]) == ("prisma", "postgres"):
        raise ValueError("must lead to the database itself, found an address of Prisma Accelerate: use its direct one")
    if scheme not in _SCHEMES:
        raise ValueError(f"must be a PostgreSQL address such as {EXAMPLE}, found one of {scheme[:20]!r}")
    rest = found.string[found.end() :]
    # A password may hold any character although it should be encoded: the first @ that hosts and a database follow is
    # the one that ends it.
    for at in [-1, *(place for place, character in enumerate(rest) if character == "@")]:
        if parts := _REST.fullmatch(rest, at + 1):
            break
    else:
        raise ValueError(f"must be like {EXAMPLE}: there is no host, port and database in it; {_ENCODE}")
    if at >= 0:
        user, separator, password = rest[:at].partition(":")
        if user:
            yield "user", unquote(user)
        if separator and password:
            yield "password", unquote(password)
    yield from _hosts([unquote(host) for host in parts["hosts"].split(",")])
    if parts["database"]:
        yield "dbname", unquote(parts["database"])
    pairs = [pair.split("=", 1) for pair in (parts["query"] or "").split("&") if pair]
    several = [unquote(value) for name, value in pairs if name == "host"]
    if several:
        # SQLAlchemy's way to name several hosts: host=a:1&host=b:2.
        yield from _hosts(several)
    yield from ((unquote(name), unquote(value)) for name, value in pairs if name != "host")


def _hosts(given: list[str]) -> Iterator[tuple[str, str]]:
    names, ports = [], []
    for one in given:
        name, port = one, ""
        if not one.startswith("/") and (split := re.fullmatch(r"(.*?):(\d*)", one)) and _is_name(split[1]):
            name, port = split[1], split[2]
        names.append(name.removeprefix("[").removesuffix("]"))
        ports.append(port)
    if any(names):
        yield "host", ",".join(names)
    if any(ports):
        yield "port", ",".join(ports)


def _is_name(text: str) -> bool:
    return ":" not in text or text.endswith("]")


def _of_dsn(text: str) -> Iterator[tuple[str, str]]:
    place = 0
    while place < len(text):
        found = _PAIR.match(text, place)
        if found is None:
            raise ValueError(f"must be an address such as {EXAMPLE}, or like host=… dbname=… user=…")
        value = found[2] if found[2] is not None else found[3]
        if found[1].lower() not in PARAMETERS:  # perhaps the rest of a password with a space in it: no word of it
            raise ValueError("must say only parameters of PostgreSQL; put values with spaces into quotes ' '")
        yield found[1], re.sub(r"\\(.)", r"\1", value, flags=re.DOTALL)
        place = found.end()


def _understood(given: list[tuple[str, str]]) -> Address:
    parameters: dict[str, str] = {}
    left_out: list[str] = []
    prisma = any(name in {"sslaccept", "sslidentity"} for name, _ in given)
    doubtful = any("@" in value for _, value in given[1:])
    for written, text in given:
        name, value = _in_our_words(written.strip().lower(), text, prisma=prisma)
        if value == "" and name not in {"host", "port", "password"}:
            continue
        if name == "sslmode" and _is_weaker(value, parameters.get(name)):
            continue
        if name not in PARAMETERS:
            _or_refuse(written.strip(), name, doubtful=doubtful)
            left_out.append(written.strip())
            continue
        if name in _CHOICES and value not in _CHOICES[name].split():
            raise ValueError(f"must say one of {', '.join(_CHOICES[name].split())} for {name}")
        if name in _NUMBERS and not re.fullmatch(r"-?\d{1,9}", value.strip(), re.ASCII):
            raise ValueError(f"must say a number for {name}")
        if name == "port" and not all(port == "" or 0 < int(port) < 65_536 for port in _ports(value)):
            raise ValueError("must say ports from 1 to 65535")
        parameters[name] = value
    return Address(parameters, tuple(dict.fromkeys(left_out)))


def _in_our_words(name: str, value: str, *, prisma: bool) -> tuple[str, str]:
    """A parameter as libpq calls it."""
    if name == "ssl":
        name, value = "sslmode", _SSL.get(value.lower(), value)
    elif name == "sslaccept":
        name, value = "sslmode", _SSLACCEPT.get(value, value)
    elif name == "sslcert" and prisma:
        return "sslrootcert", value
    if name == "sslmode":
        return name, "require" if value == "no-verify" else value.replace("_", "-").lower()
    return name, value


def _is_weaker(mode: str, than: str | None) -> bool:
    """Prisma says it twice, and means the stricter one."""
    order = _CHOICES["sslmode"].split()
    return than is not None and mode in order and order.index(mode) < order.index(than)


def _ports(text: str) -> list[str]:
    ports = [port.strip() for port in text.split(",")]
    if not all(re.fullmatch(r"\d{0,5}", port, re.ASCII) for port in ports):
        raise ValueError("must say ports as numbers")
    return ports


def _or_refuse(written: str, name: str, *, doubtful: bool) -> None:
    """What is left out must be known, or at least be no typing error and nothing that protects the connection."""
    if name in _OF_OTHERS:
        return
    if doubtful or not re.fullmatch(r"[A-Za-z][A-Za-z0-9_.-]{0,40}", written, re.ASCII):
        # It may be a part of the password.
        raise ValueError(f"must be like {EXAMPLE}?sslmode=require: what follows a ? in it is no parameter; {_ENCODE}")
    near = difflib.get_close_matches(name, PARAMETERS, n=1, cutoff=0.8)
    if near:
        raise ValueError(f"must not say {written!r}, which is no parameter of PostgreSQL; did you mean {near[0]}?")
    if name.startswith(("ssl", "tls")):
        raise ValueError(f"must not say {written!r}: leaving it out could make the connection less safe; use sslmode")

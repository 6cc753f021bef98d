"""Database addresses, as they are written in the wild: taken, with a word on what is left out, or refused in one line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import example, given, strategies as st
from psycopg.conninfo import conninfo_to_dict

from otel_llmlog import address, config
from otel_llmlog.errors import ConfigError
from otel_llmlog.store import connect

SECRET = "hush-" + "canary"
PLAIN = {"user": "ada", "password": "pw", "host": "db.example", "port": "5433", "dbname": "shop"}
REST = "ada:pw@db.example:5433/shop"


@pytest.mark.parametrize(
    "text",
    [
        f"postgresql://{REST}",
        f"postgres://{REST}",
        f"POSTGRESQL://{REST}",
        f"PostgreSQL+Psycopg2://{REST}",
        f"postgresql+psycopg://{REST}",
        f"postgresql+asyncpg://{REST}",
        f"postgres+pg8000://{REST}",
        f"pgsql://{REST}",
        f"postgresql://{REST}/",
        f"  postgresql://{REST}\n",
        f'"postgresql://{REST}"\r\n',
        f"'postgresql://{REST}'",
        f"jdbc:postgresql://{REST}",
        "jdbc:postgresql://db.example:5433/shop?user=ada&password=pw",
        "postgresql://db.example:5433/shop?user=ada&password=pw",
        "host=db.example port=5433 dbname=shop user=ada password=pw",
        "host = 'db.example' port=5433 dbname='shop' user=ada password='pw'",
        "postgresql://ada:pw@/shop?host=db.example:5433",
    ],
)
def test_one_address_written_in_many_ways(text: str) -> None:
    assert address.read(text) == (PLAIN, ())


@pytest.mark.parametrize(
    "password",
    [
        "p@ss",
        "p@@ss@",
        "p#ss",
        "p%ss",
        "100%",
        "%zz",
        "p/ss",
        "12/ss",
        "p?ss",
        "12?ss",
        "p:ss",
        "p@x/y#z?q%",
        "p ss",
        "pä$&=+;,'\"",
        "[::1]",
    ],
)
def test_a_password_may_be_written_as_it_is(password: str) -> None:
    found = address.read(f"postgresql://ada:{password}@db.example:5433/shop?sslmode=require")
    assert found.parameters == {**PLAIN, "password": password, "sslmode": "require"}


@pytest.mark.parametrize(
    ("query", "parameters", "left_out"),
    [
        ("schema=public", {}, ("schema",)),
        ("schema=public&connection_limit=100&pool_timeout=60", {}, ("schema", "connection_limit", "pool_timeout")),
        (
            "pgbouncer=true&statement_cache_size=0&socket_timeout=5",
            {},
            ("pgbouncer", "statement_cache_size", "socket_timeout"),
        ),
        ("sslmode=require&sslaccept=strict", {"sslmode": "verify-full"}, ()),
        ("sslaccept=strict&sslmode=prefer", {"sslmode": "verify-full"}, ()),
        ("sslaccept=accept_invalid_certs", {"sslmode": "require"}, ()),
        ("sslaccept=strict&sslcert=/ca.pem", {"sslmode": "verify-full", "sslrootcert": "/ca.pem"}, ()),
        ("sslidentity=client.p12&sslpassword=x", {"sslpassword": "x"}, ("sslidentity",)),
        ("sslcert=/c.pem&sslkey=/k.pem", {"sslcert": "/c.pem", "sslkey": "/k.pem"}, ()),
        ("ssl=true", {"sslmode": "require"}, ()),
        ("ssl=verify-full", {"sslmode": "verify-full"}, ()),
        ("sslmode=no-verify", {"sslmode": "require"}, ()),
        ("prepared_statement_cache_size=0&command_timeout=5", {}, ("prepared_statement_cache_size", "command_timeout")),
        ("currentSchema=x&ApplicationName=shop", {}, ("currentSchema", "ApplicationName")),
        ("pool=5&prepared_statements=false&encoding=unicode", {}, ("pool", "prepared_statements", "encoding")),
        ("some_tool_of_tomorrow=1", {}, ("some_tool_of_tomorrow",)),
        ("application_name=me@work", {"application_name": "me@work"}, ()),
        (
            "options=endpoint%3Dep-x&channel_binding=require",
            {"options": "endpoint=ep-x", "channel_binding": "require"},
            (),
        ),
        ("target_session_attrs=any&connect_timeout=3", {"target_session_attrs": "any", "connect_timeout": "3"}, ()),
        ("sslmode=&connect_timeout=", {}, ()),
        ("service=shop", {"service": "shop"}, ()),
    ],
)
def test_parameters_of_other_tools_are_understood_or_left_out(
    query: str, parameters: dict[str, str], left_out: tuple[str, ...]
) -> None:
    found = address.read(f"postgresql://{REST}?{query}")
    assert found == ({**PLAIN, **parameters}, left_out)


@pytest.mark.parametrize(
    ("text", "parameters"),
    [
        ("postgresql://", {}),
        ("postgresql:///shop", {"dbname": "shop"}),
        ("postgresql:///shop?host=/run/postgresql", {"dbname": "shop", "host": "/run/postgresql"}),
        ("postgresql://%2Frun%2Fpostgresql/shop", {"host": "/run/postgresql", "dbname": "shop"}),
        ("postgresql://ada@[2001:db8::1]:5433/shop", {"user": "ada", "host": "2001:db8::1", "port": "5433", "dbname": "shop"}),
        ("postgresql://a:1,b:2/shop", {"host": "a,b", "port": "1,2", "dbname": "shop"}),
        ("postgresql://a,b/shop", {"host": "a,b", "dbname": "shop"}),
        ("postgresql:///shop?host=a:1&host=b:2", {"host": "a,b", "port": "1,2", "dbname": "shop"}),
        ("postgresql:///shop?host=/run/100%2520%25d", {"host": "/run/100%20%d", "dbname": "shop"}),
        ("postgresql://%2Frun%2F%2541/shop", {"host": "/run/%41", "dbname": "shop"}),
        ("postgresql:///?service=shop", {"service": "shop"}),
        ("service=shop", {"service": "shop"}),
        (r"password='it\'s' dbname=a\ b", {"password": "it's", "dbname": "a b"}),
    ],
)  # fmt: skip
def test_hosts_sockets_and_services(text: str, parameters: dict[str, str]) -> None:
    assert address.read(text).parameters == parameters


_word = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12)


@given(user=_word, password=_word, database=_word, port=st.integers(1, 65_535), name=_word)
def test_what_is_encoded_as_it_should_be_is_read_as_libpq_does(
    user: str, password: str, database: str, port: int, name: str
) -> None:
    encoded = [quote(part, safe="") for part in (user, password, database, name)]
    text = (
        f"postgresql://{encoded[0]}:{encoded[1]}@a.example:{port},b.example/{encoded[2]}?application_name={encoded[3]}"
    )
    expected = conninfo_to_dict(text)
    expected["port"] = f"{expected['port']}".strip(",") + ","
    assert address.read(text).parameters == expected


@pytest.mark.parametrize(
    "text",
    [
        f"mysql://ada:{SECRET}@db/shop",
        f"mysql+pymysql://ada:{SECRET}@db/shop",
        f"sqlite:///{SECRET}.db",
        f"mongodb+srv://ada:{SECRET}@db",
        f"prisma://accelerate.example/?api_key={SECRET}",
        f"prisma+postgres://accelerate.example/?api_key={SECRET}",
        f"https://{SECRET}@db",
        f"ada:{SECRET}@db/shop",
        f"//ada:{SECRET}@db/shop",
        f"postgresql:/ada:{SECRET}@db/shop",
        f"postgresql://ada:{SECRET}@db:port/shop",
        f"postgresql://ada:{SECRET}@db:99999/shop",
        f"postgresql://ada:{SECRET}@db:0/shop",
        f"postgresql://ada:{SECRET}@db/shop/more",
        f"postgresql://ada:{SECRET}@db/shop?sslmod=verify-full",
        f"postgresql://ada:{SECRET}@db/shop?sslmode=yes",
        f"postgresql://ada:{SECRET}@db/shop?sslfactory=org.example.Any",
        f"postgresql://ada:{SECRET}@db/shop?connect_timeout=soon",
        f"postgresql://ada:{SECRET}@db/shop?target_session_attrs=writable",
        f"postgresql://ada:x?{SECRET}=1@x@db/shop?{SECRET}=2",
        f"host=db password={SECRET} and {SECRET}=more",
        f"host=db password='{SECRET}",
        f"LLMLOG_DATABASE_URL=postgresql://ada:{SECRET}@db/shop",
        f"postgresql://ada:{SECRET}@db\n/shop",
        SECRET,
        "   ",
        '""',
    ],
)  # fmt: skip
def test_what_cannot_be_taken_is_refused_in_one_line_without_the_password(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLMLOG_DATABASE_URL", text)
    with pytest.raises(ConfigError, match=r"^LLMLOG_DATABASE_URL must") as refused:
        config.load()
    assert SECRET not in str(refused.value)
    assert "\n" not in str(refused.value)
    with pytest.raises(ConfigError, match=r"^LLMLOG_DATABASE_URL must") as refused:
        connect.conninfo(text)
    assert SECRET not in str(refused.value)


@example("\0", "")
@example("", "jdbc:")
@example("@@@", "postgresql://")
@example("a:b@c/\0", "postgresql://")
@example("=", "")
@given(st.text(max_size=60), st.sampled_from(["", "postgresql://", "host=", "postgresql://u:p@h/d?"]))
def test_no_text_breaks_the_reading(text: str, start: str) -> None:
    try:
        found = address.read(start + text)
    except ValueError:
        return
    assert found.parameters.keys() <= address.PARAMETERS


def test_where_a_wrong_address_is_from_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "litellm.yaml"
    file.write_text("general_settings:\n  database_url: os.environ/DATABASE_URL\n")
    monkeypatch.delenv("LLMLOG_DATABASE_URL", raising=False)
    monkeypatch.setenv("LLMLOG_CONFIG", str(file))
    monkeypatch.setenv("DATABASE_URL", f"mysql://ada:{SECRET}@db/shop")
    with pytest.raises(ConfigError) as refused:
        config.load()
    assert str(refused.value).startswith(
        f"general_settings.database_url in {file}, line 2, by os.environ/DATABASE_URL, must be a PostgreSQL"
    )
    file.write_text(f"llmlog:\n  database_url: sqlite:///{SECRET}\n")
    with pytest.raises(ConfigError, match=r"^llmlog\.database_url in .*litellm\.yaml, line 2, must"):
        config.load()
    monkeypatch.setenv("LLMLOG_DATABASE_URL", "mysql://db")
    with pytest.raises(ConfigError, match=r"^LLMLOG_DATABASE_URL must"):
        config.load()


def test_prismas_address_is_taken_with_one_word_and_leads_to_rows(database_url: str, tmp_path: Path) -> None:
    url = f"{database_url.replace('postgresql://', 'POSTGRES://')}&schema=public&connection_limit=10&pgbouncer=true"
    program = "import otel_llmlog; otel_llmlog.instrument(); otel_llmlog.instrument()"
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "LLMLOG_DATABASE_URL": f" {url}\n", "XDG_STATE_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    words = [line for line in done.stderr.splitlines() if "LLMLOG_DATABASE_URL" in line]
    assert len(words) == 1
    assert "schema, connection_limit, pgbouncer left out: not PostgreSQL's own" in words[0]
    connect.ping(url)

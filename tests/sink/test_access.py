"""Who may send: whoever has the token or the certificate, and nobody else; on loopback, whoever is on the machine."""

from __future__ import annotations

import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path

import grpc
import httpx
import psycopg
import pytest
import trustme

from otel_llmlog import config
from otel_llmlog.errors import ConfigError
from otel_llmlog.sink import workers
from tests.sink.receiving import LLMLOG, LOGS, Reply, Sink, body, environment, over_grpc, over_http
from tests.store.records import record

TOKEN = "correct-horse-battery"


def _count(url: str) -> int:
    with psycopg.connect(url) as connection:
        found = connection.execute("SELECT count(*) FROM llmlog.spend_logs").fetchone()
    assert found is not None
    return int(found[0])


def test_only_the_right_token_stores_anything(start: Callable[..., Sink], database_url: str) -> None:
    sink = start(sink_token=TOKEN)
    sink.wait_until_ready()  # readiness and health need none
    for wrong in (
        "",
        "Bearer",
        f"Basic {TOKEN}",
        f"Bearer {TOKEN}x",
        f"Bearer {TOKEN[:-1]}",
        TOKEN,
        "Bearer \xe9",
    ):
        answer = over_grpc(
            sink, body([record()]), metadata=[("authorization", wrong.encode("ascii", "ignore").decode())]
        )
        assert (answer.code, answer.retry_after) == ("UNAUTHENTICATED", None), wrong
        response = over_http(sink, body([record()]), headers={"authorization": wrong.encode("latin-1")})  # type: ignore[dict-item]
        assert response.status_code == 401, wrong
        assert TOKEN not in response.text + answer.message
    assert over_grpc(sink, body([record()]), method=LOGS).code == "UNAUTHENTICATED"
    assert _count(database_url) == 0
    assert over_grpc(sink, body([record()]), metadata=[("authorization", f"Bearer {TOKEN}")]) == Reply("OK")
    assert over_http(sink, body([record()]), headers={"authorization": f"bearer {TOKEN}"}).status_code == 200
    assert _count(database_url) == 2


def test_without_the_token_the_body_is_not_even_read(start: Callable[..., Sink]) -> None:
    import socket

    sink = start(sink_token=TOKEN)
    sink.wait_until_ready()
    host, port = sink.http.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(
            b"POST /v1/traces HTTP/1.1\r\nhost: sink\r\ncontent-type: application/x-protobuf\r\ncontent-length: 9000000\r\n\r\n"
        )
        assert connection.recv(4096).startswith(b"HTTP/1.1 401 ")


@pytest.fixture
def certificates(tmp_path: Path) -> Path:
    """ca.pem; server.pem and server.key; client.pem and client.key."""
    ca = trustme.CA()
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    for name in ("server", "client"):
        issued = ca.issue_cert("localhost", "127.0.0.1")
        issued.private_key_pem.write_to_path(tmp_path / f"{name}.key")
        issued.cert_chain_pems[0].write_to_path(tmp_path / f"{name}.pem")
    return tmp_path


def test_tls_and_client_certificates_on_both_ports(
    certificates: Path, start: Callable[..., Sink], database_url: str
) -> None:
    sink = start(
        sink_tls_cert=str(certificates / "server.pem"),
        sink_tls_key=str(certificates / "server.key"),
        sink_tls_client_ca=str(certificates / "ca.pem"),
    )
    assert sink.http.startswith("https://")
    read = {name: (certificates / name).read_bytes() for name in ("ca.pem", "client.key", "client.pem")}
    known = ssl.create_default_context(cafile=str(certificates / "ca.pem"))
    known.load_cert_chain(certificates / "client.pem", certificates / "client.key")
    sink.wait_until_ready(verify=known)
    content, kind = body([record()]), {"content-type": "application/x-protobuf"}
    assert httpx.post(f"{sink.http}/v1/traces", content=content, headers=kind, verify=known).status_code == 200
    with_certificate = grpc.ssl_channel_credentials(read["ca.pem"], read["client.key"], read["client.pem"])
    assert over_grpc(sink, body([record()]), credentials=with_certificate) == Reply("OK")
    without = grpc.ssl_channel_credentials(read["ca.pem"])
    assert over_grpc(sink, content, credentials=without).code == "UNAVAILABLE"
    with pytest.raises(httpx.TransportError):
        httpx.post(f"{sink.http}/v1/traces", content=content, headers=kind,
                   verify=ssl.create_default_context(cafile=str(certificates / "ca.pem")))  # fmt: skip
    assert over_grpc(sink, content).code == "UNAVAILABLE"
    assert _count(database_url) == 2


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"sink_host": "0.0.0.0"}, "LLMLOG_SINK_HOST 0.0.0.0 can be reached from elsewhere: set LLMLOG_SINK_TOKEN"),
        ({"sink_host": "::"}, "LLMLOG_SINK_HOST :: can be reached from elsewhere"),
        ({"sink_token": "too-short"}, "LLMLOG_SINK_TOKEN must have at least 16 characters, none of them a space"),
        ({"sink_tls_cert": "/nowhere.pem"}, "LLMLOG_SINK_TLS_CERT must name a readable file"),
        ({"sink_tls_cert": __file__}, "LLMLOG_SINK_TLS_CERT and LLMLOG_SINK_TLS_KEY must be set together"),
        ({"sink_tls_client_ca": __file__}, "LLMLOG_SINK_TLS_CLIENT_CA needs LLMLOG_SINK_TLS_CERT"),
        ({"exporter": "otlp"}, "llmlog sink stores in Postgres: unset LLMLOG_EXPORTER"),
    ],
)  # fmt: skip
def test_what_would_let_anybody_in_does_not_start(
    settings: dict[str, str], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in settings.items():
        monkeypatch.setenv(f"LLMLOG_{name.upper()}", value)
    with pytest.raises(ConfigError) as raised:
        workers.run(config.load(), lambda *_: None)
    assert str(raised.value).startswith(said)
    assert "too-short" not in str(raised.value)


def test_a_port_that_is_taken_is_told_in_one_line(sink: Sink, tmp_path: Path) -> None:
    port = sink.http.rpartition(":")[2]
    env = environment("postgresql://nobody@127.0.0.1:1/none", tmp_path, sink_http_port=port, sink_grpc_port="0")
    for more in ([], ["--workers", "2"]):
        done = subprocess.run([LLMLOG, "sink", *more], env=env, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 2
        assert f"cannot listen on 127.0.0.1:{port}" in done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_told_so_it_listens_for_anybody(start: Callable[..., Sink]) -> None:
    sink = start(sink_host="127.0.0.2", sink_allow_anonymous="true")
    sink.wait_until_ready()
    assert sink.grpc.startswith("127.0.0.2:")

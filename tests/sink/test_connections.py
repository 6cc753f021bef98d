"""Who connects and sends nothing, or half of it, keeps nobody else out."""

from __future__ import annotations

import contextlib
import resource
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import trustme

from tests.sink.receiving import Reply, Sink, body, environment, over_grpc, over_http, reply_of
from tests.store.records import record

# More than the sink may have open, and what it may have: a usual limit of a service.
MANY, FILES = 1200, 1024
HALF_HEADERS = b"POST /v1/traces HTTP/1.1\r\nhost: sink\r\ncontent-type: application/x-"
HEADERS = HALF_HEADERS + b"protobuf\r\ncontent-length: 1000000\r\n\r\n"
# What a client of HTTP/2 says first: the preface and empty settings, and that it has the server's.
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(3) + b"\x04\x00" + bytes(4) + bytes(3) + b"\x04\x01" + bytes(4)


@pytest.fixture(autouse=True)
def enough_files() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 8192) if hard > 0 else 8192, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def _address(url: str) -> tuple[str, int]:
    host, port = url.rpartition("/")[2].split(":")
    return host, int(port)


@contextlib.contextmanager
def _crowd(url: str, say: bytes, number: int = MANY) -> Iterator[list[socket.socket]]:
    crowd = []
    try:
        for _ in range(number):
            one = socket.create_connection(_address(url), timeout=20)
            crowd.append(one)
            with contextlib.suppress(ConnectionError):
                one.sendall(say)
        yield crowd
    finally:
        for one in crowd:
            one.close()


def _ended(one: socket.socket, seconds: float) -> float:
    """Seconds until the other side closes."""
    one.settimeout(seconds)
    began = time.monotonic()
    with contextlib.suppress(ConnectionError):
        while one.recv(4096):
            pass
    return time.monotonic() - began


@pytest.fixture
def sink(database_url: str, tmp_path: Path) -> Iterator[Sink]:
    with Sink(environment(database_url, tmp_path), files=FILES) as running:
        running.wait_until_ready()
        yield running


@pytest.mark.slow
@pytest.mark.parametrize("say", [b"", HALF_HEADERS, PREFACE], ids=["nothing", "half a header", "HTTP/2"])
def test_a_crowd_that_says_nothing_keeps_nobody_out(say: bytes, sink: Sink) -> None:
    with _crowd(sink.http, say), _crowd(f"http://{sink.grpc}", say):
        assert httpx.get(f"{sink.http}/healthz", timeout=20).status_code == 200
        assert httpx.get(f"{sink.http}/readyz", timeout=20).status_code == 200
        assert reply_of(over_http(sink, body([record()]))) == Reply("OK")
        # gRPC makes no room for others before its own have been silent for long enough.
        deadline = time.monotonic() + 30
        while (answer := over_grpc(sink, body([record()]))).code == "UNAVAILABLE" and time.monotonic() < deadline:
            time.sleep(0.2)
        assert answer == Reply("OK")
    code, said = sink.stop()
    assert code == 0
    assert len(said) < 2000, said[:5000]


def test_files_that_run_out_and_rubbish_cost_a_line_a_minute_each(sink: Sink) -> None:
    used = len(list(Path(f"/proc/{sink.process.pid}/fd").iterdir()))
    resource.prlimit(sink.process.pid, resource.RLIMIT_NOFILE, (used + 20, FILES))
    with _crowd(sink.http, b"", 100):
        time.sleep(1)  # in which it tries again and again
    resource.prlimit(sink.process.pid, resource.RLIMIT_NOFILE, (FILES, FILES))
    with _crowd(sink.http, b"\x16\x03\x01 rubbish\r\n\r\n", 200) as crowd:
        for one in crowd:
            assert _ended(one, 20) < 20
    assert reply_of(over_http(sink, body([record()]))) == Reply("OK")
    code, said = sink.stop()
    assert code == 0
    assert said.count("no connection can be accepted") == 1
    assert said.count("Invalid HTTP request") == 1
    assert len(said) < 2000, said[:5000]


def _drip(one: socket.socket, byte: bytes) -> None:
    with contextlib.suppress(OSError):
        while True:
            one.sendall(byte)
            time.sleep(0.5)


@pytest.mark.slow
def test_who_is_slow_is_cut_off(database_url: str, tmp_path: Path) -> None:
    with Sink(environment(database_url, tmp_path), files=FILES) as sink:
        sink.wait_until_ready()
        began: list[tuple[str, float, socket.socket]] = []
        for name, url, say, drip, most in (
            ("says nothing", sink.http, b"", b"", 15),
            ("half a header", sink.http, HALF_HEADERS, b"", 15),
            ("a header byte by byte", sink.http, HALF_HEADERS, b"a", 15),
            ("half a body", sink.http, HEADERS, b"", 20),
            ("a body byte by byte", sink.http, HEADERS, b"\x0a", 40),
            ("idle after a request", sink.http, b"GET /healthz HTTP/1.1\r\nhost: sink\r\n\r\n", b"", 70),
            ("half of a second request", sink.http, b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\nGET /he", b"", 15),
            ("gRPC: says nothing", f"http://{sink.grpc}", b"", b"", 15),
            ("gRPC: half of its first words", f"http://{sink.grpc}", PREFACE[:10], b"", 15),
            ("gRPC: no request", f"http://{sink.grpc}", PREFACE, b"", 40),
        ):
            one = socket.create_connection(_address(url), timeout=20)
            one.sendall(say)
            if drip:
                threading.Thread(target=_drip, args=(one, drip), daemon=True).start()
            began.append((name, time.monotonic() + most, one))
        for name, deadline, one in sorted(began, key=lambda found: found[1]):
            left = max(1.0, deadline - time.monotonic())
            assert _ended(one, left) < left, name
            one.close()


@pytest.mark.slow
def test_who_starts_no_tls_keeps_nobody_out(database_url: str, tmp_path: Path) -> None:
    ca = trustme.CA()
    issued = ca.issue_cert("127.0.0.1")
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    issued.private_key_pem.write_to_path(tmp_path / "key.pem")
    issued.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    tls = {"sink_tls_cert": str(tmp_path / "cert.pem"), "sink_tls_key": str(tmp_path / "key.pem")}
    known = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
    with Sink(environment(database_url, tmp_path, **tls), files=FILES) as sink:
        sink.wait_until_ready(verify=known)
        with _crowd(sink.http, b"") as crowd, _crowd(sink.http, b"\x16\x03\x01\x02\x00\x01"):
            assert httpx.get(f"{sink.http}/healthz", verify=known, timeout=20).status_code == 200
            assert _ended(crowd[0], 20) < 20
        code, said = sink.stop()
        assert code == 0
        assert len(said) < 2000, said[:5000]

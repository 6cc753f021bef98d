"""What is too much is refused, and does not fill memory first."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest

from tests.sink.receiving import JSON, Reply, Sink, as_json, body, over_grpc, over_http, packed, reply_of
from tests.store.records import record, records

GIGABYTE = 1 << 30
MOST_GROWTH = 50 << 20
TOO_LARGE = (
    "the request is larger than 16777216 bytes, or has more than 20000 calls or too many values: send smaller batches"
)


@pytest.fixture(scope="module")
def bomb() -> bytes:
    """A gigabyte of nothing in a megabyte: one gzip stream of a thousand equal blocks."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    made = b"\x1f\x8b\x08" + bytes(6) + b"\xff" + block * (GIGABYTE >> 20)
    unpacker = zlib.decompressobj(31)
    assert len(unpacker.decompress(made, 32 << 20)) == 32 << 20
    assert len(made) < 2 << 20
    return made


def _peak(sink: Sink) -> int:
    """Most memory that the sink had since `_forget_peak`, in bytes."""
    status = Path(f"/proc/{sink.process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in status if line.startswith("VmHWM"))


def _forget_peak(sink: Sink) -> int:
    """Answers the memory that it has now, in bytes."""
    Path(f"/proc/{sink.process.pid}/clear_refs").write_text("5")
    return _peak(sink)


@pytest.mark.parametrize("send", ["http", "json", "grpc", "grpc, packed by gRPC"])
def test_a_gigabyte_that_was_packed_into_a_megabyte_is_refused_in_little_memory(
    send: str, bomb: bytes, sink: Sink
) -> None:
    over_grpc(sink, body([record()]))
    before = _forget_peak(sink)
    if send == "grpc":
        answer = over_grpc(sink, bomb)
    elif send == "grpc, packed by gRPC":
        # As large as this side can afford: gRPC's own unpacking would show all the same.
        answer = over_grpc(sink, bytes(256 << 20), compression=grpc.Compression.Gzip)
    else:
        response = over_http(
            sink, bomb, headers={"content-encoding": "gzip"}, kind=JSON if send == "json" else "application/x-protobuf"
        )
        assert response.status_code == 413
        answer = Reply("RESOURCE_EXHAUSTED", TOO_LARGE) if send == "json" else reply_of(response)
    assert answer == Reply("RESOURCE_EXHAUSTED", TOO_LARGE)
    assert _peak(sink) - before < MOST_GROWTH
    assert over_grpc(sink, body([record()])) == Reply("OK")


def test_what_is_larger_than_the_limit_is_refused_for_good(sink: Sink) -> None:
    large = bytes((16 << 20) + 1)
    assert reply_of(over_http(sink, large)) == Reply("RESOURCE_EXHAUSTED", TOO_LARGE)
    answer = over_grpc(sink, large)
    assert (answer.code, answer.retry_after) == ("RESOURCE_EXHAUSTED", None)

    def pieces() -> object:
        yield from (bytes(1 << 20) for _ in range(20))

    chunked = over_http(sink, pieces())  # type: ignore[arg-type]
    assert reply_of(chunked) == Reply("RESOURCE_EXHAUSTED", TOO_LARGE)


@pytest.mark.slow
def test_the_limit_is_a_setting(start: Callable[..., Sink]) -> None:
    sink = start(sink_max_message_bytes="65536")
    sink.wait_until_ready()
    sent = records(100)
    assert len(body(sent)) > 65536
    for answer in (over_grpc(sink, packed(body(sent))), over_grpc(sink, body(sent))):
        assert (answer.code, answer.retry_after) == ("RESOURCE_EXHAUSTED", None)
    assert over_grpc(sink, body(sent[:20])) == Reply("OK")


def test_bodies_are_packed_in_any_of_the_usual_ways(sink: Sink) -> None:
    def deflated(content: bytes) -> bytes:
        return zlib.compress(content)

    for pack, encoding in ((packed, "gzip"), (deflated, "deflate"), (bytes, "identity")):
        assert reply_of(over_http(sink, pack(body([record()])), headers={"content-encoding": encoding})) == Reply("OK")
    two = gzip.compress(body([record()])) + gzip.compress(body([record()]))  # one gzip file may follow another
    assert reply_of(over_http(sink, two, headers={"content-encoding": "gzip"})) == Reply("OK")
    for compression in (grpc.Compression.Gzip, grpc.Compression.Deflate):
        assert over_grpc(sink, body(records(40)), compression=compression) == Reply("OK")
    as_text = over_http(sink, packed(as_json([record()])), kind=JSON, headers={"content-encoding": "gzip"})
    assert as_text.json() == {}


def test_what_says_it_is_packed_and_is_not_is_refused(sink: Sink) -> None:
    broken = Reply("INVALID_ARGUMENT", "the body is not packed as it says")
    assert reply_of(over_http(sink, body([record()]), headers={"content-encoding": "gzip"})) == broken
    cut = packed(body([record()]))[:-20]
    ended = Reply("INVALID_ARGUMENT", "the packed body ends too early")
    assert reply_of(over_http(sink, cut, headers={"content-encoding": "gzip"})) == over_grpc(sink, cut) == ended

"""Hostile bodies, mutated at every level: none ends the sink, none is answered with an error of the sink's own."""

from __future__ import annotations

import asyncio
import gzip
import json
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc
import pytest

from tests.audit.events import record as audit_record
from tests.providers.mutation import STRANGE
from tests.sink.conftest import Query
from tests.sink.receiving import LOGS, TRACES, Reply, Sink, as_json, body, over_grpc
from tests.sink.test_decoding import _field
from tests.sink.test_privacy import _call
from tests.store.records import record

Bad = tuple[str, str, str, bytes]  # path, content type, encoding, body
_TOKENS = re.compile(rb'"(?:[^"\\]|\\.)*"|[-0-9][-+.0-9eE]*|true|false|null')
_PIECES = [
    b"\x00",
    b"\xff",
    b"\xff" * 9,
    b"\x80" * 12,
    b"\n\x00",
    b"J\x02\n\x00",
    b"\x1f\x8b",
    b"{",
    b"null",
    b'"',
    b"\x12" * 40,
]


def _records() -> Iterator[list[object]]:
    yield [record(), _call()]
    yield [record(status="failure", request_tags=["a"], spend_logs_metadata={"a": [1]}, stream=True)]
    yield [audit_record(), audit_record(notes=["x"], trace_id="ab" * 16, span_id="cd" * 8)]


def _bent(chance: random.Random, data: bytes) -> bytes:
    """The data with some of it changed, cut out, doubled, exchanged or put in."""
    for _ in range(chance.choice((1, 1, 2, 8))):
        at, end = sorted(chance.randrange(len(data) + 1) for _ in range(2))
        end = min(end, at + chance.choice((1, 2, 8, 64, 4096)))
        how = chance.randrange(6)
        if how == 0 and at < len(data):
            data = data[:at] + bytes((data[at] ^ 1 << chance.randrange(8),)) + data[at + 1 :]
        elif how == 1:
            data = data[:at] + data[end:]
        elif how == 2:
            data = data[:end] + data[at:end] + data[end:]
        elif how == 3:
            data = data[:at] + chance.choice(_PIECES) + data[at:]
        elif how == 4:
            data = data[:at] + chance.randbytes(end - at) + data[end:]
        else:
            data = data[: max(at, 1)]
    return data


def _strange(chance: random.Random, text: bytes) -> bytes:
    """JSON with a value that has no business there."""
    found = list(_TOKENS.finditer(text))
    for token in sorted(chance.sample(found, chance.choice((1, 1, 3))), key=lambda one: -one.start()):
        text = text[: token.start()] + chance.choice(STRANGE) + text[token.end() :]
    return text


def _rewrapped(chance: random.Random, request: bytes) -> bytes:
    """Protobuf whose outer messages are sound: one span or log record in them, with its inside bent."""
    inner = max(re.split(rb"\x12[\x80-\xff][\x01-\x7f]", request), key=len)
    return _field(0x0A, _field(0x12, _field(0x12, _bent(chance, inner))))


def bodies(number: int, seed: int) -> Iterator[Bad]:
    chance = random.Random(seed)
    made = [(("/v1/traces", "/v1/logs")[one[0].kind == "log"], body(one), as_json(one)) for one in _records()]  # type: ignore[attr-defined, arg-type]
    for _ in range(number):
        path, sound, text = chance.choice(made)
        how = chance.randrange(8)
        protobuf, in_json = "application/x-protobuf", "application/json"
        if how < 2:
            yield path, protobuf, "identity", _bent(chance, sound)
        elif how < 4:
            yield path, protobuf, "identity", _rewrapped(chance, sound)
        elif how == 4:
            yield path, in_json, "identity", _bent(chance, text)
        elif how == 5:
            yield path, in_json, "identity", _strange(chance, text)
        elif how == 6:
            kind, data = chance.choice(((protobuf, sound), (in_json, text)))
            yield path, kind, "gzip", _bent(chance, gzip.compress(data, 1))
        else:
            yield path, protobuf, "gzip", gzip.compress(_bent(chance, sound), 1)


async def _post(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, bad: Bad) -> int:
    path, kind, encoding, data = bad
    head = f"POST {path} HTTP/1.1\r\nhost: sink\r\ncontent-type: {kind}\r\ncontent-encoding: {encoding}\r\ncontent-length: {len(data)}\r\n\r\n"
    writer.write(head.encode() + data)
    said = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = re.search(rb"content-length: (\d+)", said)
    assert length, said
    answer = await reader.readexactly(int(length[1]))
    assert b"connection: close" not in said, said
    status = int(said[9:12])
    if status == 200 and kind == "application/json":
        json.loads(answer)
    return status


async def _send_all(sink: Sink, given: Iterator[Bad], seen: Counter[str]) -> None:
    host, port = sink.http.removeprefix("http://").split(":")

    async def by_http() -> None:
        reader, writer = await asyncio.open_connection(host, int(port))
        for bad in given:
            seen[f"HTTP {await _post(reader, writer, bad)}"] += 1
        writer.close()

    async def by_grpc() -> None:
        async with grpc.aio.insecure_channel(sink.grpc) as channel:
            for path, _kind, _encoding, data in given:
                try:
                    await channel.unary_unary(TRACES if path == "/v1/traces" else LOGS)(data, timeout=60)
                    seen["OK"] += 1
                except grpc.aio.AioRpcError as error:
                    seen[error.code().name] += 1

    await asyncio.gather(*(by_http() for _ in range(12)), *(by_grpc() for _ in range(4)))


def _memory(sink: Sink) -> int:
    return int(Path(f"/proc/{sink.process.pid}/statm").read_text().split()[1]) * 4096


def _assert_only_known_answers(sink: Sink, given: Iterator[Bad]) -> Counter[str]:
    seen: Counter[str] = Counter()
    asyncio.run(_send_all(sink, given, seen))
    assert set(seen) == {"HTTP 200", "HTTP 400", "OK", "INVALID_ARGUMENT"}, seen
    assert min(seen.values()) > seen.total() / 100, seen
    return seen


def test_mutated_bodies_are_taken_or_refused_and_harm_nothing(sink: Sink, query: Query) -> None:
    _assert_only_known_answers(sink, bodies(1500, seed=1))
    good = record()
    assert over_grpc(sink, body([good])) == Reply("OK")
    assert query("SELECT 1 FROM llmlog.spend_logs WHERE span_id = %s", good.span_id)


@pytest.mark.slow
def test_not_even_a_hundred_and_fifty_thousand_of_them_take_memory(start: Callable[..., Sink]) -> None:
    sink = start()
    sink.wait_until_ready()
    # What libraries and the allocator keep for later comes with the first 50,000 and then goes up and down by some MB,
    # so the most after these is compared with the least at the end: only what is kept of each body lies between.
    after = []
    for seed in range(2, 8):
        _assert_only_known_answers(sink, bodies(25_000, seed))
        after.append(_memory(sink))
    assert min(after[-2:]) - max(after[:2]) < 12 << 20, after
    assert over_grpc(sink, body([record()])) == Reply("OK")
    code, said = sink.stop()
    assert code == 0
    assert "Traceback" not in said

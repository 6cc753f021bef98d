"""Bodies that are made to cost more than they weigh. Run as a program, says what each costs in a process of its own.

    python -m tests.sink.hostile_bodies

prints a line of JSON for each body and size: its name, bytes, CPU seconds, bytes of memory at the peak, what became of it.
"""

from __future__ import annotations

import gzip
import json
import os
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

from otel_llmlog import config
from otel_llmlog.sink.inflate import Broken, inflate
from otel_llmlog.sink.intake import Intake
from otel_llmlog.sink.received import TooLarge, Unreadable

SIZES = 1 << 20, 4 << 20
LIMIT = 16 << 20
Make = Callable[[int], bytes]


def field(tag: int, content: bytes) -> bytes:
    size, length = len(content), b""
    while size >= 0x80:
        length, size = length + bytes((size & 0x7F | 0x80,)), size >> 7
    return bytes((tag,)) + length + bytes((size,)) + content


_START = b"\x39" + (1_790_000_000 * 10**9).to_bytes(8, "little")
_IDS = field(0x0A, b"\x11" * 16) + field(0x12, b"\x22" * 8)
_A_CALL = field(0x4A, field(0x0A, b"gen_ai.operation.name") + field(0x12, field(0x0A, b"chat")))
_JSON = (
    b'{"resourceSpans":[{"scopeSpans":[{"spans":[{"traceId":"%s","spanId":"%s","startTimeUnixNano":"1790000000000000000",'
    % (b"11" * 16, b"22" * 8)
)
_JSON_CALL = b'"attributes":[{"key":"gen_ai.operation.name","value":{"stringValue":"chat"}},'


def _span(inner: bytes) -> bytes:
    return field(0x0A, field(0x12, field(0x12, _IDS + _START + _A_CALL + inner)))


def _value(value: bytes, name: bytes = b"x") -> bytes:
    return field(0x4A, field(0x0A, name) + field(0x12, value))


def _many(unit: bytes) -> Make:
    return lambda size: unit * (size // len(unit))


def _array(unit: bytes) -> Make:
    return lambda size: _span(_value(field(0x2A, _many(unit)(size))))


def _arrays(unit: bytes) -> Make:
    """Many, none of them large."""
    one = _value(field(0x2A, unit * 5000))
    return lambda size: _span(_many(one)(size))


def _nested(_size: int) -> bytes:
    value = b"\x32\x00"
    for _ in range(30):
        value = field(0x32, field(0x0A, field(0x0A, b"") + field(0x12, value)))
    return field(0x0A, value)


def _names(size: int) -> bytes:
    return b"".join(field(0x4A, field(0x0A, b"%x" % number)) for number in range(size // 9))


def _spans_of_names(size: int) -> bytes:
    one = field(0x12, _IDS + _START + _A_CALL + _names(800))
    return field(0x0A, field(0x12, one * (size // len(one))))


def _in_json(
    unit: bytes, before: bytes = b'{"key":"x","value":{"arrayValue":{"values":[', after: bytes = b"{}]}}}"
) -> Make:
    return lambda size: _JSON + _JSON_CALL + before + _many(unit)(size) + after + b"]}]}]}]}"


_DEEP_JSON = b'{"kvlistValue":{"values":[{"key":"a","value":'

PROTOBUF: dict[str, Make] = {
    "an array of empty values": _array(b"\x0a\x00"),
    "an array of switches": _array(b"\x0a\x02\x10\x01"),
    "an array of short texts": _array(b"\x0a\x04\x0a\x02ab"),
    "an array of empty maps": _array(b"\x0a\x02\x32\x00"),
    "an array of empty arrays": _array(b"\x0a\x02\x2a\x00"),
    "many arrays of empty values": _arrays(b"\x0a\x00"),
    "many arrays of empty maps": _arrays(b"\x0a\x02\x32\x00"),
    "many arrays of short texts": _arrays(b"\x0a\x04\x0a\x02ab"),
    "a map of empty pairs": lambda size: _span(_value(field(0x32, _many(b"\x0a\x00")(size)))),
    "maps in maps": lambda size: _span(_value(field(0x2A, _many(_nested(0))(size)))),
    "attributes without a name": lambda size: _span(_many(b"\x4a\x00")(size)),
    "attributes without a value": lambda size: _span(_names(size)),
    "spans of such attributes": _spans_of_names,
    "empty events": lambda size: _span(_many(b"\x5a\x00")(size)),
    "attributes of an event": lambda size: _span(field(0x5A, _many(b"\x1a\x00")(size))),
    "unknown fields": lambda size: _span(_many(b"\x78\x01")(size)),
    "unknown groups": lambda size: _span(_many(b"\x83\x01\x84\x01")(size)),
    "a length without end": lambda size: b"\x0a" + b"\x80" * size,
    "a tag without end": lambda size: b"\x80" * size,
    "empty spans": lambda size: field(0x0A, field(0x12, _many(b"\x12\x00")(size))),
    "empty scopes": lambda size: field(0x0A, _many(b"\x12\x00")(size)),
    "empty resources": _many(b"\x0a\x00"),
    "attributes of a resource": lambda size: field(0x0A, field(0x0A, _many(b"\x0a\x00")(size)) + field(0x12, b"\x12\x00")),
    "attributes of a scope": lambda size: field(0x0A, field(0x12, field(0x0A, _many(b"\x1a\x00")(size)))),
    "JSON in text": lambda size: _span(_value(field(0x0A, b"[%s{}]" % _many(b"{},")(size)), b"gen_ai.input.messages")),
    "a model of many keys": lambda size: _span(_value(field(0x0A, _many(b"sk-a ")(size)), b"gen_ai.request.model")),
}  # fmt: skip
JSON: dict[str, Make] = {
    "JSON: empty values": _in_json(b"{},"),
    "JSON: numbers": _in_json(b'{"intValue":5},'),
    "JSON: values of no type": _in_json(b'{"a":1},'),
    "JSON: an array for a text": _in_json(b'{"a":"12345"},', b'{"key":"x","value":{"stringValue":[', b"{}]}}"),
    "JSON: what is unknown": _in_json(b'{"a":"12345"},', b'{"key":"x","unknown":[', b"{}]}"),
    "JSON: attributes": _in_json(b'{"key":"x"},', b"", b"{}"),
    "JSON: one name over and over": _in_json(b'"key":"abcdef",', b"{", b'"key":"x"}'),
    "JSON: a number without end": _in_json(b"1", b'{"key":"x","value":{"doubleValue":', b"}}"),
    "JSON: a fraction without end": _in_json(b"1", b'{"key":"x","value":{"doubleValue":0.', b"}}"),
    "JSON: an integer as text": _in_json(b"1", b'{"key":"x","value":{"intValue":"', b'"}}'),
    "JSON: escapes": _in_json(b"\\u00e9", b'{"key":"x","value":{"stringValue":"', b'"}}'),
    "JSON: commas in text": _in_json(b"1,", b'{"key":"x","value":{"stringValue":"', b'"}}'),
    "JSON: quotes in text": _in_json(b'\\",', b'{"key":"x","value":{"stringValue":"', b'"}}'),
    "JSON: nested without end": _in_json(_DEEP_JSON, b'{"key":"x","value":', b""),
    "JSON: lists without end": _in_json(b"[", b"", b""),
    "JSON: spans": lambda size: b'{"resourceSpans":[{"scopeSpans":[{"spans":[' + _many(b"1000000000000,")(size) + b"{}]}]}]}",
    "JSON: scopes": lambda size: b'{"resourceSpans":[{"scopeSpans":[' + _many(b"{            },")(size) + b"{}]}]}",
    "JSON: events": lambda size: _JSON + b'"events":[' + _many(b'{"name":"123"},')(size) + b"{}]," + _JSON_CALL + b"{}]}]}]}]}",
}  # fmt: skip
PACKED: dict[str, Make] = {
    "gzip: empty parts": _many(gzip.compress(b"")),
    "gzip: parts of a byte": _many(gzip.compress(b"a")),
    "zlib: empty parts": _many(zlib.compress(b"")),
    "zlib: empty blocks": lambda size: b"\x78\x9c" + _many(b"\x00\x00\x00\xff\xff")(size) + b"\x03\x00\x00\x00\x00\x01",
    "gzip: a name without end": lambda size: b"\x1f\x8b\x08\x08" + bytes(6) + b"a" * size,
}


def _measured(name: str, body: bytes, take: Callable[[bytes], object]) -> dict[str, object]:
    Path("/proc/self/clear_refs").write_text("5")
    before = int(Path("/proc/self/statm").read_text().split()[1]) * 4096
    began = time.process_time()
    try:
        said = str(take(body))
    except (TooLarge, Unreadable, Broken) as error:
        said = f"{type(error).__name__} {error}"
    took = time.process_time() - began
    [peak] = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    memory = (int(peak.split()[1]) << 10) - before
    return {"name": name, "size": len(body), "seconds": took, "memory": memory, "said": said}


def costs() -> Iterator[dict[str, object]]:
    intake = Intake(config.load())

    def read(body: bytes, *, as_json: bool) -> str:
        taken = intake.traces(body, as_json=as_json)
        return f"{len(taken.records)} records, refused: {list(taken.refused.values())[:2]}"

    def read_json(body: bytes) -> str:
        return read(body, as_json=True)

    def read_protobuf(body: bytes) -> str:
        return read(body, as_json=False)

    read_protobuf(_span(b""))
    read_json(_JSON + _JSON_CALL + b"{}]}]}]}]}")
    for bodies, take in ((PROTOBUF, read_protobuf), (JSON, read_json), (PACKED, lambda body: inflate(body, LIMIT))):
        for name, make in bodies.items():
            for size in SIZES:
                yield _alone(name, make(size), take)


def _alone(name: str, body: bytes, take: Callable[[bytes], object]) -> dict[str, object]:
    """In a child, so that no other body has left memory that can be used again."""
    end, own_end = os.pipe()
    child = os.fork()
    if child == 0:
        with os.fdopen(own_end, "w") as out:
            json.dump(_measured(name, body, take), out)
        os._exit(0)
    os.close(own_end)
    with os.fdopen(end) as told:
        found = told.read()
    os.waitpid(child, 0)
    return json.loads(found) if found else {"name": name, "size": len(body), "said": "the process died"}


if __name__ == "__main__":
    for cost in costs():
        sys.stdout.write(f"{json.dumps(cost)}\n")

"""HTTP/1.1 on asyncio streams: one request read, one reply written, exactly as broken as it was asked to be.

Always true: a stream is drained after each event; the last event and the end of the body leave in one
write; a client that goes away ends the writing at the next event.
"""

from __future__ import annotations

import asyncio
import http
import importlib
import socket
import struct
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from otel_llmlog.demo.replies import DEFAULT_HUGE_BYTES, FILL_PIECE, PIECE_FILL, WHOLE_FILL
from otel_llmlog.demo.scenarios import MAX_PAUSE_SECONDS, AskError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from otel_llmlog.demo.replies import Reply
    from otel_llmlog.demo.scenarios import Ask

# Raw bodies travel in a header, so headers may be big.
MAX_HEADER_BYTES = 8 << 20
DEFAULT_AFTER = 2
DEFAULT_PAUSE_SECONDS = 10.0

_FILL = b"x" * 65_536
_WHOLE = WHOLE_FILL.encode()
_PIECE = PIECE_FILL.encode()
# Not registered with http.HTTPStatus, used by Anthropic.
_REASONS = {529: "Overloaded"}


class Request(NamedTuple):
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass(slots=True)
class Line:
    """One client connection. `gone` is set when the client has closed its side."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    gone: asyncio.Event

    async def pause(self, seconds: float) -> None:
        """Wait, but not longer than the client does."""
        try:
            async with asyncio.timeout(seconds):
                await self.gone.wait()
        except TimeoutError:
            pass


async def read_request(line: Line) -> Request | None:
    """The next request, or None when the client is done."""
    try:
        head = await line.reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    first, *rest = head[:-4].decode("latin-1").split("\r\n")
    method, target, _ = first.split(" ", 2)
    headers: dict[str, str] = {}
    for entry in rest:
        name, _, value = entry.partition(":")
        name = name.strip().lower()
        value = value.strip()
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    if headers.get("expect", "").lower() == "100-continue":
        line.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    if headers.get("transfer-encoding", "").lower() == "chunked":
        body = await _read_chunks(line.reader)
    else:
        length = int(headers.get("content-length") or 0)
        body = await line.reader.readexactly(length) if length else b""
    return Request(method, target, headers, body)


async def _read_chunks(reader: asyncio.StreamReader) -> bytes:
    body = bytearray()
    while True:
        size = int((await reader.readuntil(b"\r\n")).partition(b";")[0], 16)
        if size == 0:
            # Trailers end with an empty line, as the headers do.
            while await reader.readuntil(b"\r\n") != b"\r\n":
                pass
            return bytes(body)
        body += (await reader.readexactly(size + 2))[:-2]


# --- content encodings


class Encoder(Protocol):
    """`part` ends with everything flushed, so a reader can decode each event as it arrives."""

    def part(self, data: bytes) -> bytes: ...
    def end(self) -> bytes: ...


class _Zlib:
    def __init__(self, window: int) -> None:
        self._packer = zlib.compressobj(6, zlib.DEFLATED, window)

    def part(self, data: bytes) -> bytes:
        return self._packer.compress(data) + self._packer.flush(zlib.Z_SYNC_FLUSH)

    def end(self) -> bytes:
        return self._packer.flush(zlib.Z_FINISH)


class _Brotli:
    def __init__(self) -> None:
        self._packer: Any = importlib.import_module("brotli").Compressor(quality=4)

    def part(self, data: bytes) -> bytes:
        out: bytes = self._packer.process(data) + self._packer.flush()
        return out

    def end(self) -> bytes:
        out: bytes = self._packer.finish()
        return out


class _Zstandard:
    def __init__(self) -> None:
        zstandard: Any = importlib.import_module("zstandard")
        self._packer = zstandard.ZstdCompressor().compressobj()
        self._flush_block = zstandard.COMPRESSOBJ_FLUSH_BLOCK

    def part(self, data: bytes) -> bytes:
        out: bytes = self._packer.compress(data) + self._packer.flush(self._flush_block)
        return out

    def end(self) -> bytes:
        out: bytes = self._packer.flush()
        return out


_ENCODERS: dict[str, Callable[[], Encoder]] = {
    "gzip": lambda: _Zlib(31),
    "deflate": lambda: _Zlib(15),
    "br": _Brotli,
    "zstd": _Zstandard,
}


# --- writing


@dataclass(frozen=True, slots=True)
class Shape:
    """How a reply goes out, read from the request before anything is sent."""

    encoding: str | None
    split: int
    delay: float
    cut_after: int | None
    stall_after: int | None
    stall_seconds: float
    reset: bool
    fill: int

    @property
    def simple(self) -> bool:
        return self.split == 0 and self.cut_after is None and self.stall_after is None and self.fill == 0


def _setting(ask: Ask, header: str, low: int, high: int) -> int:
    text = ask.option(header)
    if text is None:
        return 0
    if not text.isdigit() or not low <= int(text) <= high:
        raise AskError(f"x-{header} must be from {low} to {high}, found {text}")
    return int(text)


def read_shape(ask: Ask) -> Shape:
    encoding = ask.option("encoding")
    if encoding is not None and encoding not in _ENCODERS:
        raise AskError(f"unknown x-encoding {encoding}; known: {', '.join(_ENCODERS)}")
    after = ask.whole("after", DEFAULT_AFTER)
    return Shape(
        encoding=encoding,
        split=_setting(ask, "chunk-bytes", 1, 1 << 30),
        delay=_setting(ask, "event-delay-ms", 0, int(MAX_PAUSE_SECONDS * 1000)) / 1000,
        cut_after=after if ask.scenario == "cut" else None,
        stall_after=after if ask.scenario == "stall" else None,
        stall_seconds=ask.seconds("seconds", DEFAULT_PAUSE_SECONDS),
        reset=ask.params.get("how") == "reset",
        fill=ask.whole("bytes", DEFAULT_HUGE_BYTES) if ask.scenario == "huge" else 0,
    )


def _head(reply: Reply, encoding: str | None, length: int | None, *, keep: bool) -> bytes:
    reason = _REASONS.get(reply.status)
    if reason is None:
        try:
            reason = http.HTTPStatus(reply.status).phrase
        except ValueError:
            reason = "Unknown"
    size = "transfer-encoding: chunked" if length is None else f"content-length: {length}"
    text = f"HTTP/1.1 {reply.status} {reason}\r\ncontent-type: {reply.content_type}\r\n{size}\r\n{reply.headers}"
    if encoding:
        text += f"content-encoding: {encoding}\r\n"
    if reply.events is not None:
        text += "cache-control: no-cache\r\n"
    if not keep:
        text += "connection: close\r\n"
    return (text + "\r\n").encode("latin-1", "replace")


def _expanded(unit: bytes, fill: int) -> Iterator[bytes]:
    """The unit with its marks replaced, never holding the whole filling."""
    while True:
        places = [(unit.find(_WHOLE), fill), (unit.find(_PIECE), FILL_PIECE)]
        at, size = min((place for place in places if place[0] >= 0), default=(-1, 0))
        if at < 0:
            yield unit
            return
        yield unit[:at]
        for start in range(0, size, len(_FILL)):
            yield _FILL[: min(len(_FILL), size - start)]
        unit = unit[at + len(_WHOLE) :]


class BodyWriter:
    """Encodes, re-splits and frames. `sent` counts body bytes on the wire, content-encoded, without framing."""

    def __init__(self, line: Line, encoder: Encoder | None, split: int, *, chunked: bool) -> None:
        self._line = line
        self._encoder = encoder
        self._split = split
        self._chunked = chunked
        self._pending = b""
        self.sent = 0

    def _framed(self, data: bytes, *, flush: bool) -> bytes:
        if not self._chunked:
            self.sent += len(data)
            return data
        if not self._split:
            self.sent += len(data)
            return b"%x\r\n%b\r\n" % (len(data), data) if data else b""
        data = self._pending + data
        whole = len(data) if flush else len(data) - len(data) % self._split
        self._pending = data[whole:]
        self.sent += whole
        pieces = (data[i : min(i + self._split, whole)] for i in range(0, whole, self._split))
        return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)

    async def send(self, unit: bytes, fill: int, *, last: bool) -> None:
        writer = self._line.writer
        out = b""
        for part in _expanded(unit, fill) if fill else (unit,):
            data = self._encoder.part(part) if self._encoder else part
            out += self._framed(data, flush=False)
            if len(out) >= len(_FILL):
                writer.write(out)
                await writer.drain()
                out = b""
        if last:
            out += self._framed(self._encoder.end() if self._encoder else b"", flush=True)
            out += b"0\r\n\r\n" if self._chunked else b""
        writer.write(out)
        await writer.drain()

    async def flush(self) -> None:
        self._line.writer.write(self._framed(b"", flush=True))
        await self._line.writer.drain()

    async def send_half(self, unit: bytes, fill: int) -> None:
        """A chunk that promises the whole unit and holds half of it."""
        data = b"".join(_expanded(unit, fill)) if fill else unit
        data = self._encoder.part(data) if self._encoder else data
        half = data[: len(data) // 2]
        if self._chunked:
            await self.flush()
            self._line.writer.write(b"%x\r\n" % len(data))
        self.sent += len(half)
        self._line.writer.write(half)
        await self._line.writer.drain()


async def deliver(reply: Reply, shape: Shape, line: Line, *, keep: bool, count: Callable[[int], None]) -> str:
    """Send the reply. Returns how that ended: complete, client_gone or cut."""
    if reply.events is None and shape.simple:
        body = reply.body
        if shape.encoding and body:
            packer = _ENCODERS[shape.encoding]()
            body = packer.part(body) + packer.end()
        line.writer.write(_head(reply, shape.encoding, len(body), keep=keep) + body)
        count(len(body))
        await line.writer.drain()
        return "complete"

    if reply.events is not None:
        units = reply.events
        last = len(units) - 1
    else:
        # A plain body is cut or stalled in its middle: two units, sent one after the other.
        middle = len(reply.body) // 2 if shape.cut_after is not None or shape.stall_after else 0
        units = [reply.body[:middle], reply.body[middle:]] if middle else [reply.body]
        last = len(units) - 1
    length = None
    if reply.events is None and not shape.encoding and not shape.split:
        grown = shape.fill - len(_WHOLE) if shape.fill else 0
        length = len(reply.body) + reply.body.count(_WHOLE) * grown
    line.writer.write(_head(reply, shape.encoding, length, keep=keep))
    encoder = _ENCODERS[shape.encoding]() if shape.encoding else None
    out = BodyWriter(line, encoder, shape.split, chunked=length is None)
    stall_at = None if shape.stall_after is None else min(shape.stall_after, max(last, 0))
    cut_at = None if shape.cut_after is None else min(shape.cut_after, max(last, 0))
    try:
        if not units:
            await out.send(b"", 0, last=True)
        for i, unit in enumerate(units):
            if i == stall_at:
                await out.flush()
                await line.pause(shape.stall_seconds)
            elif shape.delay and i:
                await line.pause(shape.delay)
            elif i:
                # Lets other connections run and this one notice that its client has left.
                await asyncio.sleep(0)
            if line.gone.is_set():
                return "client_gone"
            if i == cut_at:
                await out.send_half(unit, shape.fill)
                _close(line, reset=shape.reset)
                return "cut"
            await out.send(unit, shape.fill, last=i == last)
        return "complete"
    finally:
        count(out.sent)


def _close(line: Line, *, reset: bool) -> None:
    if reset:
        # Linger 0 makes the close a reset instead of an orderly end.
        connection: socket.socket | None = line.writer.get_extra_info("socket")
        if connection is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    line.writer.close()

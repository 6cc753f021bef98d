"""Undo a response's content encoding on our copy of its bytes, piece by piece, so that times stay with their pieces.

Always true: no input raises, and no more than `limit` bytes come out, however well they were packed.
"""

from __future__ import annotations

import importlib
import zlib
from collections.abc import Callable, Sequence
from typing import Any

# (compressed piece, most bytes wanted) -> bytes
Decode = Callable[[bytes, int], bytes]
# Compressed bytes given at once to a library that knows no limit: they open to some 30 MB at the very most.
_SLICE = 64


def decoded(pieces: Sequence[bytes], encoding: str, limit: int) -> tuple[list[bytes], str | None]:
    """The pieces without their encoding (one for one), and a note when not all of them could be read."""
    result: list[bytes] = list(pieces)
    for name in reversed([part.strip().lower() for part in encoding.split(",")]):
        if name in {"", "identity"}:
            continue
        decode = _decoder(name)
        if decode is None:
            return [], f"the body's encoding {name[:32]!r} cannot be read: its library is not installed"
        result, note = _run(decode, result, limit)
        if note is not None:
            return result, note
    return result, None


def _run(decode: Decode, pieces: Sequence[bytes], limit: int) -> tuple[list[bytes], str | None]:
    result: list[bytes] = []
    for piece in pieces:
        try:
            # An empty piece after the end of its data is an error to some.
            opened = decode(piece, limit) if piece else b""
        except Exception:  # each library has its own error classes
            return result, "the body's encoding is broken: read up to there"
        result.append(opened)
        limit -= len(opened)
        if limit <= 0:
            return result, "the body is larger than LLMLOG_MAX_BODY_BYTES: read up to there"
    return result, None


def _decoder(name: str) -> Decode | None:
    if name in {"gzip", "x-gzip"}:
        return zlib.decompressobj(zlib.MAX_WBITS | 16).decompress
    if name == "deflate":
        return _deflate()
    if name == "br":
        return _brotli()
    if name == "zstd":
        return _zstd()
    return None


def _deflate() -> Decode:
    # "deflate" means the zlib format, but servers also send it bare: the first piece tells.
    opened: list[Any] = []

    def decode(piece: bytes, limit: int) -> bytes:
        if not opened:
            opened.append(zlib.decompressobj())
            try:
                return bytes(opened[0].decompress(piece, limit))
            except zlib.error:
                opened[0] = zlib.decompressobj(-zlib.MAX_WBITS)
        return bytes(opened[0].decompress(piece, limit))

    return decode


def _import(*names: str) -> Any:
    for name in names:
        try:
            return importlib.import_module(name)
        except ImportError:
            continue
    return None


def _brotli() -> Decode | None:
    library = _import("brotli", "brotlicffi")
    if library is None:
        return None
    decompressor = library.Decompressor()
    opened = getattr(decompressor, "process", None) or decompressor.decompress
    try:
        opened(b"", output_buffer_limit=1)
    except TypeError:  # before brotli 1.2
        return _in_slices(opened)
    return lambda piece, limit: bytes(opened(piece, output_buffer_limit=limit)[:limit])


def _zstd() -> Decode | None:
    # Python 3.14 has its own; on older ones httpx2 brings the backport, and httpx works with `zstandard`.
    library = _import("compression.zstd", "backports.zstd")
    if library is not None:
        stream = library.ZstdDecompressor()
        return lambda piece, limit: bytes(stream.decompress(piece, limit))
    library = _import("zstandard")
    return _in_slices(library.ZstdDecompressor().decompressobj().decompress) if library is not None else None


def _in_slices(decompress: Callable[[bytes], bytes]) -> Decode:
    """A limit for a library that has none: stop between two slices of the compressed bytes."""

    def decode(piece: bytes, limit: int) -> bytes:
        opened, size = [], 0
        for at in range(0, len(piece), _SLICE):
            opened.append(decompress(piece[at : at + _SLICE]))
            size += len(opened[-1])
            if size >= limit:
                break
        return b"".join(opened)[:limit]

    return decode

"""Unpacking what senders packed, with a hard limit.

Always true: no more than the limit is ever unpacked, however well it was packed; time is linear in what is packed,
however many parts it has.
"""

from __future__ import annotations

import zlib

from otel_llmlog.sink.received import TooLarge

# Lets zlib tell gzip from deflate by the first bytes.
_ANY_HEADER = 47
# Parts, one after the other, that one body may consist of. Senders make one; a stream costs as much as 100 KB of text.
_MOST_PARTS = 1024
# Bytes that zlib is given at once: what follows the end of a part is copied.
_PIECE = 65_536


class Broken(Exception):  # noqa: N818 - it says what is wrong
    """What is said to be packed is not."""


def inflate(packed: bytes, limit: int) -> bytes:
    """Unpack gzip or deflate. Raises TooLarge, Broken."""
    found: list[bytes] = []
    size = at = parts = 0
    given = memoryview(packed)
    while at < len(packed):
        # A gzip file may be several, one after the other.
        stream = zlib.decompressobj(_ANY_HEADER)
        if (parts := parts + 1) > _MOST_PARTS:
            raise Broken(f"the packed body has more than {_MOST_PARTS} parts")
        while not stream.eof:
            piece = given[at : at + _PIECE]
            if not piece:
                raise Broken("the packed body ends too early")
            try:
                found.append(stream.decompress(piece, limit - size + 1))
            except zlib.error:
                raise Broken("the body is not packed as it says") from None
            size += len(found[-1])
            if size > limit:
                raise TooLarge
            at += len(piece) - len(stream.unused_data)
    return found[0] if len(found) == 1 else b"".join(found)

"""Unpacking what senders packed, with a hard limit.

Always true: no more than the limit is ever unpacked, however well it was packed.
"""

from __future__ import annotations

import zlib

from otel_llmlog.sink.received import TooLarge

# Lets zlib tell gzip from deflate by the first bytes.
_ANY_HEADER = 47


class Broken(Exception):  # noqa: N818 - it says what is wrong
    """What is said to be packed is not."""


def inflate(packed: bytes, limit: int) -> bytes:
    """Unpack gzip or deflate. Raises TooLarge, Broken."""
    parts: list[bytes] = []
    size = 0
    while packed:
        stream = zlib.decompressobj(_ANY_HEADER)
        try:
            parts.append(stream.decompress(packed, limit - size + 1))
        except zlib.error:
            raise Broken("the body is not packed as it says") from None
        size += len(parts[-1])
        if size > limit:
            raise TooLarge
        if not stream.eof:
            raise Broken("the packed body ends too early")
        # A gzip file may be several, one after the other.
        packed = stream.unused_data
    return parts[0] if len(parts) == 1 else b"".join(parts)

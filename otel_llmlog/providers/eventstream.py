"""AWS's binary event streams (`application/vnd.amazon.eventstream`) out of a stream's bytes.

A frame is a prelude (length of the frame, length of its headers, CRC-32 of both), the headers, the payload, and a
CRC-32 of all before it; numbers are big-endian. Source: botocore.eventstream of the installed SDK, and the AWS SDKs'
reference on event streams.

Always true: no input raises; time is linear in the size; a frame that is broken, or cut off at either end, is passed
over, and what follows it is read.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from typing import NamedTuple
from zlib import crc32

CONTENT_TYPE = "application/vnd.amazon.eventstream"
_PRELUDE = struct.Struct(">III")
_SHORT = struct.Struct(">H")
# The prelude, and the checksum at the end.
_OVERHEAD = _PRELUDE.size + 4
# What AWS allows: 24 MB of payload and 128 KB of headers.
_MAX_HEADERS = 128 * 1024
_MAX_FRAME = 24 * 1024 * 1024 + _MAX_HEADERS + _OVERHEAD
# Where the headers of a frame begin: with the name of one, behind its length.
_FIRST_HEADER = re.compile(rb"[\x0b\x0d\x0f]:(?:event-type|message-type|content-type|error-code|exception-type)")
# Bytes of a value by the number of its type; of the two that are missing, the length stands in front of the value.
_SIZES = {0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 8: 8, 9: 16}
_TEXT = 7
_WITH_LENGTH = frozenset({6, _TEXT})


class Frame(NamedTuple):
    """One message of a stream. `end` is the offset in the stream where it ended."""

    headers: dict[bytes, bytes]
    """Those that are texts."""
    payload: bytes
    end: int


def frames(stream: bytes) -> Iterator[Frame]:
    """The whole frames of a stream, in order."""
    at = 0
    while at + _OVERHEAD <= len(stream):
        total, header_length, checksum = _PRELUDE.unpack_from(stream, at)
        if (
            not _OVERHEAD + header_length <= total <= _MAX_FRAME
            or header_length > _MAX_HEADERS
            or crc32(stream[at : at + 8]) != checksum
        ):
            # Not the beginning of a frame: look for the next one.
            found = _FIRST_HEADER.search(stream, at + 1 + _PRELUDE.size)
            if found is None:
                return
            at = found.start() - _PRELUDE.size
            continue
        end = at + total
        if end > len(stream):
            return
        if crc32(stream[at : end - 4]) == int.from_bytes(stream[end - 4 : end]):
            start = at + _PRELUDE.size
            yield Frame(_headers(stream[start : start + header_length]), stream[start + header_length : end - 4], end)
        at = end


def _headers(data: bytes) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = {}
    at = 0
    while at < len(data):
        name = data[at + 1 : at + 1 + data[at]]
        at += 1 + len(name)
        kind = data[at] if at < len(data) else 0
        at += 1
        size = _SIZES.get(kind)
        if kind in _WITH_LENGTH and at + 2 <= len(data):
            size = _SHORT.unpack_from(data, at)[0]
            at += 2
        if size is None:
            break
        if kind == _TEXT:
            found[name] = data[at : at + size]
        at += size
    return found


def frame(headers: dict[str, str], payload: bytes) -> bytes:
    """The bytes of one frame, its headers all texts."""
    packed = b"".join(
        bytes([len(name)]) + name.encode() + bytes([_TEXT]) + _SHORT.pack(len(value.encode())) + value.encode()
        for name, value in headers.items()
    )
    prelude = struct.pack(">II", _OVERHEAD + len(packed) + len(payload), len(packed))
    message = prelude + struct.pack(">I", crc32(prelude)) + packed + payload
    return message + struct.pack(">I", crc32(message))

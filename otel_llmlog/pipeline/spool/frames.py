"""Frames: how one payload stands in a segment so that damage around it does not reach it.

Always true: `scan` never raises on any bytes; a frame that nothing has touched is read however damaged its
surroundings are; what does not check is passed over up to the next frame that does, and reported as a `Gap`, but for
zeros at the end. On disk, little endian:

    magic 4 | kind 1 | payload length 4 | ticket 8 | crc32 of payload 4 | crc32 of the 21 bytes before 4 | payload

The header has a check of its own, so that a damaged length is never followed: scanning takes time in proportion to
the bytes. Both checks start from a seed made of the segment's name, which is random: a payload that quotes a frame of
another segment is never mistaken for one.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import NamedTuple
from zlib import crc32

# Kinds of frames. Readers pass over kinds they do not know.
INTENT, OUTCOME, DELIVERED, ENDING = 1, 2, 3, 4

# 0xf5 and 0xff stand in no UTF-8 text, so a payload's strings never look like the start of a frame.
MAGIC = b"\xf5\x4c\xff\x67"
# Longest payload. Longer ones are refused; a header that claims more is damage.
MAX_PAYLOAD = 16 << 20
# Bytes read at once: large enough that the system call does not count, small enough to stay in the CPU's cache.
_CHUNK = 256 << 10

_CHECKED = struct.Struct("<4sBIQI")
_CHECK = struct.Struct("<I")
_HEADER = struct.Struct("<4sBIQII")
HEADER_BYTES = _HEADER.size

_pack = _CHECKED.pack
_pack_check = _CHECK.pack
_unpack_length = _CHECK.unpack_from

# Where in a frame its payload's length stands.
_LENGTH_AT = 5

# Reads up to `size` bytes at `offset`; fewer at the end of the file.
Read = Callable[[int, int], bytes]


class Frame(NamedTuple):
    """A frame that checks. It ends where the next one begins."""

    kind: int
    ticket: int
    """Ties an outcome to its intent; 0 for none."""
    payload: bytes
    start: int
    end: int


class Gap(NamedTuple):
    """Bytes that belong to no readable frame."""

    start: int
    end: int


def seed(name: str) -> int:
    """Where the checks of a segment start from."""
    return crc32(name.encode())


def encode(kind: int, ticket: int, payload: bytes, seed: int) -> bytes:
    """The bytes of one frame."""
    head = _pack(MAGIC, kind, len(payload), ticket, crc32(payload, seed))
    return head + _pack_check(crc32(head, seed)) + payload


def size_at(view: memoryview, at: int) -> int:
    """Bytes of the frame that stands there."""
    return HEADER_BYTES + int(_unpack_length(view, at + _LENGTH_AT)[0])


def scan(read: Read, start: int, end: int, seed: int) -> Iterator[Frame | Gap]:
    """Every frame between two offsets, and the gaps between them, in order. Holds one chunk or one frame at a time."""
    window, base = b"", start  # `window` is what the file holds from `base` on
    position, bad = start, -1
    while position < end:
        at = position - base
        held = len(window) - at
        need = HEADER_BYTES
        header = None
        if held >= HEADER_BYTES and window.startswith(MAGIC, at):
            header = _HEADER.unpack_from(window, at)
            if header[5] != crc32(window[at : at + _CHECKED.size], seed) or header[2] > MAX_PAYLOAD:
                header = None
            else:
                need += header[2]
        if held < need and held < end - position and need <= max(end - position, HEADER_BYTES):
            more = read(base + len(window), min(max(_CHUNK, need - held), end - position - held))
            window, base = window[at:] + more, position
            if not more:  # the file is shorter than it was said to be
                end = position + held
            continue
        if header is not None and held >= need:
            payload = window[at + HEADER_BYTES : at + need]
            if crc32(payload, seed) == header[4]:
                if bad >= 0:
                    yield Gap(bad, position)
                    bad = -1
                frame = Frame(header[1], header[3], payload, position, position + need)
                position += need
                yield frame
                continue
        if bad < 0:
            bad = position
        following = window.find(MAGIC, at + 1)
        # The last three bytes of the window may begin a magic that goes on in the next one.
        position = base + following if following >= 0 else max(position + 1, base + len(window) - len(MAGIC) + 1)
    if 0 <= bad < end and not is_blank(read, bad, end):
        yield Gap(bad, end)


def is_blank(read: Read, start: int, end: int) -> bool:
    """Whether there are only zeros: disk that is allocated and not used."""
    while start < end:
        chunk = read(start, min(_CHUNK, end - start))
        if not chunk:
            break
        if chunk.strip(b"\0"):
            return False
        start += len(chunk)
    return True


def decode(data: bytes, seed: int) -> list[Frame]:
    """The frames in these bytes."""
    found = scan(lambda at, size: data[at : at + size], 0, len(data), seed)
    return [frame for frame in found if isinstance(frame, Frame)]

"""Headers of a request and of its reply, from any client: looked at and packed on the app's thread, unpacked off it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

# Names and values as they went over the wire.
Headers = list[tuple[bytes, bytes]]

_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(tuple[list[tuple[bytes, ...]], list[tuple[bytes, ...]]]).decode
NONE = _pack(((), ()))


def entries(headers: Any) -> Sequence[tuple[bytes, ...]]:
    """Of each header a tuple that begins with its name and ends with its value. Not to be changed.

    httpx keeps such a list, and has no public way to it: each time it is asked for `raw` it makes another.
    """
    found: Sequence[tuple[bytes, ...]]
    try:
        found = headers._list  # noqa: SLF001 - see above
    except AttributeError:
        found = headers.raw
    return found


def pack(request: Any, reply: Any) -> bytes:
    """Both as one object: tuples in a list are work for the garbage collector. `reply` is None where there is none.

    Raises whatever the headers of an unknown client raise.
    """
    return _pack((entries(request), () if reply is None else entries(reply)))


def unpack(packed: bytes) -> tuple[Headers, Headers]:
    """Those of the request and of its reply. Raises ValueError for what are no headers."""
    try:
        request, reply = _unpack(packed)
        return [(each[0], each[-1]) for each in request], [(each[0], each[-1]) for each in reply]
    except (msgspec.DecodeError, IndexError):
        raise ValueError("headers are names and values, as bytes") from None

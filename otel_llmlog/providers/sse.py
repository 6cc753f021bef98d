"""Server-sent events out of a stream's bytes: all of them at once, on the background path.

Source of the rules: the WHATWG HTML standard, "Server-sent events". Where the bytes were split on the wire makes
no difference; a comment, an unknown field and a cut-off last event are passed over.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from typing import NamedTuple

_LONE_CR = re.compile(rb"\r(?!\n)")


class Event(NamedTuple):
    """One event. `end` is the offset in the stream where it ended."""

    name: bytes
    data: bytes
    end: int


def events(stream: bytes) -> Iterator[Event]:
    """The events of a stream in order. The last one counts also when its blank line never came."""
    if stream.count(b"\r") > stream.count(b"\r\n"):
        stream = _LONE_CR.sub(b"\n", stream)
    name, at = b"", 0
    data: list[bytes] = []
    for ended in stream.split(b"\n"):
        at = min(at + len(ended) + 1, len(stream))
        line = ended.removesuffix(b"\r")
        if not line:
            if data:
                yield Event(name, data[0] if len(data) == 1 else b"\n".join(data), at)
                data = []
            name = b""
        elif line.startswith(b"data:"):
            data.append(line[6:] if line.startswith(b"data: ") else line[5:])
        elif line.startswith(b"event:"):
            name = line[6:].strip()
    if data:
        yield Event(name, b"\n".join(data), at)


def telling(stream: bytes, begun: Callable[[], bool], dull: Callable[[bytes], bool]) -> Iterator[Event]:
    """The events of a stream without those that are dull, from where the caller has begun to pass them over.

    Most of a stream is text of the model. To look at all that a block holds, its line breaks and names, costs several
    times as much as one look whether it is worth that.
    """
    if b"\r" in stream:
        yield from (event for event in events(stream) if not (begun() and dull(event.data)))
        return
    blocks = iter(stream.split(b"\n\n"))
    at = 0
    for block in blocks:
        end = min(at + len(block) + 2, len(stream))
        for event in events(block):
            yield event._replace(end=end)
        at = end
        if begun():
            break
    for block in blocks:
        if not dull(block):
            yield from events(block)


def piece_at(pieces: Sequence[bytes], end: int) -> int:
    """Index of the piece that holds the byte before offset `end`."""
    for index, upto in enumerate(accumulate(map(len, pieces))):
        if upto >= end:
            return index
    return max(len(pieces) - 1, 0)

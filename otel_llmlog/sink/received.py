"""What one request held, as plain data, whatever it was written in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from otel_llmlog.emit import COPY, TRACE_COPY

One = TypeVar("One")

# Service of a sender that does not name it, as in OpenTelemetry's SDKs.
UNKNOWN_SERVICE = "unknown_service"
# Calls, or log records, that one request may hold. A span of a call has more than a kilobyte, so that honest requests
# meet the limit of bytes first; those made of the smallest possible spans would fill memory and the database's time.
MOST = 20_000
# Spans or log records of any kind that one request may hold.
_MOST_OF_ANY = 400_000
# Characters of a service's name that are kept.
_MOST_NAME = 512


# Bytes on the wire that a value has at least, on average over a request: what is read of it takes some 50 bytes in
# memory then for 4 on the wire. Honest ones have names and texts.
_BYTES_OF_VALUE = 4
# Such values that an attribute is worth: its name takes memory, too. And what an array or a map adds.
ATTRIBUTE, CONTAINER = 4, 6
# Levels of values in values that are read.
MAX_DEPTH = 32
TOO_MANY_VALUES = "it holds too many values for its size"


class TooManyValues(Exception):  # noqa: N818 - it says what is wrong
    """A span or log record would take far more memory than bytes on the wire."""


class Room:
    """How many values may still be read of a request. What one that is refused has taken is given back."""

    __slots__ = ("left",)

    def __init__(self, size: int) -> None:
        """`size`: bytes of the request."""
        self.left = size // _BYTES_OF_VALUE + MOST

    def take(self, number: int) -> None:
        """So many more are read. Raises TooManyValues."""
        self.left -= number
        if self.left < 0:
            raise TooManyValues


class Unreadable(Exception):  # noqa: N818 - it says what is wrong
    """A whole request that is no OTLP. The argument says why and quotes nothing of it."""


class TooLarge(Exception):  # noqa: N818 - the same
    """A request is larger than what is taken at once."""


@dataclass(slots=True)
class Received(Generic[One]):
    """The spans or log records of a request that are worth a look, and how many there were."""

    count: int = 0
    """All spans or log records, read or not."""
    found: list[One] = field(default_factory=list)
    unreadable: Counter[tuple[str, str]] = field(default_factory=Counter)
    """How many could not be read, by service and reason."""

    def saw(self, number: int) -> None:
        """So many more, of any kind. Raises TooLarge."""
        self.count += number
        if self.count > _MOST_OF_ANY:
            raise TooLarge

    def add(self, one: One) -> None:
        """One that is worth a look. Raises TooLarge."""
        if len(self.found) >= MOST:
            raise TooLarge
        self.found.append(one)

    def refuse(self, service: str, reason: str) -> None:
        """One that cannot be read. Raises TooLarge."""
        if len(self.unreadable) >= MOST:
            raise TooLarge
        self.unreadable[service[:_MOST_NAME], reason] += 1


def is_trace_copy(scope: Mapping[str, Any]) -> bool:
    """Whether the spans of a scope with these attributes are calls whose records come by themselves.

    Such a span may be cut by its app's limits, and the first of two copies would be the row. An app marks its spans
    only while it sends records, too: spans without the mark are the calls.
    """
    return scope.get(COPY) == TRACE_COPY

"""What one request held, as plain data, whatever it was written in."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Generic, TypeVar

One = TypeVar("One")

# Service of a sender that does not name it, as in OpenTelemetry's SDKs.
UNKNOWN_SERVICE = "unknown_service"


class Unreadable(Exception):  # noqa: N818 - it says what is wrong
    """A whole request that is no OTLP. The argument says why and quotes nothing of it."""


@dataclass(slots=True)
class Received(Generic[One]):
    """The spans or log records of a request that are worth a look, and how many there were."""

    count: int = 0
    """All spans or log records, read or not."""
    found: list[One] = field(default_factory=list)
    unreadable: list[tuple[str, str]] = field(default_factory=list)
    """Service and reason of each one that could not be read."""

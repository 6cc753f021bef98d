"""Record: the one unit that both signals become on their way to a table. Plain data, ready to be written down."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

Kind = Literal["span", "log", "content"]


@dataclass(frozen=True, slots=True)
class Record:
    """One LLM call (a span), one audit event (a log), or what was said in a call whose span comes apart (a content).

    Delivering it twice stores it once. The identity of a span is (start_ns, trace_id, span_id); that of a log is the id
    in its attributes; a content belongs to the span of (trace_id, span_id).
    """

    trace_id: str
    """32 hex digits; empty in a log without a trace."""
    span_id: str
    """16 hex digits; empty in a log without a span."""
    parent_span_id: str | None
    start_ns: int
    """Epoch nanoseconds."""
    end_ns: int
    service_name: str
    attributes: Mapping[str, Any]
    """The call in the `llmlog.*` dialect, the event in `llmlog.audit.*`."""
    kind: Kind = "span"


@dataclass(frozen=True, slots=True)
class Delivery:
    """What became of a batch. Every record of it is in exactly one of the three."""

    written: int = 0
    duplicates: int = 0
    """Already there: stored by an earlier try or by another process."""
    rejected: Sequence[tuple[Record | None, str]] = field(default_factory=tuple)
    """Records that can never be stored, each with the reason; None where it is not known which record it was."""


class Exporter(Protocol):
    """Where records go. One thread calls it at a time."""

    def open(self) -> None:
        """Get ready while the first batch fills. Raises StoreUnavailable; `export` then tries again."""
        ...

    def export(self, records: Sequence[Record]) -> Delivery:
        """Deliver a batch and return only once it is safe. Raises StoreUnavailable when it should be tried again."""
        ...

    def close(self) -> None:
        """Give back connections. May be called twice; never raises."""
        ...

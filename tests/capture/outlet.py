"""Where captured calls go in these tests: into a function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Outlet:
    """Hands each finished call to `deliver(ids, start_ns, end_ns, attributes)`; notes what else it is told."""

    def __init__(self, deliver: Callable[..., Any]) -> None:
        self.deliver = deliver
        self.intended: list[dict[str, str]] = []
        self.ended: list[tuple[int, int, bytes]] = []
        self.notes_endings = True
        self.forgotten: list[int] = []

    def open(self) -> None: ...

    def intend(self, ids: Any, start_ns: int, facts: dict[str, str]) -> int:
        self.intended.append(facts)
        return len(self.intended)

    def end(self, ticket: int, end_ns: int, brief: bytes) -> bool:
        self.ended.append((ticket, end_ns, brief))
        return self.notes_endings

    def accept(self, calls: Any) -> None:
        for ids, start_ns, end_ns, attributes, _ in calls:
            self.deliver(ids, start_ns, end_ns, attributes)

    def forget(self, ticket: int) -> None:
        self.forgotten.append(ticket)

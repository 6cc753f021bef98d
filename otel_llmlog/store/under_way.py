"""UnderWay: the rest of a conversation with the server, taken further whenever its caller looks.

Always true: `go_on` never waits and never raises; an error is raised by `finish`, once.
"""

from __future__ import annotations

import select
from collections.abc import Callable, Generator
from typing import Any

from psycopg.waiting import Ready, Wait

from otel_llmlog import native

# Steps as psycopg's generators take them: each yields what the socket should be ready for.
Steps = Generator[Any, Any, None]
_EVENTS = {Wait.R: select.POLLIN, Wait.W: select.POLLOUT, Wait.RW: select.POLLIN | select.POLLOUT}


class UnderWay:
    """Steps that depend on a socket. `wait` runs others of their kind to the end, as a connection's own does."""

    def __init__(self, steps: Steps, socket: int, wait: Callable[[Steps], None]) -> None:
        self._steps = steps
        self._socket = socket
        self._wait = wait
        self._wanted: Any = None
        self._over = False
        self._error: Exception | None = None
        self._poll = native.poll()
        self._step(None)

    def go_on(self) -> bool:
        """Do what can be done without waiting; whether that was all."""
        while not self._over and (ready := self._ready()):
            self._step(ready)
        return self._over

    def finish(self) -> None:
        """Do the rest, waiting as long as it takes. Raises what went wrong."""
        if not self._over:
            self._wait(self._rest())
        if self._error is not None:
            raise self._error

    def _rest(self) -> Steps:
        while not self._over:
            self._step((yield self._wanted))

    def _step(self, ready: Any) -> None:
        try:
            self._wanted = self._steps.send(ready)
        except StopIteration:
            self._over = True
        except Exception as error:  # kept for `finish`: whoever looks in between is doing something else
            self._over, self._error = True, error

    def _ready(self) -> int:
        self._poll.register(self._socket, _EVENTS[self._wanted])
        # A socket that was hung up or is at fault is ready for all: the step that tries it learns why.
        found = sum(
            (Ready.R if event & ~select.POLLOUT else 0) | (Ready.W if event & ~select.POLLIN else 0)
            for _, event in self._poll.poll(0)
        )
        return found & int(self._wanted)

"""How many bytes of requests are held, unpacked, from their arrival until they are stored. Any thread."""

from __future__ import annotations

import asyncio
import threading
from typing import Any


class Bytes:
    """The sum over all requests."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.total = 0

    def hold(self, number: int) -> Held:
        """A request of so many bytes has arrived."""
        held = Held(self)
        self.change(number)
        held.number = number
        return held

    def change(self, number: int, limit: int | None = None) -> bool:
        """Add to the sum, unless that would bring it above the limit."""
        with self._lock:
            if limit is not None and self.total + number > limit:
                return False
            self.total += number
            return True


class Held:
    """The bytes of one request."""

    def __init__(self, of: Bytes) -> None:
        self._of = of
        self.number = 0
        self._until_stored = False

    def grow(self, number: int, limit: int) -> bool:
        """It has so many bytes, unpacked; False when all together would have more than the limit.

        One that is alone always fits: what a single request may have is limited elsewhere.
        """
        more = number - self.number
        if more > 0 and not self._of.change(more, None if self._of.total <= self.number else limit):
            return False
        self.number = max(number, self.number)
        return True

    def until(self, stored: asyncio.Future[Any]) -> None:
        """Hold on until that is done, whether anybody waits for it or not."""
        self._until_stored = True

        def done(future: asyncio.Future[Any]) -> None:
            if not future.cancelled():
                future.exception()  # somebody has looked at it, even if the sender has gone
            self._of.change(-self.number)

        stored.add_done_callback(done)

    def release(self) -> None:
        """The request is answered: give the bytes back, unless they wait for something else."""
        if not self._until_stored:
            self._of.change(-self.number)

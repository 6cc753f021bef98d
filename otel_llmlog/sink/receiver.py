"""What both transports do with a request: let it in, read it, have it stored, say what became of it.

Always true: requests in hand, their bytes and their unpacked size have limits; what is over a limit that time heals is
told to come again, what is too large for good is told so; nothing is read of a request that is not let in.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Literal, NamedTuple

from otel_llmlog.config import SinkSettings
from otel_llmlog.errors import StoreUnavailable
from otel_llmlog.sink.budget import Bytes, Held
from otel_llmlog.sink.commit import Committer
from otel_llmlog.sink.inflate import Broken, inflate
from otel_llmlog.sink.intake import Intake, Taken
from otel_llmlog.sink.received import MOST, TooLarge, Unreadable
from otel_llmlog.sink.senders import Sender, Senders
from otel_llmlog.stats import Stats

Signal = Literal["traces", "logs", "metrics"]

# A body that is packed begins with one of these, an OTLP request with none: its first byte is 0x0A.
_PACKED = (b"\x1f", b"\x78")
# Bytes of a body that is read at once, on the event loop: handing it to another thread costs more.
_AT_ONCE = 16_384
_BUSY = "too many requests wait for their commit; try again"
# Reasons that an answer tells.
_TOLD = 3
# Seconds after which a sender is asked to try again.
AGAIN_WHEN_BUSY, AGAIN_WHEN_AWAY = 1, 3


class Refused(Exception):  # noqa: N818 - it says what became of the request
    """The request was not taken; nothing of it is kept. Its argument says why, in one line."""


class Unauthenticated(Refused):
    """The token is not there or is another."""


class Bad(Refused):
    """It will never be taken as it is."""


class Oversized(Refused):
    """It is larger than LLMLOG_SINK_MAX_MESSAGE_BYTES, and always will be."""


class Busy(Refused):
    """Too much is under way: it should be sent again."""


class Away(Refused):
    """The database does not answer: it should be sent again."""


class Answer(NamedTuple):
    """The request was taken: all of it that is not `rejected` is stored, or is nothing that is stored."""

    rejected: int
    message: str


class Receiver:
    """Takes requests. For one event loop."""

    def __init__(self, intake: Intake, committer: Committer, settings: SinkSettings, stats: Stats) -> None:
        self._intake = intake
        self._committer = committer
        self._settings = settings
        self._stats = stats
        self._senders = Senders(settings)
        self._requests = 0
        self._of_sender = Counter[str]()
        self._bytes = Bytes()
        # One at a time: what a large body grows to while it is read is there once.
        self._reader = ThreadPoolExecutor(1, thread_name_prefix="llmlog-read")

    def close(self) -> None:
        """Give the thread back."""
        self._reader.shutdown(wait=False, cancel_futures=True)

    def pending(self) -> tuple[int, int]:
        """Requests in hand and their bytes."""
        return self._requests, self._bytes.total

    def check(self, authorization: Sequence[str | bytes]) -> Sender:
        """Who sends, by all headers of that name. Raises Unauthenticated, Busy; asked before the request is read."""
        sender = self._senders.who(authorization)
        if sender is None:
            self._stats.count("sink.refused.unauthenticated")
            raise Unauthenticated("the token is missing or wrong: send authorization: Bearer <LLMLOG_SINK_TOKEN>")
        settings = self._settings
        # One of several senders may not have it all.
        crowded = sender.name and self._of_sender[sender.name] >= max(1, settings.sink_max_requests // 2)
        if (
            crowded
            or self._requests >= settings.sink_max_requests
            or self._bytes.total >= settings.sink_max_pending_bytes
        ):
            self._stats.count("sink.refused.busy")
            raise Busy(_BUSY)
        return sender

    @contextmanager
    def in_hand(self, sender: Sender) -> Iterator[None]:
        """A request is read and taken in here."""
        self._requests += 1
        self._of_sender[sender.name] += 1
        try:
            yield
        finally:
            self._requests -= 1
            self._of_sender[sender.name] -= 1

    async def take(
        self, signal: Signal, body: bytes, sender: Sender, *, packed: bool | None = None, as_json: bool = False
    ) -> Answer:
        """Store what is in a body; returns after COMMIT. Raises Refused.

        `packed`: whether it is gzip or deflate; None where that shows in its first byte only.
        """
        packed = body[:1] in _PACKED if packed is None else packed
        held = self._bytes.hold(len(body))
        try:
            if packed or len(body) > _AT_ONCE:
                loop = asyncio.get_running_loop()
                given = signal, body, sender, packed, as_json, held
                taken = await loop.run_in_executor(self._reader, self._read, *given)
            else:
                taken = self._read(signal, body, sender, packed, as_json, held)
            self._count(signal, taken)
            if not taken.records:
                return self._answer({}, taken)
            try:
                answer = self._committer.store(taken.records)
                held.until(answer)
                # A sender that goes away does not take with it what others wait for, nor what it has cost.
                return self._answer(await asyncio.shield(answer), taken)
            except StoreUnavailable as error:
                self._stats.count("sink.refused.unavailable")
                raise Away(str(error)) from None
        finally:
            held.release()

    def _read(self, signal: Signal, body: bytes, sender: Sender, packed: bool, as_json: bool, held: Held) -> Taken:
        limit = self._settings.sink_max_message_bytes
        try:
            if packed:
                body = inflate(body, limit)
            elif len(body) > limit:
                raise TooLarge  # noqa: TRY301 - answered in one place
            if not held.grow(len(body), self._settings.sink_max_pending_bytes):
                self._stats.count("sink.refused.busy")
                raise Busy(_BUSY)  # noqa: TRY301 - the same
            return self._intake.take(signal, body, sender, as_json=as_json)
        except TooLarge:
            self._stats.count("sink.refused.too_large")
            raise Oversized(too_large(limit)) from None
        except Refused:
            raise
        except (Broken, Unreadable) as error:
            self._stats.count("sink.refused.unreadable")
            raise Bad(str(error)) from None
        except Exception as error:
            # Not foreseen, and the same bytes would meet it again: a sender must not send them for ever.
            self._stats.error("sink", error)
            self._stats.count("sink.refused.unreadable")
            raise Bad(f"the request is not readable: {type(error).__name__}") from None

    def _answer(self, rejected: Mapping[int, str], taken: Taken) -> Answer:
        self._stats.count("sink.taken")
        reasons = Counter[str]()
        for place, reason in rejected.items():
            better, number = taken.refused.get(place, (reason, 1))
            reasons[better] += number
        told = [f"{reason} ({number})" for reason, number in reasons.most_common(_TOLD)]
        return Answer(reasons.total(), "; ".join([*told, *(["…"] if len(reasons) > _TOLD else [])]))

    def _count(self, signal: Signal, taken: Taken) -> None:
        self._stats.count(f"sink.{signal}", taken.count)
        for kind, number in taken.passed_over.items():
            self._stats.count(f"passed_over.{kind}", number)
        if taken.other:
            self._stats.count("sink.other_line", taken.other)
            self._stats.warn("other", "a sender names too much in an hour: its further calls are booked on (other)")
        for reason, number in taken.not_logged.items():
            self._stats.count("captured" if reason != "audit_logs_off" else "audited", number)
            self._stats.count(f"not_logged.{reason}", number)


def too_large(limit: int) -> str:
    """What is said of a request over the limit."""
    most = f"{limit} bytes, or has more than {MOST} calls or too many values"
    return f"the request is larger than {most}: send smaller batches"

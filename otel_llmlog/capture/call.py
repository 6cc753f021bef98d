"""Call: one LLM request under way. Holds references and times, works out nothing.

Always true: a call ends once, however many of its endings happen; nothing here raises into the app; nothing here
holds on to the response, so that an abandoned one is collected and its call ends; a call that has ended holds on to
few objects: what waits for the reader brings the garbage collector onto the app's thread, and cold memory.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from time import time_ns
from typing import Any, NamedTuple

from opentelemetry.context import Context
from opentelemetry.trace import Span

from otel_llmlog.capture import headers
from otel_llmlog.capture.context import Caller
from otel_llmlog.capture.ids import Ids
from otel_llmlog.dialects.llmlog import Attributes
from otel_llmlog.providers.facts import Endpoint

# Of a stream that outgrows the limit, this much of its end is kept beside its beginning: usage comes last.
TAIL_BYTES = 1 << 20
# What a call has of a stream before there is one: lists would be work for nothing, and for the garbage collector.
_NO_STREAM: Any = ()


class Ended(NamedTuple):
    """A finished call as it is handed on. Times are epoch nanoseconds."""

    ids: Ids
    start_ns: int
    end_ns: int
    attributes: Attributes
    ticket: int


class Call:
    """What the app's thread notes down of one request. Times are epoch nanoseconds."""

    __slots__ = (
        "body", "caller", "context", "counted", "end_ns", "ending", "endpoint", "error", "headers", "held", "ids",
        "is_async", "is_noted", "limit", "marks", "missing", "on_end", "open_calls", "pieces", "request",
        "request_body", "response_headers", "room", "span", "start_ns", "status_code", "streamed", "tail",
        "tail_room", "ticket", "times", "url",
    )  # fmt: skip

    def __init__(
        self,
        endpoint: Endpoint,
        request: Any,
        request_body: bytes | None,
        span: Span,
        ids: Ids,
        context: Context,
        caller: Caller,
        *,
        is_async: bool,
        start_ns: int,
        room: int,
        open_calls: dict[int, Call],
        on_end: Callable[[Call], None],
    ) -> None:
        self.endpoint = endpoint
        self.request = request  # None once the call has ended
        self.url = request.url
        self.request_body = request_body
        self.span = span
        self.ids = ids
        self.ticket = 0  # of the spool, for the intent that was noted there
        self.context = context  # as it was before the call's own span
        self.caller = caller
        self.is_async = is_async
        self.is_noted = False  # whether the disk knows how it ended
        self.start_ns = start_ns
        self.room = self.limit = room
        self.held = 0  # bytes that it holds on to, once it has ended
        self.on_end = on_end
        self.open_calls = open_calls
        self.end_ns = 0
        self.ending = ""
        self.error: str | None = None
        self.status_code = 0
        self.response_headers: Any = None  # None once the call has ended
        self.headers = headers.NONE  # of both, packed, once the call has ended
        self.body: bytes | None = None
        self.missing = ""  # why the reply's bytes are not here, though they came
        self.streamed = False
        self.pieces: list[bytes] = _NO_STREAM
        self.counted = 0  # of the pieces, those that are taken out of the room
        self.times: list[int] = _NO_STREAM  # when the first pieces came, one each
        self.marks: list[tuple[int, int]] = _NO_STREAM  # of later ones a few: which piece, when
        self.tail: deque[bytes] | None = None
        self.tail_room = TAIL_BYTES
        open_calls[id(self)] = self

    def stream(self) -> None:
        """The reply comes in pieces."""
        self.streamed = True
        self.pieces, self.times, self.marks = [], [], []

    def note(self, piece: bytes) -> None:
        """Note a piece of the reply's stream as it passes, and when."""
        if self.room < 0:
            self.keep_tail(piece)
            return
        self.pieces.append(piece)
        self.times.append(time_ns())
        self.count()

    def count(self) -> None:
        """Take the pieces that were appended since the last count out of the room; what it does not hold is tail."""
        new = self.pieces[self.counted :]
        room = self.room - sum(map(len, new))
        if room >= 0:
            self.room = room
        else:
            del self.pieces[self.counted :]
            for piece in new:
                if self.room >= len(piece):
                    self.room -= len(piece)
                    self.pieces.append(piece)
                else:
                    self.keep_tail(piece)
        self.counted = len(self.pieces)

    def keep_tail(self, piece: bytes) -> None:
        """Note a piece of a stream that has outgrown its room: its end is kept beside its beginning."""
        self.room = min(self.room, 0) - len(piece)
        if self.tail is None:
            self.tail = deque()
        self.tail.append(piece)
        self.tail_room -= len(piece)
        while self.tail_room < 0 and len(self.tail) > 1:
            self.tail_room += len(self.tail.popleft())

    def end(self, ending: str, error: BaseException | None = None) -> None:
        """Note how the call ended: `read`, `closed`, `abandoned`, `failed` or `exit`. Only the first ending counts."""
        # The pop is atomic: of two threads that end a call at once, one gets it.
        if self.open_calls.pop(id(self), None) is None:
            return
        self.end_ns = time_ns()
        self.ending = ending
        self.held = len(self.request_body or b"") + len(self.body or b"")
        if self.streamed:
            self.count()
            self.held += min(self.limit - self.room, self.limit + TAIL_BYTES)
        if error is not None:
            # The class alone: messages of exceptions may quote content, and tracebacks hold the app's data.
            self.error = type(error).__name__
        try:
            self.headers = headers.pack(self.request.headers, self.response_headers)
        except Exception as unread:  # an app may hand its client anything
            self.missing = self.missing or f"headers that could not be read: {type(unread).__name__}"
        self.request = self.response_headers = None
        self.on_end(self)

    def both_headers(self) -> tuple[headers.Headers, headers.Headers]:
        """Those of the request and those of its reply, once the call has ended."""
        try:
            return headers.unpack(self.headers)
        except ValueError:  # of a client whose headers are not bytes
            self.missing = self.missing or "headers that could not be read: they are no bytes"
            return [], []

    def drop_bodies(self) -> None:
        """Give the bytes back: the call keeps its row, not what was in it."""
        self.request_body, self.body, self.tail = None, None, None
        self.pieces, self.times, self.marks, self.counted, self.held = [], [], [], 0, 0
        self.missing = "dropped unread: LLMLOG_MAX_PENDING_BYTES were waiting"

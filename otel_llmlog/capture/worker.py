"""ReadingWorker: takes calls that have ended, and reads and hands them on with a thread of its own.

Always true: nothing here raises into the app, and a call that ends waits for nobody; the queue between the threads is
bounded in calls and in bytes; one thread reads at a time; after fork the child has a queue and a thread of its own and
leaves its parent's calls to the parent.

The two threads share one interpreter and, on many machines, the processor's caches: when this one has run, the app's
thread finds nothing where it left it, and what it does for one call takes several times as long as for one of many. So
the disk is told how a call ended on the app's thread, if that can be said in few bytes, and calls are read together a
little later. Others are read some milliseconds after they ended, when the app has gone on with its answer: their
records are handed on at once, their spans and metrics, which nothing loses that a crash would not take anyway, with
those of others. Between two calls that are read others run.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import NamedTuple, Protocol

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Span

from otel_llmlog import emit, forks, native
from otel_llmlog.capture import alarm as alarms
from otel_llmlog.capture.call import Call, Ended
from otel_llmlog.capture.ids import Ids
from otel_llmlog.capture.reading import Reader
from otel_llmlog.capture.spans import Untold
from otel_llmlog.config import CaptureSettings
from otel_llmlog.dialects import llmlog
from otel_llmlog.dialects.llmlog import Attributes
from otel_llmlog.payload import CallPayload
from otel_llmlog.providers import batches
from otel_llmlog.stats import Stats

# Seconds from the end of a call, when no other waits, to its reading. What ended is on disk as much later.
_SOON = 0.005
# The same for a call whose end is on disk; and how many of those wait no longer, or how large their bodies are.
_LATE, _MANY, _MANY_BYTES = 0.25, 64, 1 << 20
# Calls read before they are handed on.
_AT_ONCE = 32
# Seconds of reading after which others have their turn.
_TURN = 0.001
# Seconds that the reader lets others go first, and the age of a call at which it no longer does: in a busy process its
# turn may come 5 ms later each time, and what has ended is to be on disk soon, or is more than can be read in time.
_PATIENCE, _OLD = 0.002, 0.008

_OK = 200
# Endings that may leave nothing to be read. SDKs close a stream after its last event.
_WHOLE = frozenset({"read", "closed"})
# A LiteLLM proxy says in this header what a call cost.
_STATED = b"x-litellm-response-cost"


class Outlet(Protocol):
    """Where calls go. Nothing here raises."""

    def open(self) -> None:
        """Calls begin, for the first time in this process."""
        ...

    def intend(self, ids: Ids, start_ns: int, facts: dict[str, str]) -> int:
        """A call begins, on the app's thread; `facts` do not change. Answers a ticket for the other two."""
        ...

    def accept(self, calls: Sequence[Ended]) -> None:
        """Calls have ended, each with its `llmlog.*` attributes."""
        ...

    def end(self, ticket: int, end_ns: int, brief: bytes) -> bool:
        """A call has ended (epoch ns), on the app's thread. True: that is noted, `accept` may come late."""
        ...

    def forget(self, ticket: int) -> None:
        """A call that began leaves nothing."""
        ...


class _Unsaid(NamedTuple):
    """A call that was handed on, and of which OpenTelemetry has not been told yet."""

    span: Span
    context: Context
    payload: CallPayload
    attributes: Attributes
    end_ns: int


class ReadingWorker:
    """From the end of a call to the moment its record is handed on."""

    def __init__(
        self, settings: CaptureSettings, reader: Reader, metrics: emit.Metrics, outlet: Outlet, stats: Stats
    ) -> None:
        self._settings = settings
        self._reader = reader
        self._metrics = metrics
        self._outlet = outlet
        self._stats = stats
        # Content is not noted: where it is to be kept, it must be on disk soon.
        self._reads_soon = reader.keeps_content
        self._reset()
        os.register_at_fork(after_in_child=self._reset)

    def _reset(self) -> None:
        # Calls that ended and, between them, who waits for those before. Appending takes no lock: a call may end inside
        # the garbage collector.
        self._ended: deque[Call | native.Event] = deque()
        # Made with the thread: between a fork and the first call, daemons close all descriptors they find.
        self._alarm: alarms.Alarm | None = None
        # Whether the alarm is set, for late or for soon, or has gone off and the reader still looks for calls.
        self._is_set = self._is_soon = False
        self.thread: native.Thread | None = None
        # Of the results of a batch, those that are still to be read: they may be many thousands.
        self._lines: Iterator[Call] | None = None
        self._turn_at = 0.0
        # Oldest first, when that one was handed on, and the bytes they held on to.
        self._unsaid: list[_Unsaid] = []
        self._unsaid_since, self._unsaid_bytes = 0.0, 0
        # Added to without a lock, because a call may end inside the garbage collector: the odd lost update is
        # made good whenever the queue has run empty.
        self._pending_bytes = 0
        self._start_lock = native.Lock()
        # Reentrant: where there is no such thread, a signal handler may flush in the middle of a flush.
        self._reading = native.RLock()

    # On the app's thread.

    def put(self, call: Call) -> None:
        """A call has ended."""
        if len(self._ended) >= self._settings.max_pending:
            self._stats.count("captured")
            self._stats.dropped("capture_queue_full")
            self._outlet.forget(call.ticket)
            return
        if self._pending_bytes + call.held > self._settings.max_pending_bytes:
            call.drop_bodies()
            self._stats.count("bodies_dropped")
        else:
            self._pending_bytes += call.held
        call.is_noted = self._noted(call)
        is_late = call.is_noted and len(self._ended) < _MANY and self._pending_bytes < _MANY_BYTES
        self._ended.append(call)
        # Looked at once the call is there, as the reader looks for calls once it has said that the alarm is not set.
        if not (self._is_soon or (is_late and self._is_set)) and (alarm := self._alarm) is not None:
            self._set(alarm, is_late=is_late)
        if self.thread is None:
            self.start()

    def _noted(self, call: Call) -> bool:
        """Whether the disk knows how a call ended, so that it can be read late."""
        if self._reads_soon or call.status_code != _OK or call.error is not None or call.missing:
            return False
        brief = call.endpoint.brief
        if brief is None or call.tail is not None or call.ending not in _WHOLE or _STATED in call.headers:
            return False
        pieces = call.pieces if call.streamed else [call.body or b""]
        try:
            found = brief(pieces) if pieces else None
            return found is not None and self._outlet.end(call.ticket, call.end_ns, found)
        except Exception as error:  # a fault of ours: the reader, which is more thorough, comes soon
            self._stats.error("brief", error)
            return False

    def _set(self, alarm: alarms.Alarm, *, is_late: bool) -> None:
        self._is_set = True
        if is_late:
            is_sound = alarm.set_late()
            if self._is_soon:  # another thread wanted that meanwhile
                is_sound = alarm.set()
        else:
            self._is_soon = True
            is_sound = alarm.set()
        if not is_sound:
            self._renew(alarm)

    def start(self) -> None:
        """Start the thread, if it is not there."""
        # Whoever holds the lock is starting the thread, perhaps further up this very stack: starting it may collect
        # garbage, and that may end a call.
        if not self._start_lock.acquire(blocking=False):
            return
        try:
            if self.thread is None:
                if self._alarm is None:
                    self._alarm = alarms.best(_SOON, _LATE)
                thread = native.Thread(self._run, "llmlog-capture", self._alarm)
                thread.start()
                self.thread = thread
                self._outlet.open()
        except RuntimeError:  # the interpreter is shutting down: `flush` reads what is left
            pass
        finally:
            self._start_lock.release()

    def _renew(self, broken: alarms.Alarm) -> None:
        """Another alarm and another thread: who waits for this one will never hear it."""
        if self._alarm is broken:
            self._alarm = self.thread = None
            self.start()

    def flush(self, timeout: float) -> bool:
        """Wait until all calls that have ended so far are handed on; False when that took longer than `timeout` s."""
        thread = self.thread
        if thread is not None and thread.ident == native.get_ident():
            # A span processor or an exporter flushes its provider from within: it would wait for itself.
            return False
        if thread is None or not thread.is_alive():
            with self._reading:
                self._read_all()
                self._say()
            return True
        reached = native.Event()
        self._ended.append(reached)
        # Else a call that ends now would make it later.
        self._is_set = self._is_soon = True
        if (alarm := self._alarm) is not None and not alarm.ring():
            self._renew(alarm)
        return reached.wait(timeout)

    # On the reader's thread.

    def _run(self, alarm: alarms.Alarm) -> None:
        try:
            with forks.held_off():
                self._reader.warm()
        except Exception as error:  # what cannot be loaded now will be missed, and said, when it is needed
            self._stats.error("warm", error)
        while True:
            self._read_all()
            self._is_set = self._is_soon = False
            if self._ended:  # what came before that did not set the alarm
                continue
            try:
                alarm.wait(_LATE if self._unsaid else None)
            except OSError as error:
                self._stats.error("alarm", error)
                self._renew(alarm)
                return

    def _read_all(self) -> None:
        with self._reading:
            while self._read_some():
                pass
            if self._unsaid and time.monotonic() >= self._unsaid_since + _LATE:
                self._say()

    def _let_others_run(self, until: float) -> None:
        # To wait for no time gives the interpreter's lock to who wants it. Without that it is taken away after 5 ms: so
        # long an app's thread would wait that has got its answer. Each time costs that thread its caches.
        now = time.monotonic()
        if self._turn_at <= now < until:
            native.sleep(0)
            self._turn_at = now + _TURN

    def _read_some(self) -> bool:
        """Read the next calls, and tell who waits for them; False when there were none."""
        calls: list[Call] = []
        ended, waiting = self._ended, None
        if self._lines is not None:
            self._read_lines(self._lines)
            return True
        while ended and waiting is None and self._lines is None and len(calls) < _AT_ONCE:
            item = ended.popleft()
            if isinstance(item, Call):
                if item.endpoint is batches.READING:
                    self._lines = self._reader.lines(item)
                else:
                    calls.append(item)
            else:
                waiting = item
        if calls:
            age = (time.time_ns() - calls[0].end_ns) / 1e9
            has_time = all(call.is_noted for call in calls) and len(ended) < _MANY
            self._finish(calls, _LATE if has_time else min(_PATIENCE, _OLD - age), age)
        if not ended:
            self._pending_bytes = 0
        if waiting is not None:
            self._say()
            waiting.set()
        return bool(calls) or waiting is not None or self._lines is not None

    def _read_lines(self, lines: Iterator[Call]) -> None:
        try:
            with forks.held_off():
                calls = list(islice(lines, _AT_ONCE))
        except Exception as error:  # a file of the app's may be anything
            self._stats.error("batch", error)
            calls = []
        if calls:
            self._finish(calls, _PATIENCE, 0.0)
        else:
            self._lines = None

    def _finish(self, calls: Sequence[Call], patience: float, age: float) -> None:
        self._stats.count("captured", len(calls))
        read, began = [], time.monotonic()
        self._turn_at, patient_until = began + _TURN, began + patience
        for call in calls:
            with forks.held_off():
                if (found := self._read(call)) is not None:
                    read.append(found)
            self._let_others_run(patient_until)
        if not read:
            return
        try:
            with forks.held_off():
                self._outlet.accept([ended for _, _, ended in read])
        except Exception as error:  # it should not, but a reader that dies of it would lose all later calls, too
            self._stats.error("accept", error)
            self._stats.dropped("not_accepted", len(read))
        if not self._unsaid:
            # The clock may have been set since.
            self._unsaid_since = time.monotonic() - min(max(age, 0.0), _LATE)
        for call, payload, ended in read:
            self._unsaid.append(_Unsaid(call.span, call.context, payload, ended.attributes, call.end_ns))
            self._unsaid_bytes += call.held
        if len(self._unsaid) >= _MANY or self._unsaid_bytes >= _MANY_BYTES:
            self._say()

    def _say(self) -> None:
        """Tell OpenTelemetry of the calls that were handed on."""
        unsaid, self._unsaid, self._unsaid_bytes = self._unsaid, [], 0
        patient_until = time.monotonic() + _PATIENCE
        for span, context, payload, attributes, end_ns in unsaid:
            if isinstance(span, Untold):
                continue
            try:
                with forks.held_off():
                    emit.end_span(span, payload, attributes, end_ns)
                    self._metrics.record(payload, trace.set_span_in_context(span, context))
            except Exception as error:  # other people's span processors and metric readers run in here
                self._stats.error("emit", error)
            self._let_others_run(patient_until)

    def _read(self, call: Call) -> tuple[Call, CallPayload, Ended] | None:
        held = call.held
        try:
            payload = self._reader.read(call)
            ended = Ended(call.ids, call.start_ns, call.end_ns, llmlog.encode(payload), call.ticket)
        except Exception as error:  # counted as dropped; later calls are read
            self._stats.error("read", error)
            self._stats.dropped("unreadable_call")
            self._outlet.forget(call.ticket)
            try:
                call.span.end(call.end_ns)
            except Exception as raised:  # of a span processor of the app's
                self._stats.error("emit", raised)
            return None
        self._pending_bytes -= held
        return call, payload, ended

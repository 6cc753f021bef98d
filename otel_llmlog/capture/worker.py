"""ReadingWorker: takes calls that have ended, and reads and hands them on with a thread of its own.

Always true: nothing here raises into the app, and a call that ends waits for nobody; the queue between the threads is
bounded in calls and in bytes; one thread reads at a time; after fork the child has a queue and a thread of its own and
leaves its parent's calls to the parent.

The two threads share one interpreter and, on many machines, the processor's caches: when this one has run, the app's
thread finds nothing where it left it. So it sleeps until calls have ended, lets the app go on with its answers for
some milliseconds, then reads all there are, and between two of them lets others run. Their records are handed on at
once; their spans and metrics, which nothing loses that a crash would not take anyway, go out together a little later.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import NamedTuple, Protocol

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.trace import Span

from otel_llmlog import emit, forks
from otel_llmlog.capture import alarm as alarms
from otel_llmlog.capture.call import Call, Ended
from otel_llmlog.capture.ids import Ids
from otel_llmlog.capture.reading import Reader
from otel_llmlog.config import CaptureSettings
from otel_llmlog.dialects import llmlog
from otel_llmlog.dialects.llmlog import Attributes
from otel_llmlog.payload import CallPayload
from otel_llmlog.providers import batches
from otel_llmlog.stats import Stats

# Seconds from the end of a call, when no other waits, to its reading. What ended is on disk as much later.
_PAUSE = 0.005
# Calls read before they are handed on.
_AT_ONCE = 32
# Seconds that the reader lets others go first, and the age of a call at which it no longer does: in a busy process its
# turn may come 5 ms later each time, and what has ended is to be on disk soon.
_PATIENCE, _OLD = 0.002, 0.008
# Seconds that a call's span and metrics may wait for those of others; how many do, and how large their bodies were.
_UNSAID_SECONDS, _UNSAID, _UNSAID_BYTES = 0.25, 64, 1 << 20


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
        self._reset()
        os.register_at_fork(after_in_child=self._reset)

    def _reset(self) -> None:
        # Calls that ended and, between them, who waits for those before. Appending takes no lock: a call may end inside
        # the garbage collector.
        self._ended: deque[Call | threading.Event] = deque()
        # Made with the thread: between a fork and the first call, daemons close all descriptors they find.
        self._alarm: alarms.Alarm | None = None
        # Whether the alarm is set, or has gone off and the reader still looks for calls.
        self._is_set = False
        self.thread: threading.Thread | None = None
        # Of the results of a batch, those that are still to be read: they may be many thousands.
        self._lines: Iterator[Call] | None = None
        # Oldest first, when that one was handed on, and the bytes they held on to.
        self._unsaid: list[_Unsaid] = []
        self._unsaid_since, self._unsaid_bytes = 0.0, 0
        # Added to without a lock, because a call may end inside the garbage collector: the odd lost update is
        # made good whenever the queue has run empty.
        self._pending_bytes = 0
        self._start_lock = threading.Lock()
        # Reentrant: where there is no such thread, a signal handler may flush in the middle of a flush.
        self._reading = threading.RLock()

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
        self._ended.append(call)
        # Looked at once the call is there, as the reader looks for calls once it has said that the alarm is not set.
        if not self._is_set and (alarm := self._alarm) is not None:
            self._is_set = True
            if not alarm.set():
                self._renew(alarm)
        if self.thread is None:
            self.start()

    def start(self) -> None:
        """Start the thread, if it is not there."""
        # Whoever holds the lock is starting the thread, perhaps further up this very stack: starting it may collect
        # garbage, and that may end a call.
        if not self._start_lock.acquire(blocking=False):
            return
        try:
            if self.thread is None:
                if self._alarm is None:
                    self._alarm = alarms.best(_PAUSE)
                thread = threading.Thread(target=self._run, args=(self._alarm,), name="llmlog-capture", daemon=True)
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
        if thread is threading.current_thread():
            # A span processor or an exporter flushes its provider from within: it would wait for itself.
            return False
        if thread is None or not thread.is_alive():
            with self._reading:
                self._read_all()
                self._say()
            return True
        reached = threading.Event()
        self._ended.append(reached)
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
            self._is_set = False
            if self._ended:  # what came before that did not set the alarm
                continue
            try:
                alarm.wait(_UNSAID_SECONDS if self._unsaid else None)
            except OSError as error:
                self._stats.error("alarm", error)
                self._renew(alarm)
                return

    def _read_all(self) -> None:
        with self._reading:
            while self._read_some():
                pass
            if self._unsaid and time.monotonic() >= self._unsaid_since + _UNSAID_SECONDS:
                self._say()

    def _let_others_run(self, until: float) -> None:
        # To wait for no time gives the interpreter's lock to who wants it. Without that it is taken away after 5 ms: so
        # long an app's thread would wait that has got its answer.
        if time.monotonic() < until:
            time.sleep(0)

    def _read_some(self) -> bool:
        """Read the next calls, and tell who waits for them; False when there were none."""
        calls: list[Call] = []
        ended, waiting = self._ended, None
        if self._lines is not None:
            with forks.held_off():
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
            with forks.held_off():
                self._finish(calls, min(_PATIENCE, _OLD - age))
        if not ended:
            self._pending_bytes = 0
        if waiting is not None:
            self._say()
            waiting.set()
        return bool(calls) or waiting is not None or self._lines is not None

    def _read_lines(self, lines: Iterator[Call]) -> None:
        try:
            calls = list(islice(lines, _AT_ONCE))
        except Exception as error:  # a file of the app's may be anything
            self._stats.error("batch", error)
            calls = []
        if calls:
            self._finish(calls, _PATIENCE)
        else:
            self._lines = None

    def _finish(self, calls: Sequence[Call], patience: float) -> None:
        self._stats.count("captured", len(calls))
        read, patient_until = [], time.monotonic() + patience
        for call in calls:
            if (found := self._read(call)) is not None:
                read.append(found)
            self._let_others_run(patient_until)
        if not read:
            return
        try:
            self._outlet.accept([ended for _, _, ended in read])
        except Exception as error:  # it should not, but a reader that dies of it would lose all later calls, too
            self._stats.error("accept", error)
            self._stats.dropped("not_accepted", len(read))
        if not self._unsaid:
            self._unsaid_since = time.monotonic()
        for call, payload, ended in read:
            self._unsaid.append(_Unsaid(call.span, call.context, payload, ended.attributes, call.end_ns))
            self._unsaid_bytes += call.held
        if len(self._unsaid) >= _UNSAID or self._unsaid_bytes >= _UNSAID_BYTES:
            self._say()

    def _say(self) -> None:
        """Tell OpenTelemetry of the calls that were handed on."""
        unsaid, self._unsaid, self._unsaid_bytes = self._unsaid, [], 0
        patient_until = time.monotonic() + _PATIENCE
        with forks.held_off():
            for span, context, payload, attributes, end_ns in unsaid:
                try:
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
            call.span.end(call.end_ns)
            return None
        self._pending_bytes -= held
        return call, payload, ended

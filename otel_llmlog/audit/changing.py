"""`change`: around the code that makes a change, as a context manager or a decorator; it takes before and after itself.

Always true: what the code inside returns or raises passes unchanged, but for AuditNotRecorded where `sync` asks for
it; a change that raises is recorded, too, as failed or refused; each run is one event.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar, cast

from typing_extensions import Unpack

from otel_llmlog.audit import recording
from otel_llmlog.audit.catalogue import Operation
from otel_llmlog.audit.recording import Details
from otel_llmlog.audit.values import snapshot
from otel_llmlog.payload import AuditEvent

_P = ParamSpec("_P")
_R = TypeVar("_R")

_REFUSED_STATUS = {401, 403}
# HTTP exceptions name their status in one of these: Starlette, httpx's response, Django REST.
_STATUS_NAMES = ("status_code", "status", "code")


class change:  # noqa: N801 - used as a function: `with change(...)`, `@change(...)`
    """Record the change that is made inside. Works with `with`, `async with`, and around functions of both kinds.

    read: called with nothing (around a function: with the function's own arguments) before and after; its answers are
    before and after. It may be a coroutine function in async code. Without it, set `before` and `after` on the object
    that `with` gives; a function's returned mapping or model is its after. object_id may be a callable of the
    function's arguments. The rest is as in `record`.
    """

    def __init__(
        self,
        operation: Operation | None = None,
        *,
        read: Callable[..., Any] | None = None,
        sync: bool = False,
        **details: Unpack[Details],
    ) -> None:
        self._operation = operation
        self._read = read
        self._sync = sync
        self._details = dict(details)
        self._arguments: tuple[tuple[Any, ...], dict[str, Any]] = ((), {})
        self._notes: list[str] = []
        self.before: Any = details.get("before")
        self.after: Any = details.get("after")
        self.object_id: Any = details.get("object_id")
        self.event: AuditEvent | None = None
        """What was recorded, when the change is over."""

    def __enter__(self) -> Self:
        if self._read is not None:
            self.before = self._reading("before_value")
        elif self.before is not None:
            self.before = self._taken(self.before, "before_value")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._read is not None and error is None:
            self.after = self._reading("updated_values")
        self.event = self._made(error)
        # What the code inside raised comes first: a row that is not in time must not hide it.
        recording.submit(self.event, sync=self._sync and error is None)

    async def __aenter__(self) -> Self:
        if self._read is not None:
            self.before = await self._reading_async("before_value")
        elif self.before is not None:
            self.before = self._taken(self.before, "before_value")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._read is not None and error is None:
            self.after = await self._reading_async("updated_values")
        self.event = self._made(error)
        if self._sync and error is None:
            await asyncio.to_thread(recording.submit, self.event, sync=True)
        else:
            recording.submit(self.event)

    def __call__(self, function: Callable[_P, _R]) -> Callable[_P, _R]:
        """Record every run of the function as a change of its own."""
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def run_async(*args: _P.args, **kwargs: _P.kwargs) -> Any:
                async with self._copy(args, kwargs) as made:
                    found = await cast("Awaitable[Any]", function(*args, **kwargs))
                    made.returned(found)
                    return found

            return cast("Callable[_P, _R]", run_async)

        @functools.wraps(function)
        def run(*args: _P.args, **kwargs: _P.kwargs) -> _R:
            with self._copy(args, kwargs) as made:
                found = function(*args, **kwargs)
                made.returned(found)
                return found

        return run

    def _copy(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> change:
        made = change(self._operation, read=self._read, sync=self._sync, **cast("Details", self._details))
        made._arguments = args, kwargs
        for name in ("object_id", "changed_by", "changed_by_api_key"):
            if callable(given := self._details.get(name)):
                made._details[name] = made._asked(given, name)
        made.object_id = made._details.get("object_id")
        return made

    def _asked(self, given: Callable[..., Any], name: str) -> Any:
        args, kwargs = self._arguments
        try:
            return given(*args, **kwargs)
        except Exception as error:  # the app's own function, asked for our sake: the change goes on
            self._notes.append(f"{name}: could not be told ({type(error).__name__})")
            return None

    def _reading(self, name: str) -> Any:
        assert self._read is not None
        return self._taken(self._asked(self._read, name), name)

    async def _reading_async(self, name: str) -> Any:
        assert self._read is not None
        found = self._asked(self._read, name)
        if inspect.isawaitable(found):
            try:
                found = await found
            except Exception as error:  # the same
                self._notes.append(f"{name}: could not be told ({type(error).__name__})")
                found = None
        return self._taken(found, name)

    def _taken(self, found: Any, name: str) -> Any:
        # At once: what `read` gave may be the very object that is about to change.
        kept, notes = snapshot(found, name)
        self._notes += notes
        return kept

    def returned(self, found: Any) -> None:
        """What the function inside gave: its after, unless that is known otherwise."""
        if self._read is None and self.after is None and not isinstance(found, bool | int | float | str):
            self.after = found

    def _made(self, error: BaseException | None) -> AuditEvent:
        details: dict[str, Any] = {
            **self._details,
            "before": self.before,
            "after": self.after,
            "object_id": self.object_id,
            "notes": [*cast("list[str]", self._details.get("notes", [])), *self._notes],
        }
        if error is not None:
            status = status_of(error)
            refused = isinstance(error, PermissionError) or status in _REFUSED_STATUS
            details["outcome"] = "refused" if refused else "failure"
            details["error_class"] = type(error).__name__
            details["status_code"] = status
        return recording.event(self._operation, details)


def status_of(error: BaseException) -> int | None:
    """The HTTP status that an exception stands for, if it says so."""
    for name in _STATUS_NAMES:
        found = getattr(error, name, None)
        if isinstance(found, int) and not isinstance(found, bool) and 400 <= found < 600:
            return int(found)
    return None

"""Who calls and in which session, said by the app: `context(...)` around the code that makes the calls.

Always true: what is set inside is gone outside; threads and tasks never see each other's; a task started inside
inherits it. Exiting needs no token, so it may even happen in another task (async generators do that).
"""

from __future__ import annotations

import functools
import inspect
import json
from collections.abc import AsyncIterator, Callable, Generator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from types import TracebackType
from typing import Any, ParamSpec, TypeVar, cast

from otel_llmlog.capture import baggage

_P = ParamSpec("_P")
_R = TypeVar("_R")


@dataclass(frozen=True, slots=True)
class Caller:
    """What the app said of a call. None and empty: it did not say."""

    session_id: str | None = None
    user: str | None = None
    end_user: str | None = None
    team: str | None = None
    team_alias: str | None = None
    organization: str | None = None
    tags: tuple[str, ...] = ()
    metadata: Mapping[str, Any] | None = None

    def over(self, outer: Caller) -> Caller:
        """This caller, with what it leaves open filled from an outer one; tags and metadata are added up."""
        return Caller(
            self.session_id or outer.session_id,
            self.user or outer.user,
            self.end_user or outer.end_user,
            self.team or outer.team,
            self.team_alias or outer.team_alias,
            self.organization or outer.organization,
            tuple(dict.fromkeys((*outer.tags, *self.tags))),
            {**(outer.metadata or {}), **(self.metadata or {})} or None,
        )


NOBODY = Caller()


def _entries(caller: Caller) -> dict[str, str]:
    """The caller as baggage. What it leaves open is left as it came from upstream."""
    found = {
        baggage.SESSION: caller.session_id,
        baggage.USER: caller.user,
        baggage.END_USER: caller.end_user,
        baggage.TEAM: caller.team,
        baggage.TEAM_ALIAS: caller.team_alias,
        baggage.ORGANIZATION: caller.organization,
        # As JSON: a tag may hold a comma.
        baggage.TAGS: json.dumps(caller.tags) if caller.tags else None,
    }
    return {name: value for name, value in found.items() if value is not None}


def _text(name: object) -> str | None:
    # Apps have UUIDs and numbers for these, too.
    return None if name is None else str(name)


@dataclass(frozen=True, slots=True)
class _Entered:
    caller: Caller
    owner: context
    before: _Entered | None
    baggage: Mapping[str, object] | None
    """Ours as it was before, if this context is in it now."""


_current: ContextVar[_Entered | None] = ContextVar("otel_llmlog_context", default=None)


def current() -> Caller:
    """The caller of the code that runs now."""
    entered = _current.get()
    return entered.caller if entered is not None else NOBODY


class context:  # noqa: N801 - used as a function: `with context(...)`, `@context(...)`
    """Say who makes the calls inside, and in which session. Works with `with`, `async with` and as a decorator.

    session_id: the conversation. user: who pays (`user_id`). end_user: whom the app serves. team, team_alias,
    organization: where it is booked. tags: labels to filter and group by. metadata: free JSON-able key-values,
    kept in `metadata.spend_logs_metadata` of the row. Contexts nest: the inner one wins, tags and metadata add up.

    propagate: put all but the metadata into W3C baggage, too, for the services that are called inside; contexts inside
    this one go with it. OpenTelemetry sends baggage with every request of an instrumented client; requests to LLM
    providers over the clients that we capture do not get this part of it.
    """

    __slots__ = ("_caller", "_propagate")

    def __init__(
        self,
        *,
        session_id: str | None = None,
        user: str | None = None,
        end_user: str | None = None,
        team: str | None = None,
        team_alias: str | None = None,
        organization: str | None = None,
        tags: Sequence[str] = (),
        metadata: Mapping[str, Any] | None = None,
        propagate: bool = False,
    ) -> None:
        self._propagate = propagate
        labels = (tags,) if isinstance(tags, str) else tuple(map(str, tags))
        self._caller = Caller(
            _text(session_id),
            _text(user),
            _text(end_user),
            _text(team),
            _text(team_alias),
            _text(organization),
            labels,
            dict(metadata) if metadata else None,
        )

    def __enter__(self) -> Caller:
        before = _current.get()
        caller = self._caller.over(before.caller) if before is not None else self._caller
        carried = None
        if self._propagate or (before is not None and before.baggage is not None):
            carried = baggage.carried()
            baggage.carry({**carried, **_entries(caller)})
        _current.set(_Entered(caller, self, before, carried))
        return caller

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        entered = _current.get()
        if entered is not None and entered.owner is self:
            _current.set(entered.before)
            if entered.baggage is not None:
                baggage.carry(entered.baggage)

    async def __aenter__(self) -> Caller:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, traceback)

    def __call__(self, function: Callable[_P, _R]) -> Callable[_P, _R]:
        """Run every call of the function inside this context: plain, async, generator and async generator alike."""
        wrapped: Any = function
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def run_async(*args: Any, **kwargs: Any) -> Any:
                with self:
                    return await wrapped(*args, **kwargs)

            return cast("Callable[_P, _R]", run_async)
        if inspect.isasyncgenfunction(function):

            @functools.wraps(function)
            async def iterate_async(*args: Any, **kwargs: Any) -> AsyncIterator[Any]:
                generator = wrapped(*args, **kwargs)
                step, given = generator.asend, None
                while True:
                    with self:  # while the generator's own code runs, not its consumer's
                        try:
                            item = await step(given)
                        except StopAsyncIteration:
                            return
                    try:
                        step, given = generator.asend, (yield item)
                    except GeneratorExit:
                        with self:
                            await generator.aclose()
                        raise
                    except BaseException as error:  # whatever was thrown in is the wrapped generator's
                        step, given = generator.athrow, error

            return cast("Callable[_P, _R]", iterate_async)
        if inspect.isgeneratorfunction(function):

            @functools.wraps(function)
            def iterate(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
                generator = wrapped(*args, **kwargs)
                step, given = generator.send, None
                while True:
                    with self:
                        try:
                            item = step(given)
                        except StopIteration as stop:
                            return stop.value
                    try:
                        step, given = generator.send, (yield item)
                    except GeneratorExit:
                        with self:
                            generator.close()
                        raise
                    except BaseException as error:  # the same
                        step, given = generator.throw, error

            return cast("Callable[_P, _R]", iterate)

        @functools.wraps(function)
        def run(*args: _P.args, **kwargs: _P.kwargs) -> _R:
            with self:
                return function(*args, **kwargs)

        return run

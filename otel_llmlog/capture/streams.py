"""Tees: a response's byte stream with a witness. Every piece is passed on as it comes, none is read ahead.

httpx and httpx2 each have their own base classes and check for them, so each gets its own pair of tees.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from time import time_ns
from typing import Any, NamedTuple

from otel_llmlog.capture.call import Call


class Tees(NamedTuple):
    """The tees of one HTTP library."""

    sync: type[Any]
    asynchronous: type[Any]


class _Tee:
    _stream: Any
    _call: Call

    def __init__(self, stream: Any, call: Call) -> None:
        self._stream = stream
        self._call = call

    def __getattr__(self, name: str) -> Any:
        # Libraries keep more on their streams (httpx2: `elapsed`). Private names of ours are never missing.
        if name in {"_stream", "_call"}:
            raise AttributeError(name)
        return getattr(self._stream, name)

    def __del__(self) -> None:
        call = self.__dict__.get("_call")
        if call is not None:
            call.end("abandoned")


def make_tees(library: Any) -> Tees:
    """Tee classes for `httpx` or `httpx2`."""

    class SyncTee(_Tee, library.SyncByteStream):  # type: ignore[misc] # the base is known at run time only
        def __iter__(self) -> Iterator[bytes]:
            call = self._call
            room, pieces, times = call.room, call.pieces, call.times
            try:
                for piece in self._stream:
                    # Written out here and below: a call for each piece would cost as much as all the rest.
                    call.room = room = room - len(piece)
                    if room >= 0:
                        pieces.append(piece)
                        times.append(time_ns())
                    else:
                        call.keep_tail(piece)
                    yield piece
            except GeneratorExit:
                raise  # the app stopped iterating; the stream is still open until it is closed or collected
            except BaseException as error:
                call.end("failed", error)
                raise
            call.end("read")

        def close(self) -> None:
            try:
                self._stream.close()
            except BaseException as error:
                self._call.end("failed", error)
                raise
            self._call.end("closed")

    class AsyncTee(_Tee, library.AsyncByteStream):  # type: ignore[misc]
        async def __aiter__(self) -> AsyncIterator[bytes]:
            call = self._call
            room, pieces, times = call.room, call.pieces, call.times
            stream = self._stream.__aiter__()
            try:
                async for piece in stream:
                    call.room = room = room - len(piece)
                    if room >= 0:
                        pieces.append(piece)
                        times.append(time_ns())
                    else:
                        call.keep_tail(piece)
                    yield piece
            except GeneratorExit:
                raise
            except BaseException as error:
                call.end("failed", error)
                raise
            finally:
                # httpx2 closes the iterators of its streams one by one, and httpx leaves that to the collector:
                # whichever closes ours expects the ones below to be closed with it.
                if isinstance(stream, AsyncGenerator):
                    await stream.aclose()
            call.end("read")

        async def aclose(self) -> None:
            try:
                await self._stream.aclose()
            except BaseException as error:
                self._call.end("failed", error)
                raise
            self._call.end("closed")

    return Tees(SyncTee, AsyncTee)

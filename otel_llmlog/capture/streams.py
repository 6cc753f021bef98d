"""Tees: a response's byte stream with a witness. Every piece is passed on as it comes, none is read ahead.

httpx and httpx2 each have their own base classes and check for them, so each gets its own pair of tees.

What a tee does for a piece runs between two pieces of the app's own work, with cold caches, so that each line costs
many times what it does in a loop. So the first pieces alone are stamped, among which the first token is, and later ones
go through iterators of C, without any Python code of ours.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from itertools import filterfalse, islice
from time import time_ns
from typing import Any, NamedTuple

from otel_llmlog.capture.call import Call

# Pieces of a stream that get a time each, not counting comments: some providers keep the connection alive with those
# until the model begins. The events before a first token are a handful; hosted tools may make it a few dozen.
STAMPED = 32
# Of the pieces that follow, one in so many is stamped.
BLOCK = 32


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
            call, left = self._call, STAMPED
            pieces, times = call.pieces, call.times
            try:
                stream = iter(self._stream)
                for piece in stream:
                    pieces.append(piece)
                    times.append(time_ns())
                    yield piece
                    left -= not piece.startswith(b":")
                    if not left:
                        break
                call.count()
                while call.room >= 0 and (piece := next(stream, None)) is not None:
                    call.marks.append((len(pieces), time_ns()))
                    pieces.append(piece)
                    yield piece
                    # `append` answers None, so nothing is filtered: each piece is noted, and passed on.
                    yield from islice(filterfalse(pieces.append, stream), BLOCK - 1)
                    call.count()
                for piece in stream:
                    call.keep_tail(piece)
                    yield piece
            except GeneratorExit:
                raise  # the app stopped iterating; the stream is still open until it is closed or collected
            except BaseException as error:  # passed on: a call has ended, whatever ended it
                call.end("failed", error)
                raise
            call.end("read")

        def close(self) -> None:
            try:
                self._stream.close()
            except BaseException as error:  # passed on: a call has ended, whatever ended it
                self._call.end("failed", error)
                raise
            self._call.end("closed")

    class AsyncTee(_Tee, library.AsyncByteStream):  # type: ignore[misc] # the same
        async def __aiter__(self) -> AsyncIterator[bytes]:
            call = self._call
            pieces, left = call.pieces, STAMPED
            stream = self._stream.__aiter__()
            try:
                async for piece in stream:
                    if left:
                        call.times.append(time_ns())
                        left -= not piece.startswith(b":")
                    elif not len(pieces) % BLOCK:
                        call.count()
                        call.marks.append((len(pieces), time_ns()))
                    if call.room < 0:
                        call.keep_tail(piece)
                    else:
                        pieces.append(piece)
                    yield piece
            except GeneratorExit:
                raise
            except BaseException as error:  # passed on: a call has ended, whatever ended it
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
            except BaseException as error:  # passed on: a call has ended, whatever ended it
                self._call.end("failed", error)
                raise
            self._call.end("closed")

    return Tees(SyncTee, AsyncTee)

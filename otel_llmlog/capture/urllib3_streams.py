"""Tees for replies of urllib3, which `requests` and botocore leave to the app: the response notes what is read from it.

Always true: it stays the very object that the client made, of a class derived from its own, so that whatever an app or
a library does with it works as before; every piece is passed on as it comes, none is read ahead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from otel_llmlog.capture.call import Call

# Classes of responses, and ours made of them. Programs know one or two.
_classes: dict[type[Any], type[Any]] = {}


def tee(raw: Any, call: Call) -> bool:
    """Have a response of urllib3 tell the call what is read from it; False for what is none, and cannot."""
    if not all(hasattr(raw, name) for name in ("read", "stream", "decode_content")):
        return False
    kind = type(raw)
    noting = _classes.get(kind) or _classes.setdefault(kind, _noting(kind))
    raw.llmlog_call = call
    raw.__class__ = noting
    return True


def _noting(base: type[Any]) -> type[Any]:
    """A class of responses that do what those of `base` do, and note it."""

    class Noting(base):  # type: ignore[misc] # the base is known at run time only
        llmlog_call: Call

        def read(self, amt: int | None = None, decode_content: bool | None = None, *args: Any, **kwargs: Any) -> Any:
            piece = self._llmlog_read(super().read, amt, decode_content, *args, **kwargs)
            if amt is None or amt < 0 or (amt > 0 and not piece):
                self.llmlog_call.end("read")
            return piece

        def _llmlog_read(
            self, read: Callable[..., Any], amt: Any, decode_content: Any, *args: Any, **kwargs: Any
        ) -> Any:
            try:
                piece = read(amt, decode_content, *args, **kwargs)
            except BaseException as error:  # passed on: a call has ended, whatever ended it
                self.llmlog_call.end("failed", error)
                raise
            self._llmlog_note(piece, decode_content)
            return piece

        def _llmlog_note(self, piece: bytes | None, decode_content: bool | None) -> None:
            if piece:
                if self.decode_content if decode_content is None else decode_content:
                    self.llmlog_call.response_headers.are_of_decoded()
                self.llmlog_call.note(piece)

        def stream(self, *args: Any, **kwargs: Any) -> Iterator[bytes]:
            # What it yields it takes from `read` or `read_chunked`.
            yield from super().stream(*args, **kwargs)
            self.llmlog_call.end("read")

        def read_chunked(self, amt: int | None = None, decode_content: bool | None = None) -> Iterator[bytes]:
            pieces = super().read_chunked(amt, decode_content)
            try:
                for piece in pieces:
                    self._llmlog_note(piece, decode_content)
                    yield piece
            except GeneratorExit:
                raise  # the app stopped iterating; the response is open until it is closed or collected
            except BaseException as error:  # passed on: a call has ended, whatever ended it
                self.llmlog_call.end("failed", error)
                raise
            finally:
                pieces.close()
            self.llmlog_call.end("read")

        def close(self) -> None:
            try:
                super().close()
            finally:
                self.llmlog_call.end("closed")

        def __del__(self) -> None:
            # First: the base closes itself here, which is not the app's doing.
            self.llmlog_call.end("abandoned")
            super().__del__()

    if hasattr(base, "read1"):

        def read1(self: Any, amt: int | None = None, decode_content: bool | None = None) -> Any:
            piece = self._llmlog_read(super(Noting, self).read1, amt, decode_content)
            if not piece and amt != 0:
                self.llmlog_call.end("read")
            return piece

        Noting.read1 = read1
    Noting.__name__, Noting.__qualname__, Noting.__module__ = base.__name__, base.__qualname__, base.__module__
    return Noting

"""aiohttp: the wrap around `ClientSession._request`, which every request of a session goes through.

Its replies are read from a StreamReader that the connection feeds. Ours stands between that reader and the app: what
the app reads passes through, nothing is read ahead, and nothing is held back.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from typing import Any

from otel_llmlog.capture import active
from otel_llmlog.capture.call import Call
from otel_llmlog.capture.sending import Headers, Request, Sending, answered, is_of_interest
from otel_llmlog.capture.wrap import Wrap


def wraps(library: Any) -> list[Wrap]:
    """What is to be replaced in `aiohttp`."""
    session = library.ClientSession
    return [Wrap(session, "_request", _shell(session._request, make_tee(library), library))]  # noqa: SLF001 - its one door


def _shell(original: Callable[..., Any], tee: Callable[[Any, Call], Any], library: Any) -> Callable[..., Any]:
    @functools.wraps(original)
    async def _request(self: Any, method: Any, str_or_url: Any, *args: Any, **kwargs: Any) -> Any:
        recorder = active.recorder
        if recorder is None:
            return await original(self, method, str_or_url, *args, **kwargs)

        def make() -> Request | None:
            return _sent(self, method, str_or_url, kwargs, library)

        with Sending(recorder, make, is_async=True) as sending:
            try:
                response = await original(self, method, str_or_url, *args, **kwargs)
            except library.ClientResponseError as error:
                # `raise_for_status`: the server did answer.
                if sending.call is not None and error.status >= 400:
                    sending.call.status_code = error.status
                    sending.call.response_headers = Headers(error.headers or {})
                raise
        if sending.call is not None:
            decoded = kwargs.get("auto_decompress")
            decoded = getattr(self, "auto_decompress", True) if decoded is None else decoded

            info = getattr(response, "request_info", None)
            sent = sending.call.request  # None where the process ends meanwhile
            if info is not None and sent is not None and not response.history:
                # As they were sent: with the user agent, and with what middlewares added.
                sent.headers = Headers(info.headers)

            def watch(call: Call) -> bool:
                if decoded:
                    call.response_headers.are_of_decoded()
                if response.content.at_eof():
                    call.end("read")
                else:
                    response.content = tee(response.content, call)
                return True

            body = getattr(response, "_body", None)
            answered(sending.call, recorder, response.status, response.headers, body, watch)
        return response

    return _request


def _sent(session: Any, method: str, str_or_url: Any, kwargs: dict[str, Any], library: Any) -> Request | None:
    """The request that the session is about to make. `json` becomes the payload that aiohttp makes of it itself."""
    if session.closed or not is_of_interest(method.upper(), str(str_or_url)):
        return None
    url = session._build_url(str_or_url)  # noqa: SLF001 - a base URL is known to the session alone
    headers = {name.lower(): value for name, value in session.headers.items()}
    headers.update({name.lower(): value for name, value in dict(kwargs.get("headers") or {}).items()})
    data = kwargs.get("data")
    given = kwargs.get("json")
    if given is not None and data is None:
        data = _as_payload(session, given, library)
        del kwargs["json"]
        kwargs["data"] = data
    return Request(method, str(url), headers, _content(data, library))


def _as_payload(session: Any, given: Any, library: Any) -> Any:
    """What aiohttp sends for `json=`: made once, for both of us."""
    dumps = getattr(session, "_json_serialize_bytes", None)
    if dumps is not None:
        return library.payload.JsonBytesPayload(given, dumps=dumps)
    return library.payload.JsonPayload(given, dumps=session.json_serialize)


def _content(data: Any, library: Any) -> Any:
    # A payload of bytes is bytes in a wrapper.
    return getattr(data, "_value", data) if isinstance(data, library.payload.BytesPayload) else data


def make_tee(library: Any) -> Callable[[Any, Call], Any]:
    """Our reader, a StreamReader of this aiohttp."""
    base = library.StreamReader

    class Tee(base):  # type: ignore[misc, valid-type] # the base is known at run time only
        """Stands in front of a reader: same methods, same results. What is not written here is the reader's."""

        __slots__ = ("_call", "_cancelled", "_reader")

        def __init__(self, reader: Any, call: Call) -> None:  # the base's fields stay unset: the reader has them
            self._reader = reader
            self._call = call
            self._cancelled: BaseException | None = None

        def __getattr__(self, name: str) -> Any:
            if name in {"_reader", "_call", "_cancelled"}:
                raise AttributeError(name)
            return getattr(self._reader, name)

        def __repr__(self) -> str:
            return repr(self._reader)

        def __del__(self) -> None:
            call = getattr(self, "_call", None)
            if call is not None:
                self._end("abandoned")

        async def _read(self, method: str, *args: Any, **kwargs: Any) -> Any:
            """Let the reader read, and look at what it read: bytes, or a chunk as (bytes, whether it ends here)."""
            try:
                read = await getattr(self._reader, method)(*args, **kwargs)
            except asyncio.CancelledError as error:
                # The app may have waited with a time limit and may read on; if it does not, this was the end.
                self._cancelled = error
                raise
            except asyncio.IncompleteReadError as error:
                self._note(error.partial)
                raise
            except BaseException as error:  # passed on
                if self._reader.exception() is not None or isinstance(error, TimeoutError):
                    self._call.end("failed", error)
                raise
            self._note(read[0] if isinstance(read, tuple) else read)
            return read

        def _note(self, piece: bytes) -> None:
            if piece:
                self._cancelled = None
                self._call.note(piece)
            if self._reader.at_eof():
                self._call.end("read")

        async def read(self, n: int = -1) -> Any:
            return await self._read("read", n)

        async def readany(self) -> Any:
            return await self._read("readany")

        async def readchunk(self) -> Any:
            return await self._read("readchunk")

        async def readexactly(self, n: int) -> Any:
            return await self._read("readexactly", n)

        async def readline(self, **kwargs: Any) -> Any:
            return await self._read("readline", **kwargs)

        async def readuntil(self, *args: Any, **kwargs: Any) -> Any:
            return await self._read("readuntil", *args, **kwargs)

        def read_nowait(self, n: int = -1) -> Any:
            read = self._reader.read_nowait(n)
            self._note(read)
            return read

        def set_exception(self, *args: Any, **kwargs: Any) -> None:
            """The response tells its reader this way that the app has closed or released it."""
            self._reader.set_exception(*args, **kwargs)
            self._end("closed")

        def exception(self) -> Any:
            found = self._reader.exception()
            if found is not None:  # the connection broke while nobody read
                self._call.end("failed", found)
            return found

        def _end(self, ending: str) -> None:
            if self._cancelled is not None:
                self._call.end("failed", self._cancelled)
            else:
                self._call.end(ending)

    # The rest of the methods work on fields, which the reader has.
    own = vars(Tee)
    for name, member in vars(base).items():
        if callable(member) and not name.startswith("__") and name not in own and not name.startswith("iter_"):
            setattr(Tee, name, _passed_on(name))
    return Tee


def _passed_on(name: str) -> Callable[..., Any]:
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        return getattr(self._reader, name)(*args, **kwargs)

    method.__name__ = name
    return method

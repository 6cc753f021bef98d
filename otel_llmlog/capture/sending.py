"""Sending: what surrounds one send of a client that is not httpx; and its request in the form the recorder reads.

Always true: the client's own exception passes unchanged, and nothing here raises one. One core for all such clients,
sync and async: `with Sending(…) as sending:` around the send, then `sending.call`, if there is one, is told the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Any, Self
from urllib.parse import SplitResult, unquote, urlsplit

from opentelemetry import context as otel_context

from otel_llmlog.capture import baggage, forms
from otel_llmlog.capture.call import Call
from otel_llmlog.capture.recorder import Recorder

_ENCODING = b"content-encoding"


class Url:
    """A URL with the parts that httpx gives to its own, under the same names."""

    __slots__ = ("_text", "host", "netloc", "path", "port", "scheme")

    def __init__(self, text: str) -> None:
        parts: SplitResult = urlsplit(text)
        self._text = text
        self.scheme = parts.scheme
        self.host = parts.hostname or ""
        self.port = None if parts.port == {"http": 80, "https": 443}.get(parts.scheme) else parts.port
        self.netloc = parts.netloc.rpartition("@")[2].encode("utf-8", "replace")
        self.path = unquote(parts.path)

    def __str__(self) -> str:
        return self._text


class Headers:
    """Headers of any client's kind: names in any case, values as text or bytes."""

    __slots__ = ("_decoded", "_given")

    def __init__(self, given: Mapping[Any, Any] | Iterable[tuple[Any, Any]]) -> None:
        self._given = given
        self._decoded = False

    def are_of_decoded(self) -> None:
        """The bytes that were noted have no content encoding any more, whatever these headers say."""
        self._decoded = True

    @property
    def raw(self) -> list[tuple[bytes, bytes]]:
        """Names and values as bytes."""
        items = self._given.items() if isinstance(self._given, Mapping) else self._given
        raw = [(_bytes(name, "latin-1"), _bytes(value, "utf-8")) for name, value in items]
        return [(name, value) for name, value in raw if name.lower() != _ENCODING] if self._decoded else raw

    def get(self, name: str, default: str | None = None) -> str | None:
        """The first value under a name, which is given in lower case."""
        wanted = name.encode()
        return next((v.decode("utf-8", "replace") for n, v in self.raw if n.lower() == wanted), default)

    def __contains__(self, name: str) -> bool:
        return self.get(name) is not None

    def items(self) -> list[tuple[str, str]]:
        """Names and values as text."""
        return [(name.decode("latin-1"), value.decode("utf-8", "replace")) for name, value in self.raw]


def _bytes(given: Any, encoding: str) -> bytes:
    return given if isinstance(given, bytes) else str(given).encode(encoding, "replace")


def is_of_interest(method: str, url: str) -> bool:
    """Whether a request is worth a closer look: it may be a call, or the reading of a batch, or must not carry ours."""
    if method == "POST":
        return True
    return (method == "GET" and ("/batches" in url or "/content" in url)) or bool(baggage.carried())


class Request:
    """A request as the recorder reads it: the face that httpx gives to its own.

    `content` is None where the body is not at hand in memory. `sender` is the client that sends it.
    """

    __slots__ = ("content", "headers", "method", "sender", "url")

    def __init__(self, method: str, url: str, headers: Any, content: Any, sender: Any = None) -> None:
        self.method = method.upper()
        self.url = Url(url)
        self.headers = Headers(headers)
        self.content = body_of(content)
        if self.content is None:
            self.content = forms.fields(self.url.path, content)
        self.sender = sender


def body_of(given: Any) -> bytes | None:
    """A request's body as bytes; None when it is a file or a stream, which only its client may read."""
    if given is None:
        return b""
    if isinstance(given, bytes):
        return given
    if isinstance(given, str):
        return given.encode("utf-8", "replace")
    return bytes(given) if isinstance(given, bytearray | memoryview) else None


class Sending:
    """One send: the call that it makes, if it makes one, in the context that it is to be sent in."""

    __slots__ = ("_is_async", "_make", "_recorder", "_token", "call")

    def __init__(self, recorder: Recorder, make: Callable[[], Request | None], *, is_async: bool) -> None:
        self._recorder = recorder
        self._make = make
        self._is_async = is_async
        self.call: Call | None = None
        self._token: Any = None

    def __enter__(self) -> Self:
        try:
            request = self._make()
        except Exception as error:  # what cannot be a request is refused by the client, in its own words
            self._recorder.note_error("request", error)
            return self
        if request is None:
            return self
        begun = self._recorder.begin(request, is_async=self._is_async)
        if begun is None:
            context = self._recorder.shield(request)
        else:
            self.call, context = begun
        if context is not None:
            self._token = otel_context.attach(context)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._token is not None:
            otel_context.detach(self._token)
        if error is not None and self.call is not None:
            self.call.end("failed", error)
            self._recorder.note_failure(self.call)


def answered(call: Call, recorder: Recorder, status: int, headers: Any, body: Any, tee: Callable[[Call], bool]) -> None:
    """The headers are there, and with `body` (bytes) the whole reply; else `tee` watches its stream, if it can."""
    try:
        call.status_code = status
        call.response_headers = Headers(headers)
        if isinstance(body, bytes):
            call.body = body
            if len(body) > call.room:
                call.body, call.missing = None, "larger than LLMLOG_MAX_BODY_BYTES: not read"
            call.end("read")
        else:
            call.stream()
            if not tee(call):
                call.missing = "handed over as a stream of a kind that is not known: not read"
                call.end("read")
    except Exception as error:  # the response is the app's, whatever we make of it
        call.end("failed", error)
    if call.status_code >= 400:
        recorder.note_failure(call)

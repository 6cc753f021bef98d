"""What a provider file reads from the wire, as plain data: names cleaned, counts bounded."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from otel_llmlog.payload import Usage


@dataclass(frozen=True, slots=True)
class RequestFacts:
    """What the caller asked for."""

    model: str | None = None
    stream: bool = False
    messages: str | list[Any] | dict[str, Any] | None = None
    """The conversation as sent; None unless content was asked for."""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    """Model parameters: all of them with content, numbers and switches alone without."""
    end_user: str | None = None
    identity: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the body that say who calls: `metadata`, `litellm_session_id`, `litellm_trace_id`."""
    previous_response_id: str | None = None
    conversation_id: str | None = None
    usage_asked: bool = True
    """False for a stream that will carry no usage, because the request did not ask for it."""
    usage: Usage | None = None
    """What the request makes countable, for replies that state no usage."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ErrorFacts:
    """What a provider said went wrong. `kind` reads like an enum and is safe to keep; `message` may quote content."""

    kind: str | None = None
    message: str | None = None


@dataclass(frozen=True, slots=True)
class ResponseFacts:
    """What came back."""

    id: str | None = None
    model: str | None = None
    usage: Usage | None = None
    finish_reasons: tuple[str, ...] = ()
    complete: bool = False
    """The reply reached its end: a body that could be read, a stream with its terminator or all finish reasons."""
    opaque: bool = False
    """Nothing in the reply tells whether it is whole: sound, a bare text."""
    is_stream: bool = False
    first_token: int | None = None
    """Index of the stream's piece that brought the first token."""
    response: Any = None
    """The reply, a stream put together again; None unless content was asked for."""
    output: Sequence[str] = ()
    """Texts the model wrote in a stream that carried no usage, for counting."""
    error: ErrorFacts | None = None
    notes: tuple[str, ...] = ()


# Each is one of a kind, and looked up by that on the app's thread.
@dataclass(frozen=True, slots=True, eq=False)
class Endpoint:
    """One API of one wire format: how to tell its requests, and how to read them."""

    wire: str
    """Whose format it is: also the provider's slug when the host is unknown."""
    api: str
    """chat, completions, responses, embeddings, messages, generate_content, rerank, fim, ocr."""
    operation: str
    """`gen_ai.operation.name`."""
    call_types: tuple[str, str]
    """LiteLLM's `call_type` of a sync and of an async call."""
    accepts: Callable[[bytes | None, Mapping[str, str]], bool]
    """Whether body and headers have the shape of this API. Runs on the app's thread: searches, decodes nothing."""
    read_request: Callable[[bytes, str, bool], RequestFacts]
    """(body, URL path, with content) -> facts."""
    read_response: Callable[[bytes, bool], ResponseFacts]
    """(body of a 2xx reply, with content) -> facts."""
    read_stream: Callable[[Sequence[bytes], bool], ResponseFacts]
    """(pieces of the event stream in order, with content) -> facts."""
    read_error: Callable[[bytes], ErrorFacts]
    """Body of an error reply -> facts."""
    framed: bool = False
    """A request for a stream may be answered by another framing than server-sent events, and `read_stream` knows it."""
    brief: Callable[[Sequence[bytes]], bytes | None] | None = None
    """(pieces of a 200 reply in order) -> it without content, for one of the two readers; None: that cannot be told.
    Runs on the app's thread: see `brief`."""
    refine: Callable[[ResponseFacts, Mapping[str, str]], ResponseFacts] | None = None
    """(facts of a reply, its headers under lower-case names) -> facts with what its headers alone say."""


def has(*needles: bytes) -> Callable[[bytes | None, Mapping[str, str]], bool]:
    """For `Endpoint.accepts`: bodies in which all of these stand."""

    def accepts(body: bytes | None, headers: Mapping[str, str]) -> bool:  # noqa: ARG001 - one signature for all
        if body is None:
            return False
        for needle in needles:  # noqa: SIM110 - a generator costs the app's thread as much as a function
            if needle not in body:
                return False
        return True

    return accepts

"""How a call failed, from what its transport met and what its reply says.

Always true: the text quotes nothing of the reply but words from fixed vocabularies; what the provider wrote is in
`message` alone, and may be content.
"""

from __future__ import annotations

from typing import NamedTuple

from otel_llmlog.capture.call import Call
from otel_llmlog.providers.facts import ErrorFacts, ResponseFacts

# LiteLLM's class names for HTTP statuses, which are those of the OpenAI SDK.
_HTTP_ERRORS = {
    400: "BadRequestError",
    401: "AuthenticationError",
    403: "PermissionDeniedError",
    404: "NotFoundError",
    408: "Timeout",
    409: "ConflictError",
    413: "RequestTooLargeError",
    422: "UnprocessableEntityError",
    429: "RateLimitError",
    500: "InternalServerError",
    502: "BadGatewayError",
    503: "ServiceUnavailableError",
    504: "Timeout",
    529: "OverloadedError",
}
# What a row says of endings that no exception names.
_ENDINGS = {
    "closed": ("StreamClosed", "the app closed the stream before its end"),
    "abandoned": ("StreamAbandoned", "the app dropped the stream before its end"),
    "exit": ("ProcessTerminated", "the process ended before the call did"),
}


class Failure(NamedTuple):
    """Of a call that failed."""

    error_class: str
    """LiteLLM's name for the status, an exception's class, or a word of ours."""
    code: str | None
    """HTTP status, or the provider's own word."""
    text: str
    """What the row says."""
    message: str | None = None
    """What the provider wrote. May be content."""


def failure_of(call: Call, response: ResponseFacts) -> Failure | None:
    """How the call failed; None when it did not."""
    error = response.error
    if call.status_code >= 400:
        facts = error or ErrorFacts()
        name = _HTTP_ERRORS.get(call.status_code, "APIError")
        text = f"HTTP {call.status_code}" + (f" {facts.kind}" if facts.kind else "")
        return Failure(name, str(call.status_code), text, facts.message)
    if error is not None:
        kind = f" ({error.kind})" if error.kind else ""
        return Failure("APIError", error.kind, f"the provider reported an error in its reply{kind}", error.message)
    if call.error is not None and not response.complete:
        return Failure(call.error, None, f"{call.error} while the reply was awaited")
    if response.complete:
        return None
    if call.ending in _ENDINGS:
        name, text = _ENDINGS[call.ending]
        return Failure(name, None, text)
    if response.is_stream:
        return Failure("StreamIncomplete", None, "the stream ended without its last event")
    return Failure("InvalidResponse", None, "the reply could not be read: see notes in its metadata")

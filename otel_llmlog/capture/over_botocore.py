"""botocore (boto3): the wrap around `URLLib3Session.send`, through which every attempt at an operation goes, signed.

aiobotocore sends over aiohttp, where it is seen.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from otel_llmlog.capture import active
from otel_llmlog.capture.call import Call
from otel_llmlog.capture.sending import Request, Sending, answered, is_of_interest
from otel_llmlog.capture.urllib3_streams import tee
from otel_llmlog.capture.wrap import Wrap


def wraps(library: Any) -> list[Wrap]:
    """What is to be replaced in `botocore.httpsession`."""
    return [Wrap(library.URLLib3Session, "send", _shell(library.URLLib3Session.send))]


def _shell(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def send(self: Any, request: Any) -> Any:
        recorder = active.recorder
        if recorder is None:
            return original(self, request)

        def make() -> Request | None:
            if not is_of_interest(request.method, request.url):
                return None
            return Request(request.method, request.url, request.headers, request.body, self)

        with Sending(recorder, make, is_async=False) as sending:
            response = original(self, request)
        if sending.call is not None:

            def watch(call: Call) -> bool:
                return tee(response.raw, call)

            # An operation that streams its output leaves the body in the connection.
            body = getattr(response, "_content", None)
            answered(sending.call, recorder, response.status_code, response.headers, body, watch)
        return response

    return send

"""requests: the wrap around `Session.send`, which every request of every session goes through.

It also follows redirects by calling itself: those belong to the call that was redirected.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from otel_llmlog.capture import active
from otel_llmlog.capture.call import Call
from otel_llmlog.capture.recorder import Recorder
from otel_llmlog.capture.sending import Request, Sending, answered, is_of_interest
from otel_llmlog.capture.urllib3_streams import tee
from otel_llmlog.capture.wrap import Wrap


def wraps(library: Any) -> list[Wrap]:
    """What is to be replaced in `requests`."""
    return [Wrap(library.Session, "send", _shell(library.Session.send))]


def _shell(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def send(self: Any, request: Any, **kwargs: Any) -> Any:
        recorder = active.recorder
        if recorder is None or _is_redirect(self, kwargs, recorder):
            return original(self, request, **kwargs)

        def make() -> Request | None:
            if not is_of_interest(request.method, request.url):
                return None
            return Request(request.method, request.url, request.headers, request.body, self)

        with Sending(recorder, make, is_async=False) as sending:
            response = original(self, request, **kwargs)
        if sending.call is not None:

            def watch(call: Call) -> bool:
                return tee(response.raw, call)

            body = getattr(response, "_content", None)
            answered(sending.call, recorder, response.status_code, response.headers, body, watch)
        return response

    return send


def _is_redirect(session: Any, kwargs: dict[str, Any], recorder: Recorder) -> bool:
    if kwargs.get("allow_redirects", True):
        return False
    under_way = recorder.current()
    return under_way is not None and getattr(under_way.request, "sender", None) is session

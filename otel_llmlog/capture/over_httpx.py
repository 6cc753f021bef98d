"""httpx and httpx2: the wrap around `Client.send` and `AsyncClient.send`.

`send` sees every httpx-shaped client and transport; the OTel instrumentation of the same libraries works below it, so
its HTTP span becomes the child of ours. Two thin shells, sync and async, share one core.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from typing import Any

from opentelemetry import context as otel_context

from otel_llmlog.capture import active
from otel_llmlog.capture.call import Call
from otel_llmlog.capture.recorder import Recorder
from otel_llmlog.capture.streams import Tees, make_tees
from otel_llmlog.capture.wrap import Wrap
from otel_llmlog.providers import hosts


def wraps(library: Any) -> list[Wrap]:
    """What is to be replaced in `httpx` or `httpx2`."""
    tees = make_tees(library)
    shells = ((library.Client, _sync_shell), (library.AsyncClient, _async_shell))
    return [Wrap(cls, "send", shell(cls.send, tees, library)) for cls, shell in shells]


def _sync_shell(original: Callable[..., Any], tees: Tees, library: Any) -> Callable[..., Any]:
    @functools.wraps(original)
    def send(self: Any, request: Any, *args: Any, **kwargs: Any) -> Any:
        recorder = active.recorder
        begun = None if recorder is None else recorder.begin(request, is_async=False)
        if recorder is None:
            return original(self, request, *args, **kwargs)
        if begun is None:
            shield = recorder.shield(request)
            ended = None if active.managed is None else active.managed(request)
            if shield is None and ended is None:
                return original(self, request, *args, **kwargs)
            token = None if shield is None else otel_context.attach(shield)
            try:
                response = original(self, request, *args, **kwargs)
            except BaseException as error:  # passed on: a call has ended, whatever ended it
                if ended is not None:
                    ended(None, error)
                raise
            finally:
                if token is not None:
                    otel_context.detach(token)
            if ended is not None:
                ended(response, None)
            return response
        call, context = begun
        if active.inject_usage:
            request = _with_usage(request, call, library)
        token = otel_context.attach(context)
        try:
            response = original(self, request, *args, **kwargs)
        except BaseException as error:  # passed on: a call has ended, whatever ended it
            call.end("failed", error)
            recorder.note_failure(call)
            raise
        finally:
            otel_context.detach(token)
        _answered(call, recorder, response, tees.sync)
        return response

    return send


def _async_shell(original: Callable[..., Any], tees: Tees, library: Any) -> Callable[..., Any]:
    @functools.wraps(original)
    async def send(self: Any, request: Any, *args: Any, **kwargs: Any) -> Any:
        recorder = active.recorder
        begun = None if recorder is None else recorder.begin(request, is_async=True)
        if recorder is None:
            return await original(self, request, *args, **kwargs)
        if begun is None:
            shield = recorder.shield(request)
            ended = None if active.managed is None else active.managed(request)
            if shield is None and ended is None:
                return await original(self, request, *args, **kwargs)
            token = None if shield is None else otel_context.attach(shield)
            try:
                response = await original(self, request, *args, **kwargs)
            except BaseException as error:  # passed on: a call has ended, whatever ended it
                if ended is not None:
                    ended(None, error)
                raise
            finally:
                if token is not None:
                    otel_context.detach(token)
            if ended is not None:
                ended(response, None)
            return response
        call, context = begun
        if active.inject_usage:
            request = _with_usage(request, call, library)
        token = otel_context.attach(context)
        try:
            response = await original(self, request, *args, **kwargs)
        except BaseException as error:  # passed on: a call has ended, whatever ended it
            call.end("failed", error)
            recorder.note_failure(call)
            raise
        finally:
            otel_context.detach(token)
        _answered(call, recorder, response, tees.asynchronous)
        return response

    return send


def _answered(call: Call, recorder: Recorder, response: Any, tee: type[Any]) -> None:
    """The headers are there, and for a plain call the body: end it, or watch its stream."""
    try:
        call.status_code = response.status_code
        call.response_headers = response.headers
        if response.is_closed or response.is_stream_consumed:
            try:
                body = response.content
            except Exception:  # each library has its own ResponseNotRead
                body = None
            if body is not None and len(body) > call.room:
                call.missing = "larger than LLMLOG_MAX_BODY_BYTES: not read"
            else:
                call.body = body
            call.end("read")
        else:
            call.stream()
            response.stream = tee(response.stream, call)
    except Exception as error:  # the response is the app's, whatever we make of it
        call.end("failed", error)
    if call.status_code >= 400:
        recorder.note_failure(call)


def _with_usage(request: Any, call: Call, library: Any) -> Any:
    """The request, asking for usage in its stream where it did not; any failure leaves it as it was."""
    if call.endpoint.api not in {"chat", "completions"} or call.endpoint.wire != "openai" or not call.request_body:
        return request
    if b'"stream"' not in call.request_body:
        return request
    try:
        url = request.url
        if not hosts.takes_stream_options(url.host, url.port, url.path, request.headers.get("user-agent", "")):
            return request
        body = json.loads(call.request_body)
        options = body.get("stream_options") or {}
        if body.get("stream") is not True or "include_usage" in options:
            return request
        content = json.dumps({**body, "stream_options": {**options, "include_usage": True}}).encode()
        headers = [(name, value) for name, value in request.headers.raw if name.lower() != b"content-length"]
        asking = library.Request(
            request.method, request.url, headers=headers, content=content, extensions=request.extensions
        )
    except Exception:  # a body that cannot be changed safely is sent as it is
        return request
    call.request, call.request_body = asking, content
    return asking

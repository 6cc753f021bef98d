"""The calls that an app makes to a LiteLLM proxy's management routes, as its own httpx client sees them.

Always true: a request counts as one of these only if its path is LiteLLM's and its key has the shape of LiteLLM's or
its host is named a LiteLLM proxy, so that nobody else's API is recorded; what is sent and answered is not touched.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from otel_llmlog.audit import recording, routes
from otel_llmlog.audit.routes import Match, Routes

# What LLMLOG_PROVIDER_HOSTS calls a LiteLLM proxy.
PROXY = "litellm_proxy"

_routes = Routes()

Ended = Callable[[Any, BaseException | None], None]


def watcher(provider_hosts: Mapping[str, str]) -> Callable[[Any], Ended | None]:
    """Looks at requests; `provider_hosts` as in the setting."""
    proxies = frozenset(host for host, provider in provider_hosts.items() if provider == PROXY)
    return lambda request: _watch(request, proxies)


def _watch(request: Any, proxies: frozenset[str]) -> Ended | None:
    """What is to be told of the response or the exception; None when this is no management call. Never raises."""
    try:
        match = _routes.match(request.method, request.url.path)
        if match is None:
            return None
        headers = {name.lower(): value for name, value in request.headers.items()}
        if not _is_proxy(request.url.host, headers, proxies):
            return None
        body = _content(request)
    except Exception as failed:  # the app's request goes out, whatever we make of it
        recording.warn("audit.client", f"a management call could not be looked at: {type(failed).__name__}")
        return None

    def ended(response: Any, error: BaseException | None) -> None:
        try:
            _record(match, request, headers, body, response, error)
        except Exception as failed:  # the response is the app's
            recording.warn("audit.client", f"a management call could not be recorded: {type(failed).__name__}")

    return ended


def _is_proxy(host: str, headers: Mapping[str, str], proxies: frozenset[str]) -> bool:
    if "x-litellm-api-key" in headers or headers.get("authorization", "").lower().startswith("bearer sk-"):
        return True
    return host in proxies


def _content(message: Any) -> bytes | None:
    try:
        content: bytes = message.content
    except Exception:  # each library has its own name for a stream that was not read
        return None
    return content if len(content) <= routes.MAX_BODY else None


def _record(
    match: Match,
    request: Any,
    headers: Mapping[str, str],
    body: bytes | None,
    response: Any,
    error: BaseException | None,
) -> None:
    status = response.status_code if response is not None else None
    answer = _content(response) if response is not None else None
    for operation, details in routes.events(match, body, answer, status, error):
        told: dict[str, Any] = {
            **details,
            **routes.actor(headers),
            "source": "client",
            "route": f"{request.method} {request.url.path}",
        }
        recording.record(operation, **told)

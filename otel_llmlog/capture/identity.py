"""Who calls and in which session: all that was said anywhere about one call, put in order.

The more specific wins: request body, then request headers, then `context(...)`, then W3C baggage, then the fixed
`LLMLOG_*` settings. Tags and metadata of all places are added up. A session is never invented.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from otel_llmlog import redact
from otel_llmlog.capture import baggage as entries
from otel_llmlog.capture.context import NOBODY, Caller
from otel_llmlog.config import IdentitySettings

# Tags of one call that are kept.
MAX_TAGS = 64
# Headers that carry an API key: OpenAI's form, Anthropic's, Azure's, Google's.
_KEY_HEADERS = ("authorization", "x-api-key", "api-key", "x-goog-api-key")
# Headers that say who calls, as LiteLLM has them.
_HEADERS = frozenset({
    "x-litellm-session-id", "x-litellm-trace-id", "x-litellm-end-user-id", "x-litellm-tags",
    "x-litellm-spend-logs-metadata",
})  # fmt: skip


def resolve(
    body: Mapping[str, Any],
    end_user: str | None,
    headers: Mapping[str, str],
    said: Caller,
    baggage: Mapping[str, object],
    fixed: Caller,
) -> Caller:
    """The caller of one request. `end_user` is what the API calls the user of a request; `fixed`: see `said_by`."""
    caller = _from_body(body, end_user)
    for source in (_from_headers(headers), said, _from_baggage(baggage), fixed):
        if source is not NOBODY:
            caller = caller.over(source)
    if caller is NOBODY:  # of most calls nothing is said
        return caller
    return Caller(
        redact.name(caller.session_id),
        redact.name(caller.user),
        redact.name(caller.end_user),
        redact.name(caller.team),
        redact.name(caller.team_alias),
        redact.name(caller.organization),
        tuple(tag for given in caller.tags[:MAX_TAGS] if (tag := redact.name(given))),
        redact.masked(redact.storable(dict(caller.metadata))) if caller.metadata else None,
    )


def said_by(settings: IdentitySettings) -> Caller:
    """The caller that the settings name for all calls that do not say otherwise."""
    said = Caller(
        settings.session_id,
        settings.user_id,
        settings.end_user,
        settings.team_id,
        settings.team_alias,
        settings.organization_id,
        settings.tags,
    )
    return NOBODY if said == NOBODY else said


def api_key(headers: Mapping[str, str], settings: IdentitySettings) -> tuple[str | None, str | None]:
    """SHA-256 of the request's API key, and the alias it is known by."""
    given = next((value for name in _KEY_HEADERS if (value := headers.get(name))), None)
    if given is None:
        return None, None
    hashed = redact.key_hash(given)
    return hashed, settings.api_key_aliases.get(hashed)


def requester_metadata(body: Mapping[str, Any]) -> dict[str, Any] | None:
    """The `metadata` of the request body, credentials in it masked."""
    metadata = body.get("metadata")
    return (
        redact.masked(redact.storable(metadata, redact.MAX_NAME)) if isinstance(metadata, dict) and metadata else None
    )


def _from_body(body: Mapping[str, Any], end_user: str | None) -> Caller:
    if not body:
        return NOBODY if end_user is None else Caller(end_user=end_user)
    metadata: dict[str, Any] = {}
    for name in ("metadata", "litellm_metadata"):
        if isinstance(given := body.get(name), dict):
            metadata.update(given)
    session = body.get("litellm_session_id") or metadata.get("session_id") or body.get("litellm_trace_id")
    extra = metadata.get("spend_logs_metadata")
    return Caller(
        session_id=redact.name(session),
        end_user=end_user,
        tags=_tags(metadata.get("tags")),
        metadata=extra if isinstance(extra, dict) else None,
    )


def _from_headers(headers: Mapping[str, str]) -> Caller:
    if _HEADERS.isdisjoint(headers):
        return NOBODY
    extra = _json_object(headers.get("x-litellm-spend-logs-metadata"))
    return Caller(
        session_id=headers.get("x-litellm-session-id") or headers.get("x-litellm-trace-id"),
        end_user=headers.get("x-litellm-end-user-id"),
        tags=_tags(headers.get("x-litellm-tags")),
        metadata=extra,
    )


def _from_baggage(baggage: Mapping[str, object]) -> Caller:
    if not baggage:
        return NOBODY

    def first(*names: str) -> str | None:
        return next((str(value) for name in names if (value := baggage.get(name))), None)

    return Caller(
        session_id=first(entries.SESSION, "session.id"),
        user=first(entries.USER, "user.id"),
        end_user=first(entries.END_USER, "enduser.id"),
        team=first(entries.TEAM),
        team_alias=first(entries.TEAM_ALIAS),
        organization=first(entries.ORGANIZATION),
        tags=_tags(first(entries.TAGS)),
    )


def _tags(given: Any) -> tuple[str, ...]:
    """Tags given as a list, as JSON text of one, or separated by commas."""
    if isinstance(given, str):
        if given.lstrip().startswith("["):
            try:
                given = json.loads(given)
            except (ValueError, RecursionError):
                return ()
        else:
            given = given.split(",")
    if not isinstance(given, list):
        return ()
    return tuple(text for tag in given if isinstance(tag, str) and (text := tag.strip()))


def _json_object(given: str | None) -> dict[str, Any] | None:
    if not given:
        return None
    try:
        found = json.loads(given)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) and found else None

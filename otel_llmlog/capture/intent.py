"""What is noted of a call when it begins, should its process die before its end. Next to nothing is decoded for it.

Always true: no content and no raw key, and not clean yet; a name that cannot be found cheaply is left out.
"""

from __future__ import annotations

import re
from functools import lru_cache

from otel_llmlog import redact
from otel_llmlog.capture.call import Call
from otel_llmlog.capture.context import NOBODY
from otel_llmlog.capture.headers import entries
from otel_llmlog.providers import bedrock, gemini, lenient
from otel_llmlog.providers.facts import Endpoint

_MODEL_FIELD = b'"model"'
_MODEL = re.compile(rb'"model"\s*:\s*"([^"\\\x00-\x1f]{1,256})"')
_IN_URL = {"bedrock": bedrock.model_of, "gemini": gemini.model_of, "vertex_ai": gemini.model_of}
_KEYS = frozenset({b"authorization", b"x-api-key", b"api-key", b"x-goog-api-key"})
_SESSION = b"x-litellm-session-id"
# Most headers are passed over by a look at their length.
_LENGTHS = frozenset(map(len, (*_KEYS, _SESSION)))
# Bytes of one fact: longer names are cut when they are stored, too.
_LONGEST = redact.MAX_NAME


def facts(call: Call, netloc: bytes, path: str) -> dict[str, str]:
    """The call as far as it is known when it begins; host and path are those of its URL. Shared: not to be changed."""
    endpoint, request, said = call.endpoint, call.request, call.caller
    # Where the URL names the model, a field of that name in the body is somebody's content.
    in_url = _IN_URL.get(endpoint.wire)
    model = _model(call.request_body or b"") if in_url is None else in_url(path)
    key = session = b""
    for entry in entries(request.headers):
        if len(entry[0]) in _LENGTHS:
            lower = entry[0].lower()
            if lower in _KEYS:
                key = entry[-1]
            elif lower == _SESSION:
                session = entry[-1]
    place = endpoint, call.is_async, call.url.scheme, netloc, path
    if said is NOBODY:
        return _facts(place, model, key, session)
    who = said.session_id, said.user, said.end_user, said.team, said.team_alias, said.organization, said.tags
    return _facts(place, model, key, session, *who)


# An app makes the same few calls all the time.
@lru_cache(maxsize=256)
def _facts(
    place: tuple[Endpoint, bool, str, bytes, str],
    model: bytes | str | None,
    key: bytes,
    session: bytes,
    said_session: str | None = None,
    user: str | None = None,
    end_user: str | None = None,
    team: str | None = None,
    team_alias: str | None = None,
    organization: str | None = None,
    tags: tuple[str, ...] = (),
) -> dict[str, str]:
    endpoint, is_async, scheme, netloc, path = place
    found = {
        "call_type": endpoint.call_types[is_async],
        "operation": endpoint.operation,
        "wire": endpoint.wire,
        "url": f"{scheme}://{netloc.decode('ascii', 'replace')}{path}"[:_LONGEST],
        "model": model.decode("utf-8", "replace") if isinstance(model, bytes) else model,
        "api_key": redact.key_hash(key.decode("latin-1")) if key else None,
        "session_id": session[:_LONGEST].decode("utf-8", "replace") or said_session,
        "user": user,
        "end_user": end_user,
        "team": team,
        "team_alias": team_alias,
        "organization": organization,
        "tags": "\n".join(tags),
    }
    return {name: value for name, value in found.items() if value}


def _model(body: bytes) -> bytes | str | None:
    at = body.find(_MODEL_FIELD)
    if at < 0:
        return None
    if body.find(_MODEL_FIELD, at + 1) < 0:
        found = _MODEL.match(body, at)
        return found[1] if found else None
    # Tools and messages may have fields of that name, with content in them: only a decoder knows which is whose.
    return redact.name(lenient.read_object(body).get("model"))

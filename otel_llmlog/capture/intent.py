"""What is noted of a call when it begins, should its process die before its end. Next to nothing is decoded for it.

Always true: no content and no credential. The model is a member of the body's top level that looks like a name: tools
and messages may have fields of that name, with content in them, and only a decoder knows which is whose.
"""

from __future__ import annotations

import re
from functools import lru_cache

import msgspec

from otel_llmlog import redact
from otel_llmlog.capture.call import Call
from otel_llmlog.capture.context import NOBODY
from otel_llmlog.capture.headers import entries
from otel_llmlog.providers import bedrock, forms, gemini, openai
from otel_llmlog.providers.facts import Endpoint

# A body that begins with its model, as many do, needs no decoder to tell whose field that is.
_FIRST = re.compile(rb'\s{0,64}\{\s{0,64}"model"\s{0,64}:\s{0,64}"([A-Za-z0-9][A-Za-z0-9.:/@+_-]{0,127})"')
_MODEL_FIELD = b'"model"'
# Bytes of a form that are looked through: its fields come before its files.
_FORM_BYTES = 1 << 14
_IN_URL = {"bedrock": bedrock.model_of, "gemini": gemini.model_of, "vertex_ai": gemini.model_of}
_KEYS = frozenset({b"authorization", b"x-api-key", b"api-key", b"x-goog-api-key"})
_SESSION = b"x-litellm-session-id"
# Most headers are passed over by a look at their length.
_LENGTHS = frozenset(map(len, (*_KEYS, _SESSION)))


def facts(call: Call, netloc: bytes, path: str) -> dict[str, str]:
    """The call as far as it is known when it begins; host and path are those of its URL. Shared: not to be changed."""
    endpoint, request, said = call.endpoint, call.request, call.caller
    # Where the URL names the model, a field of that name in the body is somebody's content.
    in_url = _IN_URL.get(endpoint.wire)
    model = (_model(call.request_body) or openai.deployment(path)) if in_url is None else in_url(path)
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
    model: str | None,
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
        "url": redact.base_url(f"{scheme}://{netloc.decode('ascii', 'replace')}{path}"),
        "model": model,
        "api_key": redact.key_hash(key.decode("latin-1")) if key else None,
        "session_id": redact.name(session.decode("utf-8", "replace") or said_session),
        "user": redact.name(user),
        "end_user": redact.name(end_user),
        "team": redact.name(team),
        "team_alias": redact.name(team_alias),
        "organization": redact.name(organization),
        "tags": "\n".join([tag for given in tags if (tag := redact.name(given))]),
    }
    return {name: value for name, value in found.items() if value}


class _Named(msgspec.Struct):
    """A request, all of it skipped but the name of its model: some tenth of what its SDK took to write it."""

    model: str | None = None


_named = msgspec.json.Decoder(_Named).decode


def _model(body: bytes | None) -> str | None:
    if not body or _MODEL_FIELD not in body:
        return None
    if (found := _FIRST.match(body)) is not None:
        return redact.name(found[1].decode("ascii"))
    if forms.is_form(body):
        return redact.model(forms.fields(body[:_FORM_BYTES]).get("model"))
    try:
        return redact.model(_named(body).model)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None  # no JSON, or another type of it

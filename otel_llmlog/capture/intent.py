"""What is noted of a call when it begins, should its process die before its end. Next to nothing is decoded for it.

Always true: no content and no raw key, and not clean yet; a name that cannot be found cheaply is left out.
"""

from __future__ import annotations

import re
from functools import lru_cache

from otel_llmlog import redact
from otel_llmlog.capture.call import Call
from otel_llmlog.capture.context import NOBODY
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


@lru_cache(maxsize=64)
def _key_hash(credential: bytes) -> str:
    # An app has few keys and sends one with each call.
    return redact.key_hash(credential.decode("latin-1"))


@lru_cache(maxsize=256)
def _place(endpoint: Endpoint, is_async: bool, scheme: str, netloc: bytes, path: str) -> dict[str, str]:
    # An app calls a few places all the time.
    return {
        "call_type": endpoint.call_types[is_async],
        "operation": endpoint.operation,
        "wire": endpoint.wire,
        "url": f"{scheme}://{netloc.decode('ascii', 'replace')}{path}"[:_LONGEST],
    }


def facts(call: Call, netloc: bytes, path: str) -> dict[str, str]:
    """The call as far as it is known when it begins; host and path are those of its URL."""
    endpoint, request = call.endpoint, call.request
    found = _place(endpoint, call.is_async, request.url.scheme, netloc, path).copy()
    # Where the URL names the model, a field of that name in the body is somebody's content.
    in_url = _IN_URL.get(endpoint.wire)
    if model := _model(call.request_body or b"") if in_url is None else in_url(path):
        found["model"] = model
    for name, value in request.headers.raw:
        if len(name) in _LENGTHS:
            lower = name.lower()
            if lower in _KEYS:
                found["api_key"] = _key_hash(value)
            elif lower == _SESSION:
                found["session_id"] = value[:_LONGEST].decode("utf-8", "replace")
    caller = call.caller
    if caller is not NOBODY:
        for field in ("user", "end_user", "team", "team_alias", "organization"):
            if (value := getattr(caller, field)) is not None:
                found[field] = value
        found.setdefault("session_id", caller.session_id or "")
        found["tags"] = "\n".join(caller.tags)
    return found


def _model(body: bytes) -> str | None:
    at = body.find(_MODEL_FIELD)
    if at < 0:
        return None
    if body.find(_MODEL_FIELD, at + 1) < 0:
        found = _MODEL.match(body, at)
        return found[1].decode("utf-8", "replace") if found else None
    # Tools and messages may have fields of that name, with content in them: only a decoder knows which is whose.
    return redact.name(lenient.read_object(body).get("model"))

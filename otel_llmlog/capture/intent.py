"""What is noted of a call when it begins, should its process die before its end. Nothing is decoded for it.

Always true: no content and no raw key, and not clean yet; a name that cannot be found cheaply is left out.
"""

from __future__ import annotations

import re

from otel_llmlog import redact
from otel_llmlog.capture.call import Call
from otel_llmlog.capture.context import NOBODY

# The last `"model":` of a body: SDKs put the conversation before or after it, never inside another one.
_MODEL = re.compile(rb'"model"\s*:\s*"([^"\\\x00-\x1f]{1,256})"')
_KEYS = frozenset({b"authorization", b"x-api-key", b"api-key"})
# Bytes of one fact: longer names are cut when they are stored, too.
_LONGEST = redact.MAX_NAME
_SESSION = b"x-litellm-session-id"


def facts(call: Call) -> dict[str, str]:
    """The call as far as it is known when it begins."""
    endpoint, request = call.endpoint, call.request
    url = request.url
    found = {
        "call_type": endpoint.call_types[call.is_async],
        "operation": endpoint.operation,
        "wire": endpoint.wire,
        "url": f"{url.scheme}://{url.netloc.decode('ascii', 'replace')}{url.path}"[:_LONGEST],
    }
    body = call.request_body
    if body is not None and (model := _MODEL.match(body, max(body.rfind(b'"model"'), 0))):
        found["model"] = model[1].decode("utf-8", "replace")
    for name, value in request.headers.raw:
        lower = name.lower()
        if lower in _KEYS:
            found["api_key"] = redact.key_hash(value.decode("latin-1"))
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

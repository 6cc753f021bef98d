"""Briefs: what a reply says of itself (id, model, counts of usage) in a few hundred bytes, without decoding it.

A brief is the reply itself with the rest left out, so its own reader reads it, too. It is made on the app's thread, for
what is known of a call should its process die before the reply is read.

Always true: no content. Names of fields, identifiers, numbers and single words alone pass, and those only from where
providers write them; whatever does not look exactly like that has no brief. The work does not grow with the reply: of a
stream its end is looked at, and an error that came in its middle, beside all its text and its usage, is not told.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

# Bytes at the end of a reply, or of the part of it that counts, in which its usage is looked for.
_TAIL = 4096
# Events of that many pieces at the end of a stream, and no more bytes, are looked through for its last ones.
_LAST_PIECES, _MAX_LAST = 4, 64 << 10

_WORD = rb'"[a-z_-]{0,24}"'
_NUMBER = rb"-?[0-9][0-9.eE+-]{0,24}"
_COUNT = rb"(?:" + _NUMBER + rb"|null|true|false|" + _WORD + rb")"


def _pairs(value: bytes) -> bytes:
    return rb'(?:\s*"[A-Za-z0-9_]{1,48}"\s*:\s*' + value + rb"\s*,?)*+\s*"


_DETAILS = rb"\{" + _pairs(_COUNT) + rb"\}"
_USAGE_FIELD = b'"usage"'
_USAGE = re.compile(rb'"usage"\s*:\s*\{' + _pairs(rb"(?:" + _COUNT + rb"|" + _DETAILS + rb")") + rb"\}")
# A usage object has at least one of these.
_TOKENS = b'_tokens"'

# What stands before anything the model wrote.
_HEAD_NAMES = (
    b"id|object|created|created_at|completed_at|model|type|role|status|service_tier|system_fingerprint|provider|"
    b"background|error|incomplete_details|sequence_number"
)
_IDENTIFIER = rb'"[A-Za-z0-9_.:/@+-]{0,160}"'
_FIELD = rb'"(?:' + _HEAD_NAMES + rb')"\s*:\s*(?:' + _IDENTIFIER + rb"|" + _NUMBER + rb"|null|true|false)"
_FIELDS = rb"((?:" + _FIELD + rb"\s*,\s*)*+)"
_HEAD = re.compile(rb"(?:data:)?\s*\{\s*" + _FIELDS)
_OF_RESPONSE = re.compile(rb"data:\s*\{\s*" + _FIELDS + rb'"response"\s*:\s*')
_OF_MESSAGE = re.compile(rb'data:\s*\{\s*"type"\s*:\s*"message_start"\s*,\s*"message"\s*:\s*\{\s*' + _FIELDS)
_MODEL_FIELD = b'"model"'
_MODEL = re.compile(rb'"model"\s*:\s*' + _IDENTIFIER)
_TIER_FIELD = b'"service_tier"'
_TIER = re.compile(rb'"service_tier"\s*:\s*(?:' + _WORD + rb"|null)")
_ERROR_FIELD = b'"error"'
_ERROR = re.compile(rb'"error"(?!\s*:\s*null)')
_ENDS = (b"data: [DONE]", b"data:[DONE]")
# Calls that are billed beside the tokens; only their reader can count them.
_TOOLS = (b'_search_call"', b'code_interpreter_call"')

Brief = Callable[[Sequence[bytes]], bytes | None]


def of_body(pieces: Sequence[bytes]) -> bytes | None:
    """Of a JSON object that came whole: fields, content, usage."""
    body = _whole(pieces)
    return body and _object(body, 0)


def of_embeddings(pieces: Sequence[bytes]) -> bytes | None:
    """Of vectors: the model stands behind them."""
    body = _whole(pieces)
    if body is None or (found := _object(body, 0)) is None:
        return None
    return _with_model(found, body.rfind(_MODEL_FIELD, max(0, len(body) - _TAIL)), body)


def of_chat(pieces: Sequence[bytes]) -> bytes | None:
    """Of a chat or text completion, whole or as a stream whose last chunk but one has the usage."""
    if not _is_stream(pieces):
        return of_body(pieces)
    last = _last(pieces)
    if not last.rstrip().endswith(_ENDS):
        return None
    chunk = last.rfind(b"data:", 0, max(0, last.rfind(_USAGE_FIELD)))
    found = None if chunk < 0 else _object(last, chunk)
    return found and b"data: %b\n\ndata: [DONE]\n\n" % found


def of_response(pieces: Sequence[bytes]) -> bytes | None:
    """Of a response of the Responses API, whole or as the last event of a stream."""
    if not _is_stream(pieces):
        body = _whole(pieces)
        return body and _response(body, 0)
    last = _last(pieces)
    event = last.rfind(b"data:", 0, max(0, last.rfind(b'"response.completed"')))
    begin = None if event < 0 else _OF_RESPONSE.match(last, event)
    found = begin and _response(last, begin.end())
    return found and b'data: {"type":"response.completed","response":%b}\n\n' % found


def of_message(pieces: Sequence[bytes]) -> bytes | None:
    """Of a message of Anthropic's, whole or as a stream: input is counted in its first event, output near its end."""
    if not _is_stream(pieces):
        return of_body(pieces)
    first, last = pieces[0][:_TAIL], _last(pieces)
    begin = _OF_MESSAGE.search(first)
    asked = begin and _USAGE.match(first, first.find(_USAGE_FIELD, begin.end()))
    if begin is None or not asked or b'"message_stop"' not in last or _ERROR_FIELD in last:
        return None
    at = last.rfind(_USAGE_FIELD)
    said = _USAGE.match(last, at) if last.rfind(b'"message_delta"', 0, max(0, at)) >= 0 else None
    if said is None or _TOKENS not in said[0]:
        return None
    events = (
        b'{"type":"message_start","message":{%b%b}}' % (begin[1], asked[0]),
        b'{"type":"message_delta",%b}' % said[0],
        b'{"type":"message_stop"}',
    )
    return b"".join([b"data: %b\n\n" % event for event in events])


def _is_stream(pieces: Sequence[bytes]) -> bool:
    return pieces[0].startswith((b"data:", b"event:", b":"))


def _whole(pieces: Sequence[bytes]) -> bytes | None:
    if len(pieces) == 1:
        return pieces[0]
    return b"".join(pieces) if sum(map(len, pieces)) <= _MAX_LAST else None


def _last(pieces: Sequence[bytes]) -> bytes:
    last = b"".join(pieces[-_LAST_PIECES:])
    return last if len(last) <= _MAX_LAST else last[-_MAX_LAST:]


def _object(data: bytes, start: int) -> bytes | None:
    """Of the JSON object at `start`, which is the last one."""
    tail = max(start, len(data) - _TAIL)
    at = data.rfind(_USAGE_FIELD, tail)
    head, usage = _HEAD.match(data, start), _USAGE.match(data, at) if at >= 0 else None
    if head is None or usage is None or _TOKENS not in usage[0]:
        return None
    if data.find(_ERROR_FIELD, tail) >= 0 and _ERROR.search(data, tail):
        return None
    at = data.rfind(_TIER_FIELD, tail)
    if at < 0:
        return b"{%b%b}" % (head[1], usage[0])
    tier = _TIER.match(data, at)
    return tier and b"{%b%b,%b}" % (head[1], tier[0], usage[0])


def _response(data: bytes, start: int) -> bytes | None:
    """The same of a response, whose tier stands between what the model wrote and the usage."""
    if len(data) - start > _MAX_LAST or any(data.find(tool, start) >= 0 for tool in _TOOLS):
        return None
    found = _object(data, start)
    if found is None or _TIER_FIELD not in found:
        return None
    # Instructions may stand before the model, what the model wrote and what the app added stand behind it.
    return _with_model(found, data.find(_MODEL_FIELD, start, start + _TAIL), data)


def _with_model(found: bytes, at: int, data: bytes) -> bytes:
    model = _MODEL.match(data, at) if at >= 0 and _MODEL_FIELD not in found else None
    return found if model is None else b"{%b,%b" % (model[0], found[1:])

"""What of a received call may be kept: fields of the payload alone, no raw key, no content unless it is turned on.

Always true: whatever the sender's own settings were, with content off here neither messages nor texts that may quote
them leave this module, dead letters included; with content on, texts are cut as long ones are where calls are captured.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from otel_llmlog import redact
from otel_llmlog.config import ContentSettings
from otel_llmlog.dialects.llmlog import PREFIX, is_field
from otel_llmlog.providers.lenient import word

_KEY = f"{PREFIX}metadata.user_api_key_hash"
_CONTENT = (f"{PREFIX}messages", f"{PREFIX}response")
_TEXTS = tuple(
    PREFIX + name
    for name in (
        "error_str",
        "error_information.error_message",
        "error_information.traceback",
        "response_cost_failure_debug_info.traceback_str",
    )
)
# Documents of which a part is content: the names of its fields, wherever they stand in it.
_QUOTING = {
    f"{PREFIX}guardrail_information": ("guardrail_request", "guardrail_response"),
    f"{PREFIX}metadata.vector_store_request_metadata": ("query", "vector_store_search_response"),
}
_QUOTES = tuple(f"{PREFIX}metadata.guardrail_information.guardrail_{which}" for which in ("request", "response"))
_PARAMETERS = f"{PREFIX}model_parameters"
# What capture itself says of a failure: made of fixed words, the status and the class of an error.
_OWN_WORDS = re.compile(
    r"HTTP \d{3}(?: [a-z]+(?:[_-][a-z]+)*)?"
    r"|the provider reported an error in its reply(?: \([a-z]+(?:[_-][a-z]+)*\))?"
    r"|[A-Za-z]\w{0,63} while the reply was (?:awaited|read)"
    r"|LiteLLM reports [A-Za-z]\w{0,63} \w{0,64}"
)
_HASH = re.compile(r"[0-9a-f]{64}")


def kept(attributes: Mapping[str, Any], settings: ContentSettings) -> dict[str, Any]:
    """The call's attributes that may be stored."""
    found = {name: value for name, value in attributes.items() if is_field(name)}
    key = found.get(_KEY)
    if key is not None and not (key.__class__ is str and _HASH.fullmatch(key)):
        found[_KEY] = redact.key_hash(str(key))
    if settings.store_prompts_in_spend_logs:
        _cut(found, settings.max_string_length_prompt_in_db)
    else:
        _leave_out(found)
    return found


def _leave_out(found: dict[str, Any]) -> None:
    for name in _CONTENT:
        found.pop(name, None)
    for name in _TEXTS:
        if (text := found.get(name)) is not None and not (text.__class__ is str and _OWN_WORDS.fullmatch(text)):
            del found[name]
    for name in _QUOTES:
        found.pop(name, None)
    for name, fields in _QUOTING.items():
        if name in found:
            found[name] = _text(_without(_document(found[name]), fields))
    if _PARAMETERS in found:
        found[_PARAMETERS] = _text(_switches(_document(found[_PARAMETERS])))


def _cut(found: dict[str, Any], limit: int) -> None:
    for name in (*_CONTENT, *_QUOTES, *_QUOTING, _PARAMETERS):
        # In a text that is no longer than the limit there is nothing to cut.
        if (text := found.get(name)) is not None and (text.__class__ is not str or len(text) > limit):
            found[name] = _text(redact.storable(_document(text), limit))
    for name in _TEXTS:
        if (text := found.get(name)) is not None:
            found[name] = redact.mask(redact.cut(text if text.__class__ is str else str(text), limit))


def _document(text: Any) -> Any:
    """JSON from outside; None where it is none: what cannot be looked through cannot be kept."""
    try:
        return msgspec.json.decode(text)
    except (TypeError, msgspec.MsgspecError, UnicodeError, RecursionError):
        return None


def _text(document: Any) -> str:
    try:
        return msgspec.json.encode(document).decode()
    except (UnicodeError, RecursionError, OverflowError):
        return "null"


def _without(document: Any, fields: tuple[str, ...]) -> Any:
    if isinstance(document, dict):
        return {name: value for name, value in document.items() if name not in fields}
    return (
        [_without(item, fields) for item in document if isinstance(item, dict)] if isinstance(document, list) else None
    )


def _switches(document: Any) -> dict[str, Any]:
    """Model parameters that are numbers, switches and words of an API."""
    if not isinstance(document, dict):
        return {}
    switches = {
        redact.clean(name[: redact.MAX_NAME]): value if isinstance(value, bool | int | float) else word(value)
        for name, value in document.items()
        if not redact.is_credential(name)
    }
    return {name: value for name, value in switches.items() if value is not None}

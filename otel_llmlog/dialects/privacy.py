"""What of a call that others describe may be kept: fields of the payload, no credential, no content unless it is on.

Always true: whatever the sender's own settings were, with content off here neither messages nor texts that may quote
them leave this module, dead letters included; with content on, texts are cut as long ones are where calls are captured.
Credentials are masked in every name and document, and a word of an API is a word: text in its place is left out.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from operator import itemgetter
from typing import Any, NamedTuple

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
# What capture itself says of a failure: fixed words, the status, the kind and the class of an error, never its message.
_OWN_WORDS = re.compile(
    r"HTTP \d{3}(?: [\w-]{1,64})?"
    r"|the provider reported an error in its reply(?: \([\w-]{1,64}\))?"
    r"|\w{1,64} while the reply was awaited"
    r"|the (?:app closed|app dropped|process ended before) the (?:stream before its end|call did)"
    r"|the stream ended without its last event"
    r"|the reply could not be read: see notes in its metadata"
    r"|LiteLLM reports (?:an error|\w{1,64})(?: \w{1,64})?"
)
_DOCUMENTS = frozenset(
    PREFIX + name
    for name in (
        "cost_breakdown", "hidden_params.additional_headers", "hidden_params.batch_models",
        "model_map_information.model_map_value", "metadata.spend_logs_metadata", "metadata.requester_metadata",
        "metadata.requester_custom_headers",
    )
) | {_PARAMETERS, *_QUOTING, *_QUOTES}  # fmt: skip
_ENTRY = f"{PREFIX}model_map_information.model_map_value"
_MODELS = tuple(PREFIX + name for name in ("model", "response_model", "model_map_information.model_map_key"))
_URLS = frozenset(PREFIX + name for name in ("api_base", "hidden_params.api_base"))
# Fields with a word each from some API's or our own vocabulary.
_WORDS = frozenset(
    PREFIX + name
    for name in (
        "call_type", "status", "custom_llm_provider", "operation", "cost_source", "price_version", "described_by",
        "usage.service_tier", "usage.inference_geo", "usage.image_size", "usage.image_quality", "usage.source",
        "usage.web_search_context_size", "error_information.error_code", "error_information.error_class",
        "error_information.llm_provider", "response_cost_failure_debug_info.call_type",
        "response_cost_failure_debug_info.custom_llm_provider", "metadata.guardrail_information.guardrail_status",
        "metadata.guardrail_information.guardrail_mode",
    )
)  # fmt: skip
_IDS = frozenset(
    PREFIX + name for name in ("id", "call_id", "trace_id", "session_id", "previous_response_id", "conversation_id")
)
_REASONS = f"{PREFIX}finish_reasons"
# A payload has these, whatever its sender says.
_REQUIRED = {f"{PREFIX}call_type": "other", f"{PREFIX}operation": "other"}
_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:+/-]{0,63}", re.ASCII)
# Items of a list that are kept, as in `capture`: tags, reasons, notes.
_MOST = 64
_NUMBERS = frozenset({int, float, bool})
# Characters of a key that are hashed. Real ones are far shorter.
_LONGEST_KEY = 4096


_SENSITIVE = {_KEY, *_CONTENT, *_TEXTS, *_QUOTING, *_QUOTES, _PARAMETERS}
# Attributes of a call whose names are looked up once for all calls that have the same.
_FEW = 256
# Characters of a document, an entry of a price list say, that is masked once for all calls that have the same.
_USUAL = 4096
# Characters of model parameters that are looked through once for all calls that have the same.
_SHORT = 512


class _Plan(NamedTuple):
    """What is to be done with calls that have the same attributes in the same order."""

    fields: tuple[str, ...]
    values: Callable[[Mapping[str, Any]], tuple[Any, ...]]
    sensitive: frozenset[str]
    """Those that may hold what must not be kept."""
    documents: tuple[str, ...]
    urls: tuple[str, ...]
    words: tuple[str, ...]
    ids: tuple[str, ...]
    """Those that are new with each call."""
    others: tuple[str, ...]
    """Names, numbers and switches."""


@lru_cache(maxsize=256)
def _plan(names: tuple[str, ...]) -> _Plan:
    fields = tuple(filter(is_field, names))
    values = itemgetter(*fields) if len(fields) > 1 else lambda given: tuple([given[name] for name in fields])
    special = {*_SENSITIVE, *_DOCUMENTS, *_URLS, *_WORDS, *_IDS}
    return _Plan(
        fields,
        values,
        frozenset(_SENSITIVE.intersection(fields)),
        tuple(filter(_DOCUMENTS.__contains__, fields)),
        tuple(filter(_URLS.__contains__, fields)),
        tuple(filter(_WORDS.__contains__, fields)),
        tuple(filter(_IDS.__contains__, fields)),
        tuple(name for name in fields if name not in special),
    )


def kept(attributes: Mapping[str, Any], settings: ContentSettings) -> dict[str, Any]:
    """The call's attributes that may be stored."""
    names = tuple(attributes)
    plan = _plan(names) if len(names) <= _FEW else _plan.__wrapped__(names)
    # This is hot, and fields and values are of one length by construction.
    every = len(plan.fields) == len(names)
    found = dict(attributes) if every else dict(zip(plan.fields, plan.values(attributes)))  # noqa: B905 - hot
    if _KEY in plan.sensitive and found[_KEY] is not None:
        found[_KEY] = _hashed(str(found[_KEY]))
    if settings.store_prompts_in_spend_logs:
        _cut(found, plan.sensitive, settings.max_string_length_prompt_in_db)
    else:
        _leave_out(found, plan.sensitive)
    _mask(found, plan)
    return found


def _mask(found: dict[str, Any], plan: _Plan) -> None:
    # Of most calls nothing but the ids is new.
    words = [found[name] for name in plan.words]
    if not (all(map(_is_text, words)) and _are_words(tuple(words))):
        _mask_words(found, plan)
    for name in plan.urls:
        given = found[name]
        found[name] = _base(given) if given.__class__ is str else _other(name, given)
    for name in plan.documents:
        given = found.get(name)
        if given is None:
            continue  # left out
        if given.__class__ is str:
            found[name] = _masked(given) if len(given) <= _USUAL else redact.mask(given)
        else:
            found[name] = _other(name, given)
        if name == _ENTRY and found[name] != given:
            found[name] = _with_model(found[name], given, [found.get(model) for model in _MODELS])
    _mask_names(found, plan.ids)
    others = [given for name in plan.others if (given := found[name]).__class__ not in _NUMBERS]
    if not (all(map(_is_text, others)) and _are_names(tuple(others))):
        _mask_names(found, plan.others)


def _with_model(masked: Any, given: Any, models: list[Any]) -> Any:
    """An entry of LiteLLM's price list: its `key` is the model, which is in the row anyway."""
    entry, said = _document(masked), _document(given)
    name = said.get("key") if isinstance(said, dict) else None
    if isinstance(entry, dict) and isinstance(name, str) and name in models and redact.name(name) == name:
        return _text({**entry, "key": name})
    return masked


def _mask_words(found: dict[str, Any], plan: _Plan) -> None:
    for name in plan.words:
        given = found[name]
        if given.__class__ is str and not _is_word(given):
            if name in _REQUIRED:
                found[name] = _REQUIRED[name]
            else:
                del found[name]
        elif given.__class__ is not str:
            found[name] = _other(name, given)


def _mask_names(found: dict[str, Any], names: tuple[str, ...]) -> None:
    for name in names:
        given = found[name]
        if given.__class__ is str:
            found[name] = redact.name(given) or ""
        elif given.__class__ not in _NUMBERS:
            found[name] = _other(name, given)


def _is_text(given: Any) -> bool:
    return given.__class__ is str and len(given) <= redact.MAX_NAME


def _other(name: str, given: Any) -> Any:
    """A list of names, or what is none of the types that a field may have: it could be anything."""
    if not isinstance(given, list | tuple):
        return redact.masked(redact.storable(given)) if isinstance(given, dict) else given
    if name == _REASONS:
        return tuple(one for one in given[:_MOST] if isinstance(one, str) and _is_word(one))
    if all(isinstance(one, str) for one in given):
        return tuple(said for one in given[:_MOST] if (said := redact.name(one)))
    return redact.masked(redact.storable(given))


# Words, names, prices and servers come again and again.
@lru_cache(maxsize=4096)
def _are_words(given: tuple[str, ...]) -> bool:
    return all(map(_is_word, given))


@lru_cache(maxsize=4096)
def _are_names(given: tuple[str, ...]) -> bool:
    return all((redact.name(one) or "") == one for one in given)


@lru_cache(maxsize=4096)
def _is_word(given: str) -> bool:
    return _WORD.fullmatch(given) is not None and redact.mask(given) == given


@lru_cache(maxsize=1024)
def _masked(document: str) -> str:
    return redact.mask(document)


@lru_cache(maxsize=1024)
def _base(url: str) -> str:
    return redact.base_url(url)


@lru_cache(maxsize=1024)
def _hashed(key: str) -> str:
    return redact.key_id(key[:_LONGEST_KEY])


def _leave_out(found: dict[str, Any], sensitive: frozenset[str]) -> None:
    for name in sensitive:
        given = found[name]
        if name == _PARAMETERS:
            short = given.__class__ is str and len(given) <= _SHORT
            found[name] = _without_words(given) if short else _without_words.__wrapped__(given)
        elif name in _QUOTING:
            found[name] = _text(_without(_document(given), _QUOTING[name]))
        elif name != _KEY and not (name in _TEXTS and given.__class__ is str and _OWN_WORDS.fullmatch(given)):
            del found[name]


@lru_cache(maxsize=1024)
def _without_words(parameters: Any) -> str:
    return _text(_switches(_document(parameters)))


def _cut(found: dict[str, Any], sensitive: frozenset[str], limit: int) -> None:
    for name in sensitive:
        if (given := found[name]) is None:
            continue
        if name in _TEXTS:
            said = given if given.__class__ is str else str(redact.masked(redact.storable(given)))
            found[name] = redact.text(said, limit)
        # In a text that is no longer than the limit there is nothing to cut.
        elif name != _KEY and (given.__class__ is not str or len(given) > limit):
            found[name] = _text(redact.storable(_document(given), limit))


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

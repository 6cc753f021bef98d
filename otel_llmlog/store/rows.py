"""Record -> row: one record's attributes as fields of COPY text, column by column.

Always true: row and content together hold the whole payload; a field without a column is in `metadata`, so a new
field of the payload is stored without a change here. A record whose values cannot be stored raises RowRejected
with a reason that quotes no value, and harms no other record. This is the hot path: where a value stands is looked up
once for all records that have the same attributes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from operator import itemgetter
from typing import Any, NamedTuple

from otel_llmlog.dialects import llmlog
from otel_llmlog.errors import RowRejected
from otel_llmlog.payload import CallPayload, StandardLoggingHiddenParams, StandardLoggingMetadata, Usage
from otel_llmlog.pipeline.record import Record
from otel_llmlog.redact import MAX_NAME, short, storable
from otel_llmlog.store import metadata
from otel_llmlog.store.copy import NULL, field, is_plain
from otel_llmlog.store.values import Odd, checked, document, money, safe, tags, timestamp


class SpendLogRow(NamedTuple):
    """A row of `llmlog.spend_logs`: each value as a field of COPY text.

    In the order in which `row` puts the values together: COPY names its columns.
    """

    request_id: str
    call_id: str
    session_id: str
    previous_response_id: str
    conversation_id: str
    call_type: str
    status: str
    model: str
    response_model: str
    model_group: str
    model_id: str
    provider: str
    api_base: str
    cost_source: str
    price_version: str
    api_key: str
    api_key_alias: str
    user_id: str
    team_id: str
    team_alias: str
    organization_id: str
    end_user: str
    requester_ip_address: str
    user_agent: str
    cache_key: str
    error_class: str
    error_code: str
    error_str: str
    described_by: str
    sender: str
    trace_id: str
    span_id: str
    parent_span_id: str
    service_name: str
    prompt_tokens: str
    completion_tokens: str
    total_tokens: str
    cache_read_tokens: str
    cache_creation_tokens: str
    reasoning_tokens: str
    cache_hit: str
    stream: str
    spend: str
    saved_cache_cost: str
    start_time: str
    end_time: str
    completion_start_time: str
    request_duration_ms: str
    request_tags: str
    cost_breakdown: str
    model_parameters: str
    hidden_params: str
    metadata: str
    usage: str


class SpendLogContent(NamedTuple):
    """A row of `llmlog.spend_log_contents`, in the same form."""

    trace_id: str
    span_id: str
    start_time: str
    messages: str
    response: str


# Columns that hold one field of the payload as it is, by kind. The path is the field's place in the payload.
TEXTS = {
    "request_id": "id",
    "call_id": "call_id",
    "session_id": "session_id",
    "previous_response_id": "previous_response_id",
    "conversation_id": "conversation_id",
    "call_type": "call_type",
    "status": "status",
    "model": "model",
    "response_model": "response_model",
    "model_group": "model_group",
    "model_id": "model_id",
    "provider": "custom_llm_provider",
    "api_base": "api_base",
    "cost_source": "cost_source",
    "price_version": "price_version",
    "api_key": "metadata.user_api_key_hash",
    "api_key_alias": "metadata.user_api_key_alias",
    "user_id": "metadata.user_api_key_user_id",
    "team_id": "metadata.user_api_key_team_id",
    "team_alias": "metadata.user_api_key_team_alias",
    "organization_id": "metadata.user_api_key_org_id",
    "end_user": "end_user",
    "requester_ip_address": "requester_ip_address",
    "user_agent": "user_agent",
    "cache_key": "cache_key",
    "error_class": "error_information.error_class",
    "error_code": "error_information.error_code",
    "error_str": "error_str",
    "described_by": "described_by",
    "sender": "sender",
}
COUNTS = {
    "prompt_tokens": "prompt_tokens",
    "completion_tokens": "completion_tokens",
    "total_tokens": "total_tokens",
    "cache_read_tokens": "usage.cache_read_tokens",
    "cache_creation_tokens": "usage.cache_write_tokens",
    "reasoning_tokens": "usage.reasoning_tokens",
}
_BIGINT_MAX = 2**63 - 1
# Counts that have no more digits in all are no larger than that.
_SAFE_DIGITS = 18
# Microseconds within which the payload's float of a time and the record's own nanoseconds are the same time.
_SAME_TIME = 2

_PREFIX = llmlog.PREFIX
_TAGS = list(SpendLogRow._fields[len(TEXTS) + 4 :]).index("request_tags")
_STATUSES = {"success", "failure"}


# The other fields, in the order in which _fast() reads them.
_OTHERS = (
    "cache_hit", "stream", "cost_breakdown", "model_parameters", "spend", "response_cost", "saved_cache_cost",
    "completionStartTime", "request_tags", "trace_id", "startTime", "endTime",
)  # fmt: skip


def _parts() -> tuple[metadata.Part, metadata.Part, metadata.Part]:
    """The objects for hidden_params, usage and metadata."""
    nothing: frozenset[str] = frozenset()
    hidden = metadata.part(
        "hidden_params", metadata.fields(StandardLoggingHiddenParams, "hidden_params", nothing), nothing
    )
    # The counts that have a column are in `usage`, too: there it is whole, and fit for pricing it again.
    usage = metadata.part("usage", metadata.fields(Usage, "usage", nothing), nothing)
    columns = {*TEXTS.values(), *(path for path in COUNTS.values() if "." not in path), *_OTHERS}
    taken = frozenset(columns | {"metadata", "hidden_params", "usage", "messages", "response"})
    # The fields of the payload's own `metadata` stand at the top, where LiteLLM's users look for them.
    inner = metadata.fields(StandardLoggingMetadata, "metadata", taken)
    rest = metadata.part("metadata", metadata.fields(CallPayload, "", taken) + inner, taken)
    return hidden, usage, rest


_HIDDEN, _USAGE, _METADATA = _parts()
# The attributes behind columns that are texts, and the others in the order in which _fast() takes them.
_TEXT_KEYS = [_PREFIX + path for path in TEXTS.values()]
_OTHER_KEYS = [_PREFIX + path for path in (*COUNTS.values(), *_OTHERS)]
# Names, of which indexes take so many characters. How an error reads is none.
_NAME_KEYS = frozenset(_TEXT_KEYS) - {_PREFIX + TEXTS["error_str"]}
_NEEDED = {_PREFIX + TEXTS[column] for column in ("request_id", "call_id", "call_type", "status")}
_MODEL, _API_BASE, _STATUS = (list(TEXTS).index(name) for name in ("model", "api_base", "status"))


class _Plan(NamedTuple):
    """Where things stand among the values of records that have the same attributes in the same order.

    Behind the last value stand None and NULL, for what is not there.
    """

    complete: bool
    texts: Callable[[Sequence[Any]], tuple[str, ...]]
    given_texts: Callable[[Sequence[Any]], Sequence[str]]  # those that are there
    others: Callable[[Sequence[Any]], tuple[Any, ...]]
    hidden: metadata.Layout
    usage: metadata.Layout
    metadata: metadata.Layout


# An app's calls have few sets of attributes between them. Whoever makes up new ones all the time only loses the profit.
@lru_cache(maxsize=256)
def _plan(keys: tuple[str, ...]) -> _Plan:
    at = {key: place for place, key in enumerate(keys)}
    return _Plan(
        at.keys() >= _NEEDED,
        itemgetter(*(at.get(key, len(keys) + 1) for key in _TEXT_KEYS)),
        metadata.getter([at[key] for key in _TEXT_KEYS if key in at]),
        itemgetter(*(at.get(key, len(keys)) for key in _OTHER_KEYS)),
        metadata.layout(_HIDDEN, at),
        metadata.layout(_USAGE, at),
        metadata.layout(_METADATA, at),
    )


_FLAG_TEXT = {None: NULL, True: "t", False: "f"}


def row(record: Record) -> SpendLogRow:
    """The record as a row of spend_logs. Raises RowRejected when it can never be one."""
    attributes = record.attributes
    try:
        return _fast(record, attributes if attributes.__class__ is dict else dict(attributes))
    except Exception:
        # Not as our own emitter writes it, whatever broke. The full decoder makes sense of it, or says what is wrong.
        return _slow(record)


def _slow(record: Record) -> SpendLogRow:
    try:
        clean = {key: storable(value) for key, value in record.attributes.items() if value is not None}
        return _fast(record, llmlog.encode(llmlog.decode(clean)))
    except RowRejected:
        raise
    except Odd as odd:
        raise RowRejected(str(odd)) from None
    except Exception as error:
        # A hostile record may break any of its promises: it is set aside, and the others are stored.
        raise RowRejected(f"the record is not readable: {type(error).__name__}") from None


def _fast(record: Record, attributes: Mapping[str, Any]) -> SpendLogRow:
    plan = _plan(tuple(attributes))
    if not (plan.complete and record.trace_id and record.span_id):
        raise Odd("a required field is missing")
    given = [*attributes.values(), None, NULL]
    try:
        if max(map(len, plan.given_texts(given))) > MAX_NAME:
            attributes = {
                key: short(value) if key in _NAME_KEYS and value is not None else value
                for key, value in attributes.items()
            }
            given = [*attributes.values(), None, NULL]
    except TypeError:
        raise Odd("a text is not text") from None
    parent, service = record.parent_span_id, short(record.service_name)
    values = [
        *plan.texts(given), record.trace_id, record.span_id, NULL if parent is None else parent, service
    ]  # fmt: skip
    if values[_STATUS] not in _STATUSES:
        raise Odd("status is neither success nor failure")
    # The payload writes an unknown name as '', the table as NULL.
    for name in (_MODEL, _API_BASE):
        if values[name] == "":
            values[name] = NULL
    others = _others(record, plan, given)
    values += others
    # NULL is left out here: a backslash is somebody's own then.
    texts = [*plan.given_texts(given), record.trace_id, record.span_id, service]
    if parent is not None:
        texts.append(parent)
    documents = [text for text in others[_TAGS:] if text is not NULL]
    try:
        if is_plain("".join(texts + documents)):
            return tuple.__new__(SpendLogRow, values)
    except TypeError:
        raise Odd("a text is not text") from None
    if not is_plain("".join(texts)):
        own = [attributes.get(key) for key in _TEXT_KEYS]
        own[_MODEL], own[_API_BASE] = own[_MODEL] or None, own[_API_BASE] or None
        values[: -len(others)] = map(field, [*own, record.trace_id, record.span_id, parent, service])
    tags_at = _TAGS - len(others)
    values[tags_at:] = [field(others[_TAGS]), *[t if t is NULL else field(safe(t)) for t in others[_TAGS + 1 :]]]
    return tuple.__new__(SpendLogRow, values)


def _others(record: Record, plan: _Plan, given: Sequence[Any]) -> list[str]:
    """The columns that are no texts of the caller's, not escaped yet."""
    counted, others = (found := plan.others(given))[: len(COUNTS)], found[len(COUNTS) :]
    counts = list(map(str, [count or 0 for count in counted]))
    digits = "".join(counts)
    # Neither a sign nor a point nor the name of a truth value is a digit.
    if not (digits.isdecimal() and digits.isascii()):
        raise Odd("a count is negative or no integer")
    if len(digits) > _SAFE_DIGITS and max(map(int, counts)) > _BIGINT_MAX:
        raise Odd("a count is too large")

    cache_hit, stream, breakdown, parameters, spend, cost, saved, first, request_tags, trace_id, started, ended = others
    spend = money(spend) if spend is not None else None if cost is None else money(cost)
    start, end = record.start_ns // 1000, record.end_ns // 1000
    duration = (end - start) // 1000
    used, rest = metadata.collect(given, plan.usage), metadata.collect(given, plan.metadata)
    # Fields that repeat a column need no place of their own, unless they contradict it.
    if trace_id is not None and trace_id != record.trace_id:
        rest["trace_id"] = trace_id
    if started is not None and not -_SAME_TIME < started * 1e6 - start < _SAME_TIME:
        rest["startTime"] = started
    if ended is not None and not -_SAME_TIME < ended * 1e6 - end < _SAME_TIME:
        rest["endTime"] = ended
    if cost is not None and spend is not None and float(spend) != cost:
        rest["response_cost"] = cost
    return [
        *counts,
        _FLAG_TEXT[cache_hit],
        _FLAG_TEXT[stream],
        NULL if spend is None else spend,
        money(saved) if saved else "0",
        timestamp(start),
        timestamp(end),
        NULL if first is None else timestamp(round(first * 1e6)),
        str(max(duration, 0)),
        tags(request_tags),
        NULL if breakdown is None else checked(breakdown),
        NULL if parameters is None else checked(parameters),
        metadata.text(metadata.collect(given, plan.hidden)),
        metadata.text(rest),
        metadata.text(used) if used else NULL,
    ]


def content(record: Record) -> SpendLogContent | None:
    """What was asked and answered, as a row of spend_log_contents; None when neither is kept."""
    messages = record.attributes.get("llmlog.messages")
    response = record.attributes.get("llmlog.response")
    if messages is None and response is None:
        return None
    try:
        return SpendLogContent(
            field(record.trace_id),
            field(record.span_id),
            timestamp(record.start_ns // 1000),
            NULL if messages is None else field(document(messages)),
            NULL if response is None else field(document(response)),
        )
    except Odd as odd:
        raise RowRejected(f"messages or response: {odd}") from None
    except Exception as error:  # as in _slow: set aside alone
        raise RowRejected(f"messages or response: {type(error).__name__}") from None

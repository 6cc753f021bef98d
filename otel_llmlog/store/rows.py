"""Record -> row: one record's attributes as the text Postgres reads, column by column.

Always true: row and content together hold the whole payload; a field without a column is in `metadata`, so a new
field of the payload is stored without a change here. A record whose values cannot be stored raises RowRejected
with a reason that quotes no value, and harms no other record. This is the hot path: the payload model is read once,
at import, into tables of attribute names.
"""

from __future__ import annotations

from collections.abc import Mapping
from operator import itemgetter
from typing import Any, NamedTuple

from otel_llmlog.dialects import llmlog
from otel_llmlog.errors import RowRejected
from otel_llmlog.payload import CallPayload, StandardLoggingHiddenParams, StandardLoggingMetadata
from otel_llmlog.pipeline.record import Record
from otel_llmlog.redact import storable
from otel_llmlog.store import metadata
from otel_llmlog.store.values import Odd, document, money, tags, timestamp


class SpendLogRow(NamedTuple):
    """A row of `llmlog.spend_logs`: each value as the text Postgres reads for that column; None is NULL."""

    trace_id: str | None
    span_id: str | None
    parent_span_id: str | None
    request_id: str | None
    call_id: str | None
    session_id: str | None
    previous_response_id: str | None
    call_type: str | None
    status: str | None
    start_time: str | None
    end_time: str | None
    completion_start_time: str | None
    request_duration_ms: str | None
    model: str | None
    response_model: str | None
    model_group: str | None
    model_id: str | None
    provider: str | None
    api_base: str | None
    spend: str | None
    saved_cache_cost: str | None
    prompt_tokens: str | None
    completion_tokens: str | None
    total_tokens: str | None
    cache_read_tokens: str | None
    cache_creation_tokens: str | None
    reasoning_tokens: str | None
    cost_source: str | None
    price_version: str | None
    cost_breakdown: str | None
    api_key: str | None
    api_key_alias: str | None
    user_id: str | None
    team_id: str | None
    team_alias: str | None
    organization_id: str | None
    end_user: str | None
    requester_ip_address: str | None
    user_agent: str | None
    cache_hit: str | None
    cache_key: str | None
    request_tags: str | None
    error_class: str | None
    error_code: str | None
    error_str: str | None
    service_name: str | None
    stream: str | None
    model_parameters: str | None
    hidden_params: str | None
    metadata: str | None
    conversation_id: str | None


class SpendLogContent(NamedTuple):
    """A row of `llmlog.spend_log_contents`, in the same form."""

    trace_id: str
    span_id: str
    start_time: str
    messages: str | None
    response: str | None


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
# Microseconds within which the payload's float of a time and the record's own nanoseconds are the same time.
_SAME_TIME = 2

_PREFIX = llmlog.PREFIX
_STATUSES = {"success", "failure"}
_TEXT_TYPES, _INT = {str, type(None)}, {int}


# The other fields, in the order in which _fast() reads them.
_OTHERS = (
    "cache_hit", "stream", "cost_breakdown", "model_parameters", "spend", "response_cost", "saved_cache_cost",
    "completionStartTime", "request_tags", "trace_id", "startTime", "endTime",
)  # fmt: skip


def _parts(keys: list[str]) -> tuple[metadata.Part, metadata.Part]:
    """The objects for hidden_params and metadata, the attributes they need added to `keys`."""
    nothing: frozenset[str] = frozenset()
    fields = metadata.fields(StandardLoggingHiddenParams, "hidden_params", nothing)
    hidden = metadata.part("hidden_params", fields, nothing, keys)
    # The counts of `usage` are written out once more, whole, in usage_object: the columns only sum them up.
    columns = {*TEXTS.values(), *(path for path in COUNTS.values() if "." not in path), *_OTHERS}
    taken = frozenset(columns | {"metadata", "hidden_params", "messages", "response"})
    # The fields of the payload's own `metadata` stand at the top, where LiteLLM's users look for them.
    inner = metadata.fields(StandardLoggingMetadata, "metadata", taken)
    rest = metadata.part("metadata", metadata.fields(CallPayload, "", taken) + inner, taken, keys)
    return hidden, rest


# All attributes that are read, in one go: texts, counts, others, and those of the two objects.
_KEYS = [_PREFIX + path for path in (*TEXTS.values(), *COUNTS.values(), *_OTHERS)]
_HIDDEN, _METADATA = _parts(_KEYS)
_TEXTS_END, _COUNTS_END = len(TEXTS), len(TEXTS) + len(COUNTS)
_OTHERS_END = _COUNTS_END + len(_OTHERS)
_MODEL, _API_BASE, _STATUS = (list(TEXTS).index(name) for name in ("model", "api_base", "status"))
# The order in which _fast() puts values together, and from it the order of the columns.
_COLLECTED = (
    *TEXTS, "trace_id", "span_id", "parent_span_id", "service_name", *COUNTS, "cache_hit", "stream",
    "cost_breakdown", "model_parameters", "spend", "saved_cache_cost", "start_time", "end_time",
    "completion_start_time", "request_duration_ms", "request_tags", "hidden_params", "metadata",
)  # fmt: skip
_needed = itemgetter(*map(_COLLECTED.index, ("request_id", "call_id", "call_type", "status", "trace_id", "span_id")))
_in_order = itemgetter(*(_COLLECTED.index(name) for name in SpendLogRow._fields))
_FLAG_TEXT = {None: None, True: "t", False: "f"}


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
        clean = {key: storable(value) for key, value in record.attributes.items()}
        return _fast(record, llmlog.encode(llmlog.decode(clean)))
    except RowRejected:
        raise
    except Odd as odd:
        raise RowRejected(str(odd)) from None
    except Exception as error:
        # A hostile record may break any of its promises: it is set aside, and the others are stored.
        raise RowRejected(f"the record is not readable: {type(error).__name__}") from None


def _fast(record: Record, attributes: Mapping[str, Any]) -> SpendLogRow:
    found = list(map(attributes.get, _KEYS))
    values = found[:_TEXTS_END]
    values += record.trace_id, record.span_id, record.parent_span_id, record.service_name
    if not _TEXT_TYPES.issuperset(map(type, values)):
        raise Odd("a text is not text")
    if None in _needed(values):
        raise Odd("a required field is missing")
    if values[_STATUS] not in _STATUSES:
        raise Odd("status is neither success nor failure")
    # The payload writes an unknown name as '', the table as NULL.
    values[_MODEL] = values[_MODEL] or None
    values[_API_BASE] = values[_API_BASE] or None
    counts = [count or 0 for count in found[_TEXTS_END:_COUNTS_END]]
    if not _INT.issuperset(map(type, counts)) or min(counts) < 0 or max(counts) > _BIGINT_MAX:
        raise Odd("a count is negative, too large or no integer")
    values += map(str, counts)

    others = found[_COUNTS_END:_OTHERS_END]
    cache_hit, stream, breakdown, parameters, spend, cost, saved, first, request_tags, trace_id, started, ended = others
    spend = money(spend) if spend is not None else None if cost is None else money(cost)
    start, end = record.start_ns // 1000, record.end_ns // 1000
    duration = (end - start) // 1000
    rest = metadata.collect(found, _METADATA)
    # Fields that repeat a column need no place of their own, unless they contradict it.
    if trace_id is not None and trace_id != record.trace_id:
        rest["trace_id"] = trace_id
    if started is not None and not -_SAME_TIME < started * 1e6 - start < _SAME_TIME:
        rest["startTime"] = started
    if ended is not None and not -_SAME_TIME < ended * 1e6 - end < _SAME_TIME:
        rest["endTime"] = ended
    if cost is not None and spend is not None and float(spend) != cost:
        rest["response_cost"] = cost
    values += (
        _FLAG_TEXT[cache_hit],
        _FLAG_TEXT[stream],
        None if breakdown is None else document(breakdown),
        None if parameters is None else document(parameters),
        spend,
        money(saved) if saved else "0",
        timestamp(start),
        timestamp(end),
        None if first is None else timestamp(round(first * 1e6)),
        str(max(duration, 0)),
        tags(request_tags),
        metadata.text(metadata.collect(found, _HIDDEN)),
        metadata.text(rest),
    )
    return tuple.__new__(SpendLogRow, _in_order(values))


def content(record: Record) -> SpendLogContent | None:
    """What was asked and answered, as a row of spend_log_contents; None when neither is kept."""
    messages = record.attributes.get("llmlog.messages")
    response = record.attributes.get("llmlog.response")
    if messages is None and response is None:
        return None
    try:
        return SpendLogContent(
            record.trace_id,
            record.span_id,
            timestamp(record.start_ns // 1000),
            None if messages is None else document(messages),
            None if response is None else document(response),
        )
    except Odd as odd:
        raise RowRejected(f"messages or response: {odd}") from None
    except Exception as error:
        raise RowRejected(f"messages or response: {type(error).__name__}") from None

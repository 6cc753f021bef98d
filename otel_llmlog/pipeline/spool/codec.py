"""What the spool's payloads say: a finished `Record`, the `Intent` noted when its request went out, its `Ending`.

Always true: decoding never raises, it gives None for what is no such thing; encoding never fails on a value, what
msgpack cannot hold is replaced by the nearest it can. On disk: msgpack arrays that begin with a format number. Fields
are only ever added at the end, so that processes of two versions can read each other's files.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec

from otel_llmlog.pipeline.record import Kind, Record

_FORMAT = 1
_INTENT_FORMAT = 2
_ENDING_FORMAT = 3
_INT64 = range(-(1 << 63), 1 << 64)

_Scalar = str | bool | int | float | None


class Intent(msgspec.Struct, frozen=True, array_like=True, tag=_INTENT_FORMAT, gc=False):
    """A request that goes out. Should its outcome never be noted, this is what is known of the call."""

    trace_id: Annotated[bytes, msgspec.Meta(min_length=16, max_length=16)]
    """Big endian. Neither this nor the others are digits yet: an intent is made on the app's thread."""
    span_id: Annotated[int, msgspec.Meta(ge=0)]
    parent_span_id: Annotated[int, msgspec.Meta(ge=0)] | None
    start_ns: int
    """Epoch nanoseconds."""
    service_name: str
    facts: dict[str, str]
    """What was known at the start: operation, api_base, provider, model, session, identity. No content, no raw key."""


class Ending(msgspec.Struct, frozen=True, array_like=True, tag=_ENDING_FORMAT, gc=False):
    """A request whose reply has come, and is still to be read."""

    end_ns: int
    """Epoch nanoseconds."""
    brief: bytes
    """Of the reply, for the reader of its wire. No content."""


class _Outcome(msgspec.Struct, frozen=True, array_like=True, gc=False):
    format: int
    trace_id: str
    span_id: str
    parent_span_id: str | None
    start_ns: int
    end_ns: int
    service_name: str
    attributes: dict[str, _Scalar | tuple[_Scalar, ...]]
    kind: Kind = "span"


# Half a surrogate pair from a provider's JSON, an integer of more than 64 bits, a type of the app's own.
_UNFIT = (ValueError, TypeError, OverflowError, RecursionError)
_encode = msgspec.msgpack.Encoder().encode
_decode_outcome = msgspec.msgpack.Decoder(_Outcome).decode
_decode_intent = msgspec.msgpack.Decoder(Intent).decode
_decode_ending = msgspec.msgpack.Decoder(Ending).decode


def encode_record(record: Record) -> bytes:
    """The record as bytes."""
    r = record
    attributes = r.attributes if type(r.attributes) is dict else dict(r.attributes)
    ids = (_FORMAT, r.trace_id, r.span_id, r.parent_span_id, r.start_ns, r.end_ns, r.service_name)
    return _bytes((*ids, attributes) if r.kind == "span" else (*ids, attributes, r.kind))


def decode_record(payload: bytes) -> Record | None:
    """The record in these bytes; sequences come back as tuples. None when they hold none."""
    try:
        w = _decode_outcome(payload)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None
    if w.format != _FORMAT:
        return None
    return Record(w.trace_id, w.span_id, w.parent_span_id, w.start_ns, w.end_ns, w.service_name, w.attributes, w.kind)


def encode_intent(intent: Intent) -> bytes:
    """The intent as bytes. On the app's thread: this is the quick one."""
    try:
        return _encode(intent)
    except _UNFIT:
        service, facts = _fit(intent.service_name, 0), _fit(intent.facts, 0)
        return _encode(msgspec.structs.replace(intent, service_name=service, facts=facts))


def decode_intent(payload: bytes) -> Intent | None:
    """The intent in these bytes, None when they hold none."""
    try:
        return _decode_intent(payload)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None


def encode_ending(ending: Ending) -> bytes:
    """The ending as bytes."""
    return _encode(ending)


def decode_ending(payload: bytes) -> Ending | None:
    """The ending in these bytes, None when they hold none."""
    try:
        return _decode_ending(payload)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return None


def _bytes(fields: tuple[Any, ...]) -> bytes:
    try:
        return _encode(fields)
    except _UNFIT:
        return _encode(tuple(_fit(field, 0) for field in fields))


def _fit(value: Any, depth: int) -> Any:
    """The nearest that msgpack can hold."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, int):
        return int(value) if value in _INT64 else _fit_large(value)
    if isinstance(value, Mapping) and depth == 0:
        return {_fit(str(name), 1): _fit(each, 1) for name, each in value.items()}
    if isinstance(value, list | tuple) and depth < 2:
        return [_fit(each, 2) for each in value]
    # The type alone: the text of an unknown object may quote anything.
    return f"<{type(value).__name__}>"


def _fit_large(value: int) -> float:
    try:
        return float(value)
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")

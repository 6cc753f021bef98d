"""OTLP's bytes mean to us what they mean to OpenTelemetry's own classes."""

from __future__ import annotations

import base64
import json
import math
from typing import Any

import pytest
from google.protobuf import json_format
from hypothesis import given, settings, strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue, KeyValueList
from opentelemetry.proto.trace.v1.trace_pb2 import Span as ProtoSpan

from otel_llmlog.dialects.span import Span
from otel_llmlog.sink import otlp_json, protobuf
from otel_llmlog.sink.received import Received, TooLarge, Unreadable

ANY = lambda scope, names: True  # noqa: E731
NAMES = st.text(max_size=300)
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=300)
    | st.binary(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=10,
)


def _value(given: Any) -> AnyValue:
    if given is None:
        return AnyValue()
    if isinstance(given, bool):
        return AnyValue(bool_value=given)
    if isinstance(given, int):
        return AnyValue(int_value=given)
    if isinstance(given, float):
        return AnyValue(double_value=given)
    if isinstance(given, str):
        return AnyValue(string_value=given)
    if isinstance(given, bytes):
        return AnyValue(bytes_value=given)
    if isinstance(given, list):
        return AnyValue(array_value=ArrayValue(values=map(_value, given)))
    return AnyValue(kvlist_value=KeyValueList(values=_pairs(given)))


def _pairs(given: dict[str, Any]) -> list[KeyValue]:
    return [KeyValue(key=name, value=_value(value)) for name, value in given.items()]


def _request(*spans: ProtoSpan, resource: dict[str, Any] | None = None, scope: str = "") -> ExportTraceServiceRequest:
    request = ExportTraceServiceRequest()
    of_resource = request.resource_spans.add()
    of_resource.resource.attributes.extend(_pairs(resource or {}))
    of_scope = of_resource.scope_spans.add(spans=spans)
    of_scope.scope.name = scope
    return request


@settings(max_examples=150, deadline=None)
@given(
    attributes=st.dictionaries(NAMES, VALUES, max_size=8),
    event=st.dictionaries(NAMES, VALUES, max_size=3),
    resource=st.dictionaries(NAMES, VALUES, max_size=3),
    names=st.lists(st.text(max_size=20), min_size=4, max_size=4),
    numbers=st.lists(st.integers(0, 2**64 - 1), min_size=3, max_size=3),
    ids=st.lists(st.binary(min_size=16, max_size=16), min_size=3, max_size=3),
    kind=st.integers(0, 5),
    code=st.integers(0, 2),
)
def test_both_encodings_say_what_was_written(
    attributes: dict[str, Any], event: dict[str, Any], resource: dict[str, Any], names: list[str], numbers: list[int],
    ids: list[bytes], kind: int, code: int,
) -> None:  # fmt: skip
    span = ProtoSpan(
        trace_id=ids[0], span_id=ids[1][:8], parent_span_id=ids[2][:8], name=names[0], kind=kind,
        start_time_unix_nano=numbers[0], end_time_unix_nano=numbers[1], attributes=_pairs(attributes),
        events=[ProtoSpan.Event(name=names[1], time_unix_nano=numbers[2], attributes=_pairs(event))],
    )  # fmt: skip
    span.status.code, span.status.message = code, names[2]
    request = _request(span, resource=resource, scope=names[3])
    hexed = ["" if not any(one) else one.hex() for one in (ids[0], ids[1][:8], ids[2][:8])]
    expected = Span(
        hexed[0], hexed[1], hexed[2] or None, names[0], kind, numbers[0], numbers[1], attributes,
        [_event(names[1], numbers[2], event)], code, names[2], names[3], "", resource,
    )  # fmt: skip
    from_bytes = protobuf.traces(request.SerializeToString(), ANY)
    assert from_bytes == Received(1, [expected])
    # A second look is answered by what was remembered of the first.
    assert protobuf.traces(request.SerializeToString(), ANY) == from_bytes
    assert otlp_json.traces(json_format.MessageToJson(request).encode(), ANY) == from_bytes


def _event(name: str, time_ns: int, attributes: dict[str, Any]) -> Any:
    from otel_llmlog.dialects.span import Event

    return Event(name, time_ns, attributes)


def _one(body: dict[str, Any]) -> Span:
    document = {"resourceSpans": [{"scopeSpans": [{"spans": [body]}]}]}
    received = otlp_json.traces(json.dumps(document).encode(), ANY)
    assert not received.unreadable
    return received.found[0]


def test_json_may_write_ids_in_hex_or_base64_integers_as_text_or_number_and_enums_by_either_name() -> None:
    trace, span = bytes(range(1, 17)), bytes(range(1, 9))
    hexed = _one({"traceId": trace.hex().upper(), "spanId": span.hex(), "kind": 3, "startTimeUnixNano": "1700000000000000000",
                  "status": {"code": 2}, "attributes": [{"key": "n", "value": {"intValue": 5}}]})  # fmt: skip
    based = _one({"traceId": base64.b64encode(trace).decode(), "spanId": base64.b64encode(span).decode(),
                  "kind": "SPAN_KIND_CLIENT", "startTimeUnixNano": 1700000000000000000, "unheardOf": [1],
                  "status": {"code": "STATUS_CODE_ERROR"}, "attributes": [{"key": "n", "value": {"intValue": "5"}}]})  # fmt: skip
    assert hexed == based
    assert (hexed.trace_id, hexed.attributes, hexed.start_ns) == (trace.hex(), {"n": 5}, 1_700_000_000_000_000_000)


@pytest.mark.parametrize("trace_id", ["", "00" * 16, "ab", "zz" * 16, "ab" * 17, None])
def test_an_id_that_is_none_is_empty(trace_id: str | None) -> None:
    assert _one({"traceId": trace_id, "spanId": "ab" * 8}).trace_id == ""


def test_numbers_that_json_has_no_word_for_may_be_text() -> None:
    span = _one({"attributes": [{"key": k, "value": {"doubleValue": v}} for k, v in
                                {"a": "NaN", "b": "-Infinity", "c": 2, "d": "1.5"}.items()]})  # fmt: skip
    assert math.isnan(span.attributes["a"])
    assert (span.attributes["b"], span.attributes["c"], span.attributes["d"]) == (-math.inf, 2.0, 1.5)


@pytest.mark.parametrize(
    "value",
    [{"intValue": "1_0"}, {"intValue": "9" * 5000}, {"intValue": 1.5}, {"boolValue": "true"}, {"stringValue": 1}, {"bytesValue": "%"},
     {"arrayValue": []}, {"kvlistValue": {"values": [1]}}, {"arrayValue": {"values": {}}}, "text", 1],
)  # fmt: skip
def test_a_value_of_a_wrong_type_costs_its_span_and_no_other(value: Any) -> None:
    good = {"spanId": "ab" * 8}
    bad = {"attributes": [{"key": "a", "value": value}]}
    document = {"resourceSpans": [{"scopeSpans": [{"spans": [good, bad, good]}]}]}
    received = otlp_json.traces(json.dumps(document).encode(), ANY)
    assert (received.count, len(received.found), received.unreadable.total()) == (3, 2, 1)


def _nested(levels: int) -> AnyValue:
    value = AnyValue(string_value="x")
    for _ in range(levels):
        value = AnyValue(array_value=ArrayValue(values=[value]))
    return value


def _length(number: int) -> bytes:
    out = b""
    while number >= 0x80:
        out, number = out + bytes((number & 0x7F | 0x80,)), number >> 7
    return out + bytes((number,))


def _field(tag: int, content: bytes) -> bytes:
    return bytes((tag,)) + _length(len(content)) + content


def test_nesting_without_end_costs_its_span_and_no_other() -> None:
    value = b""
    for _ in range(5000):
        value = _field(0x2A, _field(0x0A, value))  # an array of one array
    deep = _field(0x4A, _field(0x0A, b"deep") + _field(0x12, value))
    good = ProtoSpan(span_id=b"12345678").SerializeToString()
    request = _field(0x0A, _field(0x12, _field(0x12, good) + _field(0x12, deep) + _field(0x12, good)))
    received = protobuf.traces(request, ANY)
    assert (received.count, len(received.found), received.unreadable.total()) == (3, 2, 1)
    text = '{"arrayValue":{"values":[' * 5000 + "]}}" * 5000
    document = (
        f'{{"resourceSpans":[{{"scopeSpans":[{{"spans":[{{}},{{"attributes":[{{"key":"a","value":{text}}}]}}]}}]}}]}}'
    )
    try:
        received = otlp_json.traces(document.encode(), ANY)
    except Unreadable:  # where the parser's own limit is met before ours, the request as a whole cannot be read
        return
    assert (received.count, received.unreadable.total()) == (2, 1)


def test_text_that_is_no_utf8_is_repaired_and_costs_nothing() -> None:
    pair = _field(0x0A, b"na\xffme") + _field(0x12, _field(0x0A, b"va\xfflue"))
    short = _field(0x0A, b"name") + _field(0x12, _field(0x0A, b"\xff" * 3))
    span = _field(0x2A, b"GET \xff") + _field(0x4A, pair) + _field(0x4A, short)
    request = _field(0x0A, _field(0x12, _field(0x0A, _field(0x0A, b"sc\xffope")) + _field(0x12, span)))
    [found] = protobuf.traces(request, ANY).found
    assert found.attributes == {"na\ufffdme": "va\ufffdlue", "name": "\ufffd\ufffd\ufffd"}
    assert (found.name, found.scope) == ("GET \ufffd", "sc\ufffdope")


def test_the_last_of_two_attributes_of_one_name_counts() -> None:
    span = ProtoSpan(attributes=[KeyValue(key="a", value=_value(1)), KeyValue(key="a", value=_value("b"))])
    request = _request(span)
    assert protobuf.traces(request.SerializeToString(), ANY).found[0].attributes == {"a": "b"}
    assert otlp_json.traces(json_format.MessageToJson(request).encode(), ANY).found[0].attributes == {"a": "b"}


def test_a_span_that_cannot_be_a_call_is_counted_and_not_decoded() -> None:
    asked = []

    def may_be_call(scope: str, names: Any) -> bool:
        asked.append((scope, "wanted" in names, "b" in names))
        return "wanted" in names

    spans = [ProtoSpan(attributes=_pairs({"b": 1})), ProtoSpan(attributes=_pairs({"wanted": 1}))]
    received = protobuf.traces(_request(*spans, scope="s").SerializeToString(), may_be_call)
    assert asked == [("s", False, True), ("s", True, False)]
    assert (received.count, [span.attributes for span in received.found]) == (2, [{"wanted": 1}])


def test_a_request_of_a_great_many_of_the_smallest_spans_is_too_large() -> None:
    """They would fill memory, and dead letters: in 16 MiB there is room for a million of them."""
    smallest = _field(0x2A, b"its name") + b"\x4a\x04\x0a\x02ab"
    with pytest.raises(TooLarge):
        protobuf.traces(_field(0x0A, _field(0x12, _field(0x12, smallest) * 20_001)), ANY)
    with pytest.raises(TooLarge):
        otlp_json.traces(b'{"resourceSpans":[{"scopeSpans":[{"spans":[' + b",".join([b"{}"] * 20_001) + b"]}]}]}", ANY)
    with pytest.raises(TooLarge):
        protobuf.traces(b"\x0a\x00" * 20_001, ANY)
    with pytest.raises(TooLarge):
        protobuf.traces(_field(0x0A, b"\x12\x00" * 20_001), ANY)
    with pytest.raises(TooLarge):
        protobuf.traces(_field(0x0A, _field(0x12, b"\x12\x00" * 400_001)), lambda *_: False)
    with pytest.raises(TooLarge):
        otlp_json.traces(b'{"resourceSpans":[{"resource":{"attributes":[' + b"0," * 50_000 + b"0]}}]}", ANY)
    broken = protobuf.traces(_field(0x0A, _field(0x12, _field(0x12, b"\xff") * 100_000)), ANY)
    assert (broken.count, len(broken.unreadable), broken.unreadable.total()) == (100_000, 1, 100_000)

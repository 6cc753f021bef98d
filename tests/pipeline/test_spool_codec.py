"""What the spool's payloads say comes back as it was, and bytes that say nothing are None."""

from __future__ import annotations

import math
from dataclasses import replace
from types import MappingProxyType

import msgspec
import pytest
from hypothesis import given, strategies as st

from otel_llmlog.pipeline.record import Record
from otel_llmlog.pipeline.spool import (
    Ending,
    Intent,
    decode_ending,
    decode_intent,
    decode_record,
    encode_ending,
    encode_intent,
    encode_record,
)

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
scalars = texts | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False)
values = scalars | st.lists(texts, max_size=4).map(tuple)
times = st.integers(0, 2**63)
records = st.builds(
    Record, texts, texts, st.none() | texts, times, times, texts, st.dictionaries(texts, values, max_size=6),
    st.sampled_from(["span", "log"]),
)  # fmt: skip
numbers = st.integers(0, 2**64 - 1)
intents = st.builds(
    Intent, st.binary(min_size=16, max_size=16), numbers, st.none() | numbers, times, texts,
    st.dictionaries(texts, texts, max_size=6),
)  # fmt: skip


def intent(service, facts):
    return Intent(bytes.fromhex(TRACE), int(SPAN, 16), None, 1, service, facts)


def record(attributes):
    return Record(TRACE, SPAN, None, 1, 2, "shop", attributes)


@given(records)
def test_a_record_comes_back_as_it_was_types_of_its_attributes_included(original):
    back = decode_record(encode_record(original))
    assert back == original
    assert [type(value) for value in back.attributes.values()] == [
        type(value) for value in original.attributes.values()
    ]


@given(intents)
def test_an_intent_comes_back_as_it_was(original):
    assert decode_intent(encode_intent(original)) == original


@given(st.binary(max_size=200) | records.map(encode_record) | intents.map(encode_intent), st.data())
def test_decoding_any_bytes_never_raises(data, draw):
    cut = data[: draw.draw(st.integers(0, len(data)))]
    assert isinstance(decode_record(cut), Record | None)
    assert isinstance(decode_intent(cut), Intent | None)
    assert isinstance(decode_ending(cut), Ending | None)


@given(st.integers(0, 2**63 - 1), st.binary(max_size=600))
def test_an_ending_comes_back_as_it_was(end_ns, brief):
    assert decode_ending(encode_ending(Ending(end_ns, brief))) == Ending(end_ns, brief)


def test_one_is_never_taken_for_the_other():
    assert decode_record(encode_intent(intent("shop", {}))) is None
    assert decode_intent(encode_record(record({}))) is None
    assert decode_intent(encode_ending(Ending(1, b"{}"))) is None
    assert decode_ending(encode_intent(intent("shop", {}))) is None


@pytest.mark.parametrize("hostile", [b"", b"\x91" * 100_000, b"\x81" * 100_000, b"\xdf\xff\xff\xff\xff", b"\xc1"])
def test_hostile_bytes_are_none(hostile):
    assert decode_record(hostile) is None
    assert decode_intent(hostile) is None
    assert decode_ending(hostile) is None


def test_a_record_of_a_later_version_with_more_fields_can_still_be_read():
    assert decode_record(encode_record(record({"a": 1}))[:0] + _longer(record({"a": 1}))) == record({"a": 1})
    assert decode_record(_longer(replace(record({"a": 1}), kind="log"))) == replace(record({"a": 1}), kind="log")
    assert decode_record(msgspec.msgpack.encode([2, TRACE, SPAN, None, 1, 2, "shop", {}])) is None


def _longer(original):
    known = msgspec.msgpack.decode(encode_record(original))[:8]
    return msgspec.msgpack.encode([*known, original.kind, "new", {"field": 1}])


def test_a_record_of_a_version_that_knew_no_kinds_is_a_span():
    plain = msgspec.msgpack.encode([1, TRACE, SPAN, None, 1, 2, "shop", {"a": 1}])
    assert decode_record(plain) == record({"a": 1})
    # What that version would read of a log is all but its kind.
    assert encode_record(replace(record({}), kind="log")).startswith(b"\x99")


def test_a_record_of_a_kind_that_is_not_known_is_none():
    assert decode_record(msgspec.msgpack.encode([1, TRACE, SPAN, None, 1, 2, "shop", {}, "metric"])) is None


def test_what_msgpack_cannot_hold_is_replaced_by_the_nearest_it_can():
    class Secretive:
        def __repr__(self):
            return "secret"

    odd = {"half": "a\ud800b", "huge": 2**70, "vast": 10**400, "list": ["x", "\udfff"], "own": Secretive(), "n": None}
    assert decode_record(encode_record(record(odd))).attributes == {
        "half": "a?b", "huge": float(2**70), "vast": math.inf, "list": ("x", "?"), "own": "<Secretive>", "n": None,
    }  # fmt: skip


def test_attributes_may_be_any_mapping():
    assert decode_record(encode_record(record(MappingProxyType({"a": ("b",)})))) == record({"a": ("b",)})


def test_an_intent_with_half_a_character_is_still_noted():
    assert decode_intent(encode_intent(intent("s\ud800", {"user": "\ud800"}))) == intent("s?", {"user": "?"})


@pytest.mark.parametrize(
    "ids", [(b"", 1, None), (bytes(15), 1, None), (bytes(17), 1, None), (bytes(16), -1, None), (bytes(16), 1, -1)]
)
def test_an_intent_whose_ids_are_none_is_none(ids):
    known = msgspec.msgpack.decode(encode_intent(intent("shop", {})))
    assert decode_intent(msgspec.msgpack.encode([known[0], *ids, *known[4:]])) is None

"""Binary event streams: what was framed is read again, wherever it was cut or broken, and nothing else is."""

from __future__ import annotations

import json

import pytest
from botocore.eventstream import EventStreamBuffer
from hypothesis import example, given, settings, strategies as st

from otel_llmlog.providers import bedrock, bedrock_invoke
from otel_llmlog.providers.eventstream import frame, frames
from tests.providers.cases import STREAMS

NAMES = st.sampled_from([":event-type", ":message-type", ":content-type", ":exception-type"])
MESSAGES = st.lists(
    st.tuples(st.dictionaries(NAMES, st.text(max_size=20), min_size=1), st.binary(max_size=60)), max_size=6
)
# With headers of every type that AWS has.
ODD_HEADERS = b"\1a\0\1b\1\1c\2\7\1d\3\0\7\1e\4\0\0\0\7\1f\5" + bytes(8) + b"\1g\6\0\2ab\1h\7\0\2hi\1i\x08" + bytes(8) + b"\1j\x09" + bytes(16)  # fmt: skip


@given(messages=MESSAGES)
def test_what_was_framed_is_read_again_as_botocore_reads_it(messages: list[tuple[dict[str, str], bytes]]) -> None:
    stream = b"".join(frame(headers, payload) for headers, payload in messages)
    theirs = EventStreamBuffer()
    theirs.add_data(stream)
    expected = [(message.headers, message.payload) for message in theirs]
    found = [({n.decode(): v.decode() for n, v in f.headers.items()}, f.payload) for f in frames(stream)]
    assert found == expected == messages
    assert [f.end for f in frames(stream)][-1:] == ([len(stream)] if messages else [])


@given(messages=MESSAGES, cut=st.integers(0, 10**4))
def test_of_a_stream_that_is_cut_off_the_whole_frames_are_read(
    messages: list[tuple[dict[str, str], bytes]], cut: int
) -> None:
    stream = b"".join(frame(headers, payload) for headers, payload in messages)
    cut %= len(stream) + 1
    assert list(frames(stream[:cut])) == [found for found in frames(stream) if found.end <= cut]


@given(messages=MESSAGES, garbage=st.binary(max_size=50), at=st.integers(0, 6))
def test_what_is_no_frame_between_frames_is_passed_over(
    messages: list[tuple[dict[str, str], bytes]], garbage: bytes, at: int
) -> None:
    framed = [frame(headers, payload) for headers, payload in messages]
    framed.insert(min(at, len(framed)), garbage)
    found = [f.payload for f in frames(b"".join(framed))]
    assert [payload for payload in found if payload in [m[1] for m in messages]] == [payload for _, payload in messages]


def test_a_broken_payload_costs_its_frame_alone() -> None:
    made = [frame({":event-type": "e"}, payload) for payload in (b"one", b"two", b"three")]
    made[1] = made[1].replace(b"two", b"owt")
    assert [f.payload for f in frames(b"".join(made))] == [b"one", b"three"]


@given(data=st.binary(max_size=400))
@settings(max_examples=300)
def test_arbitrary_bytes_are_read_without_an_exception(data: bytes) -> None:
    assert all(f.end <= len(data) for f in frames(data))


def test_headers_of_other_types_are_passed_over() -> None:
    import struct
    from zlib import crc32

    prelude = struct.pack(">II", 16 + len(ODD_HEADERS), len(ODD_HEADERS))
    message = prelude + struct.pack(">I", crc32(prelude)) + ODD_HEADERS
    (found,) = frames(message + struct.pack(">I", crc32(message)))
    assert found.headers == {b"h": b"hi"}


@pytest.mark.parametrize("case", [case for case in STREAMS if case.is_packed], ids=lambda case: case.name)
def test_a_recorded_stream_without_its_middle_never_counts_more(case) -> None:
    """As of a stream that has outgrown LLMLOG_MAX_BODY_BYTES: its beginning, two line ends, its end."""
    whole = case.endpoint.read_stream([case.reply], False).usage
    for size in range(0, len(case.reply), 37):
        part = case.endpoint.read_stream([case.reply[:size], b"\n\n", case.reply[-size:]], False).usage
        if part is not None:
            assert whole is not None
            assert part.input_tokens <= whole.input_tokens
            assert part.output_tokens <= whole.output_tokens


@given(counts=st.dictionaries(
    st.sampled_from(["input", "output", "cache-read-input", "cache-write-input"]),
    st.one_of(st.integers(-5, 10**18).map(str), st.text(max_size=8)),
))  # fmt: skip
@example(counts={"input": "1000000000000", "cache-read-input": "1"})
def test_counts_in_headers_are_never_negative_nor_broken(counts: dict[str, str]) -> None:
    headers = {f"x-amzn-bedrock-{name}-token-count": value for name, value in counts.items()}
    usage = bedrock.refine(bedrock_invoke.read_response(json.dumps({"text": "x"}).encode(), False), headers).usage
    assert usage is None or (usage.input_tokens >= usage.cache_read_tokens >= 0 and usage.output_tokens >= 0)

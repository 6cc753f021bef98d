"""Framing: whatever happens to some bytes of a file, the frames beside them are read, each once, and none is made up."""

from __future__ import annotations

import time
from itertools import pairwise

import pytest
from hypothesis import assume, given, strategies as st

from otel_llmlog.pipeline.spool import frames
from otel_llmlog.pipeline.spool.frames import HEADER_BYTES, INTENT, MAGIC, MAX_PAYLOAD, OUTCOME, Frame, Gap

SEED = frames.seed("0123-00000001")


def scan(data: bytes, seed: int = SEED) -> list[Frame | Gap]:
    return list(frames.scan(lambda at, size: data[at : at + size], 0, len(data), seed))


def read(data: bytes) -> list[tuple[int, int, bytes]]:
    return [(found.kind, found.ticket, found.payload) for found in scan(data) if isinstance(found, Frame)]


def encode(frame: tuple[int, int, bytes], seed: int = SEED) -> bytes:
    return frames.encode(*frame, seed)


# Payloads that make trouble: pieces of frames, and whole ones of another segment.
_nasty = st.sampled_from(
    [MAGIC, MAGIC[:3], MAGIC * 3, encode((OUTCOME, 1, b"quoted"), seed=1), encode((INTENT, 7, b""))[:-2]]
)
payloads = st.lists(st.binary(max_size=40) | _nasty, max_size=4).map(b"".join)
whole = st.tuples(st.integers(0, 255), st.integers(0, 2**64 - 1), payloads)


@pytest.fixture(params=[1, 7, 256 << 10], ids=lambda size: f"chunks of {size}", autouse=True, scope="module")
def _chunk(request):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(frames, "_CHUNK", request.param)
        yield


@given(st.lists(whole, max_size=8))
def test_frames_are_read_as_they_were_written(written):
    data = b"".join(map(encode, written))
    found = scan(data)
    assert [(f.kind, f.ticket, f.payload) for f in found if isinstance(f, Frame)] == written
    assert not [f for f in found if isinstance(f, Gap)]
    assert [f.end for f in found[:-1]] == [f.start for f in found[1:]]


@given(
    st.lists(
        st.tuples(whole, st.sampled_from(["whole", "flipped", "cut", "overwritten", "dirt"]), st.data()), max_size=8
    )
)
def test_every_frame_that_damage_did_not_touch_is_read_once_and_none_is_made_up(plan):
    data, intact, lost = b"", [], []
    for frame, damage, draw in plan:
        raw = encode(frame)
        if damage == "flipped":
            at = draw.draw(st.integers(0, len(raw) * 8 - 1))
            raw = raw[: at // 8] + bytes([raw[at // 8] ^ 1 << at % 8]) + raw[at // 8 + 1 :]
        elif damage == "cut":
            cut = draw.draw(st.integers(0, len(raw) - 1))
            raw, missing = raw[:cut], raw[cut:]
            lost.append((len(data) + cut, missing))
        elif damage == "overwritten":
            start = draw.draw(st.integers(0, len(raw) - 1))
            new = draw.draw(st.binary(min_size=1, max_size=len(raw) - start))
            changed = raw[:start] + new + raw[start + len(new) :]
            if changed == raw:
                intact.append(frame)
            raw = changed
        elif damage == "dirt":
            data += draw.draw(payloads)
        if damage in {"whole", "dirt"}:
            intact.append(frame)
        data += raw
    # Bytes that were lost and by chance follow as the beginning of something else are not lost.
    assume(not any(data.startswith(missing, at) for at, missing in lost))
    assert read(data) == intact


@given(st.lists(whole, max_size=5), st.data())
def test_a_file_that_was_cut_off_gives_all_frames_before_the_cut(written, data):
    raw = b"".join(map(encode, written))
    cut = data.draw(st.integers(0, len(raw)))
    ends = [sum(len(encode(f)) for f in written[: i + 1]) for i in range(len(written))]
    assert read(raw[:cut]) == [f for f, end in zip(written, ends, strict=True) if end <= cut]


@given(st.lists(st.binary(max_size=60) | st.just(MAGIC) | whole.map(encode), max_size=20).map(b"".join))
def test_any_bytes_are_covered_by_frames_and_gaps_without_overlap(data):
    found = scan(data)
    assert [f.end for f in found[:-1]] == [f.start for f in found[1:]]
    assert not found or (found[0].start, found[-1].end) == (0, len(data))
    assert not [1 for a, b in pairwise(found) if isinstance(a, Gap) and isinstance(b, Gap)]


def test_a_file_that_gets_shorter_while_it_is_read_ends_there():
    raw = encode((OUTCOME, 1, b"first")) + encode((OUTCOME, 2, b"second"))
    found = list(frames.scan(lambda at, size: raw[at : at + size], 0, len(raw) + 5000, SEED))
    assert [f.payload for f in found if isinstance(f, Frame)] == [b"first", b"second"]


def test_a_frame_of_another_segment_quoted_in_a_damaged_one_is_not_taken_for_one():
    quoted = encode((OUTCOME, 3, b"not mine"), seed=frames.seed("4567-00000001"))
    raw = bytearray(encode((OUTCOME, 1, b"before" + quoted + b"after")))
    raw[-1] ^= 1
    assert read(bytes(raw)) == []


def test_the_longest_payload_survives_and_a_longer_claim_is_not_followed():
    raw = encode((OUTCOME, 1, bytes(MAX_PAYLOAD))) + encode((OUTCOME, 2, b"next"))
    assert [len(payload) for _, _, payload in read(raw)] == [MAX_PAYLOAD, 4]
    too_long = frames.encode(OUTCOME, 1, bytes(MAX_PAYLOAD + 1), SEED)
    assert read(too_long + encode((OUTCOME, 2, b"next"))) == [(OUTCOME, 2, b"next")]


def test_hostile_bytes_are_scanned_in_linear_time():
    # Each of these heads claims 16 MB to come; without a check of its own each would be followed.
    hostile = (MAGIC + b"\x02" + MAX_PAYLOAD.to_bytes(4, "little") + bytes(HEADER_BYTES - 9)) * 40_000
    if frames._CHUNK < 100:
        hostile = hostile[:10_000]
    start = time.perf_counter()
    assert [type(f) for f in scan(hostile)] == [Gap]
    assert time.perf_counter() - start < 20  # following each claim would take hours

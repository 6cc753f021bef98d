"""Our copy of an encoded body is opened piece for piece, and never to more than the limit."""

from __future__ import annotations

import gzip
import zlib

import brotli
import pytest
import zstandard
from hypothesis import given, settings, strategies as st

from otel_llmlog.capture import encoding

PACK = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "bare deflate": lambda data: zlib.compress(data, wbits=-15),
    "br": lambda data: brotli.compress(data, quality=4),
    "zstd": zstandard.compress,
}
LIMIT = 1 << 20
LIBRARIES = [
    pytest.param("gzip", (), id="gzip"),
    pytest.param("deflate", (), id="deflate"),
    pytest.param("bare deflate", (), id="bare-deflate"),
    pytest.param("br", (), id="br"),
    pytest.param("br", ("limit",), id="br-without-a-limit-of-its-own"),
    pytest.param("zstd", (), id="zstd"),
    pytest.param("zstd", ("compression.zstd", "backports.zstd"), id="zstd-by-zstandard"),
]


class OldBrotli:
    """As brotli was before 1.2: its decompressor takes data and nothing else."""

    class Decompressor:
        def __init__(self):
            self._own = brotli.Decompressor()

        def process(self, data):
            return self._own.process(data)


@pytest.fixture
def without(monkeypatch):
    """Makes libraries unavailable, or as old as they may be."""
    found = encoding._import

    def make(missing):
        def importing(*names):
            library = found(*(name for name in names if name not in missing))
            return OldBrotli if library is brotli and "limit" in missing else library

        monkeypatch.setattr(encoding, "_import", importing)

    return make


def pieces_of(data, size):
    return [data[at : at + size] for at in range(0, len(data), size)]


def header(name):
    return name.rpartition(" ")[2]


@pytest.mark.parametrize(("name", "missing"), LIBRARIES)
def test_pieces_are_opened_one_for_one(without, name, missing):
    without(missing)
    body = b"".join(b"data: %d\n\n" % number for number in range(2000))
    for size in (7, 1000, 1 << 20):
        pieces = pieces_of(PACK[name](body), size)
        opened, note = encoding.decoded(pieces, header(name), LIMIT)
        assert (b"".join(opened), note, len(opened)) == (body, None, len(pieces))


@pytest.mark.parametrize(("name", "missing"), LIBRARIES)
def test_a_bomb_is_opened_up_to_the_limit_and_no_further(without, name, missing):
    without(missing)
    bomb = PACK[name](bytes(64 << 20))
    for size in (500, len(bomb)):
        opened, note = encoding.decoded(pieces_of(bomb, size), header(name), LIMIT)
        assert sum(map(len, opened)) == LIMIT
        assert note == "the body is larger than LLMLOG_MAX_BODY_BYTES: read up to there"


def test_a_library_without_a_limit_of_its_own_is_stopped_between_two_slices():
    packed, opened = PACK["br"](bytes(64 << 20)), []
    decompressor = brotli.Decompressor()

    def process(piece):
        opened.append(len(decompressor.process(piece)))
        return bytes(opened[-1])

    assert len(encoding._in_slices(process)(packed, LIMIT)) == LIMIT
    assert sum(opened[:-1]) < LIMIT <= sum(opened) < 64 << 20


@pytest.mark.parametrize(("name", "missing"), LIBRARIES)
def test_a_cut_body_is_opened_as_far_as_it_goes(without, name, missing):
    without(missing)
    body = bytes(range(256)) * 4096
    packed = PACK[name](body)
    opened, _ = encoding.decoded(pieces_of(packed[: len(packed) * 2 // 3], 100), header(name), 1 << 30)
    assert body.startswith(b"".join(opened))


@pytest.mark.parametrize("missing", ["br", "zstd"])
def test_a_missing_library_is_said(monkeypatch, missing):
    monkeypatch.setattr(encoding, "_import", lambda *_: None)
    opened, note = encoding.decoded([b"x"], missing, LIMIT)
    assert (opened, note) == ([], f"the body's encoding {missing!r} cannot be read: its library is not installed")


def test_encodings_on_top_of_each_other_are_undone_in_turn():
    packed = PACK["br"](PACK["gzip"](b"hello"))
    assert encoding.decoded([packed], " GZIP , identity, br", LIMIT) == ([b"hello"], None)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.binary(max_size=200), max_size=5),
    st.lists(st.sampled_from(["gzip", "x-gzip", "deflate", "br", "zstd", "identity", "", "x"]), max_size=3),
)
def test_no_bytes_raise(pieces, names):
    opened, _ = encoding.decoded(pieces, ",".join(names), LIMIT)
    assert all(isinstance(piece, bytes) for piece in opened)

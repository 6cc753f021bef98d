"""Broken bodies: recorded ones with values of the wrong type, bytes flipped, parts cut out, doubled or exchanged."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from otel_llmlog.providers.facts import ErrorFacts, RequestFacts, ResponseFacts
from tests.providers.cases import CASES, Case, packed

# JSON values that have no business where they are put, and some that are no JSON.
STRANGE = (
    b"null", b"true", b"false", b"0", b"-1", b"1e999", b"NaN", b"-Infinity", b"9" * 30, b"9" * 5000, b"1.5", b"0.1e-400",
    b'""', b'"x"', b'"\\u0000"', b'"\\ud800"', b'"\xff"', b"[]", b"[1]", b'["a",{}]', b"[[[[]]]]", b"{}", b'{"a":1}',
    b'{"content":"x"}', b'{"text":["x",1]}', b"[" * 300 + b"]" * 300, b'{"audio":' * 40 + b"1" + b"}" * 40, b"", b"}", b'"',
)  # fmt: skip
# Names that readers look for.
NAMES = (
    b'"type"', b'"usage"', b'"delta"', b'"index"', b'"choices"', b'"content"', b'"text"', b'"input"', b'"error"',
    b'"message"', b'"response"', b'"status"', b'"citation"', b'"citations"', b'"tool_calls"', b'"partial_json"',
    b'"usageMetadata"', b'"candidates"', b'"parts"', b'"finishReason"', b'"groundingMetadata"', b'"promptFeedback"',
    b'"predictions"', b'"billed_units"', b'"meta"', b'"usage_info"', b'"pages"', b'"done"', b'"prompt_eval_count"',
    b'"output"', b'"tools"', b'"container_id"', b'"detail"',
    b'"thinking"', b'"audio"', b'"x_groq"', b'"prompt_tokens_details"', b'"cache_creation"', b'"cost"', b'"model"',
)  # fmt: skip
PIECES = (
    b"\n,\r\n{",
    b"\n{",
    b"\n",
    b"\r",
    b"\r\n\r\n",
    b"\n\n",
    b"data: ",
    b"event: error\n",
    b"data: [DONE]\n\n",
    b": x\n",
    b"\0",
    b"\xef\xbb\xbf",
)
_TOKENS = re.compile(rb'"(?:[^"\\]|\\.)*"|[-0-9][-+.0-9eE]*|true|false|null|[\[\]{}]')


class Sample(NamedTuple):
    """A recorded body, where the JSON values in it are, and the function that reads it."""

    case: Case
    kind: str
    data: bytes
    spans: tuple[tuple[int, int], ...]


def _spans(data: bytes) -> Iterator[tuple[int, int]]:
    opened: list[int] = []
    for token in _TOKENS.finditer(data):
        if token[0] in (b"{", b"["):
            opened.append(token.start())
        elif token[0] not in (b"}", b"]"):
            yield token.span()
        elif opened:
            yield opened.pop(), token.end()


def _samples() -> Iterator[Sample]:
    for case in CASES:
        kind = "error" if "error" in case.expected else "stream" if case.is_stream else "response"
        yield Sample(case, "request", case.request, tuple(_spans(case.request)))
        yield Sample(case, kind, case.text, tuple(_spans(case.text)))


SAMPLES = tuple(_samples())


def _replace_values(rng: random.Random, sample: Sample) -> bytes:
    data, end = sample.data, len(sample.data)
    if not sample.spans:
        return data
    for start, stop in sorted(rng.choices(sample.spans, k=rng.choice((1, 1, 2, 4))), reverse=True):
        if stop > end:
            continue
        kind = rng.random()
        if kind < 0.6:
            value = rng.choice(STRANGE)
        elif kind < 0.8:
            value = rng.choice(NAMES)
        else:
            other = rng.choice(SAMPLES)
            value = other.data[slice(*rng.choice(other.spans))] if other.spans else b"1"
        data, end = data[:start] + value + data[stop:], start
    return data


def _break_bytes(rng: random.Random, data: bytes) -> bytes:
    for _ in range(rng.choice((1, 1, 2, 5))):
        at, length = rng.randrange(len(data) + 1), rng.choice((1, 1, 2, 8, 64))
        kind = rng.randrange(6)
        if kind == 0:
            data = data[:at]
        elif kind == 1:
            data = data[:at] + data[at + length :]
        elif kind == 2:
            data = data[:at] + data[at : at + length] + data[at:]
        elif kind == 3:
            data = data[:at] + rng.randbytes(length) + data[at + length :]
        elif kind == 4:
            data = data[:at] + rng.choice(PIECES) + data[at:]
        else:
            data = data[:at] + rng.choice(SAMPLES).data[at:]
    return data


def mutated(rng: random.Random) -> tuple[Sample, bytes]:
    """A recorded body, broken, and which one it was."""
    sample = rng.choice(SAMPLES)
    kind = rng.random()
    data = _replace_values(rng, sample) if kind < 0.7 else sample.data
    return sample, _break_bytes(rng, data) if kind > 0.6 else data


Facts = RequestFacts | ResponseFacts | ErrorFacts
READERS: dict[str, Callable[[Case, list[bytes], bool], Any]] = {
    "request": lambda case, pieces, content: case.endpoint.read_request(b"".join(pieces), case.path, content),
    "response": lambda case, pieces, content: case.endpoint.read_response(b"".join(pieces), content),
    "stream": lambda case, pieces, content: case.endpoint.read_stream(
        [b"".join(packed(b"".join(pieces)))] if case.is_packed else pieces, content
    ),
    "error": lambda case, pieces, _content: case.endpoint.read_error(b"".join(pieces)),
}

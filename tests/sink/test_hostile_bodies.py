"""Time and memory grow with a body's bytes, whatever it is made of."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from collections import defaultdict
from typing import Any

import pytest

from otel_llmlog import config
from otel_llmlog.sink import otlp_json, protobuf
from otel_llmlog.sink.inflate import Broken, inflate
from otel_llmlog.sink.intake import Intake
from otel_llmlog.sink.received import TOO_MANY_VALUES
from tests.sink import hostile_bodies
from tests.sink.hostile_bodies import JSON, PACKED, PROTOBUF, SIZES, field

# Bytes of memory for one on the wire. An honest body of the same size takes ten.
MOST_MEMORY = 22
# How much longer four times as much may take: linear is 4, quadratic 16. Less than this many seconds are no measure.
MOST_GROWTH, LEAST_SECONDS = 9, 0.05


def _costs() -> dict[str, list[dict[str, Any]]]:
    env = {**os.environ, "LLMLOG_STORE_PROMPTS_IN_SPEND_LOGS": "true"}
    command = [sys.executable, "-m", hostile_bodies.__name__]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300, check=True)
    found = defaultdict(list)
    for line in done.stdout.splitlines():
        cost = json.loads(line)
        found[cost["name"]].append(cost)
    return found


def test_cost_is_linear_in_the_bytes() -> None:
    costs = _costs()
    assert set(costs) == {*PROTOBUF, *JSON, *PACKED}
    for less, more in costs.values():
        assert more["size"] >= 3 * less["size"]
        assert more["seconds"] < MOST_GROWTH * max(less["seconds"], LEAST_SECONDS), (less, more)
        assert more["memory"] < MOST_MEMORY * max(SIZES), more


def test_a_span_of_too_many_values_is_refused_alone() -> None:
    sound = hostile_bodies._IDS + hostile_bodies._START + hostile_bodies._A_CALL
    hostile = sound + b"".join([hostile_bodies._value(field(0x2A, b"\x0a\x02\x32\x00" * 5000))] * 20)
    request = field(0x0A, field(0x12, b"".join(field(0x12, one) for one in (sound, hostile, sound, hostile, sound))))
    taken = Intake(config.load()).traces(request, as_json=False)
    assert taken.count == 5
    assert list(taken.refused.values()) == [(TOO_MANY_VALUES, 2)]
    assert sum(bool(record.span_id) for record in taken.records) == 3


@pytest.mark.parametrize("number", [1, 300_000])
def test_a_large_array_of_numbers_is_no_attack(number: int) -> None:
    """A vector of an embedding, say, or the tokens of a prompt."""
    vector = hostile_bodies._value(field(0x2A, field(0x0A, b"\x21" + b"\x3f" * 8) * number))
    tokens = hostile_bodies._value(field(0x2A, field(0x0A, b"\x18\xac\x9c\x02") * number), b"y")
    [found] = protobuf.traces(hostile_bodies._span(vector + tokens), lambda *_: True).found
    assert len(found.attributes["x"]) == len(found.attributes["y"]) == number
    text = hostile_bodies._in_json(b'{"intValue":36396},', after=b'{"intValue":1}]}}}')(number * 19)
    [found] = otlp_json.traces(text, lambda *_: True).found
    assert len(found.attributes["x"]) == number + 1


def test_a_text_of_commas_is_no_attack() -> None:
    for name in ("JSON: commas in text", "JSON: quotes in text"):
        [found] = otlp_json.traces(JSON[name](1 << 20), lambda *_: True).found
        assert len(found.attributes["x"]) >= 1 << 19


def test_a_body_may_be_packed_in_a_thousand_parts_and_no_more() -> None:
    part = gzip.compress(b"part")
    assert inflate(part * 1024, 1 << 20) == b"part" * 1024
    with pytest.raises(Broken, match="more than 1024 parts"):
        inflate(part * 1025, 1 << 20)

"""Masking takes time linear in the text, however hostile it is; measured by growth, in time of the processor."""

from __future__ import annotations

import time

import pytest

from otel_llmlog import redact

UNITS = [
    "a", "a ", "key", "key=", "key: ", "key: \n", "key:{", '"key":"', '"key": "\\"', "--password ", "-p ", "mysql -p",
    "login x password ", "https://", "https://a:", "https://a:b@", "a@", "a:", "a:b@", "%41", "aaaa%", "QUJD", "eyJ",
    "eyJ-", "ey.", "sk-", "sk-a", "-----BEGIN PRI" + "VATE KEY-----", "-----END PRI" + "VATE KEY-----", "-----BEGIN ", "<key>",
    "<key ", "\\", '\\"', "'", '"', "'a','b',", "name: key\n", "value: x\n", "name: key value: x ", "bearer ", "basic QUJD ",
    "[", "{", "(", '{"a":', "x.y-", "1//0", "SG.", "Q~", "==", "\n", " \n", "\t", "key:\n  a\n", "key: |\n", "a:1:b:c:",
    "export key=", "cookie: a=b; ", "?a=", "&key=", "é", "\\u0041", "AWS4-HMAC-SHA256 ", "'key', '", "~1Q~", "\ud800", "aA1",
]  # fmt: skip
_ONCE, _MORE = 1_500, 8


def seconds(text: str) -> float:
    taken = []
    for _ in range(3):
        begun = time.process_time()
        redact.mask(text)
        taken.append(time.process_time() - begun)
    return min(taken)


@pytest.mark.parametrize("before", ["", "https://", '{"a":"'])
def test_time_grows_with_the_text_and_no_faster(before: str) -> None:
    for unit in UNITS:
        once = before + unit * (_ONCE // len(unit))
        more = before + unit * (_MORE * _ONCE // len(unit))
        # Quadratic time would be 64 times as long; what is below the clock's grain says nothing.
        assert seconds(more) < 4 * _MORE * max(seconds(once), 0.0005), unit


def test_deep_nesting_is_cut_off_and_not_followed() -> None:
    for text in ("[" * 100_000, "[" * 100_000 + "]" * 100_000, '{"a":' * 50_000 + "1" + "}" * 50_000):
        redact.mask(text)
    value: object = "end"
    for _ in range(500):
        value = {"in": [value]}
    assert redact.TOO_DEEP in str(redact.masked(value))

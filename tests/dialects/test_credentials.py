"""Credentials and text that others put into spans, our own dialect's too, are in no row."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from otel_llmlog import dialects
from otel_llmlog.config import ContentSettings
from otel_llmlog.dialects import llmlog, privacy
from tests.dialects.spans import FULL, PLAIN, span
from tests.redact.credentials import ADDRESSES, DATA, SHAPED, TEXTS

RECORDED = sorted((Path(__file__).parent / "recorded").glob("*.json"))
SECRET = "Zq9-hunter2"
KEY = SHAPED["OpenAI project"]
# What a sender could write in the place of any value.
PLANTED = [
    KEY, f"Bearer {KEY}", *(write("api_key", SECRET) for write in TEXTS.values()),
    *(write(SECRET) for form, write in ADDRESSES.items() if form not in {"S3", "Google"}),
    *(json.dumps(carry("clientSecret", SECRET)) for carry in DATA.values()),
]  # fmt: skip
CONTENT = {"llmlog.messages", "llmlog.response"}


def assert_hidden(kept: dict[str, Any], *, content: bool) -> None:
    # Content is kept as it was said, where it is kept.
    told = json.dumps({name: value for name, value in kept.items() if not (content and name in CONTENT)}, default=str)
    assert SECRET not in told, told
    assert KEY not in told


@pytest.mark.parametrize("content", [False, True])
@pytest.mark.parametrize("wrap", [str, lambda text: [text], lambda text: (text, text), lambda text: {"api_key": text}])
def test_no_field_of_our_own_dialect_holds_a_credential(wrap: Any, content: bool) -> None:
    names = [*llmlog._LEAVES]
    for planted in PLANTED:
        kept = privacy.kept(dict.fromkeys(names, wrap(planted)), ContentSettings(store_prompts_in_spend_logs=content))
        assert_hidden(kept, content=content)


def _spans() -> Iterator[tuple[str, dict[str, Any]]]:
    for path in RECORDED:
        for line in json.loads(path.read_text())["lines"]:
            if line["what"] == "span":
                yield path.stem, line


@pytest.mark.parametrize("reading", [PLAIN, FULL], ids=["plain", "content"])
def test_no_dialect_lets_a_credential_into_a_row(reading: Any) -> None:
    calls = 0
    for _, line in _spans():
        for planted in (
            KEY,
            f"password={SECRET}",
            json.dumps({"api_key": SECRET}),
            f"https://u:{SECRET}@h/v1?key={SECRET}",
        ):
            for name, value in line["attributes"].items():
                if not isinstance(value, str):
                    continue
                one = span({**line, "attributes": {**line["attributes"], name: planted}})
                if (call := dialects.call_of(one, reading)) is None:
                    continue
                calls += 1
                kept = privacy.kept(call, ContentSettings(store_prompts_in_spend_logs=reading.content))
                assert_hidden(kept, content=reading.content)
                assert "llmlog.call_type" in kept
    assert calls > 1000


@pytest.mark.parametrize("name", sorted(privacy._WORDS))
def test_what_is_no_word_does_not_stand_in_the_place_of_one(name: str) -> None:
    for text in ("two words", "line\nbreak", "x" * 65, "canary: said", KEY, '{"a": 1}', "", "schlüssel"):
        kept = privacy.kept({name: text}, ContentSettings())
        assert kept.get(name) == privacy._REQUIRED.get(name), text
    assert privacy.kept({name: "flex"}, ContentSettings()) == {name: "flex"}


def test_reasons_are_words_and_tags_are_names() -> None:
    given = {"llmlog.finish_reasons": ("stop", "I think that", KEY, 3), "llmlog.request_tags": ("a b", f"k={KEY}")}
    kept = privacy.kept(given, ContentSettings())
    assert kept["llmlog.finish_reasons"] == ("stop",)
    assert kept["llmlog.request_tags"] == ("a b", "k=[redacted]")


def test_users_and_sessions_that_are_keys_stay_apart() -> None:
    found = [
        privacy.kept({"llmlog.session_id": key}, ContentSettings())["llmlog.session_id"]
        for key in (SHAPED["OpenAI"], SHAPED["xAI"], SHAPED["OpenAI"])
    ]
    assert found[0] == found[2] != found[1]


def test_what_is_no_credential_passes_unchanged() -> None:
    recorded = 0
    for _, line in _spans():
        call = dialects.call_of(span(line), PLAIN)
        if call is not None:
            recorded += 1
            kept = privacy.kept(call, ContentSettings())
            plain = call.keys() - privacy._SENSITIVE
            assert {name: kept.get(name) for name in plain} == {name: call[name] for name in plain}
    assert recorded > 20

"""Every credential in every structure at every depth: nothing of it is left in clear."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given, settings, strategies as st

from otel_llmlog import redact
from tests.redact.credentials import (
    ADDRESSES,
    DATA,
    HARMLESS,
    NAMES,
    PRIVATE_KEYS,
    SHAPED,
    SHAPELESS,
    TEXTS,
)

# Names that the text forms of other languages cannot have.
PLAIN = [name for name in NAMES if not name.startswith("_")]


def shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def nested(value: Any, ways: list[int]) -> Any:
    for way in ways:
        value = [{"in": value}, [value], {"a": 1, "b": [value, 2]}, {"text": json.dumps(value)}][way]
    return value


def assert_hidden(secret: str, value: Any) -> None:
    hidden = redact.masked(value)
    left = shown(hidden)
    for form in {secret, json.dumps(secret)[1:-1], json.dumps(json.dumps(secret)[1:-1])[1:-1]}:
        assert form not in left, (value, hidden)
    assert redact.MASK in left
    assert redact.masked(hidden) == hidden, "what was masked once is not changed again"


def named_secrets(names: list[str]) -> list[tuple[str, str]]:
    """Each name with one of the secrets, and each secret with some of the names."""
    return [(name, SHAPELESS[(at + turn) % len(SHAPELESS)]) for turn in (0, 3) for at, name in enumerate(names)]


@pytest.mark.parametrize("carrier", DATA)
def test_a_value_under_the_name_of_a_credential_is_masked_in_data(carrier: str) -> None:
    for name, secret in named_secrets(NAMES):
        assert_hidden(secret, DATA[carrier](name, secret))


@pytest.mark.parametrize("carrier", TEXTS)
def test_a_value_under_the_name_of_a_credential_is_masked_in_text(carrier: str) -> None:
    for name, secret in named_secrets(PLAIN):
        assert_hidden(secret, TEXTS[carrier](name, secret))


@pytest.mark.parametrize("vendor", SHAPED)
def test_what_has_the_shape_of_a_credential_is_masked_wherever_it_stands(vendor: str) -> None:
    key = SHAPED[vendor]
    secret = key.rsplit(" ", 1)[-1]
    for text in (
        "{}", "my key is {}, keep it", "({})", "'{}'", "use {}.", "a={}", "x\t{}\n", "token-{}", "https://example.com/a/{}/b",
        "https://example.com/a?z={}", '["{}"]', "re:{}",
    ):  # fmt: skip
        assert_hidden(secret, text.format(key))
    for carrier in DATA.values():
        assert_hidden(secret, carrier("note", key))
    for form, write in TEXTS.items():
        if form not in {"query", "fragment", "relative URL"}:
            assert_hidden(secret, write("note", key))


@pytest.mark.parametrize("kind", PRIVATE_KEYS)
@pytest.mark.parametrize("carrier", [*TEXTS])
def test_private_keys_are_masked_with_all_their_lines(kind: str, carrier: str) -> None:
    key = PRIVATE_KEYS[kind]
    for written in (key, key.replace("\n", "\\n"), key.replace("\n", " ")):
        hidden = redact.mask(TEXTS[carrier]("note", written))
        for line in key.split("\n")[1:-1]:
            assert line not in hidden, hidden


@pytest.mark.parametrize("kind", PRIVATE_KEYS)
def test_half_a_private_key_is_masked_too(kind: str) -> None:
    lines = PRIVATE_KEYS[kind].split("\n")
    for part in (lines[:3], lines[2:]):
        hidden = redact.mask('{"a": "' + "\n".join(part))
        assert not any(line in hidden for line in lines[1:-1])


@pytest.mark.parametrize("form", ADDRESSES)
def test_passwords_in_addresses_are_masked(form: str) -> None:
    for password in ("hunter2", "Tr0ub4dor!3", "p%40ss%2Fw0rd", "x" * 40, "4821a"):
        for text in (ADDRESSES[form](password), f"cannot connect: {ADDRESSES[form](password)}"):
            if text.startswith("cannot") and form == ".pgpass":
                continue
            hidden = redact.mask(text)
            assert password not in hidden, hidden
            assert "example" not in text or "example" in hidden or form in {".pgpass", ".netrc"}, hidden


@settings(max_examples=150, deadline=None)
@given(
    name=st.sampled_from(NAMES),
    carrier=st.sampled_from([*DATA]),
    ways=st.lists(st.integers(0, 3), max_size=12).filter(lambda ways: ways.count(3) <= 2),
    secret=st.text(
        st.characters(min_codepoint=33, max_codepoint=0x2FF, exclude_categories=["Cc"]), min_size=6, max_size=30
    ),
)
def test_a_named_secret_is_masked_at_any_depth(name: str, carrier: str, ways: list[int], secret: str) -> None:
    secret = "Zq9" + secret  # no part of a name, and no word of the carrier's
    assert_hidden(secret, nested(DATA[carrier](name, secret), ways))


@settings(max_examples=150, deadline=None)
@given(
    name=st.sampled_from(PLAIN),
    carrier=st.sampled_from([*TEXTS]),
    ways=st.lists(st.integers(0, 3), max_size=8).filter(lambda ways: ways.count(3) <= 2),
    secret=st.sampled_from(SHAPELESS[:3] + SHAPELESS[6:]),
)
def test_a_named_secret_in_a_text_is_masked_at_any_depth(name: str, carrier: str, ways: list[int], secret: str) -> None:
    assert_hidden(secret, nested({"text": TEXTS[carrier](name, secret)}, ways))


@pytest.mark.parametrize("name", HARMLESS)
def test_what_has_a_harmless_name_is_kept(name: str) -> None:
    for value in ("plain text", "3", 17, True, None, ["a", "b"], {"a": 1}):
        assert redact.masked({name: value}) == {name: value}
    for text in (json.dumps({name: "plain"}), f"{name}: plain", f"{name}=plain", f"serve --{name} plain"):
        assert redact.mask(text) == text


@pytest.mark.parametrize(
    "value",
    [
        {"tokens": 12, "keys": 3, "pass": True, "password": None},
        {"usage": {"input_tokens": 3, "tokens": {"input": 3}}},
        [{"name": "region", "value": "eu"}, {"key": "tier", "value": "gold"}],
        {"changed": ["password", "email", "role"]},
        ["gpt-4o", "claude-sonnet-4-5-20250929", "text-embedding-3-large"],
        "arn:aws:bedrock:us-east-1:123456789012:inference-profile/us.anthropic.claude-3-5-sonnet-20241022-v2:0",
        "https://example.com/v1/chat/completions?api-version=2024-10-21&stream=true",
        "https://eu.example.com:8443/accounts/fireworks/models/llama-v3p1-405b-instruct?a=b@c",
        "accounts/fireworks/models/deepseek-v3-0324",
        "user:ada@example.com", "mailto:ada@example.com", "git@example.com:a/b.git", "ghcr.io/a/b@sha256:9f8e7d6c5b4a",
        "0f8fad5b-d9cb-469f-a165-70867728950e", "chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT",
        "resp_67ccd2bed1ec8190b14f964abc0542670bb6a6b452d3795b", "msg_01XFDUDYJgAACzvnptvVoYEL", "a" * 64,
        "Error code: 429 - rate limit reached for gpt-4o (limit 3, used 3)", "AuthenticationError: bad request",
        "Basic Plan", "basic planning", "bearer token", "2026-11-30T10:52:27.123456Z", "12:30:45", "team eye, ward 7",
        "please summarise: the secretary wrote two keynotes", "a=b, c=d; e: f", "C:\\Users\\ada\\notes.txt",
        "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36",
    ],
)  # fmt: skip
def test_what_is_no_credential_is_kept(value: Any) -> None:
    assert redact.masked(value) == value


@settings(max_examples=300, deadline=None)
@example("%")
@given(st.text())
def test_no_text_raises_and_what_was_masked_stays(text: str) -> None:
    once = redact.mask(text)
    assert redact.mask(once) == once

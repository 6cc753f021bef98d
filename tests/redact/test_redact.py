"""Keys are hashed, credentials masked, text is fit to store, and long content keeps its head and tail."""

from __future__ import annotations

import hashlib
import json
import math
import re
from typing import Any

import pytest
from hypothesis import given, strategies as st

from otel_llmlog import redact

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(codec=None), max_size=40),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(codec=None)), inner, max_size=3),
    max_leaves=10,
)

KEYS = [
    "sk-proj-abcdefghijklmnopqrstuvwxyz0123456789",
    "sk-ant-api03-abcdefghijklmnop_qrstuvwxyz-AA",
    "sk-or-v1-0123456789abcdef0123456789abcdef",
    "sk_live_0123456789abcdef",
    "rk_live_0123456789abcdef",
    "gsk_abcdefghijklmnopqrstuvwxyz",
    "xai-abcdefghijklmnopqrstuvwxyz",
    "hf_abcdefghijklmnopqrstuvwxyz",
    "ghp_abcdefghijklmnopqrstuvwxyz0123456789",
    "glpat-abcdefghij0123456789",
    "r8_abcdefghijklmnopqrstuvwxyz",
    "AKIAABCDEFGHIJKLMNOP",
    "AIzaSyA0123456789abcdefghijklmnopqrstuv",
    "Bearer anything-at-all",
    "bearer  0123",
    "Basic dXNlcjpwYXNz",
    "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.c2lnbmF0dXJl",
]


@pytest.mark.parametrize("key", ["sk-abc123", "0123456789abcdef", "schl\u00fcssel", "\ud800"])
@pytest.mark.parametrize("form", ["{}", "Bearer {}", "bearer {}", "BEARER  {}", " Bearer {} ", " {} "])
def test_the_hash_of_a_key_is_its_sha256_with_and_without_bearer(key: str, form: str) -> None:
    expected = hashlib.sha256(key.encode("utf-8", "replace")).hexdigest()
    assert redact.key_hash(form.format(key)) == expected


def test_a_scheme_other_than_bearer_belongs_to_the_credential() -> None:
    assert redact.key_hash("Basic abc") == hashlib.sha256(b"Basic abc").hexdigest()
    assert redact.key_hash("Bearer") == hashlib.sha256(b"Bearer").hexdigest()


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("text", ["{}", "my key is {}, keep it", "({})", "url=https://x/?k={}", "token-{}"])
def test_what_looks_like_a_credential_is_masked_wherever_it_stands(key: str, text: str) -> None:
    secret = key.rsplit(" ", 1)[-1].rsplit(".", 1)[-1].rsplit("-", 1)[-1]
    masked = redact.mask(text.format(key))
    assert secret not in masked
    assert redact.MASK in masked


@pytest.mark.parametrize(
    "text",
    [
        "",
        "OpenAI/Python 3.2.0",
        "gpt-4o-mini-2024-07-18",
        "sketch-recognition-model",
        "patient-intake-assistant",
        "keyword-extraction-pipeline",
        "skill_improvement_agent",
        "hfs-production-europe-west",
        "team eye, ward 7",
        "0f8fad5b-d9cb-469f-a165-70867728950e",
        "user@example.com",
    ],
)
def test_a_harmless_value_is_left_as_it_is(text: str) -> None:
    assert redact.mask(text) == text


SECRET_NAMES = [
    "authorization", "Authorization", "Proxy-Authorization", "x-authorisation", "x-auth", "oauth_state", "api_key",
    "apikey", "apiKey", "X-Api-Key", "openaiApiKey", "OPENAI_API_KEY", "api-keys", "apiKeyId", "accessKeyId", "key",
    "x-key", "private_key", "sshPrivateKey", "subscription-key", "Ocp-Apim-Subscription-Key", "x-goog-api-key",
    "x-functions-key", "token", "access_token", "x-amz-security-token", "csrfToken", "secret", "client_secret",
    "aws_secret_access_key", "password", "passwd", "db_pwd", "passphrase", "credential", "credentials", "cookie",
    "set-cookie", "session-key", "sessionKey", "session_key", "signature", "x-hub-signature-256",
]  # fmt: skip
HARMLESS_NAMES = [
    "max_tokens", "prompt_tokens", "completion_tokens", "cachedTokens", "tokenizer", "tokenization",
    "tokenise", "token_count", "token-limit", "tokenBudget", "token_usage", "author", "authors", "authority",
    "co-author", "keyword", "keywords", "api_keyword", "keyboard", "monkey", "turkey", "hockey", "keynote", "secretary",
    "secretariat", "passenger", "passage", "compass", "bypass", "model", "user", "tags", "team", "", "k", "client",
    "access", "private",
]  # fmt: skip


@pytest.mark.parametrize("name", SECRET_NAMES)
def test_a_name_of_a_credential_is_known(name: str) -> None:
    assert redact.is_credential(name)


@pytest.mark.parametrize("name", HARMLESS_NAMES)
def test_a_harmless_name_is_not_taken_for_a_credential(name: str) -> None:
    assert not redact.is_credential(name)


def test_tokens_and_keys_are_credentials_as_text_and_counts_as_numbers() -> None:
    for name in ("tokens", "keys"):
        assert not redact.is_credential(name, 3)
        assert not redact.is_credential(name, "3")
        assert redact.is_credential(name, ["abc"])
        assert redact.is_credential(name, "abc")


def test_truth_values_are_no_credentials_and_other_numbers_are() -> None:
    assert not redact.is_credential("password", None)
    assert not redact.is_credential("password", True)
    assert redact.is_credential("pin", 4821)


@pytest.mark.parametrize("depth", [0, 1, 5, 60])
def test_credentials_are_masked_by_name_and_by_shape_at_any_depth(depth: int) -> None:
    value: Any = {
        "api_key": "plain",
        "password": ["a", {"b": "c"}],
        "token": None,
        "note": f"use {KEYS[0]} please",
        "keys": [KEYS[3], 7],
        "max_tokens": 5,
        "author": "Ada",
    }
    expected: Any = {
        "api_key": redact.MASK,
        "password": redact.MASK,
        "token": None,
        "note": f"use {redact.MASK} please",
        "keys": redact.MASK,
        "max_tokens": 5,
        "author": "Ada",
    }
    for level in range(depth):
        value, expected = ({"in": value}, {"in": expected}) if level % 2 else ([value], [expected])
    assert redact.masked(value) == expected


def test_custom_headers_are_the_callers_own_with_credentials_masked() -> None:
    headers = [
        ("X-Team", "search"),
        ("X-Request-Authorization", "Token abc"),
        ("x-forwarded-key", "abc"),
        ("X-Note", f"use {KEYS[0]}"),
        ("X-Long", "a" * 1000),
        ("X-Odd", "a\0b"),
        ("X-Stainless-Lang", "python"),
        ("Content-Type", "application/json"),
        ("Authorization", "Bearer abc"),
    ]
    assert redact.custom_headers(headers) == {
        "x-team": "search",
        "x-request-authorization": redact.MASK,
        "x-forwarded-key": redact.MASK,
        "x-note": f"use {redact.MASK}",
        "x-long": "a" * redact.MAX_NAME,
        "x-odd": "a\ufffdb",
    }


@given(text=st.text(), limit=st.integers(0, 50))
def test_cut_keeps_35_percent_of_head_and_65_of_tail_and_says_how_much_is_left_out(text: str, limit: int) -> None:
    cut = redact.cut(text, limit)
    if len(text) <= limit:
        assert cut == text
        return
    head, tail = limit * 35 // 100, limit - limit * 35 // 100
    assert cut == f"{text[:head]}... [{len(text) - limit} characters skipped] ...{text[len(text) - tail :]}"


def test_cut_of_a_prompt_reads_as_expected() -> None:
    assert redact.cut("a" * 60 + "b" * 60, 100) == "a" * 35 + "... [20 characters skipped] ..." + "a" * 5 + "b" * 60


def depth_of(value: Any) -> int:
    if isinstance(value, dict):
        return 1 + max(map(depth_of, value.values()), default=0)
    return 1 + max(map(depth_of, value), default=0) if isinstance(value, list) else 0


@pytest.mark.parametrize("levels", [1, 64, 65, 66, 500])
@pytest.mark.parametrize("wrap", [lambda v: [v], lambda v: {"a": v}, lambda v: (v,)], ids=["list", "dict", "tuple"])
def test_nesting_is_bounded_and_what_was_left_out_is_said(levels: int, wrap: Any) -> None:
    value: Any = "end"
    for _ in range(levels):
        value = wrap(value)
    stored = redact.storable(value)
    assert depth_of(stored) == min(levels, redact.MAX_DEPTH)
    assert ("end" in repr(stored)) == (levels <= redact.MAX_DEPTH)
    assert (redact.TOO_DEEP in repr(stored)) == (levels > redact.MAX_DEPTH)


@given(value=JSON, limit=st.none() | st.integers(0, 20))
def test_whatever_is_stored_is_strict_json_without_nul_or_lone_surrogates(value: Any, limit: int | None) -> None:
    stored = json.dumps(redact.storable(value, limit), allow_nan=False, ensure_ascii=False)
    stored.encode()
    assert re.search(r"(?<!\\)(?:\\\\)*\\u0000", stored) is None


def test_storable_cuts_every_string_and_leaves_numbers_alone() -> None:
    stored = redact.storable({"a": "x" * 30, "b": ["y" * 30, 1.5, True, None, 10**20, math.inf, math.nan]}, 10)
    assert stored == {
        "a": redact.cut("x" * 30, 10),
        "b": [redact.cut("y" * 30, 10), 1.5, True, None, 10**20, "inf", "nan"],
    }


@pytest.mark.parametrize(
    ("value", "name"),
    [("gpt-4o", "gpt-4o"), ("", None), (7, "7"), (True, None), (10**30, None), (1.5, None), (["a"], None), (None, None),
     ("a\0\ud800", "a\ufffd\ufffd"), ("x" * 512, "x" * 512)],
)  # fmt: skip
def test_a_name_is_clean_text_of_bounded_length_or_none(value: Any, name: str | None) -> None:
    assert redact.name(value) == name


def test_of_a_long_name_a_part_is_kept_and_no_two_become_one() -> None:
    found = {redact.name("x" * 600), redact.name("x" * 600), redact.name("x" * 600 + "y")}
    assert {len(name or "") for name in found} == {redact.MAX_NAME}
    assert len(found) == 2

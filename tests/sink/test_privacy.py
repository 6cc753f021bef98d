"""Content that a sender put into its spans is kept only where content is kept."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from otel_llmlog.capture import failures
from otel_llmlog.config import ContentSettings
from otel_llmlog.dialects import llmlog, privacy
from otel_llmlog.payload import CallPayload, StandardLoggingMetadata
from otel_llmlog.pipeline import terminated
from tests.sink.receiving import Sink, body, over_grpc
from tests.store.records import record

CANARY = "the-secret-plan"
SAYING_ALL = {
    "status": "failure",
    "messages": [{"role": "user", "content": CANARY}],
    "response": {"choices": [{"message": {"content": CANARY}}]},
    "error_str": f"could not answer {CANARY}",
    "error_information": {
        "error_class": "APIError",
        "error_code": "500",
        "error_message": f"about {CANARY}",
        "traceback": f"File app.py: ask({CANARY!r})",
    },
    "response_cost_failure_debug_info": {"error_str": "no price", "traceback_str": CANARY},
    "model_parameters": {"temperature": 0.5, "tools": [{"description": CANARY}], "stop": [CANARY], "tool_choice": "auto"},
    "guardrail_information": [{"guardrail_name": "pii", "guardrail_request": {"text": CANARY}, "guardrail_response": CANARY}],
}  # fmt: skip
METADATA = {
    "vector_store_request_metadata": [
        {"vector_store_id": "vs-1", "query": CANARY, "vector_store_search_response": {"text": CANARY}}
    ],
    "guardrail_information": {"guardrail_name": "pii", "guardrail_response": CANARY},
    "user_api_key_hash": "sk-raw-key-1234567890",
}


def _call(**more: Any) -> Any:
    base = llmlog.decode(record().attributes)
    given = base.model_dump() | SAYING_ALL | {"metadata": METADATA}
    attributes = {
        **llmlog.encode(CallPayload.model_validate(given)),
        "gen_ai.input.messages": CANARY,
        "exception.message": CANARY,
    }
    return record(attributes={**attributes, **more})


def _everything(url: str) -> str:
    with psycopg.connect(url) as connection:
        tables = ("spend_logs", "spend_log_contents", "dead_letters")
        found = [connection.execute(f"SELECT t::text FROM llmlog.{table} t").fetchall() for table in tables]
    return json.dumps(found)


def test_with_content_off_nothing_of_it_is_stored_dead_letters_included(
    start: Callable[..., Sink], database_url: str
) -> None:
    sink = start()
    sink.wait_until_ready()
    assert over_grpc(sink, body([_call(), _call(**{"llmlog.spend": "-1"})])).rejected == 1
    everything = _everything(database_url)
    assert CANARY not in everything
    assert "raw-key" not in everything
    with psycopg.connect(database_url) as connection:
        [row] = connection.execute(
            "SELECT error_class, error_code, error_str, model_parameters, length(api_key),"
            " metadata->'metadata_guardrail_information', metadata->'vector_store_request_metadata'->0->>'vector_store_id' FROM llmlog.spend_logs"
        ).fetchall()
    switches = {"temperature": 0.5, "tool_choice": "auto"}
    assert row == ("APIError", "500", None, switches, 64, {"guardrail_name": "pii"}, "vs-1")


def test_with_content_on_it_is_kept_and_cut_as_where_calls_are_captured(
    start: Callable[..., Sink], database_url: str
) -> None:
    sink = start(store_prompts_in_spend_logs="true", max_string_length_prompt_in_db="64")
    sink.wait_until_ready()
    long = "x" * 100
    sent = _call(**{"llmlog.messages": json.dumps([{"role": "user", "content": long}])})
    assert over_grpc(sink, body([sent])).rejected == 0
    with psycopg.connect(database_url) as connection:
        [(messages, response)] = connection.execute(
            "SELECT messages, response FROM llmlog.spend_log_contents"
        ).fetchall()
        [(error,)] = connection.execute("SELECT error_str FROM llmlog.spend_logs").fetchall()
    assert messages == [{"role": "user", "content": "x" * 22 + "... [36 characters skipped] ..." + "x" * 42}]
    assert response == SAYING_ALL["response"]
    assert error == SAYING_ALL["error_str"]
    assert "raw-key" not in _everything(database_url)


OWN_TEXTS = [
    "HTTP 429", "HTTP 400 invalid_request_error", "the provider reported an error in its reply",
    "the provider reported an error in its reply (overloaded_error)", "ConnectError while the reply was awaited",
    "the stream ended without its last event", "the reply could not be read: see notes in its metadata",
    "LiteLLM reports RateLimitError 429", "LiteLLM reports an error", terminated._WHY,
    *(text for _, text in failures._ENDINGS.values()),
]  # fmt: skip


@pytest.mark.parametrize("text", OWN_TEXTS)
def test_what_capture_itself_says_of_a_failure_is_no_content(text: str) -> None:
    assert privacy.kept({"llmlog.error_str": text}, ContentSettings()) == {"llmlog.error_str": text}


@pytest.mark.parametrize(
    "value", [1, ["a"], {"a": CANARY}, b"x", True, None, "{", "[" * 9999, '"' + CANARY + '"', "\ud800"]
)
@pytest.mark.parametrize("keep", [False, True])
def test_values_of_any_type_pass_or_vanish_and_never_fail(value: Any, keep: bool) -> None:
    names = [*llmlog._LEAVES]
    assert set(names) > {f"llmlog.metadata.{name}" for name in StandardLoggingMetadata.model_fields}
    found = privacy.kept(dict.fromkeys(names, value), ContentSettings(store_prompts_in_spend_logs=keep))
    assert set(found) <= set(names)
    if not keep and value is not None:
        kept_whole = {name for name in privacy._SENSITIVE if found.get(name) == value}
        assert kept_whole == set()


@pytest.mark.parametrize(
    ("key", "model", "kept"),
    [
        ("gpt-4o-mini", "gpt-4o-mini", "gpt-4o-mini"),
        ("not-the-model", "gpt-4o-mini", "[redacted]"),
        ("sk-" + "a1B2" * 8, "sk-" + "a1B2" * 8, "[redacted]"),
    ],
)
def test_the_key_of_a_price_list_entry_is_kept_only_as_the_calls_model(key, model, kept):
    entry = "llmlog.model_map_information.model_map_value"
    given = {"llmlog.call_id": "c", "llmlog.model": model, entry: json.dumps({"key": key, "mode": "chat"})}
    found = privacy.kept(given, ContentSettings())
    assert json.loads(found[entry]) == {"key": kept, "mode": "chat"}

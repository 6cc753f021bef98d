"""Every recorded request, reply, stream and error is read into exactly the expected facts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from anthropic.types import ErrorResponse, Message, RawMessageStreamEvent
from openai.types import Completion, CreateEmbeddingResponse
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from otel_llmlog.providers import hosts, sse
from tests.providers.cases import CASES, FOLDERS, REPLIES, STREAMS, Case, said

each_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
each_stream = pytest.mark.parametrize("case", STREAMS, ids=lambda case: case.name)

# What the SDKs make of a reply and of an event of a stream.
SDK_TYPES: dict[str, tuple[Any, Any]] = {
    "chat": (ChatCompletion, ChatCompletionChunk),
    "completions": (Completion, Completion),
    "responses": (Response, ResponseStreamEvent),
    "embeddings": (CreateEmbeddingResponse, None),
    "messages": (Message, RawMessageStreamEvent),
}
# Replies of other wires have the types of other SDKs: see test_sdk_shapes.
OF_THESE_SDKS = ("openai/", "anthropic/", "vertex/claude")
# Where a host leaves the shape of the SDK that it is called with.
NOT_OF_THE_SDK = {
    "anthropic/stream": "ping",
    "anthropic/error_in_stream": "error",
    "openai/azure_async_filter_stream": "content filter",
    "openai/azure_deployment_stream": "content filter",
    "openai/completions_stream": "finish_reason null",
    "openai/embeddings_base64": "base64",
    "openai/openrouter_error_in_reply": "error",
    "openai/openrouter_error_in_stream": "finish_reason error",
}


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_a_case_has_a_request_one_reply_and_its_facts_and_nothing_else(folder: Path) -> None:
    files = {path.name for path in folder.iterdir()}
    assert files - set(REPLIES) == {"request.json", "expected.json"}
    assert len(files & set(REPLIES)) == 1


def test_each_wire_and_api_has_cases_with_and_without_a_stream() -> None:
    seen = {(case.expected["api"], case.is_stream) for case in CASES}
    assert seen == {
        (api, stream)
        for api in (
            "chat",
            "completions",
            "responses",
            "embeddings",
            "messages",
            "generate_content",
            "fim",
            "ocr",
            "rerank",
            "converse",
            "invoke",
            "images",
            "audio",
            "speech",
            "moderations",
        )
        for stream in (False, True)
        if not stream or api not in {"embeddings", "ocr", "rerank", "moderations"}
        if stream or api != "speech"  # sound, which is no text to record
    }


@each_case
def test_a_recorded_call_is_recognised_and_its_provider_is_known(case: Case) -> None:
    endpoint = case.endpoint
    found = hosts.provider(endpoint.wire, case.host, case.port, case.path, case.headers.get("user-agent", ""), {})
    assert (found, endpoint.api) == (case.expected["provider"], case.expected["api"])


@each_case
def test_without_content_a_call_is_read_into_exactly_the_expected_facts(case: Case) -> None:
    facts = {"request": said(case.endpoint.read_request(case.request, case.path, False))}
    if "error" in case.expected:
        facts["error"] = said(case.endpoint.read_error(case.reply))
    elif case.is_stream:
        facts["response"] = said(case.endpoint.read_stream(case.events, False))
    else:
        facts["response"] = said(case.endpoint.read_response(case.reply, False))
    assert facts == {name: case.expected[name] for name in facts}


@each_case
def test_with_content_the_conversation_and_all_parameters_are_read_and_no_fact_changes(case: Case) -> None:
    facts = said(case.endpoint.read_request(case.request, case.path, True))
    content = {name: facts.pop(name, None) for name in ("messages", "parameters")}
    assert content["messages"] == case.expected["with_content"]["messages"]
    assert (content["parameters"] or {}) == case.expected["with_content"]["parameters"]
    facts_without = dict(case.expected["request"])
    facts_without.pop("parameters", None)
    assert facts == facts_without


@pytest.mark.parametrize("case", [c for c in CASES if "response" in c.expected], ids=lambda case: case.name)
def test_with_content_the_reply_is_read_whole_and_no_fact_changes(case: Case) -> None:
    if case.is_stream:
        facts = said(case.endpoint.read_stream(case.events, True))
        whole = case.expected["with_content"]["response"]
    else:
        facts = said(case.endpoint.read_response(case.reply, True))
        whole = json.loads(case.reply)
        if case.expected["api"] == "images":
            whole["data"] = [{k: v for k, v in made.items() if k != "b64_json"} for made in whole["data"]]
        if case.expected["api"] == "embeddings" or case.name == "bedrock/invoke_titan_embed":
            # Vectors are not kept, nor is what a provider repeats of the request.
            for name in ("data", "embedding", "embeddings", "predictions", "texts", "images", "embeddingsByType"):
                whole.pop(name, None)
    assert facts.pop("response") == whole
    assert facts == case.expected["response"]


@pytest.mark.parametrize(
    "case",
    [
        case
        for case in CASES
        if "response" in case.expected and case.name not in NOT_OF_THE_SDK and "error" not in case.name
        if case.name.startswith(OF_THESE_SDKS)
    ],
    ids=lambda case: case.name,
)
def test_a_recorded_reply_has_the_shape_of_the_sdks_types(case: Case) -> None:
    reply, event = SDK_TYPES[case.expected["api"]]
    if not case.is_stream:
        TypeAdapter(reply).validate_json(case.reply)
        return
    events = [event.data for event in sse.events(case.reply) if event.data != b"[DONE]"]
    if case.name.endswith("interrupted"):
        events.pop()
    for data in events:
        TypeAdapter(event).validate_json(data)


@pytest.mark.parametrize(
    "case", [c for c in CASES if c.name.startswith("anthropic/error_") and not c.is_stream], ids=lambda case: case.name
)
def test_a_recorded_error_has_the_shape_of_the_sdks_type(case: Case) -> None:
    TypeAdapter(ErrorResponse).validate_json(case.reply)

"""Bedrock through its real clients, boto3 and the Anthropic SDK's: one payload a request, with the right numbers."""

from __future__ import annotations

import json
from typing import Any

import anthropic
import boto3
import pytest
from botocore.config import Config

from otel_llmlog import redact
from otel_llmlog.demo.provider import LocalProvider
from tests.capture.clients import said
from tests.capture.test_endings import outcome
from tests.wires import ROUTES

KEY_ID, SECRET, TOKEN = "AKIAABCDEFGHIJKLMNOP", "verysecretverysecret", "sessiontokensessiontoken"
CLAUDE = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
NUMBERS = "[usage: input=100 output=20 cached=30 cache_write=10]"
# Whose body, and how the user's text stands in it.
BODIES: dict[str, Any] = {
    CLAUDE: lambda text: {"anthropic_version": "bedrock-2023-05-31", "max_tokens": 9, "messages": said(text)},
    "amazon.nova-lite-v1:0": lambda text: {"messages": [{"role": "user", "content": [{"text": text}]}]},
    "amazon.titan-text-express-v1": lambda text: {"inputText": text, "textGenerationConfig": {"maxTokenCount": 9}},
    "us.meta.llama3-3-70b-instruct-v1:0": lambda text: {"prompt": text, "max_gen_len": 9},
    "mistral.mistral-large-2402-v1:0": lambda text: {"messages": said(text), "max_tokens": 9},
    "openai.gpt-oss-20b-1:0": lambda text: {"messages": said(text), "max_tokens": 9},
    "cohere.command-r-plus-v1:0": lambda text: {"message": text, "max_tokens": 9},
}


@pytest.fixture(scope="module")
def server():
    with LocalProvider(routes=ROUTES) as running:
        yield running


@pytest.fixture
def client(server):
    server.clear()
    made = boto3.client(
        "bedrock-runtime",
        region_name="us-east-1",
        endpoint_url=server.url,
        aws_access_key_id=KEY_ID,
        aws_secret_access_key=SECRET,
        aws_session_token=TOKEN,
        config=Config(retries={"max_attempts": 2}, read_timeout=5),
    )
    yield made
    made.close()


def text(value: str) -> list[dict[str, Any]]:
    return [{"role": "user", "content": [{"text": value}]}]


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
def test_converse_leaves_one_payload_with_its_tokens_and_price(capture, client, stream):
    asked = {"modelId": CLAUDE, "messages": text(NUMBERS), "inferenceConfig": {"maxTokens": 9, "temperature": 0.5}}
    if stream:
        events = list(client.converse_stream(**asked)["stream"])
        assert events[-1]["metadata"]["usage"]["inputTokens"] == 60
    else:
        assert client.converse(**asked)["usage"]["inputTokens"] == 60
    payload = capture.one()
    assert outcome(payload) == ("success", None, None, (100, 20), stream)
    assert (payload.usage.cache_read_tokens, payload.usage.cache_write_tokens) == (30, 10)
    assert (payload.custom_llm_provider, payload.model, payload.stream) == ("bedrock", CLAUDE, stream)
    assert payload.model_parameters == {"max_tokens": 9, "temperature": 0.5}
    assert payload.finish_reasons == ["end_turn"]
    assert payload.id.startswith("00000000-0000-4000-8000-")
    assert payload.api_base == client.meta.endpoint_url
    # 3.30 $ a million fresh tokens in a region of one's own, 16.50 written by the model, 0.33 read, 4.125 cached.
    assert str(payload.spend) == "0.00057915"


def test_the_key_is_known_by_its_hash_and_nothing_of_the_signature_is_kept(capture, client):
    client.converse(modelId=CLAUDE, messages=text("x"))
    client.converse(modelId=CLAUDE, messages=text("y"))
    first, second = capture.records()
    assert first.payload.metadata.user_api_key_hash == redact.key_hash(KEY_ID)
    assert second.payload.metadata.user_api_key_hash == redact.key_hash(KEY_ID)
    for record in (first, second):
        kept = repr(record.attributes)
        assert not any(secret in kept for secret in (KEY_ID, SECRET, TOKEN, "Signature", "x-amz-"))


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize("model", BODIES)
def test_an_invoked_model_of_each_vendor_leaves_one_payload(capture, client, model, stream):
    body = json.dumps(BODIES[model]("[usage: input=100 output=20]"))
    if stream:
        reply = client.invoke_model_with_response_stream(modelId=model, body=body)
        assert [json.loads(event["chunk"]["bytes"]) for event in reply["body"]]
    else:
        assert json.loads(client.invoke_model(modelId=model, body=body)["body"].read())
    payload = capture.one()
    assert outcome(payload) == ("success", None, None, (100, 20), stream)
    assert (payload.model, payload.response_model, payload.stream) == (model, None, stream)
    assert (payload.spend is not None) == (not model.startswith("cohere"))
    assert payload.finish_reasons


def test_an_invoked_embedding_model_is_an_embedding(capture, client):
    body = json.dumps({"inputText": "[usage: input=9]"})
    client.invoke_model(modelId="amazon.titan-embed-text-v2:0", body=body)["body"].read()
    payload = capture.one()
    assert (payload.call_type, payload.operation, payload.prompt_tokens) == ("embedding", "embeddings", 9)
    assert payload.spend is not None


def test_errors_and_retries_are_rows_of_their_own(capture, client):
    with pytest.raises(client.exceptions.ValidationException):
        client.converse(modelId=CLAUDE, messages=text("[scenario: error status=400]"))
    payload = capture.one()
    assert payload.error_str == "HTTP 400 validation_exception"
    assert outcome(payload)[:3] == ("failure", "BadRequestError", "400")
    capture.clear()
    client.converse(modelId=CLAUDE, messages=text("[scenario: error status=503 times=1 key=r]"))
    assert [p.status for p in capture.payloads()] == ["failure", "success"]


def test_an_error_in_a_stream_and_a_stream_without_its_end_are_failures(capture, client):
    asked = {"modelId": CLAUDE, "messages": text("[scenario: error_in_stream status=429]")}
    stream = client.converse_stream(**asked)["stream"]
    with pytest.raises(Exception, match="throttling"):
        list(stream)
    stream.close()
    payload = capture.one()
    assert outcome(payload)[:3] == ("failure", "APIError", "throttling_exception")
    capture.clear()
    list(client.converse_stream(modelId=CLAUDE, messages=text("[scenario: no_terminator keep=3]"))["stream"])
    assert outcome(capture.one())[:2] == ("failure", "StreamIncomplete")
    capture.clear()
    stream = client.converse_stream(modelId=CLAUDE, messages=text("[scenario: stall after=3 seconds=5]"))["stream"]
    next(iter(stream))
    stream.close()
    assert outcome(capture.one())[:2] == ("failure", "StreamClosed")


@pytest.mark.parametrize("stream", [False, True], ids=["plain", "stream"])
@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
async def test_the_anthropic_sdks_client_of_bedrock(capture, server, is_async, stream):
    kind = anthropic.AsyncAnthropicBedrock if is_async else anthropic.AnthropicBedrock
    client = kind(base_url=server.url, aws_region="us-east-1", aws_access_key=KEY_ID, aws_secret_key=SECRET)
    asked = {"model": CLAUDE, "max_tokens": 9, "messages": said(NUMBERS)}
    if is_async:
        made = await client.messages.create(**asked, stream=stream)
        _ = [event async for event in made] if stream else made
    else:
        made = client.messages.create(**asked, stream=stream)
        _ = list(made) if stream else made
    payload = capture.one()
    assert outcome(payload) == ("success", None, None, (100, 20), stream)
    assert (payload.usage.cache_read_tokens, payload.usage.cache_write_tokens) == (30, 10)
    assert (payload.custom_llm_provider, payload.model, payload.stream) == ("bedrock", CLAUDE, stream)
    assert payload.call_type == ("acompletion" if is_async else "completion")
    assert payload.metadata.user_api_key_hash == redact.key_hash(KEY_ID)
    assert payload.spend is not None


def test_content_is_stored_when_it_is_asked_for(capture_with, client):
    capture = capture_with(store_prompts_in_spend_logs=True)
    asked = {"modelId": CLAUDE, "messages": text("hello [scenario: echo]"), "system": [{"text": "Be brief."}]}
    plain = client.converse(**asked)["output"]
    list(client.converse_stream(**asked)["stream"])
    for payload in capture.payloads():
        assert payload.messages == [{"role": "system", "content": asked["system"]}, *asked["messages"]]
        assert payload.response["output"] == plain

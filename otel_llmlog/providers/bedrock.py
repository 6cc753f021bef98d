"""Amazon Bedrock's wire formats: Converse, InvokeModel, and the streams of both.

Sources of the field mappings: the service model of bedrock-runtime in the installed botocore (ConverseResponse,
TokenUsage, CacheDetail, ConverseStreamOutput, ResponseStream, InvokeModelResponse); the model is in the URL. A body of
InvokeModel is the vendor's own: the vendor's reader reads it where we have one. For all of them Bedrock counts itself,
in the headers `x-amzn-bedrock-*-token-count` and, in a stream, in `amazon-bedrock-invocationMetrics` of the last chunk:
https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters.html
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from otel_llmlog import redact
from otel_llmlog.providers import bedrock_converse, bedrock_invoke, lenient
from otel_llmlog.providers.bedrock_converse import error_kind, read_error, tiered, usage_of
from otel_llmlog.providers.facts import Endpoint, ErrorFacts, RequestFacts, ResponseFacts
from otel_llmlog.providers.lenient import items, mapping

_MODEL = re.compile(r"/model/(.+)/[^/]+/*$")
# Names of numbers and switches in a request of either API, and what other APIs call them.
_SWITCHES = {
    "maxTokens": "max_tokens", "max_tokens": "max_tokens", "max_gen_len": "max_tokens", "maxTokenCount": "max_tokens",
    "max_new_tokens": "max_tokens", "temperature": "temperature", "topP": "top_p", "top_p": "top_p", "p": "top_p",
    "topK": "top_k", "top_k": "top_k", "k": "top_k", "dimensions": "dimensions",
}  # fmt: skip
_NOT_PARAMETERS = frozenset({
    "messages", "system", "prompt", "inputText", "texts", "message", "chat_history", "documents", "query", "inputImage",
    "metadata", "requestMetadata", "preamble",
})  # fmt: skip
# What the vendors call what is asked; a body of InvokeModel has one of them.
_ASKED = (
    b'"messages"', b'"prompt"', b'"inputText"', b'"message"', b'"texts"', b'"input"', b'"inputImage"', b'"images"',
    b'"query"', b'"taskType"', b'"text_prompts"', b'"schemaVersion"',
)  # fmt: skip
_COUNTS = "x-amzn-bedrock-%s-token-count"


def model_of(path: str) -> str | None:
    """The model, inference profile or ARN in a URL's path."""
    found = _MODEL.search(path)
    return redact.model(found[1]) if found else None


def endpoint_of(path: str) -> Endpoint | None:
    """The API that a request to this path calls."""
    before, _, verb = path.rstrip("/").rpartition("/")
    if "/model/" not in before + "/":
        return None
    if verb in {"invoke", "invoke-with-response-stream"}:
        return EMBED if "embed" in before else INVOKE
    return CONVERSE if verb in {"converse", "converse-stream"} else None


def _streams(path: str) -> bool:
    return path.rstrip("/").endswith("-stream")


def _accepts_converse(body: bytes | None, headers: Mapping[str, str]) -> bool:  # noqa: ARG001 - one signature for all
    return body is not None and b'"messages"' in body


def _accepts_invoke(body: bytes | None, headers: Mapping[str, str]) -> bool:  # noqa: ARG001 - all are asked alike
    return body is not None and any(field in body for field in _ASKED)


def read_request(body: bytes, path: str, content: bool) -> RequestFacts:
    """Read the body of a request to any of the APIs."""
    reading = lenient.read_object(body)
    given = reading.get("requestMetadata")
    identity = {"metadata": given} if isinstance(given, dict) else {}
    if isinstance(metadata := reading.get("metadata"), dict):
        identity = {"metadata": metadata}
    return RequestFacts(
        model=model_of(path),
        stream=_streams(path),
        messages=_messages(reading) if content else None,
        parameters=_parameters(reading, content),
        end_user=redact.name(mapping(reading.get("metadata")).get("user_id")),
        identity=identity,
        notes=(f"request: {reading.note}",) if reading.note else (),
    )


def _messages(reading: lenient.Reading) -> Any:
    for name in ("prompt", "inputText", "texts", "message"):
        if (found := reading.get(name)) is not None:
            return found
    messages, system = reading.get("messages"), reading.get("system")
    if system is None or not isinstance(messages, list):
        return messages
    return [{"role": "system", "content": system}, *messages]


def _parameters(reading: lenient.Reading, content: bool) -> dict[str, Any]:
    if content:
        return {name: reading.get(name) for name in reading.fields if name not in _NOT_PARAMETERS}
    inner = [mapping(reading.get(name)) for name in ("inferenceConfig", "textGenerationConfig")]
    top = {name: reading.get(name) for name in reading.fields if name in _SWITCHES}
    kept: dict[str, Any] = {}
    for fields in (*inner, top):
        for name, value in fields.items():
            if name in _SWITCHES and isinstance(value, bool | int | float):
                kept[_SWITCHES[name]] = redact.storable(value)
    if tools := items(mapping(reading.get("toolConfig")).get("tools")) or items(reading.get("tools")):
        kept["tool_count"] = len(tools)
    return kept


def refine(facts: ResponseFacts, headers: Mapping[str, str]) -> ResponseFacts:
    """What the headers of a reply add: its id, the kind of an error, and counts where the body has none."""
    usage = facts.usage
    if usage is None and facts.error is None:
        names = {"inputTokens": "input", "outputTokens": "output", "cacheReadInputTokens": "cache-read-input",
                 "cacheWriteInputTokens": "cache-write-input"}  # fmt: skip
        usage = usage_of(
            {
                field: int(value)
                for field, name in names.items()
                if (value := headers.get(_COUNTS % name, "")).isascii() and value.isdigit() and len(value) < 16
            }
        )
    usage = tiered(usage, headers.get("x-amzn-bedrock-service-tier"))
    error = facts.error
    if error is not None and (kind := error_kind(headers.get("x-amzn-errortype"))):
        error = ErrorFacts(kind, error.message)
    return replace(facts, id=facts.id or redact.name(headers.get("x-amzn-requestid")), usage=usage, error=error)


def _endpoint(api: str, operation: str, call_type: str, accepts: Any, replies: Any) -> Endpoint:
    return Endpoint(
        "bedrock",
        api,
        operation,
        (call_type, "a" + call_type),
        accepts,
        read_request,
        replies.read_response,
        replies.read_stream,
        read_error,
        framed=True,
        refine=refine,
    )


CONVERSE = _endpoint("converse", "chat", "completion", _accepts_converse, bedrock_converse)
INVOKE = _endpoint("invoke", "chat", "completion", _accepts_invoke, bedrock_invoke)
EMBED = _endpoint("invoke", "embeddings", "embedding", _accepts_invoke, bedrock_invoke)

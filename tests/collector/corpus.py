"""Spans of many instrumentations that hold content wherever theirs do, and what else of each must stay visible.

Names of attributes: the conventions' and packages' own, as they were seen or read (OpenTelemetry's GenAI conventions,
OpenLLMetry, OpenInference, openlit, LiteLLM, pydantic-ai, logfire, the Vercel AI SDK, Langfuse, MLflow).
"""

from __future__ import annotations

import os
import time
from typing import Any

import requests
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from otel_llmlog.pipeline.otlp_values import pair

# Span -> (attributes that stay, attributes that are content). A value `…` stands for content.
SPANS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "ours": (
        {
            "llmlog.call_id": "call-1",
            "llmlog.session_id": "s",
            "llmlog.model": "gpt-4o-mini",
            "llmlog.spend": "0.0125",
            "llmlog.prompt_tokens": 100,
            "llmlog.error_information.error_class": "BadRequestError",
            "llmlog.error_information.error_code": "400",
            "llmlog.response_cost_failure_debug_info.error_str": "no price",
            "llmlog.response_time": 1.5,
            "llmlog.response_model": "gpt-4o-mini-2024",
        },
        [
            "llmlog.messages",
            "llmlog.response",
            "llmlog.error_str",
            "llmlog.error_information.error_message",
            "llmlog.error_information.traceback",
            "llmlog.model_parameters",
            "llmlog.guardrail_information",
            "llmlog.metadata.guardrail_information",
            "llmlog.metadata.guardrail_information.guardrail_request",
            "llmlog.metadata.vector_store_request_metadata",
            "llmlog.response_cost_failure_debug_info.traceback_str",
        ],
    ),
    "conventions": (
        {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "openai",
            "gen_ai.request.model": "gpt-4o",
            "gen_ai.request.temperature": 0.5,
            "gen_ai.request.max_tokens": 100,
            "gen_ai.response.id": "r-1",
            "gen_ai.response.model": "gpt-4o",
            "gen_ai.response.finish_reasons": ("stop",),
            "gen_ai.response.time_to_first_chunk": 0.2,
            "gen_ai.usage.input_tokens": 10,
            "gen_ai.usage.output_tokens": 5,
            "gen_ai.usage.cache_read.input_tokens": 2,
            "gen_ai.usage.prompt_tokens": 10,
            "gen_ai.usage.completion_tokens": 5,
            "gen_ai.usage.reasoning.output_tokens": 1,
            "gen_ai.conversation.id": "c-1",
            "gen_ai.agent.name": "agent",
            "gen_ai.tool.name": "look_up",
            "gen_ai.tool.call.id": "t-1",
            "gen_ai.system": "openai",
            "gen_ai.token.type": "input",
            "error.type": "RateLimitError",
            "server.address": "api.openai.com",
        },
        [
            "gen_ai.input.messages",
            "gen_ai.output.messages",
            "gen_ai.system_instructions",
            "gen_ai.tool.definitions",
            "gen_ai.tool.description",
            "gen_ai.tool.call.arguments",
            "gen_ai.tool.call.result",
            "gen_ai.retrieval.documents",
            "gen_ai.retrieval.query.text",
            "gen_ai.prompt",
            "gen_ai.completion",
            "gen_ai.prompt.0.content",
            "gen_ai.prompt.0.tool_calls.0.arguments",
            "gen_ai.completion.0.content",
            "error.message",
            "exception.message",
            "exception.stacktrace",
        ],
    ),
    "openllmetry": (
        {
            "gen_ai.openai.api_base": "https://api.openai.com/v1/",
            "gen_ai.is_streaming": True,
            "llm.usage.total_tokens": 15,
            "llm.request.type": "chat",
            "llm.is_streaming": "True",
            "traceloop.entity.name": "workflow",
            "traceloop.association.properties.session_id": "s",
        },
        [
            "traceloop.entity.input",
            "traceloop.entity.output",
            "traceloop.prompt.template",
            "traceloop.prompt.template_variables.name",
            "llm.request.functions.0.description",
            "gen_ai.request.structured_output_schema",
            "gen_ai.request.functions.0.parameters",
            "llm.content_completion_chunk",
        ],
    ),
    "openinference": (
        {
            "openinference.span.kind": "LLM",
            "llm.model_name": "gpt-4o",
            "llm.provider": "openai",
            "llm.system": "openai",
            "llm.token_count.prompt": 10,
            "llm.token_count.completion": 5,
            "llm.token_count.total": 15,
            "llm.token_count.prompt_details.cache_read": 1,
            "llm.cost.prompt": 0.1,
            "llm.cost.completion": 0.2,
            "llm.cost.total": 0.3,
            "session.id": "s",
            "user.id": "ada",
            "tag.tags": ("a",),
            "input.mime_type": "application/json",
            "embedding.model_name": "e",
            "tool.name": "look_up",
        },
        [
            "input.value",
            "output.value",
            "llm.input_messages.0.message.content",
            "llm.input_messages.0.message.contents.0.message_content.text",
            "llm.output_messages.0.message.tool_calls.0.tool_call.function.arguments",
            "llm.prompts.0.prompt.text",
            "llm.prompt_template.template",
            "llm.prompt_template.variables",
            "llm.tools.0.tool.json_schema",
            "llm.invocation_parameters",
            "llm.function_call",
            "embedding.embeddings.0.embedding.text",
            "embedding.text",
            "retrieval.documents.0.document.content",
            "reranker.query",
            "reranker.input_documents.0.document.content",
            "reranker.output_documents.0.document.content",
            "document.content",
            "message.content",
            "tool.description",
            "tool.parameters",
            "tool_call.function.arguments",
        ],
    ),
    "openlit": (
        {"gen_ai.usage.cost": 0.1, "gen_ai.request.user": "ada"},
        ["gen_ai.content.prompt", "gen_ai.content.completion", "gen_ai.content.reasoning", "gen_ai.tool.args"],
    ),
    "litellm_request": (
        {
            "litellm.call_id": "c",
            "litellm.cost.total": 0.1,
            "gen_ai.cost.total_cost": 0.1,
            "llm.is_streaming": "False",
            "metadata.user_api_key_alias": "prod",
        },
        [
            "gen_ai.prompt.0.content",
            "gen_ai.completion.0.function_call.arguments",
            "litellm.request.messages",
            "messages",
            "response",
        ],
    ),
    "raw_gen_ai_request": (
        {"gen_ai.system": "openai"},
        ["llm.openai.messages", "llm.openai.choices", "llm.openai.input", "llm.anthropic.system", "llm.openai.data"],
    ),
    "pydantic-ai": (
        {"operation.cost": 0.1, "gen_ai.agent.name": "a", "logfire.span_type": "span", "logfire.json_schema": "{}"},
        [
            "all_messages_events",
            "pydantic_ai.all_messages",
            "final_result",
            "events",
            "request_data",
            "response_data",
            "tool_arguments",
            "tool_response",
            "model_request_parameters",
            "logfire.msg",
        ],
    ),
    "vercel": (
        {
            "ai.operationId": "ai.generateText.doGenerate",
            "ai.model.provider": "openai.chat",
            "ai.model.id": "gpt-4o",
            "ai.usage.promptTokens": 10,
            "ai.usage.cachedInputTokens": 1,
            "ai.response.id": "r",
            "ai.response.model": "gpt-4o",
            "ai.response.finishReason": "stop",
            "ai.response.msToFirstChunk": 10,
            "ai.telemetry.metadata.sessionId": "s",
            "ai.settings.maxRetries": 2,
        },
        [
            "ai.prompt",
            "ai.prompt.messages",
            "ai.prompt.tools",
            "ai.response.text",
            "ai.response.object",
            "ai.response.toolCalls",
            "ai.response.reasoning",
            "ai.toolCall.args",
            "ai.toolCall.result",
            "ai.value",
            "ai.values",
            "ai.embedding",
            "ai.schema.description",
            "ai.result.text",
        ],
    ),
    "langfuse": (
        {
            "langfuse.observation.type": "generation",
            "langfuse.observation.usage_details": '{"input": 1}',
            "langfuse.observation.cost_details": '{"total": 0.1}',
            "langfuse.session.id": "s",
            "langfuse.observation.model.name": "gpt-4o",
            "langfuse.trace.name": "t",
        },
        [
            "langfuse.observation.input",
            "langfuse.observation.output",
            "langfuse.trace.input",
            "langfuse.trace.output",
            "langfuse.observation.status_message",
            "langfuse.observation.metadata.note",
            "langfuse.observation.model.parameters",
        ],
    ),
    "mlflow": (
        {"mlflow.spanType": "LLM"},
        ["mlflow.spanInputs", "mlflow.spanOutputs", "mlflow.chat.messages"],
    ),
    "the app's own": (
        {
            "http.request.method": "POST",
            "http.response.status_code": 500,
            "db.system": "x",
            # A key that is a part of the address is taken out of it.
            "url.full": "https://llm.example/v1beta/models/m:generateContent?alt=sse&key=…&x=1",
            "url.query": "key=…",
        },
        [],
    ),
}
# Event -> attributes that are content; each span has all of them.
EVENTS = {
    "exception": ["exception.message", "exception.stacktrace"],
    "gen_ai.content.prompt": ["gen_ai.prompt"],
    "gen_ai.content.completion": ["gen_ai.completion"],
    "gen_ai.user.message": ["content", "gen_ai.event.content"],
    "gen_ai.choice": ["message", "tool_calls"],
    "gen_ai.client.inference.operation.details": ["gen_ai.input.messages", "gen_ai.output.messages"],
    "ai.stream.chunk": ["text"],
    "llm.content.completion.chunk": ["chunk"],
    "something": ["input.value", "content", "llm.input_messages.0.message.content"],
}


def send(url: str, content: str) -> str:
    """One trace of all of them, to a collector's OTLP/HTTP. Answers its id."""
    trace_id = os.urandom(16)
    request = ExportTraceServiceRequest()
    resource = request.resource_spans.add()
    resource.resource.attributes.append(pair("service.name", "shop"))
    spans = resource.scope_spans.add().spans
    now = time.time_ns()
    for name, (kept, quoting) in SPANS.items():
        span = spans.add(
            trace_id=trace_id, span_id=os.urandom(8), name=name, start_time_unix_nano=now, end_time_unix_nano=now + 1000
        )
        span.status.code, span.status.message = 2, f"it failed: {content}"
        span.attributes.extend(
            pair(key, value.replace("…", content) if isinstance(value, str) else value) for key, value in kept.items()
        )
        span.attributes.extend(pair(key, f"a text with {content} in it") for key in quoting)
        for event, attributes in EVENTS.items():
            added = span.events.add(name=event, time_unix_nano=now)
            added.attributes.extend(pair(key, f"a text with {content} in it") for key in attributes)
    answer = requests.post(
        f"{url}/v1/traces",
        request.SerializeToString(),
        headers={"content-type": "application/x-protobuf"},
        timeout=30,
    )
    assert answer.status_code == 200, answer.text
    return trace_id.hex()

"""An app with real instrumentations on, against the local provider; writes its spans and log records as JSON lines.

    python app.py PROVIDER_URL OUT_FILE CLIENT [INSTRUMENTATION …]

CLIENT: openai, anthropic, litellm, pydantic_ai. INSTRUMENTATION: ours, openllmetry, openinference, openlit, genai,
logfire, langfuse, litellm_v1, litellm_v2, pydantic_ai (Anthropic's native spans need no switch). Every call is made in
a trace of its own, under a root span named after what it does; a line of the file is a span or a log record as the
sink decodes it.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

URL, OUT, CLIENT, *ON = sys.argv[1:]
os.environ.update(
    OPENAI_API_KEY="sk-test-1234567890abcdef",
    OPENAI_BASE_URL=f"{URL}/v1",
    ANTHROPIC_API_KEY="sk-ant-test-1234567890",
    ANTHROPIC_BASE_URL=URL,
    TRACELOOP_TRACE_CONTENT="true",
    # openlit knows the switch as it was before.
    OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT="true" if "openlit" in ON else "SPAN_AND_EVENT",
    OTEL_SEMCONV_STABILITY_OPT_IN="gen_ai_latest_experimental",
    LANGFUSE_PUBLIC_KEY="pk-lf-test",
    LANGFUSE_SECRET_KEY="sk-lf-test",
    LANGFUSE_BASE_URL="http://127.0.0.1:9",
    LITELLM_LOCAL_MODEL_COST_MAP="True",
    LLMLOG_SPOOL_DIR=str(Path(OUT).resolve().parent / "spool"),
)
if "litellm_v2" in ON:
    os.environ["LITELLM_OTEL_V2"] = "true"

from opentelemetry import _logs, trace  # noqa: E402
from opentelemetry.sdk._logs import LoggerProvider  # noqa: E402
from opentelemetry.sdk._logs.export import SimpleLogRecordProcessor  # noqa: E402
from opentelemetry.sdk.resources import Resource  # noqa: E402
from opentelemetry.sdk.trace import TracerProvider  # noqa: E402
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult  # noqa: E402

file = Path(OUT).open("a", encoding="utf-8")  # noqa: SIM115 - open as long as the program


def plain(value: Any) -> Any:
    """Attribute values as OTLP carries them."""
    if isinstance(value, bytes):
        return value.decode("latin-1")
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    if hasattr(value, "items"):
        return {str(key): plain(one) for key, one in value.items()}
    return value


def write(**line: Any) -> None:
    file.write(json.dumps(line) + "\n")
    file.flush()


class SpansToFile(SpanExporter):
    def export(self, spans: Any) -> SpanExportResult:
        for span in spans:
            write(
                what="span",
                trace_id=f"{span.context.trace_id:032x}",
                span_id=f"{span.context.span_id:016x}",
                parent_span_id=f"{span.parent.span_id:016x}" if span.parent else None,
                name=span.name,
                kind=span.kind.value + 1,
                start_ns=span.start_time,
                end_ns=span.end_time,
                attributes=plain(span.attributes),
                events=[
                    {"name": e.name, "time_ns": e.timestamp, "attributes": plain(e.attributes)} for e in span.events
                ],
                status=span.status.status_code.value,
                status_message=span.status.description or "",
                scope=span.instrumentation_scope.name,
                scope_version=span.instrumentation_scope.version or "",
                resource=plain(span.resource.attributes),
            )
        return SpanExportResult.SUCCESS


class LogsToFile:
    def export(self, batch: Any) -> Any:
        for data in batch:
            record = data.log_record
            write(
                what="log",
                trace_id=f"{record.trace_id or 0:032x}",
                span_id=f"{record.span_id or 0:016x}",
                name=getattr(record, "event_name", None) or "",
                time_ns=record.timestamp or record.observed_timestamp or 0,
                attributes=plain(record.attributes or {}),
                body=plain(record.body),
                scope=data.instrumentation_scope.name,
            )

    def shutdown(self) -> None: ...

    def force_flush(self, timeout_millis: int = 0) -> bool:
        return True


resource = Resource.create({"service.name": "shop"})
if "logfire" in ON:
    import logfire

    # Logfire sets a provider of its own.
    logfire.configure(
        send_to_logfire=False,
        console=False,
        inspect_arguments=False,
        additional_span_processors=[SimpleSpanProcessor(SpansToFile())],
    )
    provider: Any = trace.get_tracer_provider()
else:
    provider = TracerProvider(resource=resource)
    provider.add_span_processor(SimpleSpanProcessor(SpansToFile()))
    trace.set_tracer_provider(provider)
logs = LoggerProvider(resource=resource)
logs.add_log_record_processor(SimpleLogRecordProcessor(LogsToFile()))
_logs.set_logger_provider(logs)

if "ours" in ON:
    import otel_llmlog

    otel_llmlog.instrument()
if "openllmetry" in ON:
    if CLIENT == "anthropic":
        from opentelemetry.instrumentation.anthropic import AnthropicInstrumentor

        AnthropicInstrumentor().instrument()
    else:
        from opentelemetry.instrumentation.openai import OpenAIInstrumentor

        OpenAIInstrumentor().instrument()
if "openinference" in ON:
    if CLIENT == "anthropic":
        from openinference.instrumentation.anthropic import AnthropicInstrumentor as Other
    else:
        from openinference.instrumentation.openai import OpenAIInstrumentor as Other

    Other().instrument()
if "openlit" in ON:
    import openlit

    openlit.init(disable_batch=True, disable_metrics=True, pricing_json="none")
if "genai" in ON:
    from opentelemetry.instrumentation.genai.openai import OpenAIInstrumentor as Official

    Official().instrument()
if "logfire" in ON:
    logfire.instrument_anthropic() if CLIENT == "anthropic" else logfire.instrument_openai()
tracer = trace.get_tracer("app")

PLAIN = "Name a river. [usage: input=120 output=40 cached=20 reasoning=10]"
STREAM = "Name a lake. [usage: input=130 output=50 cached=30 reasoning=5]"
FAILING = "[scenario: error status=400 type=invalid_request_error]"
RETRIED = f"Name a sea. [scenario: error status=500 times=1 key={os.getpid()}]"
calls: dict[str, Callable[[], Any]] = {}


def with_openai() -> None:
    if "langfuse" in ON:
        from langfuse import Langfuse
        from langfuse.openai import OpenAI

        Langfuse(tracer_provider=provider)
    else:
        from openai import OpenAI
    client = OpenAI(max_retries=0)
    patient = OpenAI(max_retries=1)

    def ask(text: str, **more: Any) -> Any:
        return client.chat.completions.create(
            model="gpt-4o-mini", messages=[{"role": "user", "content": text}], temperature=0.5, **more
        )

    calls["plain"] = lambda: ask(PLAIN)
    calls["stream"] = lambda: list(ask(STREAM, stream=True, stream_options={"include_usage": True}))
    calls["failing"] = lambda: ask(FAILING)
    calls["retried"] = lambda: patient.chat.completions.create(
        model="gpt-4o-mini", messages=[{"role": "user", "content": RETRIED}]
    )
    calls["embeddings"] = lambda: client.embeddings.create(model="text-embedding-3-small", input="a river")
    calls["responses"] = lambda: client.responses.create(model="gpt-4o-mini", input=PLAIN)
    calls["responses_stream"] = lambda: list(client.responses.create(model="gpt-4o-mini", input=STREAM, stream=True))


def with_anthropic() -> None:
    from anthropic import Anthropic

    client = Anthropic(max_retries=0)
    patient = Anthropic(max_retries=1)

    def ask(text: str, of: Any = client, **more: Any) -> Any:
        return of.messages.create(
            model="claude-sonnet-4-5", max_tokens=100, messages=[{"role": "user", "content": text}], **more
        )

    cached = " [usage: input=120 output=40 cached=20 cache_write=30 cache_write_1h=10]"
    calls["plain"] = lambda: ask("Name a river." + cached)
    calls["stream"] = lambda: list(ask("Name a lake." + cached, stream=True))
    calls["failing"] = lambda: ask(FAILING)
    calls["retried"] = lambda: ask(RETRIED, patient)


def with_litellm() -> None:
    import litellm
    from litellm.litellm_core_utils.logging_worker import GLOBAL_LOGGING_WORKER

    if "litellm_v2" in ON:
        from litellm.integrations.otel.logger import OpenTelemetryV2, OpenTelemetryV2Config

        litellm.callbacks = [OpenTelemetryV2(config=OpenTelemetryV2Config(), tracer_provider=provider)]
    elif "litellm_v1" in ON:
        litellm.callbacks = ["otel"]

    async def ask(text: str, **more: Any) -> None:
        # As a proxy does it: without this, v1 makes a trace of its own, or writes on the app's span.
        parent = trace.get_current_span()
        try:
            answer = await litellm.acompletion(
                model="openai/gpt-4o-mini",
                messages=[{"role": "user", "content": text}],
                max_retries=0,
                metadata={"litellm_parent_otel_span": parent},
                **more,
            )
            if more.get("stream"):
                [piece async for piece in answer]
        finally:
            # Its callbacks run apart, and nothing tells when they are done: until nothing has come for a while.
            before, quiet = -1, 0
            for _ in range(100):
                await asyncio.sleep(0.05)
                await GLOBAL_LOGGING_WORKER.flush()
                now = Path(OUT).stat().st_size
                quiet, before = (quiet + 1 if now == before else 0), now
                if quiet >= 10:
                    break

    loop = asyncio.new_event_loop()
    calls["plain"] = lambda: loop.run_until_complete(ask(PLAIN))
    calls["stream"] = lambda: loop.run_until_complete(ask(STREAM, stream=True, stream_options={"include_usage": True}))
    calls["failing"] = lambda: loop.run_until_complete(ask(FAILING))


def with_pydantic_ai() -> None:
    from openai import AsyncOpenAI
    from pydantic_ai import Agent
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.providers.openai import OpenAIProvider

    if "pydantic_ai" in ON:
        Agent.instrument_all()

    def agent() -> Any:
        client = AsyncOpenAI(max_retries=0)
        return Agent(OpenAIChatModel("gpt-4o-mini", provider=OpenAIProvider(openai_client=client)))

    async def plainly(text: str) -> Any:
        return await agent().run(text)

    async def streaming(text: str) -> Any:
        async with agent().run_stream(text) as answer:
            return await answer.get_output()

    calls["plain"] = lambda: asyncio.run(plainly(PLAIN))
    calls["stream"] = lambda: asyncio.run(streaming(STREAM))
    calls["failing"] = lambda: asyncio.run(plainly(FAILING))


{"openai": with_openai, "anthropic": with_anthropic, "litellm": with_litellm, "pydantic_ai": with_pydantic_ai}[CLIENT]()

for name, call in calls.items():
    with tracer.start_as_current_span(name):
        try:
            call()
        except Exception as error:
            write(what="raised", call=name, error=f"{type(error).__name__}: {error}"[:300])

if "ours" in ON:
    otel_llmlog.flush(10)
provider.force_flush()

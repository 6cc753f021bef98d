"""An app with a tracer provider of its own. Right after a call it flushes that or shuts it down, and is gone."""

import os
import sys

import openai
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

import otel_llmlog


class Printing(SpanExporter):
    def export(self, spans):
        for span in spans:
            print(span.name, flush=True)
        return SpanExportResult.SUCCESS


provider = TracerProvider()
provider.add_span_processor(BatchSpanProcessor(Printing(), schedule_delay_millis=60_000))
trace.set_tracer_provider(provider)
otel_llmlog.instrument()

openai.OpenAI().chat.completions.create(model="gpt-4o-mini", messages=[{"role": "user", "content": "hello"}])
if sys.argv[1] == "shutdown":
    provider.shutdown()
else:
    provider.force_flush(2_000)
os._exit(0)

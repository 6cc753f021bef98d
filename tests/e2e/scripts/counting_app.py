"""Four calls where no backend takes spans. Says how many spans OpenTelemetry was asked for."""

import openai
from opentelemetry.sdk.trace import Tracer

import otel_llmlog

started = []
start_span = Tracer.start_span


def counted(*args, **kwargs):
    started.append(args)
    return start_span(*args, **kwargs)


Tracer.start_span = counted
otel_llmlog.instrument()
client = openai.OpenAI()
for _ in range(4):
    client.chat.completions.create(model="gpt-4o-mini", messages=[{"role": "user", "content": "hello"}])
otel_llmlog.flush()
print(f"{len(started)} of 4")

"""An app as people write it: a span of its own around real SDK calls, plain, streaming and refused."""

import sys

import openai
from opentelemetry import trace

import otel_llmlog

CANARY = sys.argv[1]
client = openai.OpenAI(max_retries=0)
tracer = trace.get_tracer("shop")
for name in ("plain", "stream", "refused"):
    with tracer.start_as_current_span(f"answer {name}") as span, otel_llmlog.context(session_id=name, user="ada"):
        scenario = "[scenario: error status=400] " if name == "refused" else "[scenario: echo] "
        asked = {
            "model": "gpt-4o-mini",
            "messages": [{"role": "user", "content": f"{scenario}{CANARY}"}],
            "tools": [{"type": "function", "function": {"name": "look_up", "description": CANARY, "parameters": {}}}],
        }
        try:
            if name == "stream":
                for _ in client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}):
                    pass
            else:
                client.chat.completions.create(**asked)
        except openai.BadRequestError as error:
            # What frameworks do with an exception that passes: its text is in the span.
            span.record_exception(openai.BadRequestError(f"{error} {CANARY}", response=error.response, body=None))
        print(f"{span.get_span_context().trace_id:032x}", flush=True)

"""One call. With `code` it switches logging on itself, with `forever` it then waits to be ended."""

import sys

if "code" in sys.argv:
    import otel_llmlog

    otel_llmlog.instrument()

import openai

openai.OpenAI().chat.completions.create(model="gpt-4o-mini", messages=[{"role": "user", "content": "hello"}])
print("called", flush=True)
if "forever" in sys.argv:
    sys.stdin.read()

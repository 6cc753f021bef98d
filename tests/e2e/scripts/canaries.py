"""Calls whose prompts, tools, replies, errors and tracebacks hold canaries, and logs of everything at DEBUG."""

import contextlib
import logging
import sys
import traceback

import anthropic
import openai

logging.basicConfig(level=logging.WARNING, stream=sys.stderr)
logging.getLogger("otel_llmlog").setLevel(logging.DEBUG)

WORD = "canary7prompt"
TOOLS = [{"type": "function", "function": {"name": "canary7tool", "description": WORD, "parameters": {}}}]
client = openai.OpenAI(max_retries=0)


def ask(text: str, **more: object) -> None:
    messages = [{"role": "system", "content": WORD}, {"role": "user", "content": f"{text} {WORD}"}]
    with contextlib.suppress(openai.OpenAIError, ValueError):
        reply = client.chat.completions.create(model="gpt-4o-mini", messages=messages, tools=TOOLS, stop=[WORD], **more)
        if more.get("stream"):
            for _ in reply:
                pass


ask("[scenario: echo]")
ask("[scenario: echo]", stream=True)
ask('[scenario: error status=400 type=canary7type code=canary7code message="canary7error"]')
ask('[scenario: error_in_stream message="canary7error"]', stream=True)
ask("[scenario: invalid_json]")
ask("[scenario: not_json]")
ask("[scenario: cut]", stream=True)
with contextlib.suppress(openai.OpenAIError, ValueError):
    client.responses.create(model="gpt-4o-mini", input=f"[scenario: echo] {WORD}", instructions=WORD)
client.embeddings.create(model="text-embedding-3-small", input=WORD)
with contextlib.suppress(anthropic.AnthropicError):
    anthropic.Anthropic(max_retries=0).messages.create(
        model="claude-sonnet-4-6",
        max_tokens=9,
        system=WORD,
        messages=[{"role": "user", "content": f"[scenario: echo] {WORD}"}],
    )
try:
    raise RuntimeError(WORD)
except RuntimeError:
    traceback.format_exc()

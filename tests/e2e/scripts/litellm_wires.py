"""An app on LiteLLM, calling providers over their own wires: sync and async, plain and streaming. Argument: the server's URL."""

import asyncio
import os
import sys

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # no network

import litellm

URL = sys.argv[1]
MESSAGES = [{"role": "user", "content": "[usage: input=120 output=40] hello"}]
TARGETS = [
    ("gemini/gemini-2.5-flash", f"{URL}/v1beta/models/gemini-2.5-flash"),
    ("mistral/mistral-large-latest", f"{URL}/mistral/v1"),
    ("ollama_chat/llama3.1", URL),
    ("openai/gpt-4o-mini", f"{URL}/v1"),
]


async def async_calls(asked: dict) -> None:
    await litellm.acompletion(**asked)
    async for _ in await litellm.acompletion(**asked, stream=True, stream_options={"include_usage": True}):
        pass


for model, base in TARGETS:
    asked = {"model": model, "messages": MESSAGES, "api_base": base, "api_key": "canary-0123456789", "num_retries": 0}
    litellm.completion(**asked)
    for _ in litellm.completion(**asked, stream=True, stream_options={"include_usage": True}):
        pass
    asyncio.run(async_calls(asked))
    print(model, flush=True)

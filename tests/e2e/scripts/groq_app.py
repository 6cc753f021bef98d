"""An app on the groq SDK: sync and async, plain and streaming (usage comes in x_groq without being asked for)."""

import asyncio

import groq

CALL = {
    "model": "llama-3.3-70b-versatile",
    "messages": [{"role": "user", "content": "[usage: input=120 output=40] hello"}],
    "extra_body": {"litellm_session_id": "session-1"},
}


def sync_calls() -> None:
    client = groq.Groq()
    client.chat.completions.create(**CALL)
    for _ in client.chat.completions.create(**CALL, stream=True):
        pass


async def async_calls() -> None:
    async with groq.AsyncGroq() as client:
        await client.chat.completions.create(**CALL)
        async for _ in await client.chat.completions.create(**CALL, stream=True):
            pass


sync_calls()
asyncio.run(async_calls())

"""An app on the anthropic SDK: sync and async, plain and streaming."""

import asyncio

import anthropic

CALL = {
    "model": "claude-sonnet-4-6",
    "max_tokens": 64,
    "messages": [{"role": "user", "content": "[usage: input=120 output=40 cached=64 cache_write=20] hello"}],
    "extra_headers": {"x-litellm-session-id": "session-1"},
}


def sync_calls() -> None:
    client = anthropic.Anthropic()
    client.messages.create(**CALL)
    with client.messages.stream(**CALL) as stream:
        stream.get_final_message()


async def async_calls() -> None:
    async with anthropic.AsyncAnthropic() as client:
        await client.messages.create(**CALL)
        async with client.messages.stream(**CALL) as stream:
            await stream.get_final_message()


sync_calls()
asyncio.run(async_calls())

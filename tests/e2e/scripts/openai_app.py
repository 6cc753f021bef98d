"""An app on the openai SDK that has never heard of otel-llmlog: sync and async, plain and streaming."""

import asyncio

import openai

ASK = "[usage: input=120 output=40 cached=64 reasoning=16] hello"
MESSAGES = [{"role": "user", "content": ASK}]
SESSION = {"litellm_session_id": "session-1"}
OPTIONS = {"include_usage": True}


def sync_calls() -> None:
    client = openai.OpenAI()
    create = client.chat.completions.create
    create(model="gpt-4o-mini", messages=MESSAGES, extra_body=SESSION)
    for _ in create(model="gpt-4o-mini", messages=MESSAGES, stream=True, stream_options=OPTIONS, extra_body=SESSION):
        pass
    client.chat.completions.with_raw_response.create(model="gpt-4o-mini", messages=MESSAGES, extra_body=SESSION).parse()
    streaming = client.chat.completions.with_streaming_response
    with streaming.create(model="gpt-4o-mini", messages=MESSAGES, extra_body=SESSION) as response:
        response.read()
    client.responses.create(model="gpt-4o-mini", input=ASK, extra_body=SESSION)
    for _ in client.responses.create(model="gpt-4o-mini", input=ASK, stream=True, extra_body=SESSION):
        pass


async def async_calls() -> None:
    async with openai.AsyncOpenAI() as client:
        create = client.chat.completions.create
        await create(model="gpt-4o-mini", messages=MESSAGES, extra_body=SESSION)
        stream = await create(
            model="gpt-4o-mini", messages=MESSAGES, stream=True, stream_options=OPTIONS, extra_body=SESSION
        )
        async for _ in stream:
            pass


sync_calls()
asyncio.run(async_calls())

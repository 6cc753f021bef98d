"""An app on one client that is not httpx, or that has another one below, named by the first argument.

The second is the server's URL. Sync where the client can, and async; plain and streaming.
"""

import asyncio
import json
import os
import sys

NAME, URL = sys.argv[1:3]
TEXT = "[usage: input=120 output=40 cached=64] hello"
MESSAGES = [{"role": "user", "content": TEXT}]
CHAT = {"model": "gpt-4o-mini", "messages": MESSAGES}
STREAM = {**CHAT, "stream": True, "stream_options": {"include_usage": True}}
PATH, KEY = "/v1/chat/completions", {"authorization": "Bearer sk-canary-0123456789"}


def raw_requests() -> None:
    import requests

    assert requests.post(URL + PATH, json=CHAT, headers=KEY, timeout=20).json()["id"]
    with requests.post(URL + PATH, json=STREAM, headers=KEY, stream=True, timeout=20) as response:
        assert list(response.iter_lines())


async def raw_aiohttp() -> None:
    import aiohttp

    async with aiohttp.ClientSession(headers=KEY) as session:
        async with session.post(URL + PATH, json=CHAT) as response:
            assert (await response.json())["id"]
        async with session.post(URL + PATH, json=STREAM) as response:
            assert [line async for line in response.content]


async def google_genai() -> None:
    from google import genai
    from google.genai import types

    # aiohttp where it is installed, unless the environment names another.
    client = genai.Client(api_key="AIza-canary-0123456789", http_options=types.HttpOptions(base_url=URL))
    asked = {"model": "gemini-2.5-flash", "contents": TEXT}
    await client.aio.models.generate_content(**asked)
    async for _ in await client.aio.models.generate_content_stream(**asked):
        pass
    assert "aiohttp" in sys.modules


async def openai_on_aiohttp() -> None:
    import openai
    from openai import DefaultAioHttpClient

    async with openai.AsyncOpenAI(
        api_key="sk-canary", base_url=f"{URL}/v1", http_client=DefaultAioHttpClient()
    ) as client:
        await client.chat.completions.create(**CHAT)
        async for _ in await client.chat.completions.create(**STREAM):
            pass


def boto3() -> None:
    import boto3

    client = boto3.client(
        "bedrock-runtime",
        region_name="us-east-1",
        endpoint_url=URL,
        aws_access_key_id="AKIACANARYCANARYCANA",
        aws_secret_access_key="canary-secret",
    )
    model = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
    text = [{"role": "user", "content": [{"text": TEXT}]}]
    client.converse(modelId=model, messages=text)
    list(client.converse_stream(modelId=model, messages=text)["stream"])
    body = json.dumps({"anthropic_version": "bedrock-2023-05-31", "max_tokens": 9, "messages": MESSAGES})
    client.invoke_model(modelId=model, body=body)["body"].read()
    list(client.invoke_model_with_response_stream(modelId=model, body=body)["body"])


async def litellm_on_aiohttp() -> None:
    os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # no network
    import litellm

    asked = {"model": "openai/gpt-4o-mini", "messages": MESSAGES, "api_base": f"{URL}/v1", "api_key": "sk-canary"}
    await litellm.acompletion(**asked)
    async for _ in await litellm.acompletion(**asked, stream=True, stream_options={"include_usage": True}):
        pass
    # Anthropic's it sends with its own client, whose transport is aiohttp.
    asked |= {"model": "anthropic/claude-sonnet-4-5", "api_base": f"{URL}/v1/messages", "max_tokens": 9}
    await litellm.acompletion(**asked)
    async for _ in await litellm.acompletion(**asked, stream=True):
        pass
    assert "aiohttp" in sys.modules


called = globals()[NAME]()
if asyncio.iscoroutine(called):
    asyncio.run(called)

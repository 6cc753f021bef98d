"""An app on one SDK, named by the first argument: sync and async, plain and streaming. The second is the server's URL."""

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Iterable

NAME, URL = sys.argv[1:3]
TEXT = "[usage: input=120 output=40 cached=64] hello"
MESSAGES = [{"role": "user", "content": TEXT}]


def drain(stream: Iterable[object]) -> None:
    for _ in stream:
        pass


async def adrain(stream: AsyncIterator[object] | Awaitable[AsyncIterator[object]]) -> None:
    async for _ in await stream if isinstance(stream, Awaitable) else stream:
        pass


def google_genai() -> None:
    from google import genai

    client = genai.Client(api_key="AIza-canary-0123456789", http_options={"base_url": URL})
    asked = {"model": "gemini-2.5-flash", "contents": TEXT}
    client.models.generate_content(**asked)
    drain(client.models.generate_content_stream(**asked))
    client.models.embed_content(model="gemini-embedding-001", contents=TEXT)
    client.models.count_tokens(**asked)

    async def calls() -> None:
        await client.aio.models.generate_content(**asked)
        await adrain(client.aio.models.generate_content_stream(**asked))

    asyncio.run(calls())


def google_vertex() -> None:
    from google import genai
    from google.oauth2.credentials import Credentials

    client = genai.Client(
        vertexai=True,
        project="p",
        location="us-central1",
        credentials=Credentials("ya29.canary-0123456789"),
        http_options={"base_url": URL},
    )
    asked = {"model": "gemini-2.5-flash", "contents": TEXT}
    client.models.generate_content(**asked)
    drain(client.models.generate_content_stream(**asked))
    client.models.embed_content(model="text-embedding-005", contents=TEXT)


def anthropic_vertex() -> None:
    import anthropic

    options = {
        "region": "us-east5",
        "project_id": "p",
        "access_token": "ya29.canary-0123456789",
        "base_url": f"{URL}/v1",
    }
    client = anthropic.AnthropicVertex(**options)
    asked = {"model": "claude-sonnet-4-5@20250929", "max_tokens": 100, "messages": MESSAGES}
    client.messages.create(**asked)
    drain(client.messages.create(**asked, stream=True))
    client.messages.count_tokens(model=asked["model"], messages=MESSAGES)

    async def calls() -> None:
        async with anthropic.AsyncAnthropicVertex(**options) as made:
            await made.messages.create(**asked)
            await adrain(await made.messages.create(**asked, stream=True))

    asyncio.run(calls())


def mistralai() -> None:
    from mistralai.client import Mistral

    client = Mistral(api_key="canary-0123456789", server_url=f"{URL}/mistral")
    asked = {"model": "mistral-large-latest", "messages": MESSAGES}
    client.chat.complete(**asked)
    drain(client.chat.stream(**asked))

    async def calls() -> None:
        await client.chat.complete_async(**asked)
        await adrain(await client.chat.stream_async(**asked))

    asyncio.run(calls())
    client.fim.complete(model="codestral-latest", prompt=TEXT)
    drain(client.fim.stream(model="codestral-latest", prompt=TEXT))
    client.embeddings.create(model="mistral-embed", inputs=[TEXT])
    client.ocr.process(
        model="mistral-ocr-latest", document={"type": "document_url", "document_url": "https://files.example/a.pdf"}
    )


def cohere() -> None:
    import cohere as sdk

    client = sdk.ClientV2(api_key="canary-0123456789", base_url=URL)
    asked = {"model": "command-a-03-2025", "messages": MESSAGES}
    client.chat(**asked)
    drain(client.chat_stream(**asked))
    client.embed(model="embed-v4.0", input_type="search_query", texts=[TEXT], embedding_types=["float"])
    client.rerank(model="rerank-v3.5", query="which?", documents=["a", "b"])

    async def calls() -> None:
        made = sdk.AsyncClientV2(api_key="canary-0123456789", base_url=URL)
        await made.chat(**asked)
        await adrain(made.chat_stream(**asked))

    asyncio.run(calls())


def ollama() -> None:
    import ollama as sdk

    client = sdk.Client(host=URL)
    asked = {"model": "llama3.1", "messages": MESSAGES}
    client.chat(**asked)
    drain(client.chat(**asked, stream=True))
    client.generate(model="llama3.1", prompt=TEXT)
    drain(client.generate(model="llama3.1", prompt=TEXT, stream=True))
    client.embed(model="nomic-embed-text", input=TEXT)

    async def calls() -> None:
        made = sdk.AsyncClient(host=URL)
        await made.chat(**asked)
        await adrain(await made.chat(**asked, stream=True))

    asyncio.run(calls())


def _openai_like(client: object, asynchronous: object, **asked: object) -> None:
    client.chat.completions.create(**asked)
    drain(client.chat.completions.create(**asked, stream=True))

    async def calls() -> None:
        async with asynchronous as made:
            await made.chat.completions.create(**asked)
            await adrain(await made.chat.completions.create(**asked, stream=True))

    asyncio.run(calls())


def groq() -> None:
    import groq as sdk

    options = {"api_key": "gsk_canary_0123456789", "base_url": URL}
    _openai_like(sdk.Groq(**options), sdk.AsyncGroq(**options), model="llama-3.3-70b-versatile", messages=MESSAGES)


def together() -> None:
    import together as sdk

    options = {"api_key": "canary-0123456789", "base_url": f"{URL}/v1"}
    model = "meta-llama/Llama-3.3-70B-Instruct-Turbo"
    more = {"extra_body": {"stream_options": {"include_usage": True}}}
    _openai_like(sdk.Together(**options), sdk.AsyncTogether(**options), model=model, messages=MESSAGES, **more)


def _by_base_url(path: str, model: str, text: str) -> None:
    import openai

    options = {"api_key": "sk-canary-0123456789", "base_url": f"{URL}{path}"}
    messages = [{"role": "user", "content": text}]
    _openai_like(openai.OpenAI(**options), openai.AsyncOpenAI(**options), model=model, messages=messages)


def xai() -> None:
    _by_base_url("/xai/v1", "grok-4", "[usage: input=120 output=40 reasoning=30 cost=0.0125] hello")


def perplexity() -> None:
    _by_base_url("/perplexity", "sonar-pro", "[usage: input=120 output=40 reasoning=30 cost=0.0125] hello")


def openrouter() -> None:
    _by_base_url("/api/v1", "openai/gpt-4o-mini", "[usage: input=120 output=40 cost=0.0125] hello")


def deepseek() -> None:
    _by_base_url("/deepseek", "deepseek-chat", TEXT)


def fireworks() -> None:
    import openai

    options = {"api_key": "fw-canary-0123456789", "base_url": f"{URL}/inference/v1"}
    more = {"extra_body": {"stream_options": {"include_usage": True}}}
    model = "accounts/fireworks/models/deepseek-v3p1"
    _openai_like(openai.OpenAI(**options), openai.AsyncOpenAI(**options), model=model, messages=MESSAGES, **more)


def azure() -> None:
    import openai

    options = {"api_key": "canary-0123456789", "azure_endpoint": URL, "api_version": "2025-04-01-preview"}
    more = {"stream_options": {"include_usage": True}, "extra_headers": {"x-response-model": "gpt-4o-mini-2024-07-18"}}
    asked = {"model": "our-chat", "messages": MESSAGES}
    client = openai.AzureOpenAI(**options)
    client.chat.completions.create(**asked, extra_headers=more["extra_headers"])
    drain(client.chat.completions.create(**asked, stream=True, **more))

    async def calls() -> None:
        async with openai.AsyncAzureOpenAI(**options) as made:
            await made.chat.completions.create(**asked, extra_headers=more["extra_headers"])
            await adrain(await made.chat.completions.create(**asked, stream=True, **more))

    asyncio.run(calls())


globals()[NAME]()

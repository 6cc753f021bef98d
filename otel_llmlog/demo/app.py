"""A travel assistant: an ordinary app on the openai and anthropic SDKs that knows nothing of logging.

Where its calls go is the environment's business (OPENAI_BASE_URL, ANTHROPIC_BASE_URL, the two API keys). The
hints in square brackets at the end of its prompts tell the local provider what to play; a real one sees text.
26 calls, 27 requests (one is retried), a few seconds.
"""

# ruff: noqa: T201 - it talks to the person at the terminal

from __future__ import annotations

import asyncio
import os
from typing import Any

from anthropic import Anthropic, AsyncAnthropic
from openai import APIStatusError, AsyncOpenAI, OpenAI

GUIDE = "You are the assistant of a small travel agency. Answer briefly. "
TOWNS = ("Lisbon", "Oslo", "Kraków", "Ghent", "Trieste")
WEATHER: Any = {
    "name": "get_weather",
    "description": "Weather forecast for a town",
    "parameters": {
        "type": "object",
        "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
        "required": ["city"],
    },
}


def support_chat(client: OpenAI) -> None:
    """One customer, one session; each turn finds more of the prompt in the cache."""
    messages: list[Any] = [{"role": "system", "content": GUIDE}]
    turns = (
        ("My flight was cancelled, what now? [usage: input=1180 output=142]", "gpt-4o-mini"),
        ("Can I take a train instead? [usage: input=1350 output=96 cached=1024]", "gpt-4o-mini"),
        ("And who pays for it? [usage: input=1490 output=210 cached=1280]", "gpt-4o"),
    )
    for text, model in turns:
        messages.append({"role": "user", "content": text})
        reply = client.chat.completions.create(
            model=model,
            messages=messages,
            user="customer-17",
            extra_body={"litellm_session_id": "support-1042"},
            extra_headers={"x-litellm-tags": "support,production"},
        )
        messages.append({"role": "assistant", "content": reply.choices[0].message.content or ""})
        print(f"support    {model}: turn {len(messages) // 2}")


def stream_itinerary(client: OpenAI) -> None:
    hint = "[scenario: plain events=12 event_delay_ms=15] [usage: input=420 output=690]"
    stream = client.chat.completions.create(
        model="gpt-4o",
        messages=[{"role": "user", "content": f"Plan three days in Trieste. {hint}"}],
        stream=True,
        stream_options={"include_usage": True},
        user="customer-23",
        extra_body={"litellm_session_id": "planning-7"},
    )
    words = sum(len((chunk.choices[0].delta.content or "").split()) for chunk in stream if chunk.choices)
    print(f"itinerary  gpt-4o: {words} words streamed")


def stream_teaser(client: OpenAI) -> None:
    """Many apps do not ask for the usage of a stream."""
    stream = client.chat.completions.create(
        model="gpt-4o-mini",
        messages=[{"role": "user", "content": "A one-line teaser for Ghent, please."}],
        stream=True,
        user="customer-23",
    )
    print(f"teaser     gpt-4o-mini: {sum(1 for _ in stream)} chunks")


def stop_reading(client: OpenAI) -> None:
    """The customer closes the page after a few words."""
    stream = client.chat.completions.create(
        model="gpt-4.1",
        messages=[
            {
                "role": "user",
                "content": "Tell me everything about Oslo. [scenario: plain events=200 event_delay_ms=5]",
            }
        ],
        stream=True,
        stream_options={"include_usage": True},
        user="customer-31",
    )
    for seen, _ in enumerate(stream, start=1):
        if seen == 4:
            stream.close()
            break
    print("long read  gpt-4.1: closed early")


def weather(client: OpenAI) -> None:
    question = "Do I need a coat in Lisbon? [scenario: tools] [usage: input=310 output=24]"
    first = client.chat.completions.create(
        model="gpt-4.1",
        messages=[{"role": "user", "content": question}],
        tools=[{"type": "function", "function": WEATHER}],
        user="customer-17",
        extra_body={"litellm_session_id": "weather-3"},
    )
    calls = first.choices[0].message.tool_calls or []
    asked: list[Any] = [{"role": "user", "content": question}, first.choices[0].message]
    answers: list[Any] = [{"role": "tool", "tool_call_id": call.id, "content": "19 °C, dry"} for call in calls]
    client.chat.completions.create(
        model="gpt-4.1",
        messages=[*asked, *answers],
        tools=[{"type": "function", "function": WEATHER}],
        user="customer-17",
        extra_body={"litellm_session_id": "weather-3"},
    )
    print(f"weather    gpt-4.1: {len(calls)} tool call")


def search(client: OpenAI) -> None:
    model = "text-embedding-3-small"
    texts = [f"Places to eat in {town}" for town in TOWNS[:-1]]
    found = client.embeddings.create(model=model, input=[*texts, "Places to eat in Trieste [usage: input=34]"])
    client.embeddings.create(model=model, input="seafood near the harbour [usage: input=6]")
    print(f"search     {model}: {len(found.data)} texts, 1 query")


def responses_chain(client: OpenAI) -> None:
    first = client.responses.create(
        model="gpt-4.1",
        input="Compare Oslo and Ghent in May. [usage: input=260 output=380]",
        user="customer-40",
        extra_headers={"x-litellm-tags": "compare"},
    )
    second = client.responses.create(
        model="gpt-4.1",
        input="Which one is cheaper? [usage: input=690 output=120 cached=512 reasoning=64]",
        previous_response_id=first.id,
        user="customer-40",
    )
    third = client.responses.create(
        model="gpt-4.1",
        input="Book that one. [usage: input=830 output=75 cached=768]",
        previous_response_id=second.id,
        user="customer-40",
        stream=True,
    )
    print(f"compare    gpt-4.1: 2 responses, then {sum(1 for _ in third)} events")


def trouble(client: OpenAI) -> None:
    """What a day brings: a busy provider, a request too long, a model nobody has a price for."""
    hint = f"[scenario: error status=429 times=1 key=app-{os.getpid()}] [usage: input=150 output=60]"
    client.chat.completions.create(
        model="gpt-4o-mini", messages=[{"role": "user", "content": f"Translate the menu. {hint}"}]
    )
    print("menu       gpt-4o-mini: answered at the second try")
    try:
        client.chat.completions.create(
            model="gpt-4o",
            messages=[
                {
                    "role": "user",
                    "content": "Summarise these 900 pages. [scenario: error status=400 "
                    'code=context_length_exceeded message="The messages are longer than the model can read."]',
                }
            ],
            user="customer-31",
        )
    except APIStatusError as error:
        print(f"summary    gpt-4o: refused with {error.status_code}")
    client.chat.completions.create(
        model="travel-finetune-2",
        messages=[{"role": "user", "content": "Name a quiet beach. [usage: input=90 output=30]"}],
    )
    print("beach      travel-finetune-2: answered")


def claude(client: Anthropic) -> None:
    """A long guide book goes to the cache once and is read from it afterwards."""
    book: Any = [{"type": "text", "text": GUIDE * 40, "cache_control": {"type": "ephemeral"}}]
    client.messages.create(
        model="claude-sonnet-4-6",
        max_tokens=400,
        system=book,
        messages=[
            {
                "role": "user",
                "content": "What is there to see? [usage: input=5200 output=310 cache_write=4800]",
            }
        ],
        metadata={"user_id": "customer-52"},
        extra_headers={"x-litellm-tags": "guide"},
    )
    with client.messages.stream(
        model="claude-sonnet-4-6",
        max_tokens=400,
        system=book,
        messages=[
            {
                "role": "user",
                "content": "And for children? [scenario: plain events=8 event_delay_ms=15] "
                "[usage: input=5300 output=280 cached=4800]",
            }
        ],
        metadata={"user_id": "customer-52"},
        extra_headers={"x-litellm-tags": "guide"},
    ) as stream:
        pieces = sum(1 for _ in stream.text_stream)
    client.messages.create(
        model="claude-haiku-4-5",
        max_tokens=100,
        messages=[{"role": "user", "content": "Is the question polite? [usage: input=75 output=4]"}],
    )
    print(f"guide      claude-sonnet-4-6: 1 answer, {pieces} pieces streamed; claude-haiku-4-5: 1 check")


async def postcards() -> None:
    """Seven calls at once over two providers."""

    async def by_openai(client: AsyncOpenAI, town: str) -> None:
        hint = "[scenario: slow seconds=0.1] [usage: input=120 output=88]"
        await client.chat.completions.create(
            model="gpt-4o-mini",
            messages=[{"role": "user", "content": f"A postcard from {town}. {hint}"}],
            extra_body={"litellm_session_id": "postcards"},
            extra_headers={"x-litellm-tags": "batch,postcards"},
        )

    async def by_anthropic(client: AsyncAnthropic, town: str) -> None:
        await client.messages.create(
            model="claude-haiku-4-5",
            max_tokens=200,
            messages=[{"role": "user", "content": f"A postcard from {town}. [usage: input=130 output=95]"}],
            extra_headers={"x-litellm-tags": "batch,postcards", "x-litellm-session-id": "postcards"},
        )

    async with AsyncOpenAI() as openai, AsyncAnthropic() as anthropic:
        await asyncio.gather(
            *(by_openai(openai, town) for town in TOWNS),
            *(by_anthropic(anthropic, town) for town in TOWNS[:2]),
        )
    print("postcards  gpt-4o-mini and claude-haiku-4-5: 7 written")


def main() -> None:
    with OpenAI() as client:
        support_chat(client)
        stream_itinerary(client)
        stream_teaser(client)
        stop_reading(client)
        weather(client)
        search(client)
        responses_chain(client)
        trouble(client)
    with Anthropic() as anthropic:
        claude(anthropic)
    asyncio.run(postcards())
    print("done")


if __name__ == "__main__":
    main()

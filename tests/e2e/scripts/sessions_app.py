"""Conversations over the Responses API on the real SDK. Each prints what it was answered, and what is remembered."""

import asyncio
import json
import sys

import openai

import otel_llmlog


def ask(text, previous=None, **more):
    return openai.OpenAI().responses.create(
        model="gpt-4o-mini", input=text, previous_response_id=previous, extra_headers={"x-scenario": "echo"}, **more
    )


def show(**values):
    print(json.dumps(values), flush=True)


def back_to_back():
    first = ask("one")
    show(id=first.id, remembered=otel_llmlog.history(previous_response_id=first.id))
    second = ask("two", first.id)
    show(id=second.id, remembered=otel_llmlog.history(previous_response_id=second.id))
    show(id=first.id, remembered=otel_llmlog.history(session_id=first.id))


def chat(turns):
    """A chat whose caller sends everything again each turn."""
    messages = []
    for turn in range(turns):
        messages.append({"role": "user", "content": f"q{turn}"})
        with otel_llmlog.context(session_id="chat-7"):
            answer = openai.OpenAI().chat.completions.create(
                model="gpt-4o-mini", messages=messages, extra_headers={"x-scenario": "echo"}
            )
        messages.append({"role": "assistant", "content": answer.choices[0].message.content})
        show(said=messages, remembered=otel_llmlog.history(session_id="chat-7"))


def follow(previous=None, *, remember=True):
    """Begin a conversation, or go on with one; then wait until told to end."""
    answer = ask("go on" if previous else "begin", previous)
    show(id=answer.id, remembered=remember and otel_llmlog.history(previous_response_id=answer.id))
    sys.stdin.readline()


async def talk(client, number, turns):
    previous, ids = None, []
    for turn in range(turns):
        text = f"{number}-{turn}"
        options = {"conversation": f"conv_{number}"} if number % 3 == 2 else {"previous_response_id": previous}
        with otel_llmlog.context(session_id=f"named-{number}" if number % 3 == 1 and turn == 0 else None):
            answer = await client.responses.create(
                model="gpt-4o-mini", input=text, extra_headers={"x-scenario": "echo"}, stream=turn % 2 == 1, **options
            )
        if turn % 2 == 1:
            events = [event async for event in answer]
            answer = events[-1].response
        previous = answer.id
        ids.append(previous)
        if number % 3 != 2:
            said = [m["content"] for m in await otel_llmlog.ahistory(previous_response_id=previous)]
            assert said == [f"{number}-{n // 2}" for n in range(2 * turn + 2)], said
    return ids


async def load(conversations, turns):
    async with openai.AsyncOpenAI() as client:
        ids = await asyncio.gather(*(talk(client, number, turns) for number in range(conversations)))
    show(ids=ids)


match sys.argv[1:]:
    case ["back to back"]:
        back_to_back()
    case ["chat", turns]:
        chat(int(turns))
    case ["follow", *previous]:
        follow(*previous)
    case ["follow at once", previous]:
        follow(previous, remember=False)
    case ["load", conversations, turns]:
        asyncio.run(load(int(conversations), int(turns)))

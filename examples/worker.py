"""A task queue in Celery's manner: who asked for a task is who its LLM calls are booked on.

    $ opentelemetry-instrument python examples/worker.py work 127.0.0.1:7000
    $ opentelemetry-instrument python examples/worker.py enqueue 127.0.0.1:7000 chat-7 ada "Name three rivers."

The two marked lines are all there is to it. With Celery, `pip install opentelemetry-instrumentation-celery` puts them
into every task for you: wrap `task.delay(…)` into `otel_llmlog.context(…, propagate=True)` and you are done.
"""

from __future__ import annotations

import json
import sys
from multiprocessing.connection import Client, Listener

import openai
from opentelemetry import context as otel_context, propagate

import otel_llmlog

# Only who knows it may put tasks in.
KEY = b"a secret of your own"


def enqueue(address: tuple[str, int], chat: str, user: str, text: str) -> None:
    """Put a task into the queue, on behalf of a user."""
    with otel_llmlog.context(session_id=chat, user=user, tags=["worker"], propagate=True):
        headers: dict[str, str] = {}
        propagate.inject(headers)  # 1: the context goes with the task
        with Client(address, authkey=KEY) as queue:
            queue.send_bytes(json.dumps({"headers": headers, "text": text}).encode())
            queue.recv_bytes()


def work(address: tuple[str, int]) -> None:
    """Do tasks as they come, until one is `stop`."""
    with Listener(address, authkey=KEY) as queue:
        print("ready at {}:{}".format(*queue.address), flush=True)
        while True:
            with queue.accept() as sender:
                task = json.loads(sender.recv_bytes())
                if task == "stop":
                    return
                token = otel_context.attach(propagate.extract(task["headers"]))  # 2: and is taken up again
                try:
                    summarise(task["text"])
                finally:
                    otel_context.detach(token)
                sender.send_bytes(b"done")


def summarise(text: str) -> None:
    """A task: two calls, the second of which goes on where the first ended."""
    with openai.OpenAI() as client:
        first = client.responses.create(model="gpt-4o-mini", input=text)
        client.responses.create(model="gpt-4o-mini", input="In one word?", previous_response_id=first.id)


if __name__ == "__main__":
    command, where, *rest = sys.argv[1:]
    host, _, port = where.rpartition(":")
    place = (host, int(port))
    if command == "work":
        work(place)
    elif command == "stop":
        with Client(place, authkey=KEY) as queue:
            queue.send_bytes(b'"stop"')
    else:
        enqueue(place, *rest)

"""16 threads that call without pause, plain and streaming; each says on stdout what it has fully read, and when.

Goes on for so many seconds, or with 0 until stdin is closed. Lines: `up AT`, `call NAME ENDED TOOK`.
"""

import itertools
import os
import sys
import threading
import time

import httpx

URL, NAME = sys.argv[1], sys.argv[2]
SECONDS = float(sys.argv[3]) if len(sys.argv) > 3 else 60.0
THREADS = int(sys.argv[4]) if len(sys.argv) > 4 else 16
# A provider takes its time: the threads wait for the network, as they would.
TEXT = "[scenario: slow seconds=0.05] [usage: input=120 output=40] hello"
numbers = itertools.count()
enough = threading.Event()


def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


def work(worker: int) -> None:
    with httpx.Client(base_url=URL, timeout=30) as client:
        while not enough.is_set():
            call(client, stream=worker % 2 == 1)


def call(client, *, stream):
    name = f"{NAME}-{next(numbers)}"
    body = {
        "model": "gpt-4o-mini",
        "messages": [{"role": "user", "content": TEXT}],
        "stream": stream,
        **({"stream_options": {"include_usage": True}} if stream else {}),
    }
    headers = {"x-litellm-session-id": name, "x-events": "5", "x-event-delay-ms": "10"}
    began = time.monotonic()
    with client.stream("POST", "/v1/chat/completions", json=body, headers=headers) as response:
        response.read()
    ended = time.monotonic()
    say("call", name, ended, ended - began)


say("up", time.monotonic())
threads = [threading.Thread(target=work, args=(n,)) for n in range(THREADS)]
for thread in threads:
    thread.start()
if SECONDS:
    enough.wait(SECONDS)
else:
    sys.stdin.read()
enough.set()
for thread in threads:
    thread.join()

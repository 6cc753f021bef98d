"""16 threads that call without pause, plain and streaming; each says on stdout what it has fully read, and when.

Goes on for so many seconds, or with 0 until stdin is closed. With a file named as the fifth argument, it also tells when its threads got no turn: a full garbage collection, another
program on the processor. Lines: `call NAME ENDED TOOK`, `ready AT` once prices are loaded, `stall FROM TO`.
"""

import itertools
import mmap
import os
import struct
import sys
import threading
import time
from pathlib import Path

import httpx

URL, NAME = sys.argv[1], sys.argv[2]
SECONDS = float(sys.argv[3]) if len(sys.argv) > 3 else 60.0
THREADS = int(sys.argv[4]) if len(sys.argv) > 4 else 16
HEARTBEAT = sys.argv[5] if len(sys.argv) > 5 else None
# A provider takes its time: the threads wait for the network, as they would.
TEXT = "[scenario: slow seconds=0.05] [usage: input=120 output=40] hello"
# Seconds between two beats, and from when on a late one is a stall.
BEAT, LATE = 0.002, 0.005
numbers = itertools.count()
one_ended = threading.Event()
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
    one_ended.set()


def beat(shared):
    last = time.monotonic()
    while True:
        time.sleep(BEAT)
        now = time.monotonic()
        shared[:8] = struct.pack("d", now)
        if now - last > LATE:
            say("stall", last + BEAT, now)
        last = now


def tell_when_ready():
    from otel_llmlog import configure

    one_ended.wait()
    configure.runtime().recorder.flush(30)
    say("ready", time.monotonic())


say("up", time.monotonic())
if HEARTBEAT:
    file = Path(HEARTBEAT).open("r+b")  # noqa: SIM115 - until it is killed
    threading.Thread(target=beat, args=(mmap.mmap(file.fileno(), 8),), daemon=True).start()
    threading.Thread(target=tell_when_ready, daemon=True).start()
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

"""Many calls over an in-process transport; prints the process's memory as it goes (MiB)."""

import os
import sys
import threading
import time
from pathlib import Path

import httpx

import otel_llmlog

otel_llmlog.instrument()

CALLS, THREADS = int(sys.argv[1]), 16
REPLY = {
    "id": "chatcmpl-1",
    "model": "gpt-4o-mini",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "hello " * 50}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 200, "completion_tokens": 50, "total_tokens": 250},
}
BODY = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "word " * 200}]}


def answer(request):
    time.sleep(0.01)  # the network's part: far less than a real one takes
    return httpx.Response(200, json=REPLY)


def memory():
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def work(calls):
    with httpx.Client(transport=httpx.MockTransport(answer), base_url="http://provider") as client:
        for _ in range(calls):
            client.post("/v1/chat/completions", json=BODY)


for turn in range(20):
    threads = [threading.Thread(target=work, args=(CALLS // 20 // THREADS,)) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(turn, round(memory(), 1), flush=True)

"""An app that does as it is told on stdin, and answers with one line of JSON each time.

`call N`, `send PROVIDER SCENARIO` for a call to a real one, `flush`, `numbers`, `quit`.
"""

import errno
import json
import os
import stat
import sys

import httpx

from otel_llmlog import configure
from otel_llmlog.pipeline.spool import files

REPLY = {
    "id": "chatcmpl-1",
    "model": "gpt-4o-mini",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "hello"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 120, "completion_tokens": 40, "total_tokens": 160},
}
BODY = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hello"}]}

if len(sys.argv) > 1:
    # A disk that is full for all that this process appends to files, where no small one can be mounted.
    LIMIT, write, taken = int(sys.argv[1]), os.write, [0]

    def limited(descriptor, data):
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            if taken[0] + len(data) > LIMIT:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            taken[0] += len(data)
        return write(descriptor, data)

    os.write = limited
    files.can_map = lambda _: False  # written to, not mapped

client = httpx.Client(transport=httpx.MockTransport(lambda _: httpx.Response(200, json=REPLY)), base_url="http://llm")
for line in sys.stdin:
    command, *arguments = line.split()
    if command == "quit":
        break
    runtime = configure.runtime()
    if command == "call":
        answers = [client.post("/v1/chat/completions", json=BODY).status_code for _ in range(int(arguments[0]))]
        runtime.recorder.flush(60)
        print(json.dumps(answers), flush=True)
    elif command == "send":
        headers = {"x-scenario": " ".join(arguments[1:])}
        answer = httpx.post(f"{arguments[0]}/v1/chat/completions", json=BODY, headers=headers, timeout=60)
        print(json.dumps(len(answer.content)), flush=True)
    elif command == "flush":
        print(json.dumps(configure.flush(60)), flush=True)
    else:
        print(json.dumps({**runtime.stats.snapshot(), "waiting": runtime.worker.waiting()}), flush=True)

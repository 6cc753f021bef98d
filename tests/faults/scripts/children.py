"""Children that call and end without a word, and a parent that makes no call itself and waits for its stdin to close."""

import os
import signal
import sys

import httpx

import otel_llmlog

if sys.argv[2] == "in code":
    otel_llmlog.instrument()

URL, MODE = sys.argv[1], sys.argv[2]
BODY = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hello"}]}


def call(name):
    headers = {"x-litellm-session-id": name}
    httpx.post(f"{URL}/v1/chat/completions", json=BODY, headers=headers, timeout=20).raise_for_status()


def end(name):
    call(name)
    if MODE == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    elif MODE == "aborted":
        os.abort()
    elif MODE == "another program":
        os.execv(sys.executable, [sys.executable, "-c", "import sys; sys.stdin.read()"])
    elif MODE == "grandchild":
        if os.fork() == 0:
            call(f"{name}-grandchild")
            os._exit(0)
        os.wait()
    os._exit(0)


for number in range(3):
    if os.fork() == 0:
        end(f"child-{number}")
sys.stdin.read()

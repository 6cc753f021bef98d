"""Makes two calls and tells what our background threads did while a fork would not have waited for them."""

import json
import os
import sys
import threading

import httpx

import otel_llmlog
from otel_llmlog import configure, forks
from otel_llmlog.capture.reading import Reader

imported, read = [], []


class Watch:
    def find_spec(self, name, path=None, target=None):
        if threading.current_thread().name.startswith("llmlog") and not forks._own.depth:
            imported.append(name)


real_read = Reader.read


def watched(self, call):
    read.append(forks._own.depth > 0)
    return real_read(self, call)


Reader.read = watched
sys.meta_path.insert(0, Watch())
otel_llmlog.instrument()
for _ in range(2):
    body = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hello"}]}
    httpx.post(f"{sys.argv[1]}/v1/chat/completions", json=body).raise_for_status()
configure.runtime().recorder.flush(20)
configure.flush(float(os.environ["LLMLOG_SHUTDOWN_TIMEOUT"]))
otel_llmlog.uninstrument()
print(json.dumps({"imported": imported, "read": read}))

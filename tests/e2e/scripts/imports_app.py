"""An app that switches capture on in code; says which HTTP libraries other threads than its own import.

Such an import stops in its middle until the app has made another call: what the app's SDK looks up in `sys.modules`
then is half a module, however fast the machine is.
"""

import json
import sys
import threading

LIBRARIES = {"aiohttp", "botocore", "httpx", "httpx2", "openai", "requests"}
imported = set()
half_way, called = threading.Event(), threading.Event()


class Watching:
    """Sees each module that is looked for."""

    def find_spec(self, name, path=None, target=None):
        library, dot, _ = name.partition(".")
        if library in LIBRARIES and threading.current_thread() is not threading.main_thread():
            imported.add(library)
            if dot:
                half_way.set()
                called.wait(20)


sys.meta_path.insert(0, Watching())

import openai  # noqa: E402 - it is watched, too

import otel_llmlog  # noqa: E402

otel_llmlog.instrument()


def call():
    # A stream without usage: its tokens are counted, where tiktoken is installed.
    asked = [{"role": "user", "content": "hello"}]
    return list(openai.OpenAI().chat.completions.create(model="gpt-4o-mini", messages=asked, stream=True))


def flush():
    otel_llmlog.flush()
    half_way.set()


call()
flushing = threading.Thread(target=flush)
flushing.start()
half_way.wait()
call()
called.set()
flushing.join()
otel_llmlog.flush()
print(json.dumps(sorted(imported)))

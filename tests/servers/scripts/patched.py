"""Calls on tasks of gevent or eventlet, patched before or after capture is on; one of them flushes meanwhile."""

import os
import sys
import time

LIBRARY, ORDER, URL = sys.argv[1:]


def patch():
    if LIBRARY == "gevent":
        from gevent import monkey

        monkey.patch_all()
    else:
        import eventlet

        eventlet.monkey_patch()


def capture():
    import otel_llmlog

    otel_llmlog.instrument()


for step in (patch, capture) if ORDER == "patched first" else (capture, patch):
    step()

import threading  # noqa: E402 - after patching, as in an app

import httpx  # noqa: E402

import otel_llmlog  # noqa: E402

BODY = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hello"}]}
ticks = []


def call(name):
    headers = {"x-litellm-session-id": name}
    httpx.post(f"{URL}/v1/chat/completions", json=BODY, headers=headers, timeout=20).raise_for_status()


def tick():
    while not done:
        ticks.append(time.monotonic())
        time.sleep(0.001)


done = []
others = threading.Thread(target=tick)
others.start()
tasks = [threading.Thread(target=call, args=(f"task-{number}",)) for number in range(20)]
for task in tasks:
    task.start()
for task in tasks:
    task.join()
before = len(ticks)
assert otel_llmlog.flush(30)
assert len(ticks) > before  # who flushes does not stop the others
done.append(True)
others.join()
child = os.fork()
if not child:
    call("forked")
    sys.exit(0)
assert os.waitpid(child, 0)[1] == 0
call("last")
if LIBRARY == "gevent":
    from gevent import spawn
else:
    from eventlet import spawn
# It would end the program with this code, where somebody waits at its end and lets it run.
spawn(sys.exit, 3)

"""Processes that fork and end with capture on: each records its own calls and only those, and its end is not held up."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

SETUP = """
import gc, json, os, signal, sys, threading

from opentelemetry.sdk.trace import TracerProvider
from otel_llmlog import config, emit
from otel_llmlog.capture import patch
from otel_llmlog.capture.counting import TokenCounter
from otel_llmlog.capture.reading import Reader
from otel_llmlog.capture.recorder import Recorder
from otel_llmlog.demo.provider import LocalProvider
from otel_llmlog.pricing import Pricer
from otel_llmlog.stats import Stats
from tests.capture.outlet import Outlet

signal.alarm(40)  # ends a script that is stuck
settings, stats, found = config.load(), Stats(), []
deliver = lambda ids, start, end, attributes: found.append([attributes["llmlog.id"], attributes["llmlog.status"], *ids])
reader = Reader(settings, Pricer(), TokenCounter(), stats)
tracer = TracerProvider().get_tracer("x")
recorder = Recorder(settings.capture, reader, tracer, emit.Metrics("0"), Outlet(deliver), stats)
patch.install(recorder, inject_usage=False)

import httpx

def call(name, stream=False):
    client = httpx.Client(base_url=provider.url, verify=False)
    body = {"model": "gpt-4o", "messages": [{"role": "user", "content": "x"}], "stream": stream}
    request = client.build_request("POST", "/v1/chat/completions", json=body, headers={"x-response-id": name})
    return client.send(request, stream=stream)

"""
FORKING = """
with LocalProvider() as provider:
    call("before")
    held = call("open at the fork", stream=True)
    recorder.flush(20)
    # The worst moment: another thread holds our locks, and is not there in the child.
    locked, release = threading.Event(), threading.Event()
    def hold():
        with stats._lock, recorder._worker._start_lock:
            locked.set()
            release.wait(20)
    thread = threading.Thread(target=hold)
    thread.start()
    locked.wait(20)
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        signal.alarm(20)
        found.clear()
        stats.count("forked")
        call("child")
        del held
        gc.collect()
        recorder.finish(20)
        os.write(writing, json.dumps(found).encode())
        os._exit(0)
    os.close(writing)
    release.set()
    thread.join()
    child = b""
    while piece := os.read(reading, 65536):
        child += piece
    os.waitpid(pid, 0)
    held.read()
    call("after")
    recorder.finish(20)
    print(json.dumps({"parent": found, "child": json.loads(child or b"[]")}))
"""
ENDING = """
class Last:
    def __del__(self, ending=sys.is_finalizing, write=os.write):
        write(1, b"at the end" if ending() else b"too early")

provider = LocalProvider().start()
gc.collect()
# Garbage in a cycle: it is there until the next collection, which is the interpreter's last one.
dropped = [Last(), call("never read", stream=True)]
dropped.append(dropped)
del dropped
"""


def run(script):
    command = [sys.executable, "-W", "ignore", "-c", SETUP + script]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_parent_and_child_record_their_own_calls_and_only_those():
    done = run(FORKING)
    assert done.stderr == ""
    found = json.loads(done.stdout)
    assert [call[:2] for call in found["child"]] == [["child", "success"]]
    assert [call[:2] for call in found["parent"]] == [
        ["before", "success"],
        ["open at the fork", "success"],
        ["after", "success"],
    ]
    ids = [tuple(call[2:4]) for calls in found.values() for call in calls]
    assert len(set(ids)) == 4


def test_a_stream_that_only_the_end_of_the_interpreter_collects_does_not_hold_it_up():
    """Nobody told the recorder that the process ends; no thread can be started for it any more."""
    done = run(ENDING)
    assert (done.returncode, done.stdout, done.stderr) == (0, "at the end", "")

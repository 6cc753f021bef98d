"""Ways in which processes begin and end. Each call names itself in a header; the provider's log says which were made."""

import asyncio
import multiprocessing
import os
import signal
import sys
import threading
import time

import httpx
from opentelemetry import trace
from opentelemetry.sdk.trace import SpanProcessor

import otel_llmlog.configure

URL, MODE = sys.argv[1], sys.argv[2]
BODY = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hello"}]}


def call(name, **more):
    headers = {"x-litellm-session-id": name}
    httpx.post(f"{URL}/v1/chat/completions", json={**BODY, **more}, headers=headers, timeout=20).raise_for_status()


def fork_and_call(name):
    child = os.fork()
    if child == 0:
        call(name)
        os._exit(0)
    os.waitpid(child, 0)


def thread(function, *arguments):
    made = threading.Thread(target=function, args=arguments)
    made.start()
    made.join()


def exit_in_thread():
    call("in-thread")
    sys.exit(3)


def call_in_thread_left_behind(name):
    """The child's main function ends at once; its thread goes on and the child waits for it."""
    call(name)
    threading.Thread(target=lambda: [call(f"{name}-late-{n}") for n in range(3)]).start()


class TerminateWhileStopping(SpanProcessor):
    """Its span is the first of several that wait to be read when the program ends: a signal in the middle of that."""

    def on_end(self, span):
        if span.instrumentation_scope.name != "otel_llmlog":
            return
        deadline = time.monotonic() + 20
        while otel_llmlog.configure.runtime() is not None and time.monotonic() < deadline:
            time.sleep(0.001)
        if not sent:
            sent.append(os.kill(os.getpid(), signal.SIGTERM))


sent = []


def interrupt_the_end():
    """A second Ctrl-C, while what is left is written."""
    while otel_llmlog.configure.runtime() is not None:
        time.sleep(0.001)
    os.kill(os.getpid(), signal.SIGINT)


async def interrupt_the_loop():
    os.kill(os.getpid(), signal.SIGINT)
    await asyncio.sleep(60)


async def stream_and_leave():
    client = httpx.AsyncClient(timeout=20)
    headers = {"x-litellm-session-id": "left-open", "x-event-delay-ms": "50"}
    request = client.build_request("POST", f"{URL}/v1/chat/completions", json={**BODY, "stream": True}, headers=headers)
    response = await client.send(request, stream=True)
    await anext(response.aiter_bytes())
    globals()["kept"] = response  # still open, and still referenced, when the loop is closed and the program ends


if __name__ == "__main__":
    if MODE in {"fork", "spawn", "forkserver"}:
        context = multiprocessing.get_context(MODE)
        call("before")
        children = [context.Process(target=call, args=(f"child-{n}",)) for n in range(3)]
        for child in children:
            child.start()
        for child in children:
            child.join()
        call("after")
    elif MODE == "pool":
        call("before")
        with multiprocessing.get_context("fork").Pool(2) as pool:
            pool.map(call, [f"pooled-{n}" for n in range(8)])
            pool.close()
            pool.join()
    elif MODE == "pool that is terminated":
        call("before")
        with multiprocessing.get_context("fork").Pool(2) as pool:
            pool.map(call, [f"pooled-{n}" for n in range(8)])
    elif MODE == "thread that outlives a child's main function":
        child = multiprocessing.get_context("fork").Process(target=call_in_thread_left_behind, args=("child",))
        child.start()
        child.join()
    elif MODE in {"SIGTERM", "SIGINT", "SIGHUP"}:
        call("only")
        os.kill(os.getpid(), getattr(signal, MODE))
        time.sleep(60)
    elif MODE == "killed":
        call("only")
        os.kill(os.getpid(), signal.SIGKILL)
    elif MODE == "SIGINT twice":
        call("only")
        threading.Thread(target=interrupt_the_end, daemon=True).start()
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(60)
    elif MODE == "SIGINT in an event loop":
        call("only")
        asyncio.run(interrupt_the_loop())
    elif MODE == "interrupted, and caught":
        try:
            call("only")
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(60)
        except KeyboardInterrupt:
            sys.exit(3)
    elif MODE == "raise_signal":
        call("only")
        signal.signal(signal.SIGTERM, signal.SIG_DFL)  # as uvicorn's worker does under gunicorn
        signal.raise_signal(signal.SIGTERM)
    elif MODE == "kill itself":
        call("only")
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGHUP)
    elif MODE == "exception":
        call("only")
        raise RuntimeError("nobody catches this")
    elif MODE == "sys.exit with a code":
        call("only")
        sys.exit(3)
    elif MODE == "SIGTERM while it stops":
        trace.get_tracer_provider().add_span_processor(TerminateWhileStopping())
        for number in range(6):
            call(f"call-{number}")
    elif MODE == "os.fork in a thread":
        call("before")
        thread(fork_and_call, "forked")
        call("after")
    elif MODE == "sys.exit in a thread":
        thread(exit_in_thread)
    elif MODE == "sys.exit":
        call("only")
        sys.exit(0)
    elif MODE == "event loop closed early":
        asyncio.run(stream_and_leave())
    elif MODE == "daemon thread":
        threading.Thread(target=call, args=("daemon",), kwargs={"stream": True}, daemon=True).start()
        call("main")
    else:
        raise SystemExit(f"no such mode: {MODE}")

"""Ways in which processes begin and end. Each call names itself in a header; the provider's log says which were made."""

import asyncio
import multiprocessing
import os
import sys
import threading

import httpx

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

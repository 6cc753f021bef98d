"""An app of one of the kinds that run where a process is frozen once it has answered; it freezes itself at that moment.

    python frozen.py KIND

Its answer goes to stdout.
"""

import asyncio
import os
import signal
import sys
from wsgiref.util import setup_testing_defaults

import httpx

import otel_llmlog

URL = os.environ["PROVIDER_URL"]
BODY = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hello"}]}


def call():
    httpx.post(f"{URL}/v1/chat/completions", json=BODY).raise_for_status()
    return b"called"


async def acall():
    async with httpx.AsyncClient() as client:
        (await client.post(f"{URL}/v1/chat/completions", json=BODY)).raise_for_status()
    return b"called"


def answered(text):
    print(text.decode(), flush=True)
    os.kill(os.getpid(), signal.SIGSTOP)


@otel_llmlog.flush_after(timeout=30)
def handler(event):
    answer = call()
    if event == "raises":
        raise LookupError(answer.decode())
    return answer


@otel_llmlog.flush_after(timeout=30)
async def async_handler(_event):
    return await acall()


async def asgi(scope, receive, send):
    answer = await acall()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": answer})


async def streaming_asgi(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": await acall(), "more_body": True})
    await send({"type": "http.response.body"})


async def websocket(scope, receive, send):
    await send({"type": "websocket.send", "bytes": await acall()})
    await send({"type": "websocket.close"})


def wsgi(environ, start_response):
    start_response("200 OK", [])
    return [call()]


def streaming_wsgi(environ, start_response):
    start_response("200 OK", [])
    yield call()


async def serve_asgi(app):
    said = b""

    async def send(message):
        nonlocal said
        said += message.get("body", message.get("bytes")) or b""
        if message["type"] == "websocket.close" or (
            message["type"] == "http.response.body" and not message.get("more_body")
        ):
            answered(said)

    await otel_llmlog.FlushASGI(app, timeout=30)({"type": "http", "path": "/"}, None, send)


def serve_wsgi(app):
    environ = {}
    setup_testing_defaults(environ)
    answered(b"".join(otel_llmlog.FlushWSGI(app, timeout=30)(environ, lambda *_: None)))


def serve_handler():
    answered(handler({}))


def serve_handler_that_raises():
    try:
        handler("raises")
    except LookupError as error:
        answered(str(error).encode())


KINDS = {
    "handler": serve_handler,
    "handler that raises": serve_handler_that_raises,
    "async handler": lambda: answered(asyncio.run(async_handler({}))),
    "ASGI": lambda: asyncio.run(serve_asgi(asgi)),
    "ASGI, streaming": lambda: asyncio.run(serve_asgi(streaming_asgi)),
    "ASGI, WebSocket": lambda: asyncio.run(serve_asgi(websocket)),
    "WSGI": lambda: serve_wsgi(wsgi),
    "WSGI, streaming": lambda: serve_wsgi(streaming_wsgi),
}
otel_llmlog.instrument()
KINDS[sys.argv[1]]()

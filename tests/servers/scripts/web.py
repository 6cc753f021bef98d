"""A web app whose every request makes one call. `/stuck` makes it and never answers."""

import os
import time

import httpx

URL = os.environ["PROVIDER_URL"]
BODY = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hello"}]}


def wsgi(environ, start_response):
    name = environ["PATH_INFO"].strip("/")
    headers = {"x-litellm-session-id": name}
    httpx.post(f"{URL}/v1/chat/completions", json=BODY, headers=headers, timeout=20).raise_for_status()
    if name == "stuck":
        time.sleep(600)
    start_response("200 OK", [("content-type", "text/plain")])
    return [str(os.getpid()).encode()]


async def asgi(scope, receive, send):
    if scope["type"] != "http":
        return
    name = scope["path"].strip("/")
    async with httpx.AsyncClient(timeout=20) as client:
        headers = {"x-litellm-session-id": name}
        (await client.post(f"{URL}/v1/chat/completions", json=BODY, headers=headers)).raise_for_status()
    if name == "stuck":
        time.sleep(600)
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(os.getpid()).encode()})

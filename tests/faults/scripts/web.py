"""A web app whose every request makes one call: for gunicorn (WSGI) and uvicorn (ASGI)."""

import os

import httpx

URL = os.environ["PROVIDER_URL"]
BODY = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "hello"}]}


def wsgi(environ, start_response):
    headers = {"x-litellm-session-id": environ["PATH_INFO"].strip("/")}
    httpx.post(f"{URL}/v1/chat/completions", json=BODY, headers=headers).raise_for_status()
    start_response("200 OK", [("content-type", "text/plain")])
    return [str(os.getpid()).encode()]


async def asgi(scope, receive, send):
    if scope["type"] != "http":
        return
    async with httpx.AsyncClient() as client:
        headers = {"x-litellm-session-id": scope["path"].strip("/")}
        (await client.post(f"{URL}/v1/chat/completions", json=BODY, headers=headers)).raise_for_status()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": str(os.getpid()).encode()})

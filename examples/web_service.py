"""A web app and a service behind it. The app says once who asks; every LLM call of both is booked accordingly.

    $ opentelemetry-instrument uvicorn --app-dir examples web_service:answers --port 8001
    $ ANSWERS_URL=http://127.0.0.1:8001 opentelemetry-instrument uvicorn --app-dir examples web_service:app --port 8000
    $ curl -H 'x-user: ada' 'http://127.0.0.1:8000/chats/chat-7?text=hello'

With FastAPI the handlers look the same, and `pip install opentelemetry-instrumentation-fastapi` replaces `Received`.
"""

from __future__ import annotations

import asyncio
import contextvars
import os
import threading
from typing import Any

import httpx
import openai
from opentelemetry import context as otel_context, propagate
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

import otel_llmlog

MODEL = "gpt-4o-mini"


class Received:
    """Takes the trace and the baggage of a request from its headers."""

    def __init__(self, app: Any) -> None:
        self.app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope.get("headers", ())}
        token = otel_context.attach(propagate.extract(headers))
        try:
            await self.app(scope, receive, send)
        finally:
            otel_context.detach(token)


async def chat(request: Request) -> JSONResponse:
    """Answer with the help of a task, a thread and another service. Only this handler knows who asks."""
    text = request.query_params["text"]
    user = request.headers["x-user"]
    # `propagate`: the service below shall know, too. LLM providers are not told.
    with otel_llmlog.context(session_id=request.path_params["chat"], user=user, tags=["web"], propagate=True):
        title = asyncio.create_task(complete(f"A title for: {text}"))
        # A thread that you start yourself is handed the context; tasks and `asyncio.to_thread` take it along.
        language: list[str] = []
        work = contextvars.copy_context()
        thread = threading.Thread(target=lambda: language.append(work.run(detect, text)))
        thread.start()
        async with httpx.AsyncClient(base_url=os.environ["ANSWERS_URL"]) as service:
            # OpenTelemetry's instrumentation of httpx, which comes with otel-llmlog, sends the baggage along.
            answer = (await service.get("/", params={"text": text})).raise_for_status().json()
        await asyncio.to_thread(thread.join)
        return JSONResponse({"title": await title, "language": language[0], "answer": answer})


async def answer(request: Request) -> JSONResponse:
    """The service: it has never heard of users or chats."""
    return JSONResponse(await complete(request.query_params["text"]))


async def complete(text: str) -> str | None:
    """One call to the model."""
    async with openai.AsyncOpenAI() as client:
        said = await client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": text}])
    return said.choices[0].message.content


def detect(text: str) -> str:
    """One call to the model, from a thread."""
    with openai.OpenAI() as client:
        asked = f"The language of: {text}"
        said = client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": asked}])
    return said.choices[0].message.content or ""


app = Starlette(routes=[Route("/chats/{chat}", chat)])
answers = Starlette(routes=[Route("/", answer)], middleware=[Middleware(Received)])

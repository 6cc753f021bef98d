"""A process that is frozen once it has answered has stored what it called before."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import otel_llmlog
from otel_llmlog.demo.provider import LocalProvider
from tests.faults.conftest import SCRIPTS

KINDS = [
    "handler",
    "handler that raises",
    "async handler",
    "ASGI",
    "ASGI, streaming",
    "ASGI, WebSocket",
    "WSGI",
    "WSGI, streaming",
]


@pytest.mark.parametrize("kind", KINDS)
def test_what_an_answer_called_is_stored_when_the_process_is_frozen_with_it(
    environment: dict[str, str], provider: LocalProvider, rows: Callable[[], list[dict[str, Any]]], kind: str
) -> None:
    process = subprocess.Popen(
        [sys.executable, str(SCRIPTS / "frozen.py"), kind],
        env={**environment, "PROVIDER_URL": provider.url},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        _, status = os.waitpid(process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        assert os.WSTOPSIG(status) == signal.SIGSTOP
        assert [row["status"] for row in rows()] == ["success"]
        assert process.stdout.readline() == "called\n"
    finally:
        process.kill()
        process.wait()


def test_the_wrappers_pass_answers_exceptions_and_other_traffic_on() -> None:
    """Without capture, too."""
    sent: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": f"{scope['type']}.said"})
        if scope["type"] == "http":
            raise KeyError("app")

    async def send(message: Any) -> None:
        sent.append(message)

    wrapped = otel_llmlog.FlushASGI(app)
    asyncio.run(wrapped({"type": "lifespan"}, None, send))
    with pytest.raises(KeyError):
        asyncio.run(wrapped({"type": "http"}, None, send))
    assert sent == [{"type": "lifespan.said"}, {"type": "http.said"}]

    class Pieces:
        closed = 0

        def __iter__(self) -> Any:
            return iter((b"a", b"b"))

        def close(self) -> None:
            self.closed += 1

    pieces = Pieces()
    answer = otel_llmlog.FlushWSGI(lambda *_: pieces)({}, None)
    assert list(answer) == [b"a", b"b"]
    answer.close()
    assert pieces.closed == 1
    with pytest.raises(ZeroDivisionError):
        otel_llmlog.FlushWSGI(lambda *_: 1 / 0)({}, None)
    assert otel_llmlog.flush_after(lambda: 7)() == 7


def test_what_the_page_shows_works(monkeypatch: pytest.MonkeyPatch) -> None:
    page = (Path(__file__).parents[2] / "docs" / "serverless.md").read_text("utf-8")
    monkeypatch.setattr(otel_llmlog, "instrument", lambda: None)
    shown: dict[str, Any] = {"app": lambda *_: []}
    for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        exec(block, shown)
    assert shown["handler"]({}, None)["statusCode"] == 200
    assert isinstance(shown["app"], otel_llmlog.FlushWSGI)

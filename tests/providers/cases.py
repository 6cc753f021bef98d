"""The recorded cases: one folder each, in the exact shape of the wire.

`request.json` is URL, headers and body of the request; `reply.json`, `reply.txt` or `stream.txt` is the body that came
back, byte for byte; `expected.json` holds all facts that differ from their defaults.
"""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from otel_llmlog.payload import Usage
from otel_llmlog.providers import recognise
from otel_llmlog.providers.facts import Endpoint

HERE = Path(__file__).parent
FOLDERS = sorted(path.parent for path in HERE.glob("*/*/request.json"))
REPLIES = ("reply.json", "reply.txt", "stream.txt")


class Case(NamedTuple):
    """One recorded call."""

    name: str
    host: str
    port: int | None
    path: str
    headers: dict[str, str]
    request: bytes
    reply: bytes
    is_stream: bool
    expected: dict[str, Any]

    @property
    def endpoint(self) -> Endpoint:
        """The API that the request calls."""
        found = recognise(self.path, self.request, self.headers)
        assert found is not None, f"{self.name} is not recognised"
        return found

    @property
    def events(self) -> list[bytes]:
        """The stream, one piece an event: a line where it is JSON lines, an element where it is an array."""
        if self.reply.startswith(b"{"):
            return self.reply.splitlines(keepends=True)
        if self.reply.startswith(b"["):
            return re.split(rb"(?=\n,)", self.reply)
        if b"\r\n\r\n" in self.reply:
            return [piece + b"\r\n\r\n" for piece in self.reply.removesuffix(b"\r\n\r\n").split(b"\r\n\r\n")]
        return [piece + b"\n\n" for piece in self.reply.removesuffix(b"\n\n").split(b"\n\n")]


def load(folder: Path) -> Case:
    """A case by its folder."""
    asked = json.loads((folder / "request.json").read_bytes())
    url = urlsplit(asked["url"])
    (reply,) = [path for name in REPLIES if (path := folder / name).exists()]
    return Case(
        name=f"{folder.parent.name}/{folder.name}",
        host=url.hostname or "",
        port=url.port,
        path=url.path,
        headers=asked["headers"],
        request=json.dumps(asked["body"], ensure_ascii=False).encode(),
        reply=reply.read_bytes(),
        is_stream=reply.name == "stream.txt",
        expected=json.loads((folder / "expected.json").read_bytes()),
    )


CASES = [load(folder) for folder in FOLDERS]
STREAMS = [case for case in CASES if case.is_stream]


def said(facts: Any) -> Any:
    """What facts say, as JSON would: fields that have their default value are left out."""
    if isinstance(facts, Usage):
        return facts.model_dump(mode="json", exclude_defaults=True)
    if not dataclasses.is_dataclass(facts) or isinstance(facts, type):
        return list(facts) if isinstance(facts, tuple) else facts
    default = type(facts)()
    return {
        field.name: said(value)
        for field in dataclasses.fields(facts)
        if (value := getattr(facts, field.name)) != getattr(default, field.name)
        and not (field.name == "output" and not value)
    }

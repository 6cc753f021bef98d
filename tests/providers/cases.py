"""The recorded cases: one folder each, in the exact shape of the wire.

`request.json` is URL, headers and body of the request; `reply.json`, `reply.txt` or `stream.txt` is the body that came
back, byte for byte; `expected.json` holds all facts that differ from their defaults. A binary stream of frames is kept as
text, a line a frame: see `packed`.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import re
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from otel_llmlog.payload import Usage
from otel_llmlog.providers import eventstream, recognise
from otel_llmlog.providers.facts import Endpoint

HERE = Path(__file__).parent
FOLDERS = sorted(path.parent for path in HERE.glob("*/*/request.json"))
# Wires whose streams are binary frames.
PACKED = frozenset({"bedrock"})
REPLIES = ("reply.json", "reply.txt", "stream.txt")


_FRAME = re.compile(rb'\{"(!?)([^"]*)": ?(.*)\}', re.DOTALL)


def packed(text: bytes) -> list[bytes]:
    """Frames of a binary event stream out of lines `{"event": payload}`, or `{"!exception": payload}`.

    The payload of a `chunk` is packed once more, as Bedrock does with vendors' events. A line that is none of these
    becomes the payload of a frame as it is.
    """
    frames = []
    for line in text.splitlines():
        found = _FRAME.fullmatch(line)
        failed, name, payload = found.groups() if found else (b"", b"chunk", line)
        if found and name == b"chunk":
            payload = b'{"bytes":"' + base64.b64encode(payload) + b'","p":"abcd"}'
        said = ("exception" if failed else "event"), name.decode("utf-8", "replace")[:200]
        headers = {f":{said[0]}-type": said[1], ":content-type": "application/json", ":message-type": said[0]}
        frames.append(eventstream.frame(headers, payload))
    return frames


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
    text: bytes
    """The reply as its file has it: other than `reply` where that is packed into frames."""

    @property
    def is_packed(self) -> bool:
        return self.reply is not self.text

    @property
    def endpoint(self) -> Endpoint:
        """The API that the request calls."""
        found = recognise(self.path, self.request, self.headers)
        assert found is not None, f"{self.name} is not recognised"
        return found

    @property
    def events(self) -> list[bytes]:
        """The stream, one piece an event: a line where it is JSON lines, an element where it is an array."""
        if self.is_packed:
            return packed(self.text)
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
    text = reply.read_bytes()
    is_packed = folder.parent.name in PACKED and reply.name == "stream.txt"
    return Case(
        name=f"{folder.parent.name}/{folder.name}",
        host=url.hostname or "",
        port=url.port,
        path=url.path,
        headers=asked["headers"],
        request=json.dumps(asked["body"], ensure_ascii=False).encode(),
        reply=b"".join(packed(text)) if is_packed else text,
        is_stream=reply.name == "stream.txt",
        expected=json.loads((folder / "expected.json").read_bytes()),
        text=text,
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

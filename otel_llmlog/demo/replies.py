"""What every wire format shares: the reply, its text, JSON bytes and the marks that grow while being sent.

A mark stands for bytes too many (or too deep) to build here; `framing` puts them in on the wire.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

from otel_llmlog.demo.scenarios import AskError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from otel_llmlog.demo.scenarios import Ask

WHOLE_FILL = "@@whole-fill@@"
"""Stands for all of a huge reply text."""
PIECE_FILL = "@@piece-fill@@"
"""Stands for FILL_PIECE bytes of it, one streamed delta."""
NEST = "@@nest@@"
"""Stands for a nested array."""

# One delta of a huge stream: big enough to be quick, small enough to be a plausible network read.
FILL_PIECE = 16_384
DEFAULT_HUGE_BYTES = 1_000_000
DEFAULT_NEST_DEPTH = 500

# Not ASCII only, so that a body split anywhere is also split inside a character.
_REPLY_TEXT = "Voilà, a reply from the local provider: every token is made up, every byte is real — ✓. "

BAD_NUMBERS: Mapping[str, Any] = {
    "nan": math.nan,
    "inf": math.inf,
    "-inf": -math.inf,
    "negative": -5,
    "huge": 1e300,
    "bigint": 10**30,
    "string": "twelve",
    "digits": "12",
    "float": 7.5,
    "bool": True,
    "null": None,
    "list": [1],
}


@dataclass(slots=True)
class Reply:
    """Either `body` (one JSON document) or `events` (a stream) is set. `headers` is a block of header lines."""

    headers: str
    body: bytes = b""
    events: list[bytes] | None = None
    status: int = 200
    content_type: str = ""
    """Unless it is given: that of a stream of events, or of JSON."""

    def __post_init__(self) -> None:
        if not self.content_type:
            self.content_type = "application/json" if self.events is None else "text/event-stream; charset=utf-8"


class Call(NamedTuple):
    """One request as the wire formats see it."""

    number: int
    ask: Ask
    body: dict[str, Any]
    path: str
    created: int
    prefix: str = ""
    """How ids of this API begin."""
    wire: Any = None
    """The module of the wire format, once the API is known."""

    @property
    def id(self) -> str:
        """The Nth request a provider serves gets number N, so ids repeat only between providers."""
        return self.ask.option("response-id", "id") or f"{self.prefix}{self.number:012d}"

    @property
    def model(self) -> str:
        return self.ask.option("response-model", "model") or str(self.body["model"])

    @property
    def stream(self) -> bool:
        return self.body.get("stream") is True


def dump(value: Any, ask: Ask) -> bytes:
    # A lone surrogate has no UTF-8; providers send it as an escape.
    escape = ask.scenario == "surrogate"
    out = json.dumps(value, separators=(",", ":"), ensure_ascii=escape).encode()
    if ask.scenario == "nest":
        depth = ask.whole("depth", DEFAULT_NEST_DEPTH)
        out = out.replace(f'"{NEST}"'.encode(), b"[" * depth + b"]" * depth)
    return out


def data_event(value: Any, ask: Ask) -> bytes:
    return b"data: " + dump(value, ask) + b"\n\n"


def named_event(name: str, value: Any, ask: Ask) -> bytes:
    return b"event: " + name.encode() + b"\ndata: " + dump(value, ask) + b"\n\n"


@lru_cache(maxsize=64)
def _split(text: str, count: int) -> tuple[str, ...]:
    """Exactly `count` pieces, none empty while the text lasts."""
    edges = [len(text) * i // count for i in range(count + 1)]
    return tuple(text[a:b] for a, b in pairwise(edges))


@lru_cache(maxsize=64)
def _plain_text(events: int) -> str:
    return (_REPLY_TEXT * (1 + events * 2 // len(_REPLY_TEXT))).rstrip()


def reply_text(ask: Ask) -> str:
    """The whole reply text, the same for a plain and a streamed reply."""
    match ask.scenario:
        case "nul":
            return "before\x00after"
        case "surrogate":
            return "before\ud800after"
        case "huge":
            return WHOLE_FILL
        case "echo":
            return ask.text
        case _:
            return _plain_text(ask.events)


def reply_deltas(ask: Ask) -> list[str]:
    """The reply text as it is streamed."""
    if ask.scenario == "huge":
        pieces, rest = divmod(ask.whole("bytes", DEFAULT_HUGE_BYTES), FILL_PIECE)
        return [PIECE_FILL] * pieces + (["x" * rest] if rest else [])
    return list(_split(reply_text(ask), ask.events))


class ToolCall(NamedTuple):
    name: str
    arguments: str
    pieces: tuple[str, ...]


def tool_calls(call: Call) -> list[ToolCall]:
    """The calls the reply makes: `calls=N` of them over the request's tools in turn. Empty = answer in text."""
    tools = call.body.get("tools")
    if call.ask.scenario != "tools" or not isinstance(tools, list) or not tools:
        return []
    names = [str(tool.get("name") or tool.get("function", {}).get("name", "tool")) for tool in tools]
    made = []
    for i in range(call.ask.whole("calls", 1)):
        arguments = json.dumps({"city": ("Lisbon", "Oslo", "Kraków")[i % 3], "days": i + 1}, ensure_ascii=False)
        made.append(ToolCall(names[i % len(names)], arguments, _split(arguments, call.ask.events)))
    return made


def spoil(usage: dict[str, Any], ask: Ask, names: Mapping[str, str]) -> dict[str, Any]:
    """For `nan`: put the bad number where `field` (default output; or input, total, all) says."""
    if ask.scenario != "nan":
        return usage
    value = ask.params.get("value", "nan").lower()
    where = ask.params.get("field", "output")
    if value not in BAD_NUMBERS:
        raise AskError(f"unknown value {value}; known: {', '.join(BAD_NUMBERS)}")
    if where not in ("all", "input", "output", "total"):
        raise AskError(f"unknown field {where}; known: all, input, output, total")
    for name, key in names.items():
        if where in (name, "all") and key in usage:
            usage[key] = BAD_NUMBERS[value]
    return usage


def extras(ask: Ask) -> dict[str, Any]:
    """Fields that go in front of the usage."""
    return {"nested": NEST} if ask.scenario == "nest" else {}


@dataclass(frozen=True, slots=True)
class Failure:
    """An error a provider reports; each wire format has its own body for it."""

    status: int
    message: str
    type: str | None = None
    code: str | None = None
    param: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)

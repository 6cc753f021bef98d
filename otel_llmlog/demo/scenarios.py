"""What one request asks the local provider to do.

Pure: headers and decoded body in, `Ask` out. A request that asks for nothing gets the plain reply with
`Usage()`. Every option can be given as a header (`x-events: 9`) or as a scenario parameter
(`[scenario: plain events=9]`); the header wins.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

SCENARIOS = frozenset(
    {
        "plain",
        "echo",
        "tools",
        "incomplete",
        "litellm_proxy",
        "error",
        "error_in_stream",
        "invalid_json",
        "not_json",
        "no_terminator",
        "cut",
        "stall",
        "slow",
        "nul",
        "surrogate",
        "nan",
        "huge",
        "nest",
        "empty",
        "raw",
    }
)

# A test that forgets to close a stalled stream must still end.
MAX_PAUSE_SECONDS = 30.0

_SCENARIO = re.compile(r"\[scenario:([^\]]*)\]")
_USAGE = re.compile(r"\[usage:([^\]]*)\]")
_PARAMETER = re.compile(r'([a-z_0-9]+)=(?:"([^"]*)"|(\S+))')


class AskError(Exception):
    """The request asks for something the provider does not know; it answers 400 and says what."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens to report. `input` is everything sent, cache reads and writes included, for every API."""

    input: int = 11
    output: int = 7
    cached: int = 0
    cache_write: int = 0
    """All cache writes, those kept for one hour included."""
    cache_write_1h: int = 0
    reasoning: int = 0
    audio: int = 0
    audio_output: int = 0
    accepted: int = 0
    rejected: int = 0
    web_search: int = 0
    cost: float | None = None
    """USD as OpenRouter reports it; only sent when asked for."""


@dataclass(frozen=True, slots=True)
class Ask:
    scenario: str = "plain"
    params: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    usage: Usage = Usage()
    text: str = ""

    def option(self, header: str, param: str | None = None) -> str | None:
        found = self.headers.get(f"x-{header}")
        return found if found is not None else self.params.get(param or header.replace("-", "_"))

    def whole(self, name: str, default: int) -> int:
        return _number(name, self.params.get(name), default)

    def seconds(self, name: str, default: float) -> float:
        try:
            asked = float(self.params.get(name, default))
        except ValueError:
            raise AskError(f"{name} must be a number of seconds, found {self.params[name]}") from None
        return min(max(asked, 0.0), MAX_PAUSE_SECONDS)

    @property
    def events(self) -> int:
        return max(1, _number("events", self.option("events"), 5))


def _number(name: str, value: str | None, default: int) -> int:
    if value is None:
        return default
    try:
        return int(value)
    except ValueError:
        raise AskError(f"{name} must be a whole number, found {value}") from None


def _parameters(text: str) -> dict[str, str]:
    return {name: quoted or bare for name, quoted, bare in _PARAMETER.findall(text)}


def _read_usage(text: str) -> Usage:
    known = {item.name for item in fields(Usage)}
    values: dict[str, Any] = {}
    for name, value in _parameters(text).items():
        if name not in known:
            raise AskError(f"unknown usage {name}; known: {', '.join(sorted(known))}")
        values[name] = float(value) if name == "cost" else _number(name, value, 0)
    usage = Usage(**values)
    if usage.cache_write_1h > usage.cache_write:
        usage = replace(usage, cache_write=usage.cache_write_1h)
    return usage


def read_ask(headers: Mapping[str, str], text: str) -> Ask:
    """The scenario, its parameters and the usage. `text` is the last thing the user said."""
    asked = headers.get("x-scenario")
    usage_text = headers.get("x-usage")
    if "[" in text:
        if asked is None and (found := _SCENARIO.search(text)):
            asked = found[1]
        if usage_text is None and (found := _USAGE.search(text)):
            usage_text = found[1]
    usage = Usage() if usage_text is None else _read_usage(usage_text)
    if asked is None:
        return Ask(headers=headers, usage=usage, text=text)
    name, _, rest = asked.strip().partition(" ")
    if name not in SCENARIOS:
        raise AskError(f"unknown scenario {name}; known: {', '.join(sorted(SCENARIOS))}")
    return Ask(name, _parameters(rest), headers, usage, text)


def last_text(body: Mapping[str, Any]) -> str:
    """The text the newest user turn or tool result carries, whichever API the body belongs to."""
    turns = body.get("messages", body.get("input", body.get("prompt", "")))
    if isinstance(turns, str):
        return turns
    if not isinstance(turns, list):
        return ""
    for turn in reversed(turns):
        if isinstance(turn, str):
            return turn
        if not isinstance(turn, dict):
            return ""
        if turn.get("role") in ("user", "tool") or turn.get("type") == "function_call_output":
            return _text_of(turn.get("content", turn.get("output", "")))
    return ""


def _text_of(content: Any) -> str:
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        return ""
    parts = [_text_of(part.get("text", part.get("content"))) for part in content if isinstance(part, dict)]
    return "\n".join(part for part in parts if part)

"""Text in which names stand before values: JSON and YAML as text, `KEY=value`, DSNs, headers, commands, XML, reprs.

The text is searched for names with what ties them to a value; a value behind the name of a credential is masked as far
as it reaches: to its closing quote or bracket, to the next separator, or to the end of its line or block. Nothing needs
to be well formed.
"""

from __future__ import annotations

import re
from functools import lru_cache

from otel_llmlog.redact.names import Holds, holds
from otel_llmlog.redact.shapes import MASK

_NAMED = re.compile(
    # A name, quoted or not, and an equals sign or a colon;
    r"(?<![\w.$-])(?P<name>[\w.$-]++)(?:(?P<quote>\\*+[\"'`])?+\]?+[ \t]*+(?P<sign>=++>?|:=|:(?!//))[ \t]*+"
    # two strings of a list, as in a repr of headers;
    r"|\\*+[\"']\s*+(?P<comma>,)\s*+(?=[bru]?\\*+[\"']))"
    # an option of a command.
    r"|(?<![\w-])(?P<option>--?[A-Za-z][\w.-]*+)[ \t]++(?=[^-\s])"
)
_OPENING = re.compile(r"[bBfFrRuU]{0,2}(\\*)(\"\"\"|'''|[\"'`])")
_QUOTED = {quote: re.compile(rf"(?:[^{quote}\\]|\\.|{quote}{quote})*+", re.DOTALL) for quote in "\"'`"}
_BRACKETS = re.compile(r"\"(?:[^\"\\]|\\.)*+\"|'(?:[^'\\\n]|\\.)*+'|[{}\[\]()]", re.DOTALL)
_NOTHING = re.compile(
    r"(?:null|none|nil|true|false)(?=[\s,;&}\])]|\Z)|(?=[\r\n,;&}\])]|\Z)|\"\"(?!\")|''(?!')", re.IGNORECASE
)
_COUNT = re.compile(r"\d{1,11}(?=[\s,;&}\])]|\Z)")
_BLOCK = re.compile(r"(?:[|>][+-]?\d?[+-]?)?[ \t]*+(?:#[^\n]*+)?\r?\n")
_LINE = re.compile(r"([ \t]*+)([^\n]*+)\n?")
_TO_LINE_END = re.compile(r"[^\r\n]*+")
_TO_COMMA = re.compile(r"[^\r\n,}\]]*+")
_TO_SPACE = re.compile(r"[^\s;&]*+")
_TO_WORD_END = re.compile(r"\S*+")
# What may stand before a name that begins a line: there a value reaches to its end, spaces and all.
_LINE_BEGIN = re.compile(r"(?:\A|\n)([ \t]*)(?:(?:export|set|setx|ENV|ARG|env)[ \t]+)?\Z")
_WINDOW = 100
_LINES = frozenset({"cookie", "authorization"})

# Where name and value have a field each, how many fields may stand between them.
_REACH = 3
_NAME_FIELDS = frozenset(
    {"name", "key", "field", "header", "variable", "env", "param", "parameter", "property", "setting"}
)
_VALUE_FIELDS = frozenset({"value", "val", "content", "data", "default", "secretvalue", "stringvalue", "newvalue"})
# A string that is a name itself, not the second of two in a list.
_IS_NAME = re.compile(r"[bru]?\\*[\"'][\w.$-]{1,128}+\\*[\"']\s*+[:=]")
_NAME_GIVEN = re.compile(r"\\*[\"'`]?([\w.$-]{1,128})")

_ELEMENT = re.compile(r"<(?:[\w-]{1,64}:)?([\w.-]{1,128})(?:\s[^<>]{0,500}+)?>([^<]++)")
_UNNAMED = re.compile(
    # .netrc; .pgpass; a user's name and password for curl; mysql's and sshpass' short option;
    r"(?P<netrc>\blogin\s+\S{1,200}\s+password\s+)\S+"
    r"|(?P<pgpass>^[^\s:#]{1,253}:(?:\d{1,5}|\*):[^\s:]{1,128}:[^\s:]{1,128}:)\S+$"
    r"|(?P<user>(?<![\w-])(?:-u|--user)[ =]{0,4}[\"']?)[^\s\"':-][^\s\"':]{0,199}:[^\s\"']+"
    r"|(?P<short>\b(?:mysql|mariadb|sshpass)\w{0,10}\b[^\n]{0,200}?\s-p\s?)(?![\s-])\S+"
    # a DSN without a scheme: Go's and Oracle's.
    r"|(?<![\w.@/:+-])[\w.+-]{1,128}+[:/][^\s@/:]{1,256}@(?=tcp\(|unix\(|\(|//[\w.-]|(?!sha)[\w.-]{1,253}:\d)",
    re.MULTILINE,
)


def mask_assignments(text: str) -> str:
    """The text with the values masked that stand behind names of credentials."""
    text = _unnamed(text)
    spans = _spans(text)
    if spans:
        kept: list[str] = []
        at = 0
        for start, end in sorted(spans):
            if start >= at:
                kept += text[at:start], MASK
            at = max(at, end)
        text = "".join([*kept, text[at:]])
    if "</" in text:
        text = _ELEMENT.sub(_element, text)
    return text


def _unnamed(text: str) -> str:
    if "@" in text or "-p" in text or "-u" in text or "password" in text or text.count(":") >= 4:
        return _UNNAMED.sub(lambda found: (found[found.lastgroup] if found.lastgroup else "") + MASK, text)
    return text


def _element(found: re.Match[str]) -> str:
    if holds(found[1]) is not Holds.CREDENTIAL or not found[2].strip():
        return found[0]
    return found[0][: found.start(2) - found.start()] + MASK


def _spans(text: str) -> list[tuple[int, int]]:
    """Where values of credentials stand."""
    spans: list[tuple[int, int]] = []
    at = number = 0
    armed = last_value = -_REACH - 1  # numbers of the names behind which the value, or before which the name, may come
    value_at = 0
    while (found := _NAMED.search(text, at)) is not None:
        at = found.end()
        number += 1
        name = found["name"] or found["option"]
        kind = holds(name)
        lower = name.lower()
        if lower in _NAME_FIELDS:
            given = _NAME_GIVEN.match(text, at)
            if given and holds(given[1]) is Holds.CREDENTIAL:
                armed = number
                if number - last_value <= _REACH and value_at:
                    spans.append(_reach(text, value_at, found))
                    value_at = 0
        elif lower in _VALUE_FIELDS:
            last_value, value_at = number, at
            if number - armed <= _REACH:
                kind, armed = Holds.CREDENTIAL, -_REACH - 1
        if kind is Holds.NOTHING or _NOTHING.match(text, at) or (kind is Holds.CREDENTIALS and _COUNT.match(text, at)):
            if kind is Holds.CREDENTIAL and found["sign"] == ":" and (block := _block(text, found)):
                spans.append(block)
                at = block[1]
            continue
        if found["comma"] and _IS_NAME.match(text, at):
            continue
        span = _reach(text, at, found)
        if span[1] > span[0]:
            spans.append(span)
            at = span[1]
    return spans


def _reach(text: str, at: int, found: re.Match[str]) -> tuple[int, int]:
    """From where to where the value at `at` reaches. `found`: the name before it, or of the same kind as that."""
    sign, quote = found["sign"], found["quote"]
    if opening := _OPENING.match(text, at):
        return opening.end(), _closing_quote(text, opening)
    if sign == ":" and (block := _block(text, found)):
        return block
    if found["option"]:
        ends = _TO_WORD_END
    elif any(word in (found["name"] or "").lower() for word in _LINES) and not quote:
        ends = _TO_LINE_END
    elif sign == ":":
        ends = _TO_COMMA if quote else _TO_LINE_END
    else:
        before = text[max(0, found.start() - _WINDOW) : found.start()]
        ends = _TO_LINE_END if _LINE_BEGIN.search(before) else _TO_SPACE
    end = ends.match(text, at).end()  # type: ignore[union-attr] # each matches nothing, too
    if text[at : at + 1] in {"{", "[", "("}:
        closed = _closing_bracket(text, at)
        end = closed if sign == ":" else max(end, closed)
    return at, end


def _closing_quote(text: str, opening: re.Match[str]) -> int:
    slashes, quote = len(opening[1]), opening[2]
    start = opening.end()
    if len(quote) == 3:
        end = text.find(quote, start)
        return len(text) if end < 0 else end
    if slashes:
        closing = _escaped(slashes, quote).search(text, start)
        return closing.start() if closing else len(text)
    return _QUOTED[quote].match(text, start).end()  # type: ignore[union-attr] # it matches nothing, too


@lru_cache(maxsize=64)
def _escaped(slashes: int, quote: str) -> re.Pattern[str]:
    """A quote behind just so many backslashes: with more of them it belongs to the value."""
    return re.compile(rf"(?<!\\)\\{{{min(slashes, 64)}}}{quote}")


def _closing_bracket(text: str, at: int) -> int:
    depth = 0
    for found in _BRACKETS.finditer(text, at):
        if found[0] in "{[(":
            depth += 1
        elif found[0] in ")]}":
            depth -= 1
            if depth <= 0:
                return found.end()
    return len(text)


def _block(text: str, found: re.Match[str]) -> tuple[int, int] | None:
    """The lines below `name:` or `name: |` that are indented deeper, or a list at its own depth."""
    begin = _BLOCK.match(text, found.end())
    if begin is None:
        return None
    before = text[max(0, found.start() - _WINDOW) : found.start()]
    line = before[before.rfind("\n") + 1 :]
    indent = len(line) - len(line.lstrip(" \t"))
    at = end = begin.end()
    start = -1
    while at < len(text) and (one := _LINE.match(text, at)):
        if one[2].strip():
            deeper = len(one[1]) > indent or (len(one[1]) == indent and one[2].startswith("- "))
            if not deeper:
                break
            start, end = one.start(2) if start < 0 else start, one.end(2)
        at = one.end()
    return None if start < 0 else (start, end)

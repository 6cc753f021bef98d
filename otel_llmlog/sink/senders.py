"""Senders by their tokens: who sends, and on which team it is booked.

Always true: a token is compared by its hash, in constant time; the file holds hashes alone, so who reads it can send
nothing. What several headers say together is no credential (RFC 9110, 5.3 and 11.4; RFC 6750, 2.1).
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

from otel_llmlog.config import SinkSettings
from otel_llmlog.errors import ConfigError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_HASH = re.compile(r"[0-9a-f]{64}")
_CREDENTIALS = re.compile(rb"[Bb][Ee][Aa][Rr][Ee][Rr] +([!-~]+)")
# Characters of a team's name.
_LONGEST_TEAM = 512
ADVICE = "make a line with: llmlog sink token NAME --team TEAM"


class Sender(NamedTuple):
    """Who sends."""

    name: str = ""
    """Empty: nobody in particular, whom the operator trusts like the apps that log by themselves."""
    team: str | None = None
    """All of its calls are booked on this team; None: on whichever they name."""


ANYBODY = Sender()


class Senders:
    """Those who may send. Nobody need show a token where none is set."""

    def __init__(self, settings: SinkSettings) -> None:
        """Raises ConfigError when the file of tokens cannot be used."""
        self._by_hash: dict[bytes, Sender] = {}
        if settings.sink_tokens is not None:
            self._by_hash |= read(settings.sink_tokens)
        if settings.sink_token is not None:
            self._by_hash[sha256(settings.sink_token.get_secret_value().encode()).digest()] = ANYBODY
        self._open = settings.sink_token is None and settings.sink_tokens is None

    def who(self, authorization: Sequence[str | bytes]) -> Sender | None:
        """Whose token all headers of that name show; None: nobody's."""
        if self._open:
            return ANYBODY
        given = [one.encode("utf-8", "replace") if isinstance(one, str) else one for one in authorization]
        shown = _CREDENTIALS.fullmatch(b", ".join(given).strip(b" \t"))
        digest = sha256(shown[1] if shown else b"").digest()
        found = None
        # All of them are looked at, so that time tells nothing. They are few, and a digest cannot be steered anyway.
        for known, sender in self._by_hash.items():
            if hmac.compare_digest(known, digest):
                found = sender
        return found


def read(path: Path) -> dict[bytes, Sender]:
    """Senders by the hash of their token: a line each, name, SHA-256 in hex, team or nothing. Raises ConfigError."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        raise ConfigError(f"LLMLOG_SINK_TOKENS {path} is no readable file of text") from None
    found: dict[bytes, Sender] = {}
    teams: dict[str, str | None] = {}
    for number, line in enumerate(lines, 1):
        name, digest, team = [*line.split(maxsplit=2), "", "", ""][:3]
        if not name or name.startswith("#"):
            continue
        team = team.strip()
        wrong = _wrong(name, digest, team)
        if wrong is None and bytes.fromhex(digest) in found:
            wrong = "the token stands in a line above"
        if wrong is None and teams.setdefault(name, team or None) != (team or None):
            wrong = f"{name} has another team in a line above"
        if wrong is not None:
            raise ConfigError(f"LLMLOG_SINK_TOKENS {path}, line {number}: {wrong}; {ADVICE}")
        found[bytes.fromhex(digest)] = Sender(name, team or None)
    if not found:
        raise ConfigError(f"LLMLOG_SINK_TOKENS {path} holds no line; {ADVICE}")
    return found


def line(name: str, token: str, team: str | None) -> str:
    """The line of a token. Raises ConfigError."""
    digest = sha256(token.encode()).hexdigest()
    if (wrong := _wrong(name, digest, team or "")) is not None:
        raise ConfigError(wrong)
    return f"{name} {digest} {team}" if team else f"{name} {digest}"


def _wrong(name: str, digest: str, team: str) -> str | None:
    if not _NAME.fullmatch(name):
        return "a name has letters, digits, '_', '.' and '-', 64 at most, and begins with a letter or digit"
    if not _HASH.fullmatch(digest):
        return f"what follows {name} must be the token's SHA-256 in 64 small hex digits, never the token"
    if len(team) > _LONGEST_TEAM or not team.isprintable():
        return f"a team has {_LONGEST_TEAM} printable characters at most"
    return None

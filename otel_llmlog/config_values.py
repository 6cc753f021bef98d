"""How settings are written as text: lists, tables, periods, hosts and their providers.

Always true: what cannot be read raises ValueError that says what must stand there.
"""

from __future__ import annotations

import difflib
import json
import re
from datetime import timedelta
from typing import Any

from otel_llmlog.provider_names import KNOWN, USUAL

_PERIOD = re.compile(r"\s*(\d{1,6})\s*([smhdw]?)\s*")
_PERIOD_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
# How alike a name must be to one that is known, to be taken for a slip of the finger.
_ALIKE = 0.75
_HOST = re.compile(r"[^\s/@?#]+")


def names(value: Any) -> Any:
    """Read `a,b,c`."""
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


def table(value: Any) -> Any:
    """Read `{"a": "b"}` or `a=b,c=d`."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("{"):
        try:
            return json.loads(value)
        except (ValueError, RecursionError) as error:
            raise ValueError("must be a JSON object or name=value pairs separated by commas") from error
    pairs = [part.partition("=") for part in value.split(",") if part.strip()]
    if not all(separator for _, separator, _ in pairs):
        raise ValueError("must be a JSON object or name=value pairs separated by commas")
    return {name.strip(): text.strip() for name, _, text in pairs}


def period(value: Any) -> timedelta | None:
    """Read `30d`, `12h`, `2w`, or days as a bare number."""
    if value is None or isinstance(value, timedelta):
        return value
    found = _PERIOD.fullmatch(str(value))
    read = timedelta(**{_PERIOD_UNITS[found[2] or "d"]: int(found[1])}) if found else timedelta()
    if not read:
        raise ValueError("must be a period such as 30d, 12h or 2w, or a number of days")
    return read


def hosts(providers: dict[str, str]) -> dict[str, str]:
    """Hosts in lower case, each with its provider: a known one, or a name of one's own that is like none."""
    for host, provider in providers.items():
        if not _HOST.fullmatch(host):
            raise ValueError(
                f"must name hosts, without scheme and path, such as llm.corp.example=azure; {host!r} is none"
            )
        if not provider:
            raise ValueError(f"must name a provider for {host!r}")
        if meant := _meant(provider):
            raise ValueError(f"must name providers, and {provider!r} is none; did you mean {meant}?")
    return {host.lower(): provider for host, provider in providers.items()}


def _meant(provider: str) -> str | None:
    """The known provider of which this is a misspelling; None for a known one, and for a name of one's own."""
    if provider in KNOWN:
        return None
    for form in (provider.lower(), provider.lower().replace("-", "_")):
        if form in KNOWN:
            return form
    near = difflib.get_close_matches(provider.lower(), USUAL, n=1, cutoff=_ALIKE)
    # `openai-eu` and `azure2` are somebody's own; `openaii` is not.
    own = any(re.search(rf"(?:^|[^a-z]){re.escape(known)}(?:[^a-z]|$)", provider.lower()) for known in near)
    return None if own or not near else near[0]

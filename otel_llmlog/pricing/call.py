"""What of a call, beside its model, its unit prices depend on: short words that repeat, fit for a key of a cache.

Always true: a word from outside is one of those that price lists know, or it is not here.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from otel_llmlog.payload import Usage
from otel_llmlog.pricing.names import tier_name

_SIZE = re.compile(r"(\d{2,5})x(\d{2,5})")
_WORD = re.compile(r"[a-z0-9-]{1,32}")
_SEARCH_SIZES = frozenset({"low", "medium", "high"})


class Call(NamedTuple):
    """The terms of one call."""

    tier: str | None = None
    """A service tier that has prices of its own."""
    search_size: str | None = None
    geo: str | None = None
    image_size: str | None = None
    """Such as 1024x1024."""
    image_quality: str | None = None

    @property
    def pixels(self) -> int:
        """Of each image made; 0 where that is not known."""
        match = _SIZE.fullmatch(self.image_size or "")
        return int(match[1]) * int(match[2]) if match else 0


PLAIN = Call()
# Places that are no place.
_ANYWHERE = frozenset({"global", "not_available"})


def call_of(usage: Usage) -> Call:
    """The terms that a usage names."""
    tier, search, geo = usage.service_tier, usage.web_search_context_size, usage.inference_geo
    size, quality = usage.image_size, usage.image_quality
    if tier is None and search is None and geo is None and size is None and quality is None:
        return PLAIN
    place = geo.lower() if geo else None
    return Call(
        None if tier is None else tier_name(tier),
        search if search in _SEARCH_SIZES else None,
        place if place and place not in _ANYWHERE and _WORD.fullmatch(place) else None,
        size if size and _SIZE.fullmatch(size) else None,
        quality if quality and _WORD.fullmatch(quality) else None,
    )

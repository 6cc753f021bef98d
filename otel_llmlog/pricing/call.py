"""What of a call, beside its model, its unit prices depend on: short words that repeat, fit for a key of a cache.

Always true: a word from outside is one of those that price lists know, or it is not here.
"""

from __future__ import annotations

import re
from functools import lru_cache
from operator import itemgetter
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


# Longer words are no terms, and not worth remembering.
_MAX_WORD = 64


def call_of(usage: Usage) -> Call:
    """The terms that a usage names."""
    words = _words(usage.__dict__)
    if not any(words):
        return PLAIN
    return _call(*(word if word and len(word) <= _MAX_WORD else None for word in words))


_words = itemgetter("service_tier", "web_search_context_size", "inference_geo", "image_size", "image_quality")


# An app's calls have few terms between them.
@lru_cache(maxsize=1024)
def _call(tier: str | None, search: str | None, geo: str | None, size: str | None, quality: str | None) -> Call:
    place = geo.lower() if geo else None
    return Call(
        None if tier is None else tier_name(tier),
        search if search in _SEARCH_SIZES else None,
        place if place and place not in _ANYWHERE and _WORD.fullmatch(place) else None,
        size if size and _SIZE.fullmatch(size) else None,
        quality if quality and _WORD.fullmatch(quality) else None,
    )

"""What is kept of single values from untrusted places: names, headers, ids of objects."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from otel_llmlog.config import SENDER_MARK
from otel_llmlog.redact.keys import key_hash
from otel_llmlog.redact.names import is_credential
from otel_llmlog.redact.shapes import MASK, is_shape, mask_shapes
from otel_llmlog.redact.structures import mask
from otel_llmlog.redact.text import MAX_NAME, clean, cut, short
from otel_llmlog.redact.urls import mask_path, mask_relative, mask_urls

# Headers that SDKs add by themselves: generated ones describe themselves, nine to a request; AWS's sign the request,
# and one of them is a hash of its content.
_SDK_HEADERS = ("x-stainless-", "x-amz-")
# Names of models as providers, gateways and local servers have them: `ft:gpt-4o:org::id`, `@cf/meta/llama`, an ARN.
_MODEL = re.compile(r"[\w@][\w.:/@+~,=-]{0,255}")


def name(value: Any) -> str | None:
    """A name from an untrusted place, as clean text, made `short`; None when it is no name.

    Credentials in it are masked. A name that is nothing but one keeps apart from other such names by a part of its
    hash: sessions and users do not become one.
    """
    if isinstance(value, str):
        return short(_name(value[: 2 * MAX_NAME]), value) or None
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value) if -(10**18) < value < 10**18 else None
    return None


# Models, users and teams come again and again.
@lru_cache(maxsize=4096)
def _name(given: str) -> str:
    if is_shape(given):
        return f"{MASK}-{hashlib.sha256(given.encode('utf-8', 'replace')).hexdigest()[:12]}"
    return clean(mask(given)).replace(SENDER_MARK, ">")


def model(value: Any) -> str | None:
    """The name of a model; None for what does not look like one: anything else in its place could be content."""
    return name(value) if isinstance(value, str) and _MODEL.fullmatch(value) else None


@lru_cache(maxsize=1024)  # an app calls a few paths all the time
def route(path: str) -> str | None:
    """The path of a URL as a name, tokens in it masked."""
    return name(mask_path(path))


def base_url(url: str) -> str:
    """A URL from an untrusted place without user info, query and fragment, tokens in its path masked."""
    scheme, separator, rest = re.split(r"[?#]", url[: 2 * MAX_NAME], maxsplit=1)[0].rpartition("://")
    host, slash, path = rest.partition("/")
    return name(f"{scheme}{separator}{host.rpartition('@')[2]}{slash}{mask_path(path)}") or ""


def url(given: str) -> str:
    """A URL, whole or from its path on, or its query: with the credentials in it masked."""
    return mask_shapes(mask_urls(given) if "://" in given else mask_relative(given))


def text(given: str, limit: int) -> str:
    """A text from an untrusted place, an error's message say: clean, masked, and then cut to `limit` characters.

    Of a very long one only its ends are looked at, and more of them than is kept.
    """
    return clean(cut(mask(cut(given, max(4 * limit, 1 << 16))), limit))


def object_id(given: str) -> str:
    """The name of an object from an untrusted place: a raw key is hashed, as LiteLLM names its keys."""
    return key_hash(given) if given.startswith("sk-") else short(mask(given[: 2 * MAX_NAME]), given)


def custom_headers(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    """The caller's own `x-` headers, not those in which an SDK describes itself; credentials are masked."""
    return {
        clean(mask(lower[:MAX_NAME])): MASK if is_credential(lower) else _header(value)
        for field, value in headers
        if (lower := field.lower()).startswith("x-") and not lower.startswith(_SDK_HEADERS)
    }


@lru_cache(maxsize=1024)
def _header(value: str) -> str:
    return clean(mask(value[: 2 * MAX_NAME]))[:MAX_NAME]

"""Pure rules for what may leave the process: key hashing, credential masks, clean text, cut content.

The one home of what a credential looks like: by its name (`names`), by its shape (`shapes`), in URLs (`urls`), in text
(`assignments`), in data and in what is encoded (`structures`).

Always true: nothing returned here holds a raw key, a NUL or a lone surrogate (Postgres and OTLP refuse both);
cost is linear in the input and nesting is bounded.
"""

from otel_llmlog.redact.fields import base_url, custom_headers, model, name, object_id, route, text, url
from otel_llmlog.redact.keys import key_hash, key_id
from otel_llmlog.redact.names import is_credential
from otel_llmlog.redact.shapes import MASK
from otel_llmlog.redact.structures import mask, masked
from otel_llmlog.redact.text import MAX_DEPTH, MAX_NAME, TOO_DEEP, beginning, clean, cut, short, storable

__all__ = [
    "MASK", "MAX_DEPTH", "MAX_NAME", "TOO_DEEP", "base_url", "beginning", "clean", "custom_headers", "cut",
    "is_credential", "key_hash", "key_id", "mask", "masked", "model", "name", "object_id", "route", "short", "storable",
    "text", "url",
]  # fmt: skip

"""The short text fields of a form that a client streams: what a request of audio or images asks for is in them.

A client builds such a body piece by piece, files included, so there are no bytes to look at; but it has the fields.
"""

from __future__ import annotations

import json
from typing import Any

from otel_llmlog.providers import forms


def fields(path: str, form: Any) -> bytes | None:
    """The fields as a JSON object, from a MultipartStream of httpx or a FormData of aiohttp; None for all else."""
    if path.rstrip("/").rpartition("/")[2] not in forms.PATHS:
        return None
    found: dict[str, str] = {}
    for field in getattr(form, "fields", ()):
        name, value = getattr(field, "name", None), getattr(field, "value", None)
        _add(found, name, value)
    for field in getattr(form, "_fields", ()):
        if isinstance(field, tuple) and len(field) == 3 and "filename" not in field[0]:
            _add(found, field[0].get("name"), field[2])
    return json.dumps(found).encode() if found else None


def _add(found: dict[str, str], name: Any, value: Any) -> None:
    if isinstance(value, bytes):
        value = value[: forms.MAX_FIELD].decode("utf-8", "replace")
    if isinstance(name, str) and isinstance(value, str) and len(value) < forms.MAX_FIELD:
        found[name] = value

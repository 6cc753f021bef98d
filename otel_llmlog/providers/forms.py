"""Forms (`multipart/form-data`) out of a request's body: their short text fields, never a file.

Source of the rules: RFC 7578. Always true: no input raises; time is linear in the size; a field that is cut off, or
longer than any parameter, is passed over.
"""

from __future__ import annotations

import re

# Paths, by their last segment, of APIs that take a form.
PATHS = frozenset({"edits", "variations", "transcriptions", "translations"})
# Bytes of one field that are read, and fields of one form. Files come as fields with a file name.
MAX_FIELD = 1 << 16
_MAX_FIELDS = 256
_NAME = re.compile(rb'content-disposition:\s*form-data;\s*name="([^"\r\n]{1,64})"\s*(?:\r?\n|$)', re.IGNORECASE)


def is_form(body: bytes) -> bool:
    """Whether a body begins as a form does."""
    return body.startswith(b"--")


def fields(body: bytes) -> dict[str, str]:
    """The text fields of a form by their names; of those with one name the last one."""
    boundary, _, _ = body[:256].partition(b"\r\n")
    if len(boundary) < 3 or len(boundary) > 200:
        return {}
    found: dict[str, str] = {}
    at, end = len(boundary) + 2, 0
    for _ in range(_MAX_FIELDS):
        end = body.find(b"\r\n" + boundary, at)
        if end < 0:
            break
        head, _, value = body[at : min(end, at + MAX_FIELD)].partition(b"\r\n\r\n")
        name = _NAME.search(head + b"\n")
        if name is not None and end - at < MAX_FIELD:
            found[name[1].decode("utf-8", "replace")] = value.decode("utf-8", "replace")
        at = end + len(boundary) + 4
    return found

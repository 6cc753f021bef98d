"""Rows -> COPY text, the form in which Postgres takes rows fastest.

Always true: what is returned is valid UTF-8 without NUL, one line a row, and Postgres reads back the very values.
Whoever makes the fields of a row escapes them: most have nothing to escape, and one look at all of them tells.
"""

from __future__ import annotations

from collections.abc import Sequence

from otel_llmlog.redact import clean

# A field that is NULL. A text of these two characters is escaped to three.
NULL = r"\N"

# Fields as `field` makes them.
Row = Sequence[str]


def lines(rows: Sequence[Row]) -> tuple[bytes, Sequence[Row]]:
    """Rows of one table as COPY text, and as they are then stored: characters that no column holds are replaced."""
    try:
        text = "\n".join(map("\t".join, rows)).encode()
    except UnicodeEncodeError:
        return lines([tuple(map(clean, row)) for row in rows])
    return text + b"\n" if rows else b"", rows


def is_plain(text: str) -> bool:
    """Whether a text, or texts put together, has nothing to escape."""
    return not ("\\" in text or "\n" in text or "\t" in text or "\r" in text or "\0" in text)


def field(text: str | None) -> str:
    """A value, as the text that Postgres reads for its column, as a field."""
    if text is None:
        return NULL
    if is_plain(text):
        return text
    text = clean(text).replace("\\", "\\\\")
    return text.replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")


def value(field: str) -> str | None:
    """The value of a field: the inverse of `field`."""
    if field == NULL:
        return None
    # Cut at the escaped backslashes first: what is left of backslashes in the pieces begins another escape.
    pieces = field.split("\\\\")
    return "\\".join([piece.replace("\\t", "\t").replace("\\n", "\n").replace("\\r", "\r") for piece in pieces])

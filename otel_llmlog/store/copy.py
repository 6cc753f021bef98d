"""Rows -> COPY text, the form in which Postgres takes rows fastest.

Always true: what is returned is valid UTF-8 without NUL, one line a row, and Postgres reads back the very values.
"""

from __future__ import annotations

from collections.abc import Sequence

from otel_llmlog.redact import clean

_NULL = r"\N"


def lines(rows: Sequence[Sequence[str | None]]) -> bytes:
    """Rows of one table, each value as the text Postgres reads for its column, None as NULL."""
    text = "\n".join(["\t".join([_NULL if value is None else value for value in row]) for row in rows])
    # Most rows need no escape at all, and one look at all of them is cheaper than one at each value.
    if (
        rows
        and text.count("\\") == sum([row.count(None) for row in rows])
        and text.count("\t") == len(rows) * (len(rows[0]) - 1)
        and text.count("\n") == len(rows) - 1
        and "\r" not in text
        and "\0" not in text
    ):
        try:
            return (text + "\n").encode()
        except UnicodeEncodeError:
            pass
    return b"".join([_line(row) for row in rows])


def _line(row: Sequence[str | None]) -> bytes:
    return ("\t".join([_NULL if value is None else _escaped(value) for value in row]) + "\n").encode()


def _escaped(text: str) -> str:
    text = clean(text).replace("\\", "\\\\")
    if text.isprintable():
        return text
    return text.replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")

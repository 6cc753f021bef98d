"""How things look in a terminal, as JSON and as CSV.

Always true: text from the database, from files and from people is never markup; no control character, no character that
changes the direction of text and none that is invisible reaches a terminal or a file as it is; JSON says the same when
it is parsed; no cell of CSV begins a formula.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

import typer
from rich.box import SIMPLE_HEAD
from rich.style import Style
from rich.table import Table
from rich.text import Text

BAR_CELLS = 24
# Terminals narrower than this get fewer columns rather than cut ones.
NARROW = 120
_PARTS = " ▏▎▍▌▋▊▉█"
# Printable by Python's rules, and yet nothing is seen of them: joiners, fillers, selectors of variants.
# https://www.unicode.org/reports/tr44/#Default_Ignorable_Code_Point
_INVISIBLE = re.compile("[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]")
# What programs for tables take for the begin of a formula, in Latin and in full width.
_FORMULA = "=+-@\uff1d\uff0b\uff0d\uff20"
_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?", re.ASCII)
_QUOTED = re.compile(r"[^\w.:+/@ -]")


def plain(value: Any) -> Any:
    """A value as JSON knows it: money exact, as text; times in ISO 8601, durations in seconds."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    return value


def as_json(value: Any) -> str:
    """One line of JSON."""
    return escaped(json.dumps(plain(value), ensure_ascii=False))


def as_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """A header and a line a row."""
    if not rows:
        return ""
    return "\n".join([csv_line(rows[0]), *(csv_line(row.values()) for row in rows)])


def csv_line(cells: Iterable[Any]) -> str:
    """One line of CSV. Control characters are written as in JSON: what follows a line break is no line of its own."""
    return ",".join(map(_cell, cells))


def _cell(value: Any) -> str:
    value = plain(value)
    if isinstance(value, dict | list):
        value = as_json(value)
    shown = "" if value is None else str(value)
    # Programs pass over spaces and the like to find a formula behind them.
    begin = next((c for c in shown if not (c.isspace() or is_hidden(c))), "")
    if ((begin and begin in _FORMULA) or shown[:1] in {"\t", "\r", "\n"}) and not _NUMBER.fullmatch(shown):
        shown = f"'{shown}"
    shown = escaped(shown)
    # Quoted wherever another separator, or anything else that may mean something, stands in it.
    return '"' + shown.replace('"', '""') + '"' if _QUOTED.search(shown) else shown


def is_hidden(character: str) -> bool:
    """Whether nothing is seen of a character, or it does something to others."""
    return not character.isprintable() or _INVISIBLE.match(character) is not None


def escaped(shown: str) -> str:
    """Hidden characters as JSON writes them, `\\u001b`; all others as they are."""
    if shown.isprintable() and not _INVISIBLE.search(shown):
        return shown
    return "".join(json.dumps(c)[1:-1] if is_hidden(c) else c for c in shown)


def line(value: Any) -> str:
    """A value as one line of text, for what is not in a table."""
    shown = "" if value is None else str(value)
    if shown.isprintable() and not _INVISIBLE.search(shown):
        return shown
    # Selectors of variants stand behind signs that are drawn in colour: there they are meant.
    return "".join("\ufffd" if is_hidden(c) and c not in "\ufe0e\ufe0f" else c for c in shown)


def say(told: str, *, err: bool = False) -> None:
    """Print lines on stdout, or on stderr. Line breaks in them are the caller's own: values go through `line`."""
    typer.echo("\n".join(map(line, told.split("\n"))), err=err)


def text(value: Any, style: str = "") -> Text:
    """A value as one line of text: control characters of hostile names cannot reach the terminal."""
    return Text(line(value), style=style, overflow="ellipsis", no_wrap=True)


def linked(cell: Text, url: str | None) -> Text:
    """The same text as a link, where the terminal knows links."""
    if url is not None:
        cell.stylize(Style(link=url))
    return cell


def money(value: Decimal | None) -> Text:
    """US dollars, with as many digits as a small call needs; an unknown price is said to be unknown."""
    if value is None:
        return Text("unknown", style="yellow", justify="right")
    digits = 2 if abs(value) >= 100 else 4 if abs(value) >= Decimal("0.01") else 6
    return Text(f"${value:,.{digits}f}", justify="right")


def number(value: int | None) -> Text:
    """A count."""
    return Text("" if value is None else f"{value:,}", justify="right")


def seconds(value: float | None) -> Text:
    """A duration."""
    if value is None:
        return Text("")
    return Text(f"{value * 1000:.0f} ms" if value < 1 else f"{value:.1f} s", justify="right")


def bar(share: float, cells: int = BAR_CELLS) -> Text:
    """A horizontal bar, `share` of its full length."""
    eighths = round(max(0.0, min(1.0, share)) * cells * 8)
    return Text("█" * (eighths // 8) + _PARTS[eighths % 8].strip(), style="cyan", no_wrap=True)


def table(columns: Iterable[str], rows: Iterable[Sequence[Text]], footer: Sequence[Text] | None = None) -> Table:
    """A plain table; the columns' own texts decide how they are aligned."""
    cells = [list(row) for row in rows]
    made = Table(box=SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), show_footer=footer is not None)
    for at, name in enumerate(columns):
        right = bool(cells) and cells[0][at].justify == "right"
        shown = [row[at].cell_len for row in (*cells, *([footer] if footer else []))]
        made.add_column(
            name,
            footer=footer[at] if footer else "",
            no_wrap=True,
            justify="right" if right else "left",
            # A name may be cut to fit a narrow terminal; half a number or a time says something false.
            min_width=max(len(name), *shown) if right or len(set(shown)) == 1 else None,
        )
    for row in cells:
        made.add_row(*row)
    return made


def facts(value: Any) -> Table:
    """A dataclass as name and value, a line each."""
    made = Table(box=None, show_header=False, pad_edge=False)
    for name, item in plain(value).items():
        made.add_row(text(name.replace("_", " "), "bold"), text("-" if item is None else item))
    return made

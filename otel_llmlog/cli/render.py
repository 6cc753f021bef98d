"""How things look in a terminal, as JSON and as CSV. Text from the database is shown as it is, never as markup."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.style import Style
from rich.table import Table
from rich.text import Text

BAR_CELLS = 24
# Terminals narrower than this get fewer columns rather than cut ones.
NARROW = 120
_PARTS = " ▏▎▍▌▋▊▉█"


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
    return json.dumps(plain(value), ensure_ascii=False)


def as_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """A header and a line a row."""
    if not rows:
        return ""
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(plain(row) for row in rows)
    return out.getvalue().rstrip("\n")


def text(value: Any, style: str = "") -> Text:
    """A value as one line of text: control characters of hostile names cannot reach the terminal."""
    shown = "" if value is None else str(value)
    return Text(
        "".join(c if c.isprintable() else "\ufffd" for c in shown), style=style, overflow="ellipsis", no_wrap=True
    )


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

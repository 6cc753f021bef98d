"""The prices that a command works with: those of the settings, or of a price file given to it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from otel_llmlog import config
from otel_llmlog.pricing import Pricer, parse_price_map

PriceMap = Annotated[
    Path | None,
    typer.Option("--price-map", exists=True, dir_okay=False, help="A price file, in place of LLMLOG_PRICE_MAP."),
]


def pricer(price_map: Path | None) -> Pricer:
    """Prices of this file, else of the settings' one, and the built-in ones. Raises ConfigError."""
    path = price_map or config.load().pricing.price_map
    return Pricer(*parse_price_map(path.read_bytes(), str(path))) if path else Pricer()

"""The prices that a command works with: those of the settings, or of a price file given to it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from otel_llmlog import config, destination
from otel_llmlog.pricing import Pricer, parse_price_map

PriceMap = Annotated[
    Path | None,
    typer.Option("--price-map", exists=True, dir_okay=False, help="A price file, in place of LLMLOG_PRICE_MAP."),
]


def pricer(price_map: Path | None) -> Pricer:
    """Prices of this file, else of the settings' one, and the built-in ones. Raises ConfigError."""
    if price_map is None:
        return destination.pricer(config.load())
    return Pricer(*parse_price_map(destination.price_file(price_map, "--price-map", pipes=True), str(price_map)))

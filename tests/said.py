"""Settings as a file would say them."""

from __future__ import annotations

from typing import Any

from otel_llmlog.settings_file import Given


def said(**values: Any) -> dict[str, Given]:
    """Values for `Settings`, by name."""
    return {name: Given(value, f"LLMLOG_{name.upper()}") for name, value in values.items()}

"""Attributes as OTLP writes them, for spans and log records alike."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue


def pair(name: str, given: Any) -> KeyValue:
    """One attribute."""
    return KeyValue(key=name, value=value(given))


def value(given: Any) -> AnyValue:
    """One value."""
    if isinstance(given, str):
        return AnyValue(string_value=given)
    if isinstance(given, bool):
        return AnyValue(bool_value=given)
    if isinstance(given, int):
        return AnyValue(int_value=given) if -(1 << 63) <= given < 1 << 63 else AnyValue(double_value=float(given))
    if isinstance(given, float):
        return AnyValue(double_value=given)
    return AnyValue(array_value=ArrayValue(values=[value(item) for item in cast("Sequence[Any]", given)]))

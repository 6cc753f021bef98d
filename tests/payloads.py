"""Hypothesis strategies for whole payloads, made from the models themselves so that no field can be forgotten."""

from __future__ import annotations

import types
from decimal import Decimal
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from hypothesis import strategies as st
from pydantic import BaseModel

from otel_llmlog.payload import MAX_COUNT, CallPayload

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
INTEGERS = st.integers(0, MAX_COUNT)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | FLOATS | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=8,
)
MONEY = st.decimals(0, 10**6, places=12)


def _values(annotation: Any) -> st.SearchStrategy[Any]:
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _values(args[0])
    if origin in {Union, types.UnionType}:
        return st.one_of([_values(arg) for arg in args])
    if origin is Literal:
        return st.sampled_from(args)
    if origin is list:
        return st.lists(_values(args[0]), max_size=3)
    if origin is dict:
        return st.dictionaries(TEXT, _values(args[1]), max_size=3)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return models(annotation)
    return {
        type(None): st.none(),
        Any: JSON,
        str: TEXT,
        bool: st.booleans(),
        int: INTEGERS,
        float: FLOATS,
        Decimal: MONEY,
    }[annotation]


def models(model: type[BaseModel]) -> st.SearchStrategy[Any]:
    """Instances of a payload model with any of its fields set."""
    return st.builds(model, **{name: _values(info.annotation) for name, info in model.model_fields.items()})


PAYLOADS: st.SearchStrategy[CallPayload] = models(CallPayload)

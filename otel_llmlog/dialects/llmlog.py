"""Our own dialect: every field of `CallPayload` under `llmlog.<field>`, and back without loss.

Always true: `decode(encode(payload)) == payload`. A scalar is one attribute of its own type, a part of the payload
is its fields with a dotted prefix (`llmlog.metadata.user_api_key_team_id`), anything deeper is JSON text. A field
that is None, an empty list of strings, or a count of the usage that is 0 has no attribute; a part that is present but
empty is the text `{}`.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping
from decimal import Decimal
from functools import partial
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError
from pydantic_core import from_json, to_json

from otel_llmlog.errors import RowRejected
from otel_llmlog.payload import CallPayload, Usage

PREFIX = "llmlog."
# The attribute that tells a span of this dialect.
CALL_ID = PREFIX + "call_id"

Attribute = str | bool | int | float | tuple[str, ...]
Attributes = dict[str, Attribute]


class _Field(NamedTuple):
    name: str
    key: str
    write: Callable[[Any], Attribute] | None  # None: as it is
    fields: tuple[_Field, ...]  # of a part; () for a leaf
    sparse: bool  # an empty one has no attribute


class _Leaf(NamedTuple):
    path: tuple[str, ...]
    read: Callable[[Any], Any] | None


def _json(value: Any) -> str:
    return to_json(value).decode()


_read_json = partial(from_json, allow_inf_nan=False)


def _kinds(annotation: Any) -> set[Any]:
    """The types a field may have, without None."""
    if get_origin(annotation) in {Union, types.UnionType}:
        return {kind for kind in get_args(annotation) if kind is not type(None)}
    return {annotation}


def _optional(annotation: Any) -> bool:
    return type(None) in get_args(annotation)


def _table(model: type[BaseModel], prefix: str, path: tuple[str, ...]) -> tuple[_Field, ...]:
    fields = []
    for name, info in model.model_fields.items():
        key, here = prefix + name, (*path, name)
        kinds = _kinds(info.annotation)
        kind = next(iter(kinds))
        part = len(kinds) == 1 and isinstance(kind, type) and issubclass(kind, BaseModel)
        scalar = all(k in {str, int, float, bool} or get_origin(k) is Literal for k in kinds)
        write: Callable[[Any], Attribute] | None
        read: Callable[[Any], Any] | None
        if part:
            fields.append(_Field(name, key, None, _table(kind, key + ".", here), False))
            _LEAVES[key] = _Leaf(here, _read_json)
            continue
        if scalar:
            write, read = None, None
        elif kinds == {Decimal}:
            write, read = "{:f}".format, Decimal
        elif kinds == {list[str]} and not _optional(info.annotation):
            write, read = tuple, list
        else:
            write, read = _json, _read_json
        fields.append(_Field(name, key, write, (), write is tuple or (model is Usage and kinds == {int})))
        _LEAVES[key] = _Leaf(here, read)
    return tuple(fields)


_LEAVES: dict[str, _Leaf] = {}
_FIELDS = _table(CallPayload, PREFIX, ())


def is_field(key: str) -> bool:
    """Whether an attribute of this name is a field of the payload."""
    return key in _LEAVES


def encode(payload: CallPayload) -> Attributes:
    """Every field of the payload as span attributes."""
    attributes: Attributes = {}
    _encode(payload, _FIELDS, attributes)
    return attributes


def _encode(part: BaseModel, fields: tuple[_Field, ...], attributes: Attributes) -> None:
    values = part.__dict__
    for name, key, write, below, sparse in fields:
        value = values[name]
        if value is None:
            continue
        if below:
            before = len(attributes)
            _encode(value, below, attributes)
            if len(attributes) == before:
                attributes[key] = "{}"
        elif value or not sparse:
            attributes[key] = value if write is None else write(value)


def decode(attributes: Mapping[str, Any]) -> CallPayload:
    """The payload that these attributes describe; attributes of other dialects are passed over.

    Raises RowRejected, saying which field, when they do not form a payload.
    """
    root: dict[str, Any] = {}
    for key, value in attributes.items():
        leaf = _LEAVES.get(key)
        if leaf is None:
            continue
        path, read = leaf
        try:
            found = value if read is None else read(value)
        except (ValueError, TypeError, ArithmeticError) as error:
            raise RowRejected(f"{key} is not readable: {type(error).__name__}") from None
        here = root
        for step in path[:-1]:
            here = here.setdefault(step, {})
            if not isinstance(here, dict):
                raise RowRejected(f"{key} contradicts {PREFIX}{step}, which is no object")
        here[path[-1]] = found
    try:
        return CallPayload.model_validate(root)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(str(step) for step in first["loc"])
        raise RowRejected(f"{PREFIX}{where}: {first['msg']}") from None

"""Fields of the payload that have no column -> one JSON object, nested as the payload nests them.

Always true: which fields these are is read from the payload model, so a new one cannot be forgotten. The model is
read once, at import, into tables of attribute names: this is nearly half of the hot path.
"""

from __future__ import annotations

import types
from decimal import Decimal
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin

import msgspec
from pydantic import BaseModel

from otel_llmlog.dialects.llmlog import PREFIX
from otel_llmlog.redact import storable
from otel_llmlog.store.values import Odd, document, storable_document

# Where two fields would meet under one name, or LiteLLM's rows have a name for one.
RENAMED = {"metadata.guardrail_information": "metadata_guardrail_information", "usage": "usage_object"}
# Parts that nearly every call has. The others stand behind them, to be passed over with one look.
_COMMON = ("usage", "model_map_information", "hidden_params.additional_headers")

Fields = list[tuple[str, Any]]
_encode = msgspec.json.Encoder().encode


class Part(NamedTuple):
    """A JSON object to be written from values that stand side by side: marker, leaves, documents, parts inside."""

    name: str
    names: tuple[str, ...]  # of the leaves
    documents: tuple[str, ...]  # names of the leaves that arrive as JSON text
    common: tuple[Part, ...]
    rare: tuple[Part, ...]
    counts: bool  # of a usage, where 0 says no more than nothing
    first: int  # the marker: the attribute that says "present but empty"
    leaves_end: int
    documents_end: int
    rare_first: int
    end: int


def fields(model: type[BaseModel], path: str, taken: frozenset[str]) -> Fields:
    """Path and type of each field that is not `taken`."""
    here = ((f"{path}.{name}" if path else name, info) for name, info in model.model_fields.items())
    return [(field, info.annotation) for field, info in here if field not in taken]


def part(path: str, found: Fields, taken: frozenset[str], keys: list[str]) -> Part:
    """The table for the object of these fields; the attributes it needs are added to `keys`."""
    first = len(keys)
    leaves = [(field, annotation) for field, annotation in found if _model(annotation) is None]
    plain = [field for field, annotation in leaves if _plain(annotation)]
    documents = [field for field, annotation in leaves if not _plain(annotation)]
    keys += [PREFIX + path, *(PREFIX + field for field in plain)]
    leaves_end = len(keys)
    keys += [PREFIX + field for field in documents]
    documents_end = len(keys)
    below = [(field, model) for field, annotation in found if (model := _model(annotation))]
    common = tuple(part(f, fields(m, f, taken), taken, keys) for f, m in below if f in _COMMON)
    rare_first = len(keys)
    rare = tuple(part(f, fields(m, f, taken), taken, keys) for f, m in below if f not in _COMMON)
    return Part(
        _shown(path),
        tuple(map(_shown, plain)),
        tuple(map(_shown, documents)),
        common,
        rare,
        path == "usage",
        first,
        leaves_end,
        documents_end,
        rare_first,
        len(keys),
    )


def collect(values: list[Any], part: Part) -> dict[str, Any]:
    """The object, from the values of all attributes in `keys`, None where there is none."""
    _, names, documents, common, rare, counts, first, leaves_end, documents_end, rare_first, end = part
    marker = values[first]
    if marker is not None and marker != "{}":
        raise Odd("a part of the payload is written as one text")
    leaves = zip(names, values[first + 1 : leaves_end])  # noqa: B905 - hot, and of one length by construction
    if counts:
        return {name: value for name, value in leaves if value or value == ""}
    written = {name: value for name, value in leaves if value is not None}
    for name, value in zip(documents, values[leaves_end:documents_end]):  # noqa: B905 - the same
        if value is not None:
            written[name] = msgspec.Raw(document(value))
    for below in common:
        if values[below.first : below.end].count(None) < below.end - below.first:
            written[below.name] = collect(values, below)
    if rare and values[rare_first:end].count(None) < end - rare_first:
        for below in rare:
            if values[below.first : below.end].count(None) < below.end - below.first:
                written[below.name] = collect(values, below)
    return written


def text(found: dict[str, Any]) -> str:
    """The object as JSON text that jsonb takes."""
    try:
        encoded = _encode(found).decode()
    except UnicodeEncodeError:
        encoded = _encode(storable(found)).decode()
    # jsonb refuses the escape of NUL. It may also be a backslash and five letters: the slow way tells.
    return storable_document(encoded) if "\\u0000" in encoded else encoded


def _shown(path: str) -> str:
    return RENAMED.get(path, path.rpartition(".")[2])


def _kinds(annotation: Any) -> set[Any]:
    kinds = get_args(annotation) if get_origin(annotation) in {Union, types.UnionType} else (annotation,)
    return {kind for kind in kinds if kind is not type(None)}


def _plain(annotation: Any) -> bool:
    """Whether the dialect writes a field of this type as a value rather than as JSON text."""
    scalar = all(k in {str, int, float, bool, Decimal} or get_origin(k) is Literal for k in _kinds(annotation))
    return scalar or annotation == list[str]


def _model(annotation: Any) -> type[BaseModel] | None:
    kinds = list(_kinds(annotation))
    return kinds[0] if len(kinds) == 1 and isinstance(kinds[0], type) and issubclass(kinds[0], BaseModel) else None

"""Fields of the payload that have no column -> one JSON object, nested as the payload nests them.

Always true: which fields these are is read from the payload model, so a new one cannot be forgotten. The model is
read once, at import, into a tree of attribute names; which of them a record has is looked up once for all records
that have the same, because this is on the hot path.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from operator import itemgetter
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin

import msgspec
from pydantic import BaseModel

from otel_llmlog.dialects.llmlog import PREFIX
from otel_llmlog.redact import storable
from otel_llmlog.store.values import Odd, checked

# Where two fields would meet under one name.
RENAMED = {"metadata.guardrail_information": "metadata_guardrail_information"}

Fields = list[tuple[str, Any]]
_encode = msgspec.json.Encoder().encode


class Part(NamedTuple):
    """A JSON object that the payload may have: its fields, each as its name there and the attribute's."""

    name: str
    marker: str  # the attribute that says "present but empty"
    leaves: tuple[tuple[str, str], ...]
    documents: tuple[tuple[str, str], ...]  # leaves that arrive as JSON text
    below: tuple[Part, ...]


_Leaves = Callable[[Sequence[Any]], Sequence[Any]]


class Layout(NamedTuple):
    """Where a part's values stand among the values of records with the same attributes."""

    names: tuple[str, ...]
    leaves: _Leaves
    documents: tuple[tuple[str, int], ...]
    flat: tuple[tuple[str, tuple[str, ...], _Leaves], ...]  # objects inside that have leaves alone
    below: tuple[tuple[str, Layout], ...]  # the others
    marker: int | None


def fields(model: type[BaseModel], path: str, taken: frozenset[str]) -> Fields:
    """Path and type of each field that is not `taken`."""
    here = ((f"{path}.{name}" if path else name, info) for name, info in model.model_fields.items())
    return [(field, info.annotation) for field, info in here if field not in taken]


def part(path: str, found: Fields, taken: frozenset[str]) -> Part:
    """The object of these fields."""
    leaves = [(field, annotation) for field, annotation in found if _model(annotation) is None]
    below = [(field, model) for field, annotation in found if (model := _model(annotation))]
    return Part(
        _shown(path),
        PREFIX + path,
        tuple((_shown(field), PREFIX + field) for field, annotation in leaves if _plain(annotation)),
        tuple((_shown(field), PREFIX + field) for field, annotation in leaves if not _plain(annotation)),
        tuple(part(field, fields(model, field, taken), taken) for field, model in below),
    )


def layout(part: Part, at: Mapping[str, int]) -> Layout:
    """The part in records whose attributes stand `at` these places; what they do not have is left out."""
    leaves = [(name, at[key]) for name, key in part.leaves if key in at]
    inside = [(below.name, layout(below, at)) for below in part.below if _is_there(below, at)]
    return Layout(
        tuple(name for name, _ in leaves),
        getter([place for _, place in leaves]),
        tuple((name, at[key]) for name, key in part.documents if key in at),
        tuple((name, inner.names, inner.leaves) for name, inner in inside if _is_flat(inner)),
        tuple((name, inner) for name, inner in inside if not _is_flat(inner)),
        at.get(part.marker),
    )


def _is_flat(layout: Layout) -> bool:
    return not (layout.documents or layout.flat or layout.below) and layout.marker is None


def _is_there(part: Part, at: Mapping[str, int]) -> bool:
    keys = (part.marker, *(key for _, key in (*part.leaves, *part.documents)))
    return any(key in at for key in keys) or any(_is_there(below, at) for below in part.below)


def getter(places: list[int]) -> _Leaves:
    """What takes the values at these places out of many."""
    if len(places) == 1:
        return itemgetter(slice(places[0], places[0] + 1))
    return itemgetter(*places) if places else itemgetter(slice(0))


def collect(values: Sequence[Any], layout: Layout) -> dict[str, Any]:
    """The object, from the values of all attributes of a record."""
    names, leaves, documents, flat, below, marker = layout
    if marker is not None and values[marker] != "{}":
        raise Odd("a part of the payload is written as one text")
    # Names and leaves are of one length by construction, and this is hot.
    written = dict(zip(names, leaves(values)))  # noqa: B905 - of one length
    for name, place in documents:
        written[name] = msgspec.Raw(checked(values[place]))
    for name, inner_names, inner_leaves in flat:
        written[name] = dict(zip(inner_names, inner_leaves(values)))  # noqa: B905 - of one length
    for name, inner in below:
        written[name] = collect(values, inner)
    return written


def text(found: dict[str, Any]) -> str:
    """The object as JSON text, `checked` as that of documents is."""
    try:
        return _encode(found).decode()
    except UnicodeEncodeError:
        return _encode(storable(found)).decode()


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

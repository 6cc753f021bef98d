"""Which of newly stored rows describe one request together, for `llmlog.settle_described` to make one row of them.

Always true: a row of our own capture is never hidden; where no span of others was ever stored, this is not asked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from operator import itemgetter
from typing import Any

from otel_llmlog.dialects import DIALECTS
from otel_llmlog.dialects.llmlog import PREFIX
from otel_llmlog.pipeline.record import Record
from otel_llmlog.store.copy import NULL, Row
from otel_llmlog.store.rows import SpendLogRow

# Of rows, what is needed here beside what rollups and chains need.
COLUMNS = (
    "described_by", "start_time", "trace_id", "span_id", "parent_span_id", "request_id", "end_time", "model", "call_id",
    "call_type", "total_tokens",
)  # fmt: skip
# Arrays of `llmlog.settle_described`: of descriptions by others, of our own rows.
FIELDS, OWN_FIELDS = 9, 6
_KEY = PREFIX + "described_by"
_facts = itemgetter(*map(SpendLogRow._fields.index, COLUMNS))
_RANK = {dialect.NAME: len(DIALECTS) - at for at, dialect in enumerate(DIALECTS)}
# More than any difference in rank: a description with tokens knows more than one without.
_COUNTED = 100
# Whose spans lie beside what they describe instead of being its parent; the higher is the outer one.
_BESIDE = {"litellm": 3, "langfuse": 2}
# OpenLLMetry's, too, for these calls.
_OPENLLMETRY_BESIDE = frozenset({"anthropic_messages", "responses"})


def by_others(records: Sequence[Record]) -> bool:
    """Whether a span of others is among them."""
    return any(
        _KEY in attributes
        for record in records
        # A hostile record may hold anything; it is rejected when it is to become a row.
        if (attributes := record.attributes).__class__ is dict or isinstance(attributes, Mapping)
    )


class Described:
    """Rows of a transaction, by who described them."""

    __slots__ = ("_others", "_own")

    def __init__(self) -> None:
        self._others: list[Sequence[Any]] = []
        self._own: list[Row] = []

    def add(self, rows: Sequence[Row]) -> None:
        """Take in rows as they are stored, as `SpendLogRow`."""
        for dialect, start, trace, span, parent, response, end, model, call_id, call_type, tokens in map(_facts, rows):
            response_id = NULL if response == call_id else response
            if dialect == NULL:
                self._own.append((start, trace, span, parent, response_id, model))
                continue
            beside = _BESIDE.get(dialect, int(dialect == "openllmetry" and call_type in _OPENLLMETRY_BESIDE))
            rank = _RANK.get(dialect, 0) + (_COUNTED if tokens != "0" else 0)
            self._others.append((start, trace, span, parent, response_id, end, model, beside, rank))

    def lines(self) -> tuple[list[Sequence[Any]], list[Row]]:
        """The lines for the database: of others, and our own."""
        return self._others, self._own

"""Chains: which of newly stored rows follow one another, for `llmlog.join_chains` to find their sessions by.

Always true: a row that no call can follow and that follows none has no link, so that who does not use the Responses
API pays nothing for this.
"""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter

from otel_llmlog.store.copy import NULL, Row
from otel_llmlog.store.rows import SpendLogRow

# Of rows, what a link is made of, in the order in which llmlog.join_chains takes it. `call_id` stands where the
# provider gave no response id.
COLUMNS = (
    "start_time", "trace_id", "span_id", "request_id", "previous_response_id", "conversation_id", "session_id",
    "call_id", "call_type",
)  # fmt: skip
FIELDS = 7
# Calls whose response others may follow, as LiteLLM names them.
_FOLLOWED = frozenset({"responses", "aresponses"})

_NONE = frozenset({NULL, ""})

_at = SpendLogRow._fields.index
_call_type, _previous = itemgetter(_at("call_type")), itemgetter(_at("previous_response_id"))
_conversation = itemgetter(_at("conversation_id"))
_link = itemgetter(*map(_at, COLUMNS))


def links(rows: Sequence[Row]) -> list[Row]:
    """The links of those rows that have one. Rows are as `SpendLogRow`, links as fields too."""
    return [
        (*key, NULL if response == call_id else response, previous or NULL, conversation or NULL, session or NULL)
        for row in rows
        if _call_type(row) in _FOLLOWED or _previous(row) not in _NONE or _conversation(row) not in _NONE
        for *key, response, previous, conversation, session, call_id, _ in (_link(row),)
    ]

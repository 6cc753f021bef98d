"""Chains of the Responses API as far as this process has seen them: a call that names no session is in that of the
call it follows.

Always true: what is answered is certain, and what is not certain is left to the store, which knows the calls of all
processes; memory is bounded, the longest unused is forgotten first; any thread may ask; a forked child knows what its
parent knew.
"""

from __future__ import annotations

import os
from collections import OrderedDict

from otel_llmlog import native

# Responses and conversations that are remembered: some 3 MB. What is forgotten is found in the table.
MAX_REMEMBERED = 10_000

# Sessions of what may be followed. A conversation's key has a mark that no id of a response begins with.
_CONVERSATION = "\0"


class Chains:
    """Response or conversation -> session of the calls that follow it."""

    def __init__(self, limit: int = MAX_REMEMBERED) -> None:
        self._limit = limit
        self._sessions: OrderedDict[str, str | None] = OrderedDict()
        self._renew_lock()
        os.register_at_fork(after_in_child=self._renew_lock)

    def _renew_lock(self) -> None:
        self._lock = native.Lock()

    def join(
        self, named: str | None, response_id: str | None, previous_id: str | None, conversation_id: str | None
    ) -> str | None:
        """The session of a call that has ended, None where it is not known; and remember it for those that follow."""
        with self._lock:
            session = named or self._followed(previous_id, conversation_id)
            if response_id is not None:
                first = previous_id is None and conversation_id is None
                # A first call without a name gives its own id to the chain, once it has a follower.
                self._remember(response_id, session or (response_id if first else None))
            if conversation_id is not None and _CONVERSATION + conversation_id not in self._sessions:
                self._remember(_CONVERSATION + conversation_id, named)
            return session

    def _followed(self, previous_id: str | None, conversation_id: str | None) -> str | None:
        key = previous_id or (conversation_id and _CONVERSATION + conversation_id)
        if key is None or key not in self._sessions:
            return None
        self._sessions.move_to_end(key)
        return self._sessions[key]

    def _remember(self, key: str, session: str | None) -> None:
        self._sessions[key] = session
        self._sessions.move_to_end(key)
        if len(self._sessions) > self._limit:
            self._sessions.popitem(last=False)

    def __len__(self) -> int:
        return len(self._sessions)

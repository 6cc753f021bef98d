"""What can go wrong, and what to do about it.

    LLMLogError
    ├── ConfigError        fix the setting and start again
    ├── StoreUnavailable   try again: the database did not answer
    ├── RowRejected        set aside: the database answered, and will never take this row
    ├── AuditNotRecorded   undo or repeat: an audit row that was asked for at once is not known to be stored
    ├── ContentNotStored   turn content on: what was said in a conversation was not kept
    └── UnknownResponse    nothing is known of a response that a conversation goes through

The app under observation never sees any of these unless it asks (`history`, `sync=True`): they are for start-up, the
pipeline and the command line.
Each message is one line and says what to do next.
"""

from __future__ import annotations


class LLMLogError(Exception):
    """Root of every error this package raises on purpose."""


class ConfigError(LLMLogError):
    """A setting is wrong. Fix it and start again."""


class StoreUnavailable(LLMLogError):  # noqa: N818 - names say what to do, not that they are errors
    """The database could not be reached or is not ready. Try again later."""


class RowRejected(LLMLogError):  # noqa: N818 - the same
    """The database refuses this row and always will. Set it aside."""


class AuditNotRecorded(LLMLogError):  # noqa: N818 - the same
    """An audit event with `sync=True` is not known to be stored. `event_id` names it."""

    def __init__(self, message: str, event_id: str | None = None) -> None:
        super().__init__(message)
        self.event_id = event_id


class ContentNotStored(LLMLogError):  # noqa: N818 - the same
    """What was said was not kept. Turn LLMLOG_STORE_PROMPTS_IN_SPEND_LOGS on for calls from now on."""


class UnknownResponse(LLMLogError):  # noqa: N818 - the same
    """No call with this response id was logged here, or it is gone. The conversation cannot be told whole."""

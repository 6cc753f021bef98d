"""What can go wrong, and what to do about it.

    LLMLogError
    ├── ConfigError        fix the setting and start again
    ├── StoreUnavailable   try again: the database did not answer
    ├── RowRejected        set aside: the database answered, and will never take this row
    └── AuditNotRecorded   undo or repeat: an audit row that was asked for at once is not known to be stored

The app under observation sees none of these but the last, and that only where it asks for it: they are for start-up,
the pipeline and the command line.
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

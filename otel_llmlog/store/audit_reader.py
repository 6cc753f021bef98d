"""Reading audit logs: the newest first, one of them, or all of them in lots."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from otel_llmlog.store.reader import Reader

# Rows that `every` holds at once.
_AT_ONCE = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditFilter:
    """Which audit logs. What is None does not restrict."""

    since: datetime | None = None
    """Operations done then or later."""
    until: datetime | None = None
    """Operations done before."""
    actor: str | None = None
    api_key: str | None = None
    """SHA-256 of the key."""
    action: str | None = None
    """`updated`, or finer, `team.member_add`."""
    table_name: str | None = None
    object_id: str | None = None
    outcome: str | None = None
    """`success`, `failure` or `refused`."""


class AuditReader(Reader):
    """Reads from the database of this URL. Every method raises StoreUnavailable when it does not answer."""

    def audit_logs(
        self, where: AuditFilter = AuditFilter(), *, limit: int | None = 100, before_seq: int | None = None
    ) -> list[dict[str, Any]]:
        """Rows, the last of the chain first. `before_seq`: the `seq` of a page's last row gives the next page."""
        parameters = {**asdict(where), "limit": limit, "before_seq": before_seq}
        return [dict(row) for row in self._read("audit_logs", parameters)]

    def audit_log(self, identifier: str) -> dict[str, Any] | None:
        """The row of this id, or at this place of the chain."""
        found = self._read("audit_log", {"id": identifier})
        return dict(found[0]) if found else None

    def every_audit_log(self, where: AuditFilter = AuditFilter()) -> Iterator[dict[str, Any]]:
        """All rows, the last of the chain first, however many."""
        before: int | None = None
        while found := self.audit_logs(where, limit=_AT_ONCE, before_seq=before):
            yield from found
            before = found[-1]["seq"]

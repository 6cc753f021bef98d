"""Audit events as the pipeline hands them to the store."""

from __future__ import annotations

import itertools
import time
from typing import Any

from otel_llmlog.dialects import audit
from otel_llmlog.payload import AuditEvent
from otel_llmlog.pipeline.record import Record

_numbers = itertools.count(1)


def event(**changes: Any) -> AuditEvent:
    """An event of now."""
    number = next(_numbers)
    return AuditEvent(
        **{
            "id": f"event-{number}",
            "updated_at": time.time_ns() // 1000 / 1e6,
            "changed_by": "ada",
            "changed_by_api_key": "ab" * 32,
            "action": "updated",
            "table_name": "LiteLLM_TeamTable",
            "object_id": f"team-{number}",
            "before_value": {"max_budget": number, "models": ["gpt-4o"]},
            "updated_values": {"max_budget": number + 1, "models": ["gpt-4o"]},
            "operation": "team.budget",
            **changes,
        }
    )


def record(made: AuditEvent | None = None, **changes: Any) -> Record:
    made = made or event(**changes)
    ns = round(made.updated_at * 1e6) * 1000
    return Record(made.trace_id or "", made.span_id or "", None, ns, ns, "shop", audit.encode(made), kind="log")


def records(count: int, **changes: Any) -> list[Record]:
    return [record(**changes) for _ in range(count)]

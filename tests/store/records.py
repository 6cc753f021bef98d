"""Records as the pipeline hands them to the store."""

from __future__ import annotations

import itertools
import time
from dataclasses import replace
from decimal import Decimal
from typing import Any

from otel_llmlog.dialects import llmlog
from otel_llmlog.payload import CallPayload, StandardLoggingMetadata, Usage
from otel_llmlog.pipeline.record import Record

_numbers = itertools.count(1)


def record(payload: CallPayload | None = None, **changes: Any) -> Record:
    """A record of now, its payload's fields changed as said; `start_ns` and the like change the record itself."""
    number = next(_numbers)
    own = {name: changes.pop(name) for name in list(changes) if name in Record.__slots__}
    start_ns = own.pop("start_ns", time.time_ns() - 10**9 + number * 1000)
    metadata = {name: changes.pop(name) for name in list(changes) if name in StandardLoggingMetadata.model_fields}
    if payload is None:
        payload = CallPayload(
            **{
                "id": f"chatcmpl-{number}",
                "trace_id": f"{number:032x}",
                "call_id": f"call-{number}",
                "call_type": "completion",
                "operation": "chat",
                "status": "success",
                "model": "gpt-4o",
                "custom_llm_provider": "openai",
                "startTime": start_ns / 1e9,
                "endTime": start_ns / 1e9 + 1,
                "prompt_tokens": 100,
                "completion_tokens": 20,
                "total_tokens": 120,
                "usage": Usage(input_tokens=100, output_tokens=20, cache_read_tokens=40, source="provider"),
                "spend": Decimal("0.0125"),
                "response_cost": 0.0125,
                "metadata": StandardLoggingMetadata(**metadata),
                **changes,
            }
        )
    attributes = own.pop("attributes", {})
    made = Record(
        trace_id=f"{number:032x}",
        span_id=f"{number:016x}",
        parent_span_id=None,
        start_ns=start_ns,
        end_ns=start_ns + 10**9,
        service_name="shop",
        attributes={**llmlog.encode(payload), **attributes},
    )
    return replace(made, **own)


def records(count: int, **changes: Any) -> list[Record]:
    return [record(**changes) for _ in range(count)]

"""Spans as the recorder wrote them down, and what becomes of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from otel_llmlog import dialects
from otel_llmlog.dialects import llmlog
from otel_llmlog.dialects.call import Reading
from otel_llmlog.dialects.contents import contents_of
from otel_llmlog.dialects.log import Log
from otel_llmlog.dialects.span import Event, Span
from otel_llmlog.payload import CallPayload
from otel_llmlog.pipeline.record import Record

PLAIN, FULL = Reading(), Reading(content=True)


def span(given: Mapping[str, Any]) -> Span:
    """A line of the recorder's file as the sink decodes it."""
    fields = {name: value for name, value in given.items() if name in Span.__slots__}
    return Span(**{**fields, "events": [Event(**event) for event in given["events"]]})


def made(attributes: Mapping[str, Any], **changes: Any) -> Span:
    """A span with these attributes."""
    given: dict[str, Any] = {
        "trace_id": "1" * 32, "span_id": "2" * 16, "parent_span_id": None, "name": "a span", "kind": 3,
        "start_ns": 1_800_000_000 * 10**9, "end_ns": 1_800_000_001 * 10**9, "attributes": attributes, "events": [],
        "status": 0, "status_message": "", "scope": "somebody", "scope_version": "", "resource": {},
    }  # fmt: skip
    return Span(**{**given, **changes})


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def call(one: Span, reading: Reading = PLAIN) -> CallPayload | None:
    """The call that a span describes."""
    attributes = dialects.call_of(one, reading)
    assert attributes is None or dialects.may_be_call(one.scope, one.attributes)
    return None if attributes is None else llmlog.decode(attributes)


def record(one: Span, reading: Reading = PLAIN) -> Record | None:
    """What the sink stores of a span."""
    attributes = dialects.call_of(one, reading)
    if attributes is None:
        return None
    ids = one.trace_id, one.span_id, one.parent_span_id
    return Record(*ids, one.start_ns, one.end_ns, str(one.resource.get("service.name", "")), attributes)


def content(line: Mapping[str, Any], reading: Reading) -> Record | None:
    """What the sink stores of a log record."""
    log = Log(
        line["trace_id"],
        line["span_id"],
        line["name"],
        line["time_ns"],
        line["body"],
        line["attributes"],
        line["scope"],
        {},
    )
    found = contents_of(log, reading)
    if found is None:
        return None
    return Record(log.trace_id, log.span_id, None, log.time_ns, log.time_ns, "", found, "content")

"""An audit event as `llmlog.audit.<field>` attributes, and back without loss.

Always true: `decode(encode(event)) == event`. A field that is None or an empty list has no attribute; `before_value`
and `updated_values` are JSON text.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from otel_llmlog.dialects.llmlog import Attribute, Attributes
from otel_llmlog.errors import RowRejected
from otel_llmlog.payload import AuditEvent

PREFIX = "llmlog.audit."
# The attribute that tells a log record of this dialect.
ID = PREFIX + "id"
# Name of the OpenTelemetry event, and the attribute by which backends tell a second delivery.
EVENT_NAME = "llmlog.audit"
LOG_RECORD_UID = "log.record.uid"

_DOCUMENTS = ("before_value", "updated_values")


def encode(event: AuditEvent) -> Attributes:
    """The event as attributes."""
    attributes: Attributes = {}
    for name in AuditEvent.model_fields:
        value = getattr(event, name)
        if value is None or (name == "notes" and not value):
            continue
        attributes[PREFIX + name] = _attribute(name, value)
    return attributes


def _attribute(name: str, value: Any) -> Attribute:
    if name in _DOCUMENTS:
        return json.dumps(value, ensure_ascii=False, allow_nan=False)
    return tuple(value) if name == "notes" else value


def decode(attributes: Mapping[str, Any]) -> AuditEvent:
    """The event in these attributes, whoever wrote them. Raises RowRejected when they hold none."""
    given: dict[str, Any] = {}
    for name in AuditEvent.model_fields:
        value = attributes.get(PREFIX + name)
        if value is None:
            continue
        if name in _DOCUMENTS:
            try:
                value = json.loads(value, parse_constant=str)
            except (TypeError, ValueError, RecursionError):
                raise RowRejected(f"{name} is not JSON text") from None
        given[name] = list(value) if name == "notes" and isinstance(value, tuple | list) else value
    try:
        return AuditEvent(**given)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        raise RowRejected(f"{first['loc'][0] if first['loc'] else 'the event'} is not as it should be") from None

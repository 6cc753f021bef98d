"""Audit records as OTLP log records, for `pipeline.otlp` to send."""

from __future__ import annotations

from collections.abc import Sequence

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse
from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord, ResourceLogs, ScopeLogs, SeverityNumber

from otel_llmlog.dialects import audit
from otel_llmlog.emit import SCOPE
from otel_llmlog.pipeline.otlp_values import pair, value
from otel_llmlog.pipeline.record import Record


def encode(records: Sequence[Record]) -> ExportLogsServiceRequest:
    """The records as OTLP log records, by the service they come from."""
    by_service: dict[str, ScopeLogs] = {}
    request = ExportLogsServiceRequest()
    for record in records:
        scope = by_service.get(record.service_name)
        if scope is None:
            resource = ResourceLogs()
            resource.resource.attributes.append(pair("service.name", record.service_name))
            resource.scope_logs.add().scope.name = SCOPE
            request.resource_logs.append(resource)
            scope = by_service[record.service_name] = request.resource_logs[-1].scope_logs[0]
        scope.log_records.append(_log(record))
    return request


def rejected(body: bytes) -> int:
    """How many records a successful answer says were rejected."""
    return int(ExportLogsServiceResponse.FromString(body).partial_success.rejected_log_records)


def _log(record: Record) -> LogRecord:
    given = record.attributes
    what = [given.get(audit.PREFIX + name) for name in ("action", "table_name", "object_id")]
    done = given.get(f"{audit.PREFIX}outcome") == "success"
    return LogRecord(
        time_unix_nano=record.start_ns,
        observed_time_unix_nano=record.start_ns,
        severity_number=SeverityNumber.SEVERITY_NUMBER_INFO if done else SeverityNumber.SEVERITY_NUMBER_WARN,
        body=value(" ".join(str(word) for word in what if word)),
        trace_id=bytes.fromhex(record.trace_id),
        span_id=bytes.fromhex(record.span_id),
        event_name=audit.EVENT_NAME,
        attributes=[
            pair(audit.LOG_RECORD_UID, given.get(audit.ID, "")),
            *(pair(name, each) for name, each in given.items() if name != audit.LOG_RECORD_UID),
        ],
    )

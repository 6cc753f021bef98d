"""The protocol's answers as bytes: what was taken, what was not and whether to try again."""

from __future__ import annotations

from typing import Any

from google.protobuf.any_pb2 import Any as Packed
from google.protobuf.duration_pb2 import Duration
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from otel_llmlog.sink.receiver import Answer, Signal


def taken(signal: Signal, answer: Answer) -> bytes:
    """The export response to a request that was taken; `partial_success` where a part of it was rejected."""
    if not answer.rejected:
        return b""  # no field is set
    made: Any = ExportTraceServiceResponse() if signal == "traces" else ExportLogsServiceResponse()
    field = "rejected_spans" if signal == "traces" else "rejected_log_records"
    setattr(made.partial_success, field, answer.rejected)
    made.partial_success.error_message = answer.message
    encoded: bytes = made.SerializeToString()
    return encoded


def status(code: int, message: str, again: int) -> bytes:
    """google.rpc.Status; with RetryInfo where it should be tried again after so many seconds."""
    made = Status(code=code, message=message)
    if again:
        detail = Packed()
        detail.Pack(RetryInfo(retry_delay=Duration(seconds=again)))
        made.details.append(detail)
    encoded: bytes = made.SerializeToString()
    return encoded

"""LiteLLM's callback: its calls become spans and rows, its proxy's audit log becomes ours.

In the SDK: `litellm.callbacks = [otel_llmlog.integrations.litellm.LLMLogLogger()]`; in the proxy's YAML:
`callbacks: otel_llmlog.integrations.litellm.handler`.

Always true: a call is one row. Where the wire is captured too, rows come from there, and from here only those that
never go out: cache hits. Nothing raises into LiteLLM. Content is kept only where the settings keep it.
"""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from litellm.integrations.custom_logger import CustomLogger
from opentelemetry import context as otel_context, trace
from opentelemetry.context import Context

from otel_llmlog import configure
from otel_llmlog.audit import OPERATIONS, arecord
from otel_llmlog.capture import patch
from otel_llmlog.integrations.litellm_payload import payload

# Calls under way whose trace is remembered.
_MAX_OPEN = 10_000


class LLMLogLogger(CustomLogger):  # type: ignore[misc] # untyped where LiteLLM is not installed
    """Takes LiteLLM's success, failure and audit events. Starts otel-llmlog, without wire capture, if nobody has."""

    def __init__(self) -> None:
        """Raises ConfigError."""
        super().__init__()
        configure.start(capture=False)
        self._lock = threading.Lock()
        self._open: OrderedDict[str, Context] = OrderedDict()
        self._done: OrderedDict[tuple[str, ...], None] = OrderedDict()

    def log_pre_api_call(self, model: Any, messages: Any, kwargs: Any) -> None:  # noqa: ARG002 - LiteLLM's signature
        """A call goes out: remember the trace that it belongs to, because it ends on another thread."""
        with self._lock:
            self._open[str(kwargs.get("litellm_call_id"))] = otel_context.get_current()
            if len(self._open) > _MAX_OPEN:
                self._open.popitem(last=False)

    def log_success_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:  # noqa: ARG002 - LiteLLM's signature
        """A call has ended well."""
        self._take(kwargs)

    def log_failure_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:  # noqa: ARG002 - LiteLLM's signature
        """A call has failed."""
        self._take(kwargs)

    async def async_log_success_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:  # noqa: ARG002 - LiteLLM's signature
        """The same in async code."""
        self._take(kwargs)

    async def async_log_failure_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:  # noqa: ARG002 - LiteLLM's signature
        """The same in async code."""
        self._take(kwargs)

    async def async_log_audit_log_event(self, audit_log: Any) -> None:
        """The proxy has recorded a management operation."""
        runtime = configure.runtime()
        try:
            name = next((o for o in OPERATIONS.values() if _is(o, audit_log)), None)
            await arecord(
                name,
                action=audit_log.get("action"),
                table_name=audit_log.get("table_name"),
                object_id=audit_log.get("object_id"),
                before=_document(audit_log.get("before_value")),
                after=_document(audit_log.get("updated_values")),
                changed_by=audit_log.get("changed_by") or None,
                changed_by_api_key=audit_log.get("changed_by_api_key") or None,
                at=_epoch(audit_log.get("updated_at")),
                event_id=audit_log.get("id"),
                source="litellm",
            )
        except Exception as error:  # LiteLLM's own work goes on, whatever we make of its event
            if runtime is not None:
                runtime.stats.error("litellm", error)

    def _take(self, kwargs: Any) -> None:
        runtime = configure.runtime()
        if runtime is None:
            return
        try:
            given = kwargs.get("standard_logging_object")
            call_id = str(kwargs.get("litellm_call_id"))
            with self._lock:
                context = self._open.pop(call_id, None)
                done = (call_id, str(given and given.get("status")), str(given and given.get("id")))
                if done in self._done:
                    return
                self._done[done] = None
                if len(self._done) > _MAX_OPEN:
                    self._done.popitem(last=False)
            if not given:
                runtime.stats.count("captured")
                runtime.stats.dropped("litellm_without_payload")
                return
            # Its HTTP client is httpx, whatever transport that has.
            if patch.installed()["httpx"] and not given.get("cache_hit"):
                runtime.stats.count("litellm.seen_on_the_wire")
                return
            context = _parent(kwargs) or context or otel_context.get_current()
            made = payload(given, kwargs, runtime.settings.content)
            runtime.recorder.take(made, context)
        except Exception as error:  # LiteLLM's own work goes on, whatever we make of its event
            runtime.stats.error("litellm", error)
            runtime.stats.count("captured")
            runtime.stats.dropped("unreadable_call")


def _parent(kwargs: Mapping[str, Any]) -> Context | None:
    """The proxy's own span of this request, where it makes one."""
    span = ((kwargs.get("litellm_params") or {}).get("metadata") or {}).get("litellm_parent_otel_span")
    return trace.set_span_in_context(span) if isinstance(span, trace.Span) else None


def _is(operation: Any, audit_log: Mapping[str, Any]) -> bool:
    plain = operation.name.partition(".")[2] in {"create", "update", "delete", "rotate", "block", "unblock"}
    told = audit_log.get("table_name"), audit_log.get("action")
    return plain and (operation.table_name, operation.action) == told


def _document(text: Any) -> Any:
    if not isinstance(text, str):
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _epoch(given: Any) -> float | None:
    try:
        return datetime.fromisoformat(given).timestamp()
    except (TypeError, ValueError):
        return None


def __getattr__(name: str) -> Any:
    """`handler`: one logger for the proxy's YAML, made when it is asked for."""
    if name != "handler":
        raise AttributeError(name)
    globals()["handler"] = made = LLMLogLogger()
    return made

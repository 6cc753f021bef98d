"""What was said in a call, where it comes as log records: the convention's event of a whole operation, and the older
ones of a message each. They belong to the span that they name.

Source: the GenAI conventions' events; openlit and OpenLLMetry write the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from otel_llmlog.dialects.call import Reading, content_text
from otel_llmlog.dialects.genai import with_system
from otel_llmlog.dialects.llmlog import Attributes
from otel_llmlog.dialects.log import Log

MESSAGES, RESPONSE = "llmlog.messages", "llmlog.response"
DETAILS = "gen_ai.client.inference.operation.details"
# Of one message each, with the role it is of.
_MESSAGES = {
    "gen_ai.system.message": "system",
    "gen_ai.user.message": "user",
    "gen_ai.assistant.message": "assistant",
    "gen_ai.tool.message": "tool",
}
_CHOICE = "gen_ai.choice"


def contents_of(log: Log, reading: Reading) -> Attributes | None:
    """Messages and answer as attributes of our own dialect. None: it holds none, or content is not wanted."""
    if not reading.content or not log.trace_id or not log.span_id:
        return None
    name = log.event_name or log.attributes.get("event.name")
    messages: Any = None
    response: Any = None
    if name == DETAILS:
        given = log.body if isinstance(log.body, Mapping) and "gen_ai.input.messages" in log.body else log.attributes
        messages, response = given.get("gen_ai.input.messages"), given.get("gen_ai.output.messages")
        if messages is not None and (system := given.get("gen_ai.system_instructions")) is not None:
            messages = with_system(messages, system)
    elif name in _MESSAGES:
        messages = [{"role": _MESSAGES[name], **_body(log.body)}]
    elif name == _CHOICE:
        response = [_body(log.body)]
    found: Attributes = {}
    for key, content in ((MESSAGES, messages), (RESPONSE, response)):
        if (text := content_text(content, reading.max_string_length)) is not None:
            found[key] = text
    return found or None


def _body(body: Any) -> dict[str, Any]:
    return dict(body) if isinstance(body, Mapping) else {"content": body}

"""Turns: what calls asked and answered, as one conversation of chat messages. Pure.

Always true: no stored content raises, whatever its shape; a message is a dict with `role`, and `content` or
`tool_calls`, in OpenAI's chat form whichever API it came from; what has no such form (reasoning, web searches, …) is
left out; what callers of chat APIs send again with every turn stands there once.

Sources of the shapes: openai.types.chat.ChatCompletionMessageParam, openai.types.responses.{ResponseInputItemParam,
ResponseOutputItem}, anthropic.types.{MessageParam, Message}.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

Message = dict[str, Any]

_SYSTEM = frozenset({"system", "developer"})
_TEXTS = frozenset({"text", "input_text", "output_text"})
# Thoughts are the model's own: no API takes them back as a message.
_THOUGHTS = frozenset({"thinking", "redacted_thinking", "reasoning"})
# What is kept of an assistant's reply. The rest (annotations, log probabilities, …) is not part of the message.
_OF_A_REPLY = ("content", "tool_calls", "function_call", "refusal")


def asked(messages: Any) -> list[Message]:
    """The messages of a request, as they were stored."""
    if isinstance(messages, str):
        return [{"role": "user", "content": messages}]
    found: list[Message] = []
    for item in messages if isinstance(messages, list) else ():
        if isinstance(item, str):
            found.append({"role": "user", "content": item})
        elif isinstance(item, Mapping):
            _add_item(found, item)
    return found


def answered(response: Any) -> list[Message]:
    """The messages of a reply, as it was stored."""
    if not isinstance(response, Mapping):
        return []
    choices, output, content = (response.get(name) for name in ("choices", "output", "content"))
    found: list[Message] = []
    if isinstance(choices, list):
        # Of several choices, whoever goes on with the conversation takes one; it is in their next request.
        choice = next((each for each in choices if isinstance(each, Mapping)), {})
        message = choice.get("message")
        if isinstance(message, Mapping):
            kept = {name: message[name] for name in _OF_A_REPLY if name in message}
            _add_message(found, {"role": "assistant", **kept})
        elif isinstance(choice.get("text"), str):
            found.append({"role": "assistant", "content": choice["text"]})
    elif isinstance(output, list):
        for item in output:
            if isinstance(item, Mapping):
                _add_item(found, item)
    elif isinstance(content, list):
        _add_message(found, {"role": "assistant", "content": content})
    elif isinstance(response.get("output_text"), str) and response["output_text"]:
        found.append({"role": "assistant", "content": response["output_text"]})
    return found


def going_on(before: list[Message], said: list[Message], *, follows: bool) -> list[Message]:
    """A conversation with what the next request says. `follows`: the provider has what came before, so all is new.

    Else most of `said` was said before. What is new begins where it stops repeating the conversation from its
    beginning, or, in a window that moves on, its end.
    """
    system = [message for message in _leading(said) if message not in before]
    turns = said[len(_leading(said)) :]
    if follows:
        return [*before, *system, *turns]
    spoken = [message for message in before if message.get("role") not in _SYSTEM]
    return [*before, *system, *turns[_repeated(spoken, turns) :]]


def _leading(messages: list[Message]) -> list[Message]:
    """The instructions in front."""
    end = next((at for at, message in enumerate(messages) if message.get("role") not in _SYSTEM), len(messages))
    return messages[:end]


def _repeated(spoken: list[Message], turns: list[Message]) -> int:
    """How many of the turns were spoken before."""
    from_the_beginning = 0
    for old, new in zip(spoken, turns, strict=False):
        if old != new:
            break
        from_the_beginning += 1
    # A question that is asked once more, alone, is a new one.
    if from_the_beginning < 2:
        from_the_beginning = 0
    longest = min(len(spoken), len(turns))
    at_the_end = next((n for n in range(longest, 0, -1) if spoken[-n:] == turns[:n]), 0)
    return max(from_the_beginning, at_the_end)


def _add_item(found: list[Message], item: Mapping[str, Any]) -> None:
    """One item of a list of messages, or of the Responses API's input or output."""
    kind = _kind(item)
    if kind == "function_call":
        function = {"name": _text(item.get("name")), "arguments": _text(item.get("arguments"))}
        _add_tool_calls(found, [{"id": item.get("call_id"), "type": "function", "function": function}])
    elif kind == "function_call_output":
        found.append({"role": "tool", "tool_call_id": item.get("call_id"), "content": _content(item.get("output"))[0]})
    elif isinstance(item.get("role"), str) and kind in {"", "message"}:
        _add_message(found, item)


def _add_tool_calls(found: list[Message], calls: list[Any]) -> None:
    # The Responses API has an item for each call where chat has one message with all of them.
    if found and found[-1].get("role") == "assistant":
        found[-1].setdefault("content", None)
        found[-1].setdefault("tool_calls", []).extend(calls)
    else:
        found.append({"role": "assistant", "content": None, "tool_calls": calls})


def _add_message(found: list[Message], message: Mapping[str, Any]) -> None:
    """A message of any API. Anthropic's may hold the results of tools, which are messages of their own in chat."""
    content, calls, results = _content(message.get("content"))
    found += results
    own = {
        name: value
        for name, value in message.items()
        if name not in {"content", "type", "id", "status", "phase"} and value is not None and value != []
    }
    if not isinstance(own.get("tool_calls", []), list):
        del own["tool_calls"]
    if calls:
        own["tool_calls"] = [*own.get("tool_calls", ()), *calls]
    if content is not None or not results:
        found.append({"role": own.pop("role"), "content": content, **own})


def _content(content: Any) -> tuple[Any, list[Any], list[Message]]:
    """(content in chat's form, tool calls in it, messages of tool results in it)."""
    if not isinstance(content, list):
        return content, [], []
    parts: list[Any] = []
    calls: list[Any] = []
    results: list[Message] = []
    for part in content:
        kind = _kind(part)
        if kind in _TEXTS:
            parts.append({"type": "text", "text": _text(part.get("text"))})
        elif kind == "input_image":
            parts.append({"type": "image_url", "image_url": {"url": part.get("image_url")}})
        elif kind == "tool_use":
            arguments = json.dumps(part.get("input"), ensure_ascii=False, sort_keys=True)
            function = {"name": _text(part.get("name")), "arguments": arguments}
            calls.append({"id": part.get("id"), "type": "function", "function": function})
        elif kind == "tool_result":
            said = _content(part.get("content"))[0]
            results.append({"role": "tool", "tool_call_id": part.get("tool_use_id"), "content": said})
        elif kind not in _THOUGHTS:
            parts.append(part)
    if len(parts) == 1 and is_text(parts[0]):
        return parts[0]["text"], calls, results
    return parts or None, calls, results


def is_text(part: Any) -> bool:
    """Whether this part of a message is text: then it has `text`."""
    return _kind(part) == "text" and isinstance(part.get("text"), str)


def _kind(part: Any) -> str:
    return _text(part.get("type")) if isinstance(part, Mapping) else ""


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


def conversation(calls: Iterable[tuple[Any, Any, bool]]) -> list[Message]:
    """All that was said in these calls, oldest first; of each what it asked, what was answered, whether it follows."""
    said: list[Message] = []
    for messages, response, follows in calls:
        said = going_on(said, asked(messages), follows=follows)
        said += answered(response)
    return said

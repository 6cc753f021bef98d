"""Requests whose bodies hold a field called `model` where it is somebody's content: (path, body, the model that counts)."""

from __future__ import annotations

import json
from typing import Any

# As it could stand where the name of a model is looked for: one word, and a sentence.
WORD, SENTENCE = "canary7word", "canary7 said: my account number is 4821"
_AZURE = "/openai/deployments/gpt-4o-eu/chat/completions"
_CHAT = "/v1/chat/completions"


def _bodies(text: str) -> list[tuple[str, bytes, str]]:
    nested: dict[str, Any] = {"model": text}
    schema = {"type": "function", "function": {"name": "f", "parameters": {"properties": {"model": text}, **nested}}}
    asked = [{"role": "user", "content": "hi"}]
    escaped = 'a"model": "' + text + '", \\"model\\": \\"' + text
    found: list[tuple[str, Any, str]] = [
        (_AZURE, {"messages": asked, "tools": [schema]}, "gpt-4o-eu"),
        (_AZURE, {"tools": [schema], "messages": asked}, "gpt-4o-eu"),
        (_AZURE, {"messages": [{"role": "user", **nested}]}, "gpt-4o-eu"),
        (_AZURE, {"messages": [{"role": "tool", "content": json.dumps(nested)}]}, "gpt-4o-eu"),
        (_AZURE, {"messages": asked, "metadata": {"a": [[nested]]}}, "gpt-4o-eu"),
        (_CHAT, {"messages": [{"role": "user", **nested}]}, ""),
        (_CHAT, {"messages": asked, "tools": [schema], "model": "gpt-4o"}, "gpt-4o"),
        (_CHAT, {"model": "gpt-4o", "messages": asked, "tools": [schema]}, "gpt-4o"),
        (_CHAT, {"tools": [schema], "model": "gpt-4o", "messages": [{"role": "user", **nested}]}, "gpt-4o"),
        (_CHAT, {"messages": [{"role": "user", "content": escaped}]}, ""),
        (_CHAT, {escaped: text, "messages": asked}, ""),
        (_CHAT, {"messages": asked, "model": nested}, ""),
        (_CHAT, {"messages": asked, "model": [text]}, ""),
        (_CHAT, {"messages": asked, "model": None, "x": nested}, ""),
        (_CHAT, {"messages": asked, "model": 7, "x": nested}, ""),
        ("/v1/messages", {"messages": [{"role": "user", "content": [{"input": nested}]}], "max_tokens": 1}, ""),
        ("/v1/embeddings", {"input": [json.dumps(nested)], "x": nested}, ""),
        ("/model/us.amazon.nova-lite-v1:0/converse", {"messages": [{"content": [{"toolUse": {"input": nested}}]}]},
         "us.amazon.nova-lite-v1:0"),
        ("/v1beta/models/gemini-2.5-flash:generateContent", {"contents": [{"parts": [{"functionCall": {"args": nested}}]}]},
         "gemini-2.5-flash"),
    ]  # fmt: skip
    raw = [(path, json.dumps(body).encode(), model) for path, body, model in found]
    quoted = json.dumps(text).encode()
    raw += [
        (_CHAT, b'{"messages": [{"model": ' + quoted + b"}]", ""),  # not closed
        (_CHAT, b'{"messages": [], "tools": {"model": ' + quoted + b"}", ""),
        (_CHAT, b'{"messages": "a "model": ' + quoted + b"}", ""),
        (_CHAT, b'["messages", {"model": ' + quoted + b"}]", ""),
        (_CHAT, b'{"model": "gpt-4o", "messages": [], "model": {"model": ' + quoted + b"}}", "gpt-4o"),
        (_CHAT, b'{"messages": [NaN], "x": {"model": ' + quoted + b"}}", ""),
        (_CHAT, b'{"messages": ["\xff"], "x": {"model": ' + quoted + b"}}", ""),
        (_CHAT, b'{"messages": ' + b"[" * 3000 + b'{"model": ' + quoted + b"}" + b"]" * 3000 + b"}", ""),
        (_AZURE, b'{"messages": [], "x": {"model" : ' + quoted + b"}}", "gpt-4o-eu"),
    ]
    return raw


BODIES: list[tuple[str, bytes, str]] = [
    *_bodies(WORD),
    *_bodies(SENTENCE),
    # At the top, but no name.
    (_CHAT, json.dumps({"model": SENTENCE, "messages": []}).encode(), ""),
    (_CHAT, json.dumps({"messages": [], "model": "canary7\nline"}).encode(), ""),
    (_CHAT, json.dumps({"messages": [], "model": "canary7" + "x" * 3000}).encode(), ""),
]
# URLs that name no model where one is named. They are the app's own, and noted as such.
URLS = (
    ("/v1beta/models/a%20said%20sentence:generateContent", b'{"contents": []}'),
    ("/openai/deployments/a%20said%20sentence/chat/completions", b'{"messages": []}'),
    ("/model/a%20said%20sentence/converse", b'{"messages": []}'),
)
BOUNDARY = "----b0undary"
_FILE = json.dumps({"model": WORD, "text": SENTENCE})
FORM = (
    f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="model"\r\n\r\nwhisper-1\r\n'
    f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="a.json"\r\n\r\n{_FILE}\r\n--{BOUNDARY}--\r\n'
).encode()
FORM_WITHOUT = FORM.replace(b'name="model"', b'name="prompt"').replace(b"whisper-1", SENTENCE.encode())

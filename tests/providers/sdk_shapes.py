"""Recorded replies under the types of the SDKs that read them. Run by the interpreter that has those SDKs.

Prints what does not fit, one line each; the number of bodies that were tried, last.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from cohere.types import EmbedByTypeResponse
from cohere.v2.types import V2ChatResponse, V2ChatStreamResponse, V2RerankResponse
from google.genai import types as google
from mistralai.client import models as mistral
from ollama import ChatResponse, EmbedResponse, GenerateResponse
from pydantic import TypeAdapter
from together.types import RerankCreateResponse

HERE = Path(__file__).parent
# By the wire, and by what the path of the request ends with: a plain reply's type, and that of a stream's event.
TYPES: list[tuple[str, str, Any, Any]] = [
    ("gemini", "generateContent", google.GenerateContentResponse, None),
    ("gemini", "streamGenerateContent", None, google.GenerateContentResponse),
    ("mistral", "/fim/completions", mistral.FIMCompletionResponse, mistral.CompletionChunk),
    ("mistral", "/completions", mistral.ChatCompletionResponse, mistral.CompletionChunk),
    ("mistral", "/embeddings", mistral.EmbeddingResponse, None),
    ("mistral", "/ocr", mistral.OCRResponse, None),
    ("vertex/mistral", "", mistral.ChatCompletionResponse, None),
    ("cohere/rerank_of_together", "", RerankCreateResponse, None),
    ("cohere", "/chat", V2ChatResponse, V2ChatStreamResponse),
    ("cohere", "/embed", EmbedByTypeResponse, None),
    ("cohere", "/rerank", V2RerankResponse, None),
    ("ollama", "/chat", ChatResponse, ChatResponse),
    ("ollama", "/generate", GenerateResponse, GenerateResponse),
    ("ollama", "/embed", EmbedResponse, None),
]


def bodies(folder: Path) -> Iterator[tuple[Any, bool]]:
    """The JSON values of a reply, and whether each is an event of a stream."""
    if (plain := folder / "reply.json").exists():
        yield json.loads(plain.read_bytes()), False
        return
    stream = (folder / "stream.txt").read_text(encoding="utf-8")
    if stream.startswith("["):
        yield from ((value, True) for value in json.loads(stream))
    elif stream.startswith("{"):
        yield from ((json.loads(line), True) for line in stream.splitlines())
    else:
        events = (line[6:] for line in stream.splitlines() if line.startswith("data: {"))
        yield from ((json.loads(event), True) for event in events)


def main(say: Callable[[str], Any]) -> None:
    """Try every recorded reply that is no error."""
    tried = 0
    for asked in sorted(HERE.glob("*/*/request.json")):
        folder = asked.parent
        name = f"{folder.parent.name}/{folder.name}"
        path = json.loads(asked.read_bytes())["url"].partition("?")[0]
        found = next(((p, e) for wire, end, p, e in TYPES if name.startswith(wire) and path.endswith(end)), None)
        if found is None or "error" in json.loads((folder / "expected.json").read_bytes()):
            continue
        for value, is_event in bodies(folder):
            kind = found[is_event]
            if kind is None or "error" in value or value.get("object") == "error":
                continue
            tried += 1
            try:
                TypeAdapter(kind).validate_python(value)
            except ValueError as error:
                say(f"{name}: {error}\n")
    say(f"{tried}\n")


if __name__ == "__main__":
    main(sys.stdout.write)

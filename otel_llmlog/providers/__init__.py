"""Wire formats of LLM providers, one file each: recognise a request, read request, reply and stream into facts.

Everything here is pure: bytes in, data out; no input raises.
"""

from __future__ import annotations

from collections.abc import Mapping

from otel_llmlog.providers import anthropic, openai
from otel_llmlog.providers.facts import Endpoint

# By the last two segments of the path (the API), else by its last one.
_BY_PATH: dict[str, Endpoint] = {
    "chat/completions": openai.CHAT,
    "completions": openai.COMPLETIONS,
    "responses": openai.RESPONSES,
    "embeddings": openai.EMBEDDINGS,
    "messages": anthropic.MESSAGES,
}


def recognise(path: str, body: bytes | None, headers: Mapping[str, str]) -> Endpoint | None:
    """The API that a POST to this path with this body calls; None when it is no LLM call."""
    at = path.rfind("/")
    endpoint = _BY_PATH.get(path[at + 1 :])
    if endpoint is None:
        return recognise(path[:-1], body, headers) if path.endswith("/") and len(path) > 1 else None
    if endpoint is openai.COMPLETIONS and path.endswith("chat/completions"):
        endpoint = openai.CHAT
    return endpoint if endpoint.accepts(body, headers) else None

"""Wire formats of LLM providers, one file each: recognise a request, read request, reply and stream into facts.

Everything here is pure: bytes in, data out; no input raises.
"""

from __future__ import annotations

from collections.abc import Mapping

from otel_llmlog.providers import anthropic, openai
from otel_llmlog.providers.facts import Endpoint

# By the last segment of the path; `chat` in front of it makes the first one another API.
_BY_PATH: dict[str, Endpoint] = {
    "completions": openai.COMPLETIONS,
    "responses": openai.RESPONSES,
    "embeddings": openai.EMBEDDINGS,
    "messages": anthropic.MESSAGES,
}


def recognise(path: str, body: bytes | None, headers: Mapping[str, str]) -> Endpoint | None:
    """The API that a POST to this path with this body calls; None when it is no LLM call."""
    before, _, last = path.rstrip("/").rpartition("/")
    endpoint = _BY_PATH.get(last)
    if endpoint is None:
        return None
    if endpoint is openai.COMPLETIONS and before.endswith("/chat"):
        endpoint = openai.CHAT
    return endpoint if endpoint.accepts(body, headers) else None

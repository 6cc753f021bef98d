"""Other vendors' models on Vertex AI: their own bodies, with the model in the URL.

Sources: anthropic.lib.vertex of the installed SDK (the model leaves the body, `anthropic_version` enters it, the verb
tells a stream); mistralai.gcp of the installed SDK for Mistral's models.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from otel_llmlog.providers import anthropic, gemini, openai
from otel_llmlog.providers.facts import RequestFacts


def _accepts_claude(body: bytes | None, headers: Mapping[str, str]) -> bool:  # noqa: ARG001 - one signature for all
    return body is not None and b'"messages"' in body and b'"anthropic_version"' in body


def _reads_url(read: Callable[[bytes, str, bool], RequestFacts]) -> Callable[[bytes, str, bool], RequestFacts]:
    """The vendor's own reader, with what the URL says of the model and of the stream."""

    def read_request(body: bytes, path: str, content: bool) -> RequestFacts:
        facts = read(body, path, content)
        streamed = path.rstrip("/").endswith(":streamRawPredict")
        return replace(facts, model=gemini.model_of(path) or facts.model, stream=streamed or facts.stream)

    return read_request


CLAUDE = replace(
    anthropic.MESSAGES,
    wire="vertex_ai",
    accepts=_accepts_claude,
    read_request=_reads_url(anthropic.read_request),
)
MISTRAL = replace(openai.CHAT, wire="vertex_ai", read_request=_reads_url(openai.read_request))

"""Wire formats of LLM providers, one file each: recognise a request, read request, reply and stream into facts.

Everything here is pure: bytes in, data out; no input raises.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from otel_llmlog.providers import anthropic, bedrock, cohere, gemini, mistral, ollama, openai, openai_media, vertex
from otel_llmlog.providers.facts import Endpoint

# By the last segment of the path; where several APIs share one, by the segment in front of it, "" being any other.
_BY_PATH: dict[str, Endpoint | dict[str, Endpoint]] = {
    "completions": {"chat": openai.CHAT, "fim": mistral.FIM, "agents": mistral.AGENTS, "": openai.COMPLETIONS},
    "responses": openai.RESPONSES,
    "embeddings": openai.EMBEDDINGS,
    "messages": anthropic.MESSAGES,
    "ocr": mistral.OCR,
    "chat": {"v2": cohere.CHAT, "api": ollama.CHAT},
    "embed": {"v2": cohere.EMBED, "v1": cohere.EMBED, "api": ollama.EMBED},
    "generate": {"api": ollama.GENERATE},
    "rerank": cohere.RERANK,
    "generations": {"images": openai_media.GENERATIONS},
    "edits": {"images": openai_media.EDITS},
    "variations": {"images": openai_media.VARIATIONS},
    "transcriptions": {"audio": openai_media.TRANSCRIPTIONS},
    "translations": {"audio": openai_media.TRANSLATIONS},
    "speech": {"audio": openai_media.SPEECH},
    "moderations": openai_media.MODERATIONS,
}
# Google's APIs put a verb behind the model, `…/models/gemini-2.5-flash:generateContent`; by the publisher of the model
# where several share one.
_BY_VERB: dict[str, Endpoint | dict[str, Endpoint]] = {
    "generateContent": gemini.GENERATE,
    "streamGenerateContent": gemini.STREAM,
    "embedContent": gemini.EMBED,
    "batchEmbedContents": gemini.BATCH_EMBED,
    "predict": gemini.PREDICT,
    "rawPredict": {"anthropic": vertex.CLAUDE, "mistralai": vertex.MISTRAL},
    "streamRawPredict": {"anthropic": vertex.CLAUDE, "mistralai": vertex.MISTRAL},
}
# Counting is free.
_FREE = "count-tokens:rawPredict"


def recognise(path: str, body: bytes | None, headers: Mapping[str, str]) -> Endpoint | None:
    """The API that a POST to this path with this body calls; None when it is no LLM call."""
    endpoint = endpoint_at(path)
    return endpoint if endpoint is not None and endpoint.accepts(body, headers) else None


# An app calls a few paths all the time.
@lru_cache(maxsize=1024)
def endpoint_at(path: str) -> Endpoint | None:
    """The API that has this path, if it is one; others may have it, too."""
    before, _, last = path.rstrip("/").rpartition("/")
    found = _BY_PATH.get(last)
    if found is None:
        model, _, verb = last.rpartition(":")
        found = _BY_VERB.get(verb) if model and last != _FREE else None
        before = before.removesuffix("/models")
    if found is None and "/model/" in path:
        found = bedrock.endpoint_of(path)
    if type(found) is dict:
        found = found.get(before.rpartition("/")[2]) or found.get("")
    return found  # type: ignore[return-value] # no table is left here

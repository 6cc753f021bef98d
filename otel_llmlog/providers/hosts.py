"""Which provider stands behind a host. Slugs are those of LiteLLM's `custom_llm_provider`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache

from otel_llmlog import redact

_HOSTS = {
    "api.openai.com": "openai",
    "api.anthropic.com": "anthropic",
    "api.groq.com": "groq",
    "openrouter.ai": "openrouter",
    "api.together.xyz": "together_ai",
    "api.together.ai": "together_ai",
    "api.fireworks.ai": "fireworks_ai",
    "api.deepseek.com": "deepseek",
    "api.x.ai": "xai",
    "api.perplexity.ai": "perplexity",
    "api.mistral.ai": "mistral",
    "api.cohere.com": "cohere",
    "api.cohere.ai": "cohere",
    "api.cerebras.ai": "cerebras",
    "api.sambanova.ai": "sambanova",
    "api.novita.ai": "novita",
    "generativelanguage.googleapis.com": "gemini",
    "aiplatform.googleapis.com": "vertex_ai",
    "router.huggingface.co": "huggingface",
    "ollama.com": "ollama",
}
_DOMAINS = {
    ".openai.com": "openai",
    ".openai.azure.com": "azure",
    ".services.ai.azure.com": "azure_ai",
    ".inference.ai.azure.com": "azure_ai",
    ".cognitiveservices.azure.com": "azure",
    "-aiplatform.googleapis.com": "vertex_ai",
    ".x.ai": "xai",
    ".mistral.ai": "mistral",
    # Vertex AI in one jurisdiction: aiplatform.eu.rep.googleapis.com.
    ".rep.googleapis.com": "vertex_ai",
}
_BEDROCK = re.compile(r"bedrock-(?:runtime|mantle)(?:-fips)?\.[a-z0-9-]{1,32}\.(?:amazonaws\.com(?:\.cn)?|api\.aws)")
# What follows the name of a place in hosts for one place.
_OF_PLACES = (".api.openai.com", "-aiplatform.googleapis.com", ".rep.googleapis.com")
# A port of a well-known local server.
_PORTS = {11434: "ollama"}
# SDKs that speak OpenAI's format and name their vendor in the user agent, as `Groq/Python 1.7.0`.
_AGENTS = {"groq/": "groq", "asyncgroq/": "groq", "together/": "together_ai", "asynctogether/": "together_ai"}


def provider(wire: str, host: str, port: int | None, path: str, user_agent: str, known: Mapping[str, str]) -> str:
    """The slug of the provider: as `known` hosts say, by host name, by SDK; else the vendor of the wire format."""
    host = host.lower()
    if found := known.get(f"{host}:{port}") or known.get(host) or _HOSTS.get(host):
        return found
    for domain, slug in _DOMAINS.items():
        if host.endswith(domain):
            return slug
    if _BEDROCK.fullmatch(host):
        return "bedrock"
    if found := _PORTS.get(port or 0):
        return found
    if "/openai/deployments/" in path:
        return "azure"
    if "/publishers/" in path:
        return "vertex_ai"
    agent = user_agent.lower()
    if agent.startswith("speakeasy-sdk/") and agent.endswith(" mistralai"):
        return "mistral"
    return next((slug for prefix, slug in _AGENTS.items() if agent.startswith(prefix)), wire)


def takes_stream_options(host: str, port: int | None, path: str, user_agent: str) -> bool:
    """Whether a stream of chat may be asked for its usage: Mistral brings it unasked, and refuses unknown fields."""
    return provider("openai", host, port, path, user_agent, {}) != "mistral"


def is_provider(host: str, port: int | None, known: Mapping[str, str]) -> bool:
    """Whether an LLM provider stands behind this host, whatever is asked of it."""
    host = host.lower()
    if host in _HOSTS or host in known or f"{host}:{port}" in known or host.endswith(tuple(_DOMAINS)):
        return True
    return _BEDROCK.fullmatch(host) is not None


def place(host: str) -> str | None:
    """Where a host makes the model run, if it is one for a place: `eu.api.openai.com`, `europe-west1-aiplatform.…`."""
    host = host.lower()
    for ending in _OF_PLACES:
        if host.endswith(ending):
            return host.removesuffix(ending).removeprefix("aiplatform.") or None
    return None


def api_base(scheme: str, host: str, port: int | None, path: str) -> str:
    """Scheme, host and path up to the API: what an SDK calls its base URL. Neither user info nor query nor tokens."""
    path = path.rstrip("/")
    above = path.rsplit("/", 2 if path.endswith("/chat/completions") else 1)[0].partition("/model/")[0]
    shown = f"[{host}]" if ":" in host else host
    return _base_url(f"{scheme}://{shown}{f':{port}' if port else ''}{above}")


@lru_cache(maxsize=256)  # an app speaks to a few servers
def _base_url(url: str) -> str:
    return redact.base_url(url)

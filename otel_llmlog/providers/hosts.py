"""Which provider stands behind a host. Slugs are those of LiteLLM's `custom_llm_provider`."""

from __future__ import annotations

from collections.abc import Mapping

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
}
_DOMAINS = {
    ".openai.com": "openai",
    ".openai.azure.com": "azure",
    ".services.ai.azure.com": "azure_ai",
    ".inference.ai.azure.com": "azure_ai",
    ".cognitiveservices.azure.com": "azure",
    "-aiplatform.googleapis.com": "vertex_ai",
    ".x.ai": "xai",
}
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
    if found := _PORTS.get(port or 0):
        return found
    if "/openai/deployments/" in path:
        return "azure"
    agent = user_agent.lower()
    return next((slug for prefix, slug in _AGENTS.items() if agent.startswith(prefix)), wire)


def is_provider(host: str, port: int | None, known: Mapping[str, str]) -> bool:
    """Whether an LLM provider stands behind this host, whatever is asked of it."""
    host = host.lower()
    return host in _HOSTS or host in known or f"{host}:{port}" in known or host.endswith(tuple(_DOMAINS))


def place(host: str) -> str | None:
    """Where a host makes the model run, if it is one for a place: `eu.api.openai.com`, `europe-west1-aiplatform.…`."""
    host = host.lower()
    for ending in _OF_PLACES:
        if host.endswith(ending):
            return host.removesuffix(ending).removeprefix("aiplatform.") or None
    return None


def api_base(scheme: str, host: str, port: int | None, path: str) -> str:
    """Scheme, host and path up to the API: what an SDK calls its base URL. Neither user info nor query."""
    path = path.rstrip("/")
    above = path.rsplit("/", 2 if path.endswith("/chat/completions") else 1)[0]
    shown = f"[{host}]" if ":" in host else host
    return redact.clean(f"{scheme}://{shown}{f':{port}' if port else ''}{above}")[: redact.MAX_NAME]

"""What providers, models and service tiers are called in each price list.

Always true: a provider's name is looked up, never guessed from a part of it; a name that is in no table stands for
itself alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

# Longer names are no models: they are not worth keeping in a cache or running patterns over.
MAX_NAME = 256


class Names(NamedTuple):
    """One provider's names."""

    genai: str | None
    """Provider id in genai-prices; None when it lists no such provider."""
    litellm: tuple[str, ...]
    """`litellm_provider` values and key prefixes in LiteLLM's price file, the usual one first."""


# The one alias table: ours and OpenTelemetry's `gen_ai.provider.name` values, LiteLLM's names, genai-prices' ids.
# https://opentelemetry.io/docs/specs/semconv/registry/attributes/gen-ai/
# A provider with the same name everywhere needs no row; one without published prices has None for genai-prices.
_ROWS: tuple[tuple[tuple[str, ...], str | None, tuple[str, ...]], ...] = (
    (("openai",), "openai", ("openai", "text-completion-openai")),
    (("azure", "azure_openai", "azure.ai.openai", "az.ai.openai"), "azure", ("azure", "azure_text", "azure_ai")),
    (("azure_ai", "azure.ai.inference", "az.ai.inference"), "azure", ("azure_ai", "azure")),
    (
        ("bedrock", "bedrock_converse", "bedrock_mantle", "aws.bedrock", "aws_bedrock", "aws"),
        "aws",
        ("bedrock", "bedrock_converse", "bedrock_mantle"),
    ),
    (("gemini", "gcp.gemini"), "google", ("gemini",)),
    (("vertex_ai", "vertexai", "gcp.vertex_ai"), "google", ("vertex_ai",)),
    # The library that speaks to both does not say to which.
    (("google", "google_genai", "gcp.gen_ai"), "google", ("gemini", "vertex_ai")),
    (("x_ai", "xai", "x-ai"), "x-ai", ("xai",)),
    (("fireworks_ai", "fireworks-ai", "fireworks"), "fireworks", ("fireworks_ai",)),
    (("together_ai", "together-ai", "together"), "together", ("together_ai",)),
    (("mistral", "mistral_ai", "mistralai"), "mistral", ("mistral", "codestral", "text-completion-codestral")),
    (("cohere", "cohere_chat"), "cohere", ("cohere", "cohere_chat")),
    (("moonshot", "moonshot_ai", "moonshotai"), "moonshotai", ("moonshot",)),
    (("zai", "z_ai", "z.ai"), "zai", ("zai",)),
    (("voyage", "voyage_ai", "voyageai"), "voyageai", ("voyage",)),
    (("meta", "meta_llama"), "meta", ("meta_llama", "meta")),
    (("github_copilot", "github-copilot"), "github-copilot", ("github_copilot",)),
    (("ibm.watsonx.ai", "watsonx"), None, ("watsonx",)),
    # People's own machines and gateways: the hosts of the same open models have prices, these have none.
    (("vllm", "hosted_vllm"), None, ("hosted_vllm", "vllm")),
    (("ollama", "ollama_chat"), None, ("ollama", "ollama_chat")),
    (("lm_studio", "lmstudio"), None, ("lm_studio",)),
    (("litellm", "litellm_proxy"), None, ("litellm_proxy",)),
)
_PROVIDERS: Mapping[str, Names] = MappingProxyType(
    {slug: Names(genai, litellm) for slugs, genai, litellm in _ROWS for slug in slugs}
)


def provider_names(provider: str) -> Names:
    """Names of `provider` in the price lists; an unlisted one is tried as it is."""
    slug = provider.lower()
    return _PROVIDERS.get(slug) or Names(slug, (slug,))


class Tier(NamedTuple):
    """How a service tier is written in each price list."""

    suffix: str
    """What LiteLLM's price keys end with."""
    context: Mapping[str, str]
    """genai-prices' `price_context`."""


STANDARD = Tier("", {})
# Tiers without a row ("default", "standard", "auto", "on_demand", …) are billed at the plain price.
_TIERS: Mapping[str, Tier] = MappingProxyType(
    {
        "flex": Tier("_flex", {"service_tier": "flex"}),
        "priority": Tier("_priority", {"service_tier": "priority"}),
        # Anthropic calls it a speed, OpenAI a tier priced as priority.
        "fast": Tier("_priority", {"service_tier": "fast", "speed": "fast"}),
        "balanced": Tier("_balanced", {"service_tier": "balanced"}),
        "ultrafast": Tier("_ultrafast", {"service_tier": "ultrafast"}),
        "batch": Tier("_batches", {"processing": "batch"}),
    }
)


def tier_name(service_tier: str) -> str | None:
    """The tier's name if it has prices of its own, else None."""
    name = service_tier.lower()
    return name if name in _TIERS else None


def tier(name: str | None) -> Tier:
    """The tier that `tier_name` named; the standard one for None."""
    return STANDARD if name is None else _TIERS[name]


# models/x, publishers/google/models/x, accounts/fireworks/models/x, projects/…/models/x
_PATH = re.compile(r"(?:.*/)?models/")
_DATE = re.compile(r"[-@](?:20\d\d-\d\d-\d\d|20\d{6}|latest)$")


def forms(model: str) -> tuple[str, ...]:
    """Names that `model` may be listed under, the most exact first.

    As given, without a resource path, without a provider's prefix, as the base of a fine-tune; then each of these
    without its trailing date or `-latest`.
    """
    bare = _PATH.sub("", model, count=1)
    names = [model, bare]
    prefix, slash, rest = bare.partition("/")
    if slash and prefix.lower() in _PROVIDERS:
        names.append(rest)
    if bare.startswith("ft:"):
        # ft:gpt-4o-2024-08-06:my-org::9xyz is billed as every fine-tune of that base.
        names.append(":".join(bare.split(":")[:2]))
    return tuple(dict.fromkeys(name for name in (*names, *(_DATE.sub("", name) for name in names)) if name))

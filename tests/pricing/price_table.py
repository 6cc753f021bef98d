"""Write docs/prices.md: where genai-prices and LiteLLM's price map differ, for the models used most.

`.venv/bin/python -m tests.pricing.price_table` writes it anew; a test checks that it is current. Reads LiteLLM's map
from its package in `.venv-litellm`, never over the network.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

from otel_llmlog.payload import Usage
from otel_llmlog.pricing import Pricer, parse_price_map
from otel_llmlog.pricing.catalogue import version
from otel_llmlog.pricing.names import forms

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "prices.md"
MARKS = ("<!-- differences -->", "<!-- /differences -->")
MODELS = 200
# Below this share of the cost the lists agree.
TOLERANCE = Decimal("0.005")
# Prices of this day, so that the page says the same tomorrow.
AT = datetime(2026, 11, 24, 12, tzinfo=UTC).timestamp()
# Who sells models of their own, or many of others'; a model of theirs is compared where they sell it.
PROVIDERS = {
    "openai", "anthropic", "gemini", "vertex_ai", "bedrock", "azure", "mistral", "cohere", "deepseek", "xai", "groq",
    "together_ai", "fireworks_ai", "perplexity", "openrouter",
}  # fmt: skip
USAGES = {
    "plain": Usage(input_tokens=10_000, output_tokens=1_000, source="provider"),
    "cached": Usage(input_tokens=10_000, output_tokens=1_000, cache_read_tokens=8_000, source="provider"),
    "embedding": Usage(input_tokens=10_000, source="provider"),
}
_CHAT = {"chat", "completion", "responses"}
# Entries for one region, whose prices the built-in list does not have.
_REGION = re.compile(r"(^|/)(eu|us|global|global-standard|[a-z]{2}(-gov)?-[a-z]+-\d)/")


class Compared(NamedTuple):
    """One model of one provider, one usage, both costs."""

    provider: str
    model: str
    usage: str
    genai: Decimal
    litellm: Decimal

    @property
    def share(self) -> Decimal:
        """How much LiteLLM's cost is above ours, as a share of ours."""
        return (self.litellm - self.genai) / self.genai if self.genai else Decimal("Infinity")


def price_map() -> bytes:
    """LiteLLM's map, as its package has it."""
    (found,) = ROOT.glob(".venv-litellm/lib/python3*/site-packages/litellm/model_prices_and_context_window_backup.json")
    return found.read_bytes()


def litellm_version() -> str:
    """Version of that package."""
    (found,) = ROOT.glob(".venv-litellm/lib/python3*/site-packages/litellm-*.dist-info")
    return found.name.removeprefix("litellm-").removesuffix(".dist-info")


def _bare(key: str) -> str:
    """A model's name without who sells it, the date, and Bedrock's decorations."""
    name = forms(key)[-1].rpartition("/")[2].lower()
    name = re.sub(r"^(?:[a-z-]{2,6}\.)?(?:anthropic|meta|mistral|cohere|amazon|deepseek|openai)\.", "", name)
    return re.sub(r"(-v\d+:\d+|[-@]20\d{6}|:\d+)$", "", re.sub(r"-v\d+:\d+$", "", name))


def most_used(models: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """(provider, model, mode) that both lists price, those first that LiteLLM's map has under the most keys.

    Nobody publishes how much each model is used; what many providers sell and people list is the nearest to it.
    """
    ours, theirs = Pricer(), Pricer(models)
    listed = Counter(_bare(key) for key in models)
    seen = set()
    for key in sorted(models, key=lambda key: (-listed[_bare(key)], len(key), key)):
        entry = models[key]
        owner = str(entry.get("litellm_provider")).partition("-")[0]
        mode = entry.get("mode")
        if owner not in PROVIDERS or not (mode in _CHAT or mode == "embedding") or _REGION.search(key):
            continue
        name = key.removeprefix(f"{owner}/")
        at = (owner, _bare(key))
        usage = USAGES["plain" if mode in _CHAT else "embedding"]
        if at in seen or not all(_cost(pricer, owner, name, usage) is not None for pricer in (ours, theirs)):
            continue
        seen.add(at)
        yield owner, name, "chat" if mode in _CHAT else "embedding"


def _cost(pricer: Pricer, provider: str, model: str, usage: Usage) -> Decimal | None:
    return pricer.price(
        usage, provider=provider, response_model=model, request_model=None, call_type="completion", at=AT
    ).total


def compared(data: bytes) -> list[Compared]:
    """Every usage of the models used most, on both lists."""
    models, version_ = parse_price_map(data)
    ours, theirs = Pricer(), Pricer(models, version_)
    found = []
    for (provider, model, mode), _ in zip(most_used(models), range(MODELS), strict=False):
        for name in ("plain", "cached") if mode == "chat" else ("embedding",):
            costs = [_cost(pricer, provider, model, USAGES[name]) for pricer in (ours, theirs)]
            assert costs[0] is not None
            assert costs[1] is not None
            found.append(Compared(provider, model, name, *costs))
    return found


def table(data: bytes) -> str:
    """The part of the page between the marks."""
    every = compared(data)
    apart = sorted(
        (one for one in every if abs(one.share) > TOLERANCE), key=lambda one: (one.provider, one.model, one.usage)
    )
    models, differing = len({one[:2] for one in every}), len({one[:2] for one in apart})
    lists = f"genai-prices {version()} and LiteLLM {litellm_version()}, prices of {datetime.fromtimestamp(AT, UTC):%Y-%m-%d}"
    lines = [
        f"{lists}: of {models} models, {models - differing} cost the same within 0.5 %, {differing} do not.",
        "",
        "| provider | model | usage | genai-prices | LiteLLM | LiteLLM is |",
        "|---|---|---|---|---|---|",
    ]
    for one in apart:
        lines.append(
            f"| {one.provider} | {one.model} | {one.usage} | {one.genai:f} | {one.litellm:f} | {one.share:+.1%} |"
        )
    return "\n".join(lines)


def between(page: str) -> str:
    """What stands between the marks."""
    return page.partition(MARKS[0] + "\n\n")[2].partition("\n\n" + MARKS[1])[0]


if __name__ == "__main__":
    page = PAGE.read_text(encoding="utf-8")
    before, after = page.split(between(page) + "\n\n" + MARKS[1])
    PAGE.write_text(before + table(price_map()) + "\n\n" + MARKS[1] + after, encoding="utf-8")

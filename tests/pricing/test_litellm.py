"""Every chat, embedding, rerank and audio entry of LiteLLM's price map costs what LiteLLM says, or it is said why not."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
PYTHON = ROOT / ".venv-litellm" / "bin" / "python"
pytestmark = pytest.mark.slow

Difference = dict[str, Any]


def _of(provider: str, *cases: str) -> Callable[[Difference], bool]:
    return lambda d: d["provider"] == provider and (not cases or d["case"].startswith(cases))


def _unpriced(d: Difference) -> bool:
    return d["ours"] is None and "has no price for" in d["said"]


# Why the two differ, the first that fits. A reason that fits nothing any more fails the test: then it goes.
EXCEPTIONS: dict[str, Callable[[Difference], bool]] = {
    "LiteLLM says 0 where its list has no price": lambda d: _unpriced(d) and d["theirs"] == 0,
    "LiteLLM bills what its list has no price for at 0, and the rest": lambda d: _unpriced(d) and d["mode"] != "audio_speech",
    "LiteLLM bills a song as one piece, whatever the call counts": lambda d: "lyria" in d["model"],
    "images and video at up to twelve times the price of text are not guessed to be text": lambda d: "output apart" in d["said"],
    "LiteLLM's own way with Perplexity knows neither cached prices nor tiers, thresholds and fees for a request": _of("perplexity"),
    "LiteLLM's own ways with Fireworks and xAI know no service tier": lambda d: _of("fireworks_ai", "priority", "flex")(d)
    or _of("xai", "priority", "flex")(d),
    "LiteLLM prices cached input of a batch without batch prices at 0 where the model has no price for cached input": (
        lambda d: d["case"] == "batch cached" and (d["theirs"] or 0) > 0 and d["ours"] > d["theirs"]
    ),
    "LiteLLM halves the plain price for a batch without batch prices, whatever the thresholds": (
        lambda d: d["case"] == "batch above" and (d["theirs"] or 0) > 0 and d["ours"] > d["theirs"]
    ),
    "LiteLLM says 0 for batches of models with ranges of prices, and of names it does not find again": (
        lambda d: d["case"].startswith("batch") and d["theirs"] == 0
    ),
    "LiteLLM must log in to GitHub before it prices a batch": _of("github_copilot", "batch"),
    "LiteLLM says 0 for a reranker that bills tokens": lambda d: d["case"] == "rerank" and d["theirs"] == 0,
    "LiteLLM finds another entry of its list: deepseek/deepseek-chat": lambda d: d["model"] == "deepseek-chat",
    "LiteLLM finds another entry of its list: gemini/gemini-exp-1206, at 0": lambda d: d["model"] == "gemini-exp-1206",
}  # fmt: skip
# Below this the file is not what it was made for.
LEAST_COMPARED = 30_000


def test_every_entry_costs_what_litellm_says_but_for_named_exceptions(tmp_path: Path) -> None:
    found = tmp_path / "costs.json"
    subprocess.run(
        [PYTHON, "-m", "tests.pricing.litellm_costs", found], cwd=ROOT, check=True, capture_output=True, timeout=300
    )
    told = json.loads(found.read_text(encoding="utf-8"))
    assert told["compared"] > LEAST_COMPARED
    used: Counter[str] = Counter()
    unexplained = []
    for difference in told["differences"]:
        reason = next((why for why, fits in EXCEPTIONS.items() if fits(difference)), None)
        used[reason or ""] += 1
        if reason is None:
            unexplained.append(difference)
    assert unexplained == []
    assert set(used) == set(EXCEPTIONS), "an exception that is none any more"
    # Where LiteLLM says nothing wrong by its own list, nearly all agree.
    assert sum(used.values()) < told["compared"] / 8

"""The SDKs of all other providers, unmodified, against a server of their wire: one right row a request."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import pytest

from otel_llmlog.demo.provider import LocalProvider
from tests.e2e.conftest import ROOT, Run
from tests.wires import ROUTES

SDKS = ROOT / ".venv-sdks" / "bin" / "python"
LITELLM = ROOT / ".venv-litellm" / "bin" / "python"
# Each starts an interpreter with heavy SDKs.
pytestmark = pytest.mark.slow

Rows = Callable[[], list[dict[str, Any]]]


@pytest.fixture(scope="session")
def _wires() -> Iterator[LocalProvider]:
    with LocalProvider(routes=ROUTES) as running:
        yield running


@pytest.fixture
def wires(_wires: LocalProvider) -> LocalProvider:
    _wires.clear()
    return _wires


def _chats(kind: str, model: str) -> list[dict[str, Any]]:
    """Sync and async, plain and streaming."""
    return [
        {"call_type": prefix + kind, "stream": stream, "model": model, "prompt_tokens": 120, "completion_tokens": 40}
        for prefix in ("", "a")
        for stream in (False, True)
    ]


def _gemini(model: str) -> list[dict[str, Any]]:
    found = _chats("generate_content", model)
    return [
        {**row, "call_type": row["call_type"] + "_stream" * row["stream"], "cache_read_tokens": 64} for row in found
    ]


def _cost(prices: tuple[str, str, str], plain: int, read: int, output: int) -> Decimal:
    """US dollars; prices are for a million tokens: input, cached input, output."""
    return sum((Decimal(p) * n for p, n in zip(prices, (plain, read, output), strict=True)), Decimal(0)) / 10**6


def _claude() -> list[dict[str, Any]]:
    cost = _cost(("3", "0.3", "15"), 56, 64, 40)
    rows = _chats("anthropic_messages", "claude-sonnet-4-5@20250929")
    return [{**row, "call_type": "anthropic_messages", "cache_read_tokens": 64, "spend": cost} for row in rows]


_FLASH = _cost(("0.3", "0.03", "2.5"), 56, 64, 40)
_EMBEDDED = {"call_type": "embedding", "stream": False, "prompt_tokens": 120, "completion_tokens": 0}
_STATED = {"spend": Decimal("0.0125"), "cost_source": "provider"}

# By script: the provider's slug, and what each row has, in the order of the calls.
EXPECTED: dict[str, tuple[str, list[dict[str, Any]]]] = {
    "google_genai": (
        "gemini",
        [
            *({**row, "spend": _FLASH} for row in _gemini("gemini-2.5-flash")[:2]),
            {**_EMBEDDED, "model": "gemini-embedding-001", "spend": Decimal("0.000018")},
            *({**row, "spend": _FLASH} for row in _gemini("gemini-2.5-flash")[2:]),
        ],
    ),
    "google_vertex": (
        "vertex_ai",
        [
            *({**row, "spend": _FLASH} for row in _gemini("gemini-2.5-flash")[:2]),
            {**_EMBEDDED, "model": "text-embedding-005"},
        ],
    ),
    "anthropic_vertex": ("vertex_ai", _claude()),
    "mistralai": (
        "mistral",
        [
            *({**row, "cache_read_tokens": 64} for row in _chats("completion", "mistral-large-latest")),
            *({**row, "call_type": "text_completion"} for row in _chats("", "codestral-latest")[:2]),
            {**_EMBEDDED, "model": "mistral-embed", "spend": Decimal("0.000012")},
            {
                "call_type": "ocr",
                "stream": False,
                "model": "mistral-ocr-latest",
                "used": {"pages": 3},
                "spend": Decimal("0.012"),
            },
        ],
    ),
    "cohere": (
        "cohere",
        [
            *({**row, "spend": Decimal("0.0007")} for row in _chats("completion", "command-a-03-2025")[:2]),
            {**_EMBEDDED, "model": "embed-v4.0", "spend": Decimal("0.0000144")},
            {"call_type": "rerank", "stream": False, "model": "rerank-v3.5", "used": {"search_units": 1}},
            *({**row, "spend": Decimal("0.0007")} for row in _chats("completion", "command-a-03-2025")[2:]),
        ],
    ),
    "ollama": (
        "ollama",
        [
            *_chats("completion", "llama3.1")[:2],
            *({**row, "call_type": "text_completion"} for row in _chats("", "llama3.1")[:2]),
            {**_EMBEDDED, "model": "nomic-embed-text", "spend": None},
            *_chats("completion", "llama3.1")[2:],
        ],
    ),
    "groq": (
        "groq",
        [{**row, "spend": Decimal("0.0001024")} for row in _chats("completion", "llama-3.3-70b-versatile")],
    ),
    "together": ("together_ai", _chats("completion", "meta-llama/Llama-3.3-70B-Instruct-Turbo")),
    "xai": ("xai", [{**row, "reasoning_tokens": 30, **_STATED} for row in _chats("completion", "grok-4")]),
    "perplexity": (
        "perplexity",
        [{**row, "reasoning_tokens": 30, **_STATED} for row in _chats("completion", "sonar-pro")],
    ),
    "openrouter": ("openrouter", [{**row, **_STATED} for row in _chats("completion", "openai/gpt-4o-mini")]),
    "deepseek": ("deepseek", [{**row, "cache_read_tokens": 64} for row in _chats("completion", "deepseek-chat")]),
    "fireworks": ("fireworks_ai", _chats("completion", "accounts/fireworks/models/deepseek-v3p1")),
    "azure": (
        "azure",
        [{**row, "spend": _cost(("0.15", "0.075", "0.6"), 56, 64, 40)} for row in _chats("completion", "our-chat")],
    ),
}
# On one HTTP library or the other; its aiohttp form is tested with that transport.
CLIENTS = [(name, {}) for name in EXPECTED if not name.startswith("google")] + [
    (name, {"GOOGLE_GENAI_HTTP_CLIENT": library})
    for name in EXPECTED
    if name.startswith("google")
    for library in ("httpx", "httpx2")
]
# Calls that are not billed leave no row.
FREE = ("countTokens", "count-tokens:rawPredict")


@pytest.mark.parametrize(("name", "environment"), CLIENTS, ids=["-".join([n, *e.values()]) for n, e in CLIENTS])
def test_calls_of_an_sdk_leave_one_right_row_each(
    run: Run, rows: Rows, wires: LocalProvider, name: str, environment: dict[str, str]
) -> None:
    slug, expected = EXPECTED[name]
    known = f"{wires.url.removeprefix('http://')}={slug}"
    run("wires_app.py", name, wires.url, python=SDKS, LLMLOG_PROVIDER_HOSTS=known, **environment)
    found = rows()
    billed = [request for request in wires.requests if not request.path.endswith(FREE)]
    assert len(found) == len(billed) == len(expected)
    for row, said in zip(found, [dict(one) for one in expected], strict=True):
        assert said.pop("used", {}).items() <= row["usage"].items()
        assert {**row, **said} == row
        assert (row["status"], row["provider"], row["error_str"]) == ("success", slug, None)
        assert row["spend"] is not None or "no price for model" in str(row["metadata"]), row["metadata"]
        assert (row["completion_start_time"] is not None) == row["stream"]
        assert row["api_key"] is not None or name == "ollama"
        assert "canary" not in str(row)


def test_calls_of_litellm_over_the_providers_own_wires_leave_one_right_row_each(
    run: Run, rows: Rows, wires: LocalProvider
) -> None:
    run("litellm_wires.py", wires.url, python=LITELLM)
    found = rows()
    assert len(found) == len(wires.requests) == 16
    for at, (wire, model, call_type) in enumerate(
        [
            ("gemini", "gemini-2.5-flash", "generate_content"),
            ("openai", "mistral-large-latest", "completion"),
            ("ollama", "llama3.1", "completion"),
            ("openai", "gpt-4o-mini", "completion"),
        ]
    ):
        for row, said in zip(found[4 * at : 4 * at + 4], _chats(call_type, model), strict=True):
            if wire == "gemini":
                said["call_type"] += "_stream" * said["stream"]
            # Without being told who stands behind a host, the wire format's own vendor is.
            assert {**row, **said, "provider": wire, "status": "success"} == row

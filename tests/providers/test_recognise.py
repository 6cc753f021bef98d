"""Which requests are LLM calls, and which provider stands behind a host."""

from __future__ import annotations

import pytest

from otel_llmlog.providers import hosts, recognise

CHAT = b'{"model": "m", "messages": []}'
PROMPT = b'{"model": "m", "prompt": "Once"}'
INPUT = b'{"model": "m", "input": "Hi"}'
VERSION = {"anthropic-version": "2023-06-01"}

CALLS = [
    # OpenAI, and hosts that put their own prefix in front of the same API.
    ("/v1/chat/completions", CHAT, {}, "chat"),
    ("/chat/completions", CHAT, {}, "chat"),
    ("/openai/v1/chat/completions", CHAT, {}, "chat"),
    ("/api/v1/chat/completions", CHAT, {}, "chat"),
    ("/inference/v1/chat/completions", CHAT, {}, "chat"),
    ("/v1beta/openai/chat/completions", CHAT, {}, "chat"),
    ("/v1/projects/p/locations/us-central1/endpoints/openapi/chat/completions", CHAT, {}, "chat"),
    ("/gateway/team-7/v1/chat/completions", CHAT, {}, "chat"),
    ("/openai/deployments/chat-prod/chat/completions", CHAT, {}, "chat"),
    ("/models/chat/completions", CHAT, {}, "chat"),
    ("/v1/completions", PROMPT, {}, "completions"),
    ("/openai/deployments/old/completions", PROMPT, {}, "completions"),
    ("/v1/fim/completions", PROMPT, {}, "completions"),
    ("/v1/responses", INPUT, {}, "responses"),
    ("/openai/v1/responses", INPUT, {}, "responses"),
    ("/openai/responses", INPUT, {}, "responses"),
    ("/api/v1/responses", INPUT, {}, "responses"),
    ("/v1/embeddings", INPUT, {}, "embeddings"),
    ("/openai/deployments/embed/embeddings", b'{"input": ["a"]}', {}, "embeddings"),
    ("/v1/messages", CHAT, VERSION, "messages"),
    ("/anthropic/v1/messages", CHAT, VERSION, "messages"),
]


@pytest.mark.parametrize(("path", "body", "headers", "api"), CALLS)
@pytest.mark.parametrize("end", ["", "/", "//"])
def test_a_call_is_recognised_under_every_prefix_and_with_a_trailing_slash(
    path: str, body: bytes, headers: dict[str, str], api: str, end: str
) -> None:
    endpoint = recognise(path + end, body, headers)
    assert endpoint is not None
    assert (endpoint.api, endpoint.wire) == (api, "anthropic" if api == "messages" else "openai")


OTHERS = [
    # Common names of other services: the body or a header is missing.
    ("/api/messages", b'{"channel": "C1", "text": "hi"}', {}),
    ("/v1/messages", CHAT, {}),
    ("/v1/messages", b'{"text": "hi"}', VERSION),
    ("/v1/threads/thread_1/messages", b'{"role": "user", "content": "hi"}', {}),
    ("/surveys/7/responses", b'{"answers": [1, 2]}', {}),
    ("/surveys/7/responses", b'{"input": "free text"}', {}),
    ("/surveys/7/responses", b'{"model": "form"}', {}),
    ("/code/completions", b'{"cursor": 7}', {}),
    ("/search/embeddings", b'{"query": "a"}', {}),
    ("/v1/chat/completions", b'{"prompt": "Once"}', {}),
    ("/v1/chat/completions", b"", {}),
    ("/v1/chat/completions", None, {}),
    # Other APIs of the same providers: not billed, or billed elsewhere.
    ("/v1/messages/count_tokens", CHAT, VERSION),
    ("/v1/messages/batches", b'{"requests": [{"params": {"messages": []}}]}', VERSION),
    ("/v1/batches", b'{"input_file_id": "f", "endpoint": "/v1/chat/completions"}', {}),
    ("/v1/responses/resp_1/cancel", b"", {}),
    ("/v1/responses/input_tokens", INPUT, {}),
    ("/v1/chat/completions/chatcmpl-1", b'{"metadata": {"messages": ""}}', {}),
    ("/v1/moderations", INPUT, {}),
    ("/v1/images/generations", PROMPT, {}),
    ("/v1/audio/speech", INPUT, {}),
    ("/v1/files", b"", {}),
    ("/v1/models", b"", {}),
    # Lookalikes.
    ("/v1/groupchat/completions", CHAT, {}),
    ("/v1/chatcompletions", CHAT, {}),
    ("/v1/chat/completions.json", CHAT, {}),
    ("/v1/Chat/Completions", CHAT, {}),
    ("/v1/chat/completions/x", CHAT, {}),
    ("/v1/xresponses", INPUT, {}),
    ("/v1/embeddings_v2", INPUT, {}),
    ("/v1/messages2", CHAT, VERSION),
    ("completions", CHAT, {}),
    ("/", CHAT, VERSION),
    ("", CHAT, VERSION),
    ("/" * 5000, CHAT, VERSION),
]


@pytest.mark.parametrize(("path", "body", "headers"), OTHERS, ids=[f"{i}-{o[0][:40]}" for i, o in enumerate(OTHERS)])
def test_a_request_that_is_no_llm_call_is_not_recognised(
    path: str, body: bytes | None, headers: dict[str, str]
) -> None:
    assert recognise(path, body, headers) is None


HOSTS = [
    ("openai", "api.openai.com", None, "openai"),
    ("openai", "API.OpenAI.com", None, "openai"),
    ("openai", "eu.api.openai.com", None, "openai"),
    ("openai", "contoso.openai.azure.com", None, "azure"),
    ("openai", "contoso.cognitiveservices.azure.com", None, "azure"),
    ("openai", "contoso.services.ai.azure.com", None, "azure_ai"),
    ("anthropic", "contoso.services.ai.azure.com", None, "azure_ai"),
    ("anthropic", "api.anthropic.com", None, "anthropic"),
    ("openai", "api.anthropic.com", None, "anthropic"),
    ("openai", "api.groq.com", None, "groq"),
    ("openai", "openrouter.ai", 443, "openrouter"),
    ("anthropic", "openrouter.ai", None, "openrouter"),
    ("openai", "api.together.xyz", None, "together_ai"),
    ("openai", "api.fireworks.ai", None, "fireworks_ai"),
    ("openai", "api.deepseek.com", None, "deepseek"),
    ("openai", "api.x.ai", None, "xai"),
    ("openai", "us-east-1.api.x.ai", None, "xai"),
    ("openai", "api.perplexity.ai", None, "perplexity"),
    ("openai", "api.mistral.ai", None, "mistral"),
    ("openai", "generativelanguage.googleapis.com", None, "gemini"),
    ("openai", "us-central1-aiplatform.googleapis.com", None, "vertex_ai"),
    ("openai", "aiplatform.googleapis.com", None, "vertex_ai"),
    ("openai", "localhost", 11434, "ollama"),
    ("openai", "10.0.0.7", 11434, "ollama"),
    # A host that is known by nothing: the vendor of the wire format.
    ("openai", "llm.internal", 8000, "openai"),
    ("anthropic", "gateway.internal", None, "anthropic"),
    ("openai", "::1", 4000, "openai"),
    ("openai", "", None, "openai"),
    # Hosts that want to be taken for another.
    ("openai", "api.groq.com.evil.example", None, "openai"),
    ("openai", "evil-api.groq.com", None, "openai"),
    ("openai", "evilopenai.azure.com", None, "openai"),
    ("anthropic", "openai.azure.com.evil.example", None, "anthropic"),
    ("anthropic", "notx.ai", None, "anthropic"),
    ("anthropic", "aiplatform.googleapis.com.evil.example", None, "anthropic"),
    ("anthropic", "api.groq.com\0", None, "anthropic"),
    ("anthropic", "api.groq.com" * 10_000, None, "anthropic"),
]


@pytest.mark.parametrize(
    ("wire", "host", "port", "slug"), HOSTS, ids=[f"{i}-{h[1][:40]!r}" for i, h in enumerate(HOSTS)]
)
def test_the_host_tells_the_provider(wire: str, host: str, port: int | None, slug: str) -> None:
    assert hosts.provider(wire, host, port, "/v1/chat/completions", "OpenAI/Python 3.2.0", {}) == slug


@pytest.mark.parametrize(
    ("known", "slug"),
    [
        ({"llm.internal": "vllm"}, "vllm"),
        ({"llm.internal:8000": "vllm"}, "vllm"),
        ({"llm.internal:8000": "vllm", "llm.internal": "other"}, "vllm"),
        ({"llm.internal:9000": "other"}, "openai"),
    ],
)
def test_a_setting_names_the_provider_of_a_host_with_or_without_its_port(known: dict[str, str], slug: str) -> None:
    assert hosts.provider("openai", "LLM.internal", 8000, "/v1/chat/completions", "", known) == slug


@pytest.mark.parametrize(
    ("host", "place"),
    [
        ("api.openai.com", None),
        ("eu.api.openai.com", "eu"),
        ("US.api.openai.com", "us"),
        ("aiplatform.googleapis.com", None),
        ("europe-west1-aiplatform.googleapis.com", "europe-west1"),
        ("aiplatform.eu.rep.googleapis.com", "eu"),
        (".api.openai.com", None),
        ("api.anthropic.com", None),
        ("eu.api.openai.com.evil.example", None),
    ],
)
def test_the_host_tells_where_the_model_runs(host: str, place: str | None) -> None:
    assert hosts.place(host) == place


def test_a_setting_wins_over_what_is_known_of_a_host() -> None:
    known = {"api.openai.com": "openai-proxy", "localhost:11434": "llamafile"}
    assert hosts.provider("openai", "api.openai.com", None, "/", "", known) == "openai-proxy"
    assert hosts.provider("openai", "localhost", 11434, "/", "", known) == "llamafile"


def test_azures_path_and_a_vendors_sdk_tell_the_provider_behind_an_unknown_host() -> None:
    azure = "/gateway/openai/deployments/chat-prod/chat/completions"
    assert hosts.provider("openai", "apim.internal", None, azure, "AzureOpenAI/Python 3.2.0", {}) == "azure"
    for agent in ("Groq/Python 1.7.0", "AsyncGroq/Python 1.7.0"):
        assert hosts.provider("openai", "proxy.internal", None, "/v1/chat/completions", agent, {}) == "groq"
    assert hosts.provider("openai", "proxy.internal", None, "/v1/chat/completions", "my-groq/1.0", {}) == "openai"

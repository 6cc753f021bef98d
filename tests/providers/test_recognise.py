"""Which requests are LLM calls, and which provider stands behind a host."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from otel_llmlog import providers
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


GEMINI = b'{"contents": [{"parts": [{"text": "Hi"}]}]}'
CLAUDE = b'{"anthropic_version": "vertex-2023-10-16", "messages": []}'
RERANK = b'{"model": "m", "query": "q", "documents": ["a"]}'
VERTEX = "/v1/projects/p/locations/global/publishers"
# Path, body, wire, api and LiteLLM's call type.
MORE_CALLS = [
    ("/v1beta/models/gemini-2.5-flash:generateContent", GEMINI, "gemini", "generate_content", "generate_content"),
    ("/v1beta/models/m:streamGenerateContent", GEMINI, "gemini", "generate_content", "generate_content_stream"),
    ("/v1beta/tunedModels/t:generateContent", GEMINI, "gemini", "generate_content", "generate_content"),
    (f"{VERTEX}/google/models/m:generateContent", GEMINI, "gemini", "generate_content", "generate_content"),
    (
        "/v1/projects/p/locations/l/endpoints/7:generateContent",
        GEMINI,
        "gemini",
        "generate_content",
        "generate_content",
    ),
    ("/model/anthropic.claude-v2:1/converse", CHAT, "bedrock", "converse", "completion"),
    ("/model/us.amazon.nova-lite-v1:0/converse-stream", CHAT, "bedrock", "converse", "completion"),
    (
        "/bedrock/model/arn:aws:bedrock:us-east-1:1:inference-profile/us.x/converse",
        CHAT,
        "bedrock",
        "converse",
        "completion",
    ),
    ("/model/meta.llama3/invoke", PROMPT, "bedrock", "invoke", "completion"),
    ("/model/meta.llama3/invoke-with-response-stream", PROMPT, "bedrock", "invoke", "completion"),
    ("/model/amazon.titan-embed-text-v2:0/invoke", b'{"inputText": "a"}', "bedrock", "invoke", "embedding"),
    ("/v1/images/generations", PROMPT, "openai", "images", "image_generation"),
    ("/openai/deployments/draw/images/generations", b'{"prompt": "x"}', "openai", "images", "image_generation"),
    ("/v1/images/edits", b'{"model": "m"}', "openai", "images", "image_edit"),
    ("/v1/images/variations", b'{"model": "m"}', "openai", "images", "image_variation"),
    ("/v1/audio/transcriptions", b'{"model": "m"}', "openai", "audio", "transcription"),
    ("/v1/audio/translations", b'{"model": "m"}', "openai", "audio", "transcription"),
    ("/v1/audio/speech", b'{"model": "m", "input": "x", "voice": "v"}', "openai", "speech", "speech"),
    ("/v1/moderations", INPUT, "openai", "moderations", "moderation"),
    ("/v1beta/models/m:embedContent", b'{"content": {}}', "gemini", "embeddings", "embedding"),
    ("/v1beta/models/m:batchEmbedContents", b'{"requests": []}', "gemini", "embeddings", "embedding"),
    (f"{VERTEX}/google/models/m:predict", b'{"instances": [{"content": "a"}]}', "gemini", "embeddings", "embedding"),
    (f"{VERTEX}/anthropic/models/m@1:rawPredict", CLAUDE, "vertex_ai", "messages", "anthropic_messages"),
    (f"{VERTEX}/anthropic/models/m:streamRawPredict", CLAUDE, "vertex_ai", "messages", "anthropic_messages"),
    (f"{VERTEX}/mistralai/models/m:rawPredict", CHAT, "vertex_ai", "chat", "completion"),
    ("/v1/fim/completions", PROMPT, "mistral", "fim", "text_completion"),
    ("/v1/agents/completions", b'{"agent_id": "a", "messages": []}', "mistral", "chat", "completion"),
    ("/v1/ocr", b'{"model": "m", "document": {}}', "mistral", "ocr", "ocr"),
    ("/v2/chat", CHAT, "cohere", "chat", "completion"),
    ("/v2/embed", b'{"model": "m", "texts": ["a"]}', "cohere", "embeddings", "embedding"),
    ("/v1/embed", b'{"model": "m", "texts": ["a"]}', "cohere", "embeddings", "embedding"),
    ("/v2/rerank", RERANK, "cohere", "rerank", "rerank"),
    ("/rerank", RERANK, "cohere", "rerank", "rerank"),
    ("/api/chat", CHAT, "ollama", "chat", "completion"),
    ("/api/generate", PROMPT, "ollama", "completions", "text_completion"),
    ("/api/embed", INPUT, "ollama", "embeddings", "embedding"),
]


@pytest.mark.parametrize(("path", "body", "wire", "api", "call_type"), MORE_CALLS, ids=[c[0] for c in MORE_CALLS])
def test_calls_of_other_wires_are_recognised_by_their_path_and_shape(
    path: str, body: bytes, wire: str, api: str, call_type: str
) -> None:
    for prefix in ("", "/gateway/team-7"):
        for end in ("", "/"):
            endpoint = recognise(prefix + path + end, body, {})
            assert endpoint is not None
            assert (endpoint.wire, endpoint.api, endpoint.call_types[0]) == (wire, api, call_type)
    assert recognise(path, b'{"text": "hi"}', {}) is None
    assert recognise(path, None, {}) is None


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
    ("/v1/audio/speech", INPUT, {}),  # without a voice
    ("/v1/audio/transcriptions", b"{}", {}),
    ("/v1/audio/transcriptions", None, {}),
    ("/blog/edits", PROMPT, {}),
    ("/model/anthropic.claude/count-tokens", b'{"input": {}}', {}),
    ("/model/anthropic.claude/converse", b'{"prompt": 1}', {}),
    ("/chat/converse", CHAT, {}),
    ("/models/anthropic.claude/invoke", CHAT, {}),
    ("/model/anthropic.claude/invoke", b"[]", {}),
    ("/v1/files", b"", {}),
    ("/v1/models", b"", {}),
    ("/v1beta/models/m:countTokens", GEMINI, {}),
    (f"{VERTEX}/anthropic/models/count-tokens:rawPredict", CLAUDE, {}),
    (f"{VERTEX}/google/models/m:predict", b'{"instances": [{"prompt": "a cat"}]}', {}),
    ("/v1beta/cachedContents", GEMINI, {}),
    ("/api/show", CHAT, {}),
    ("/v1/tokenize", b'{"model": "m", "text": "a"}', {}),
    # Lookalikes.
    ("/v1beta/models/generateContent", GEMINI, {}),
    ("/v1beta/models/:generateContent", GEMINI, {}),
    ("/v1beta/models/m:generatecontent", GEMINI, {}),
    (f"{VERTEX}/meta/models/m:rawPredict", CHAT, {}),
    ("/v1/models/m:rawPredict", CLAUDE, {}),
    ("/rooms/7/chat", CHAT, {}),
    ("/v1/generate", PROMPT, {}),
    ("/videos/7/embed", b'{"model": "m", "texts": ["a"]}', {}),
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
    ("mistral", "codestral.mistral.ai", None, "mistral"),
    ("openai", "api.eu.mistral.ai", None, "mistral"),
    ("gemini", "generativelanguage.googleapis.com", None, "gemini"),
    ("gemini", "us-central1-aiplatform.googleapis.com", None, "vertex_ai"),
    ("gemini", "aiplatform.eu.rep.googleapis.com", None, "vertex_ai"),
    ("cohere", "api.cohere.com", None, "cohere"),
    ("cohere", "api.together.xyz", None, "together_ai"),
    ("ollama", "ollama.com", None, "ollama"),
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
    vertex = "/v1/projects/p/locations/l/publishers/google/models/m:generateContent"
    assert hosts.provider("gemini", "apim.internal", None, vertex, "google-genai-sdk/3.6.1", {}) == "vertex_ai"
    mistral = "speakeasy-sdk/python 3.7.0 2.935.1 1.0.0 mistralai"
    assert hosts.provider("openai", "proxy.internal", None, "/v1/chat/completions", mistral, {}) == "mistral"
    for agent in ("Groq/Python 1.7.0", "AsyncGroq/Python 1.7.0"):
        assert hosts.provider("openai", "proxy.internal", None, "/v1/chat/completions", agent, {}) == "groq"
    assert hosts.provider("openai", "proxy.internal", None, "/v1/chat/completions", "my-groq/1.0", {}) == "openai"


# A body of every shape at once.
EVERYTHING = (
    b'{"model": 1, "messages": 1, "prompt": 1, "input": 1, "contents": 1, "content": 1, "requests": 1, "instances": 1, '
    b'"anthropic_version": 1, "agent_id": 1, "document": 1, "documents": 1, "query": 1, "texts": 1, "voice": 1}'
)


def test_the_readme_lists_every_path_that_is_recognised_and_no_other() -> None:
    text = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    table = text.partition("| wire format |")[2].partition("\n\n")[0]
    paths = [path for row in table.splitlines()[2:] for path in re.findall(r"`([^`]+)`", row.split("|")[2])]
    found = [recognise(path if path.startswith("/") else f"/models/M{path}", EVERYTHING, VERSION) for path in paths]
    assert [path for path, endpoint in zip(paths, found, strict=True) if endpoint is None] == []
    known = [
        endpoint
        for one in (*providers._BY_PATH.values(), *providers._BY_VERB.values())
        for endpoint in (one.values() if isinstance(one, dict) else (one,))
    ]
    assert {(e.wire, e.api, e.call_types) for e in known} <= {(e.wire, e.api, e.call_types) for e in found if e}

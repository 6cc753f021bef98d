"""The wire formats that the demo does not need, for its local provider: `LocalProvider(routes=ROUTES)`.

Usage and scenarios are asked for as the provider's own documentation says. `cached` is a part of `input`, and
`reasoning` a part of `output`, whatever the wire makes of it.
"""

from __future__ import annotations

from otel_llmlog.demo import anthropic_wire, openai_wire
from otel_llmlog.demo.answers import Route
from tests.wires import bedrock_wire, cohere_wire, gemini_wire, mistral_wire, ollama_wire, openai_likes

ROUTES = (
    Route(":generateContent", "contents", "", gemini_wire.generate, gemini_wire, gemini_wire.text),
    Route(":streamGenerateContent", "contents", "", gemini_wire.generate, gemini_wire, gemini_wire.text),
    Route(":embedContent", "content", "", gemini_wire.embed, gemini_wire, gemini_wire.text),
    Route(":batchEmbedContents", "requests", "", gemini_wire.embed, gemini_wire, gemini_wire.text),
    Route(":predict", "instances", "", gemini_wire.predict, gemini_wire, gemini_wire.text),
    Route(":countTokens", "contents", "", gemini_wire.count_tokens, gemini_wire, gemini_wire.text),
    Route("/count-tokens:rawPredict", "messages", "", anthropic_wire.count_tokens, anthropic_wire),
    Route(":rawPredict", "messages", "msg_vrtx_", anthropic_wire.messages, anthropic_wire),
    Route(":streamRawPredict", "messages", "msg_vrtx_", anthropic_wire.messages, anthropic_wire),
    Route("/v2/chat", "messages", "c-", cohere_wire.chat, cohere_wire),
    Route("/v2/embed", "model", "e-", cohere_wire.embed, cohere_wire, cohere_wire.text),
    Route("/v2/rerank", "query", "r-", cohere_wire.rerank, cohere_wire, cohere_wire.text),
    Route("/api/chat", "messages", "", ollama_wire.chat, ollama_wire),
    Route("/api/generate", "prompt", "", ollama_wire.generate, ollama_wire),
    Route("/api/embed", "input", "", ollama_wire.embed, ollama_wire),
    Route("/fim/completions", "prompt", "cmpl-", mistral_wire.chat, mistral_wire),
    Route("/v1/ocr", "document", "", mistral_wire.ocr, mistral_wire, mistral_wire.text),
    Route("/xai/v1/chat/completions", "messages", "x-", openai_likes.xai, openai_wire),
    Route("/perplexity/chat/completions", "messages", "p-", openai_likes.perplexity, openai_wire),
    Route("/deepseek/chat/completions", "messages", "d-", openai_likes.deepseek, openai_wire),
    Route("/mistral/v1/chat/completions", "messages", "m-", mistral_wire.chat, mistral_wire),
    Route("/mistral/v1/embeddings", "input", "m-", mistral_wire.embeddings, mistral_wire),
    *(
        Route(f"/converse{end}", "messages", "", bedrock_wire.converse, bedrock_wire, bedrock_wire.text)
        for end in ("", "-stream")
    ),
    *(
        Route(f"/{verb}", "model", "msg_bdrk_", bedrock_wire.invoke, bedrock_wire, bedrock_wire.text)
        for verb in ("invoke", "invoke-with-response-stream")
    ),
)

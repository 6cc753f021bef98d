"""Names of LLM providers that a setting may give: so that a misspelt one can be told from a name of one's own.

Always true: whatever name our own tables give to a provider is listed here; a name that is not may still be right.
"""

from __future__ import annotations

# Those that hosts and price lists are known for. A name that is nearly one of these is a misspelling.
_USUAL = """
    anthropic aws aws.bedrock aws_bedrock az.ai.inference az.ai.openai azure azure.ai.inference azure.ai.openai
    azure_ai azure_openai azure_text bedrock bedrock_converse bedrock_mantle cerebras codestral cohere
    cohere_chat deepseek fireworks fireworks-ai fireworks_ai gcp.gemini gcp.gen_ai gcp.vertex_ai gemini
    github-copilot github_copilot google google_genai groq hosted_vllm huggingface ibm.watsonx.ai litellm
    litellm_proxy lm_studio lmstudio meta meta_llama mistral mistral_ai mistralai moonshot moonshot_ai
    moonshotai novita ollama ollama_chat openai openrouter perplexity sambanova text-completion-codestral
    text-completion-openai together together-ai together_ai vertex_ai vertexai vllm voyage voyage_ai voyageai
    watsonx x-ai x_ai xai z.ai z_ai zai
"""
# LiteLLM's other `custom_llm_provider` values, genai-prices' other ids, and servers that people run themselves.
_OTHERS = """
    a2a a2a_agent abliteration ai21 ai21_chat aiand aiml aiohttp_openai amazon_nova anthropic_text apertis arcee
    assemblyai auto_router avian aws_polly aws_textract azure_speech baseten bespoke bigmodel black_forest_labs
    bytez charity_engine chatgpt chutes clarifai clf_ai_gateway cloudflare cognition cometapi compactifai
    coralbricks cortecs cursor custom custom_openai darkbloom dashscope databricks databricks_agent datarobot
    deepgram deepinfra docker_model_runner dotprompt doubleword edenai elevenlabs empower eu_jev fal_ai
    featherless_ai friendliai galadriel gdc gigachat github gradient_ai helicone heroku hostinger_router
    huggingface_cerebras huggingface_fireworks-ai huggingface_groq huggingface_hyperbolic huggingface_nebius
    huggingface_novita huggingface_nscale huggingface_ovhcloud huggingface_publicai huggingface_sambanova
    huggingface_together humanloop hyperbolic inception inferenceapis infinity jina_ai kserve kyma lambda_ai
    langflow langfuse langgraph laya lemonade libertai litellm_agent llama llama.cpp llama_cpp llamacpp
    llamafile lmdeploy localai manus maritalk microsoft_365_copilot milvus minimax mlx modal modelscope mongodb
    morph nace nadir nano-gpt nebius neosantara nim nlp_cloud nscale nvidia_nim nvidia_riva oci oobabooga
    openai-decisions openai_like opencode_go openinfer opensearch ovhcloud parasail petals pg_vector pinstripes
    poe predibase prism publicai quicksilverpro qwen_ai_platform qwencloud ragflow ray recraft reducto
    refuseless reka replicate runwayml s3_vectors sagemaker sagemaker_chat sagemaker_nova sail sap scaledown
    scaleway scx-ai sglang snowflake soniox stability strands_decider streamlake synthetic tabby tencent
    tensormesh text-completion-inception tgi topaz transcribe triton typesafe v0 valkey vercel_ai_gateway
    vertex_ai_beta volcengine wandb watsonx_text xiaomi_mimo xinference zerogpu zhipuai
"""

USUAL = frozenset(_USUAL.split())
KNOWN = USUAL | frozenset(_OTHERS.split())

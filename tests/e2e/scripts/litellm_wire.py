"""An app on LiteLLM whose wire is captured, with our callback beside it."""

import os
import threading

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # no network

import litellm
from litellm.integrations.custom_logger import CustomLogger

import otel_llmlog
from otel_llmlog.integrations.litellm import LLMLogLogger


class Witness(CustomLogger):
    """Keeps what LiteLLM says, and when."""

    said, told = threading.Event(), {}

    def log_success_event(self, kwargs, response_obj, start_time, end_time):
        self.told.update(kwargs)
        self.said.set()


otel_llmlog.instrument()
ours, witness = LLMLogLogger(), Witness()
litellm.callbacks = [ours, witness]
litellm.completion(
    model="openai/gpt-4o-mini",
    messages=[{"role": "user", "content": "hello"}],
    api_base=os.environ["OPENAI_BASE_URL"],
    api_key="sk-openai-canary-0123456789",
)
assert witness.said.wait(20)
# The same call again, as LiteLLM tells it when it answers from its cache: nothing went out.
hit = {**witness.told["standard_logging_object"], "id": "from-cache", "cache_hit": True, "response_cost": 0.0}
ours.log_success_event({**witness.told, "standard_logging_object": hit, "litellm_call_id": "second"}, None, None, None)
assert otel_llmlog.flush(20)

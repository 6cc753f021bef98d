"""An app on LiteLLM with our callback; what LiteLLM itself says of each call is printed, a JSON line each."""

import asyncio
import contextlib
import json
import os
import sys

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # no network

import litellm
from litellm.integrations.custom_logger import CustomLogger

import otel_llmlog
from otel_llmlog.integrations.litellm import LLMLogLogger

MESSAGES = [{"role": "user", "content": "canary question"}]
TOOLS = [{"type": "function", "function": {"name": "look", "description": "canary", "parameters": {}}}]


class Witness(CustomLogger):
    """Keeps what LiteLLM says."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def log_success_event(self, kwargs, response_obj, start_time, end_time):
        self.seen.append(kwargs["standard_logging_object"])

    log_failure_event = log_success_event

    async def async_log_success_event(self, kwargs, response_obj, start_time, end_time):
        self.seen.append(kwargs["standard_logging_object"])

    async_log_failure_event = async_log_success_event


witness, ours = Witness(), LLMLogLogger()
litellm.callbacks = [ours, witness]


def refused(**more):
    with contextlib.suppress(litellm.exceptions.InternalServerError):
        litellm.completion(model="gpt-4o-mini", messages=MESSAGES, mock_response=RuntimeError("canary error"), **more)


async def later():
    await litellm.acompletion(model="claude-sonnet-4-5", messages=MESSAGES, mock_response="canary answer")
    stream = await litellm.acompletion(
        model="gpt-4o-mini", messages=MESSAGES, mock_response="canary answer", stream=True
    )
    async for _ in stream:
        pass
    await litellm.aembedding(model="text-embedding-3-small", input=["canary"], mock_response=[0.1])
    while len(witness.seen) < EXPECTED:
        await asyncio.sleep(0.05)


EXPECTED = 7
METADATA = {
    "tags": ["beta"], "session_id": "session-1", "spend_logs_metadata": {"ticket": 4711, "password": "canary"},
    "user_api_key_hash": "ab" * 32, "user_api_key_alias": "main", "user_api_key_team_id": "blue", "user_api_key_user_id": "ada",
}  # fmt: skip
litellm.completion(
    model="gpt-4o-mini", messages=MESSAGES, mock_response="canary answer", metadata=METADATA, temperature=0.5, max_tokens=9,
    tools=TOOLS, user="customer-31",
)  # fmt: skip
litellm.completion(
    model="no-such-model", custom_llm_provider="openai", messages=MESSAGES, mock_response="canary answer"
)
for _ in litellm.completion(model="gpt-4o-mini", messages=MESSAGES, mock_response="canary answer", stream=True):
    pass
refused(metadata={"session_id": "session-2"})
asyncio.run(later())
assert otel_llmlog.flush(20)
asyncio.run(
    ours.async_log_audit_log_event(
        {
            "id": "audit-1", "updated_at": "2026-11-01T12:00:00.123456+00:00", "changed_by": "ada", "changed_by_api_key": "ab" * 32,
            "action": "rotated", "table_name": "LiteLLM_VerificationToken", "object_id": "cd" * 32,
            "before_value": json.dumps({"token": "canary", "spend": 1}), "updated_values": json.dumps({"token": "canary", "spend": 2}),
        }
    )
)  # fmt: skip
# The proxy's own way to it: what it writes for a management operation is handed to the callback.
from litellm.proxy._types import LiteLLM_AuditLogs  # noqa: E402
from litellm.proxy.management_helpers.audit_logs import _build_audit_log_payload  # noqa: E402

for number, action in enumerate(("created", "updated", "deleted", "blocked", "unblocked")):
    log = LiteLLM_AuditLogs(
        id=f"audit-{number + 2}", updated_at="2026-11-01T12:00:01", changed_by="bob", changed_by_api_key="ab" * 32, action=action,
        table_name="LiteLLM_TeamTable", object_id="t1", before_value=json.dumps({"n": 1}), updated_values=json.dumps({"n": 2}),
    )  # fmt: skip
    asyncio.run(ours.async_log_audit_log_event(_build_audit_log_payload(log)))
assert otel_llmlog.flush(20)
for one in witness.seen:
    sys.stdout.write(json.dumps(one, default=str) + "\n")

"""Batches through the real SDKs: each line of their results is a call of its own, at the price of a batch, and once."""

from __future__ import annotations

import json
from typing import Any

import pytest
import requests

from otel_llmlog.capture.batches import Batches
from tests.capture.clients import KEY, anthropic_client, openai_client
from tests.wires.media_server import MediaServer

CREATED = 1_795_000_000


@pytest.fixture
def server(capture):
    capture.reader._batches = Batches(1 << 26)
    with MediaServer() as running:
        yield running


def chat_line(number: int, **more: Any) -> dict[str, Any]:
    usage = {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120}
    body = {
        "id": f"chatcmpl-{number}",
        "object": "chat.completion",
        "created": CREATED + number,
        "model": "gpt-4o-mini",
    }
    body |= {"choices": [{"index": 0, "finish_reason": "stop", "message": {"content": "Hi"}}], "usage": usage}
    response = {"status_code": 200, "request_id": f"req_{number}", "body": body}
    return {"id": f"batch_req_{number}", "custom_id": f"c-{number}", "response": response, "error": None, **more}


def claude_line(number: int) -> dict[str, Any]:
    message = {"id": f"msg_{number}", "type": "message", "role": "assistant", "model": "claude-haiku-4-5-20251001"}
    message |= {"content": [], "stop_reason": "end_turn", "usage": {"input_tokens": 100, "output_tokens": 20}}
    return {"custom_id": f"c-{number}", "result": {"type": "succeeded", "message": message}}


def as_file(*lines: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


def openai_batch(name: str = "batch_1", **more: Any) -> dict[str, Any]:
    batch = {"id": name, "object": "batch", "endpoint": "/v1/chat/completions", "status": "completed"}
    return {**batch, "created_at": CREATED, "completion_window": "24h", "input_file_id": "file-in", **more}


def claude_batch(url: str) -> dict[str, Any]:
    counts = {"processing": 0, "succeeded": 1, "errored": 0, "canceled": 0, "expired": 0}
    times = {"created_at": "2026-11-18T11:06:40+00:00", "expires_at": "2026-11-19T11:06:40+00:00"}
    batch = {"id": "msgbatch_1", "type": "message_batch", "processing_status": "ended", "request_counts": counts}
    return {**batch, **times, "results_url": f"{url}/v1/messages/batches/msgbatch_1/results"}


def identity(record: Any) -> tuple[Any, ...]:
    return record.start_ns, record.ids


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
async def test_each_line_of_openais_output_file_is_a_call_at_half_the_price(capture, server, is_async):
    server.files["file-out"] = as_file(chat_line(1), chat_line(2))
    intended = len(capture.recorder._outlet.intended)
    client = openai_client(server.url, is_async=is_async)
    content = client.files.content("file-out")
    assert (await content if is_async else content).content == server.files["file-out"]
    first, second = capture.records()
    payload = first.payload
    assert (payload.id, payload.model, payload.status) == ("chatcmpl-1", "gpt-4o-mini", "success")
    assert (payload.prompt_tokens, payload.completion_tokens, payload.usage.service_tier) == (100, 20, "batch")
    # Half of 0.15 $ and 0.60 $ a million.
    assert str(payload.spend) == "0.0000135"
    assert payload.metadata.spend_logs_metadata == {"batch_results": "file-out", "custom_id": "c-1"}
    assert payload.metadata.user_api_key_hash is not None
    assert payload.startTime == payload.endTime == CREATED + 1
    assert first.ids.trace_id != second.ids.trace_id
    assert capture.spans() == []
    assert len(capture.recorder._outlet.intended) == intended


def test_results_that_are_read_again_have_the_same_identity_also_in_another_process(capture, server):
    server.files["file-out"] = as_file(chat_line(1))
    openai_client(server.url).files.content("file-out")
    openai_client(server.url).files.content("file-out")
    (first,) = capture.records()
    capture.reader._batches = Batches(1 << 26)  # as another process is
    openai_client(server.url).files.content("file-out")
    assert [identity(record) for record in capture.records()] == [identity(first)] * 2


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
async def test_anthropics_results_are_calls_of_the_time_of_their_batch(capture, server, is_async):
    server.batches["msgbatch_1"] = claude_batch(server.url)
    server.files["msgbatch_1"] = as_file(claude_line(1), {"custom_id": "c-2", "result": {"type": "expired"}})
    results = anthropic_client(server.url, is_async=is_async).messages.batches.results("msgbatch_1")
    seen = [line async for line in await results] if is_async else list(results)
    assert (len(seen), len(capture.records())) == (2, 2)
    capture.reader._batches = Batches(1 << 26)
    list(anthropic_client(server.url).messages.batches.results("msgbatch_1"))
    first, second, again, _ = capture.records()
    payload = first.payload
    assert (payload.id, payload.startTime, payload.usage.service_tier) == ("msg_1", CREATED, "batch")
    # Half of 1 $ and 5 $ a million.
    assert str(payload.spend) == "0.0001"
    assert (second.payload.status, second.payload.error_str) == (
        "failure",
        "the provider reported an error in its reply (expired)",
    )
    assert second.payload.spend is None
    assert identity(again) == identity(first)


def test_lines_without_a_time_of_their_own_have_that_of_the_batch_or_of_the_first_reading(capture, server):
    usage = {"prompt_tokens": 9, "total_tokens": 9}
    body = {"object": "list", "data": [], "model": "text-embedding-3-small", "usage": usage}
    line = {"id": "batch_req_7", "custom_id": "e", "response": {"status_code": 200, "body": body}, "error": None}
    server.files |= {"file-1": as_file(line), "file-2": as_file({**line, "id": "batch_req_8"})}
    server.batches["batch_1"] = openai_batch(output_file_id="file-1")
    client = openai_client(server.url)
    assert [batch.output_file_id for batch in client.batches.list()] == ["file-1"]
    client.files.content("file-1")
    client.files.content("file-2")
    known, unknown = capture.payloads()
    assert (known.startTime, known.call_type, known.prompt_tokens) == (CREATED, "embedding", 9)
    assert "note" not in known.metadata.spend_logs_metadata
    assert unknown.startTime != CREATED
    assert unknown.metadata.spend_logs_metadata["note"].startswith("when the batch ran is not known")


def test_lines_that_failed_are_failures_without_a_price(capture, server):
    refused = {"status_code": 429, "body": {"error": {"message": "slow down", "code": "rate_limit_exceeded"}}}
    expired = {"code": "batch_expired", "message": "too late"}
    server.files["file-err"] = as_file(
        chat_line(1, response=refused), chat_line(2, response=None, error=expired), chat_line(3)
    )
    openai_client(server.url).files.content("file-err")
    found = [(p.status, p.error_str, p.spend is None) for p in capture.payloads()]
    assert found == [
        ("failure", "HTTP 429 rate_limit_exceeded", True),
        ("failure", "the provider reported an error in its reply (batch_expired)", True),
        ("success", None, False),
    ]


@pytest.mark.parametrize(
    "content",
    [
        b"\x89PNG" + bytes(5000),
        b'{"a": 1}\n{"custom_id": "x", "method": "POST", "url": "/v1/chat/completions", "body": {}}\n',
        b"",
        b'{"custom_id"\n["custom_id"]\n"custom_id"\n',
    ],
)
def test_a_file_that_is_no_batchs_leaves_nothing(capture, server, content):
    server.files["file-1"] = content
    assert openai_client(server.url).files.content("file-1").content == content
    assert (capture.payloads(), capture.spans()) == ([], [])


def test_many_lines_are_all_read_and_those_that_were_cut_off_are_not_made_up(capture, server):
    server.files["file-big"] = as_file(*(chat_line(number) for number in range(1000)))[:-10]
    openai_client(server.url).files.content("file-big")
    assert sum(p.prompt_tokens for p in capture.payloads()) == 99_900


def test_a_file_too_large_to_read_leaves_a_row_that_says_so(capture_with, server):
    capture = capture_with(max_body_bytes=65_536)
    server.files["file-big"] = as_file(
        *(chat_line(number) for number in range(3)), chat_line(4, filler="x" * 2_000_000)
    )
    with requests.get(f"{server.url}/v1/files/file-big/content", stream=True, timeout=9) as response:
        for _ in response.iter_content(500):
            pass
    *read, cut = capture.payloads()
    assert len(read) >= 3
    assert (cut.status, cut.spend, cut.prompt_tokens) == ("success", None, 0)
    assert any("not all of its lines were read" in note for note in cut.notes)


def test_creating_cancelling_and_looking_at_batches_leaves_nothing(capture, server):
    server.batches["batch_1"] = openai_batch()
    requests.get(f"{server.url}/v1/batches/batch_1", headers={"authorization": f"Bearer {KEY}"}, timeout=9)
    anthropic_client(server.url).messages.batches.list()
    assert (capture.payloads(), capture.spans()) == ([], [])

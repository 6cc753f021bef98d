"""`context(propagate=True)`: other services hear who calls and in which session, LLM providers do not."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Iterator

import pytest
from opentelemetry import baggage, context as otel_context, propagate, trace
from opentelemetry.instrumentation.httpx import HTTPX2ClientInstrumentor, HTTPXClientInstrumentor
from opentelemetry.sdk.trace import TracerProvider

from otel_llmlog import context
from otel_llmlog.demo.provider import LocalProvider
from tests.capture.clients import chat_body

WHO = {
    "session_id": "chat-7",
    "user": "ada",
    "end_user": "eve",
    "team": "red",
    "team_alias": "Red, the team",
    "organization": "org",
    "tags": ["a,b", "ü"],
}
CARRIED = {f"llmlog.{name}": value for name, value in WHO.items()} | {"llmlog.tags": '["a,b", "\\u00fc"]'}


@pytest.fixture(autouse=True)
def _clean_context() -> Iterator[None]:
    token = otel_context.attach(otel_context.Context())
    yield
    otel_context.detach(token)


@pytest.fixture
def instrumented() -> Iterator[None]:
    """OpenTelemetry's own instrumentation, which sends baggage."""
    instrumentors = (HTTPXClientInstrumentor(), HTTPX2ClientInstrumentor())
    for instrumentor in instrumentors:
        instrumentor.instrument(tracer_provider=TracerProvider())
    yield
    for instrumentor in instrumentors:
        instrumentor.uninstrument()


def sent(provider: LocalProvider) -> list[str | None]:
    return [request.headers.get("baggage") for request in provider.requests]


def test_nothing_is_put_into_baggage_unless_it_is_asked_for():
    with context(**WHO):
        assert dict(baggage.get_all()) == {}


def test_what_is_put_into_baggage_is_there_inside_and_gone_outside():
    otel_context.attach(baggage.set_baggage("theirs", "1", baggage.set_baggage("llmlog.team", "upstream")))
    before = dict(baggage.get_all())
    with context(**WHO, metadata={"secret": 1}, propagate=True):
        assert dict(baggage.get_all()) == {"theirs": "1", **CARRIED}
        with context(session_id="inner", user="bob"):
            assert dict(baggage.get_all()) == {
                "theirs": "1", **CARRIED, "llmlog.session_id": "inner", "llmlog.user": "bob"
            }  # fmt: skip
        assert dict(baggage.get_all()) == {"theirs": "1", **CARRIED}
    assert dict(baggage.get_all()) == before
    with context(user="ada", propagate=True):
        assert baggage.get_baggage("llmlog.team") == "upstream"


def test_an_outer_context_that_was_not_asked_to_is_carried_by_an_inner_one_that_is():
    with context(user="ada"), context(session_id="s", propagate=True):
        assert dict(baggage.get_all()) == {"llmlog.user": "ada", "llmlog.session_id": "s"}
    assert dict(baggage.get_all()) == {}


def test_a_span_around_or_inside_stays_as_it_is():
    tracer = TracerProvider().get_tracer("t")
    with tracer.start_as_current_span("outer") as outer:
        with context(user="ada", propagate=True):
            with tracer.start_as_current_span("inner"):
                assert baggage.get_baggage("llmlog.user") == "ada"
            assert trace.get_current_span() is outer
        assert trace.get_current_span() is outer
        assert dict(baggage.get_all()) == {}


async def test_tasks_and_threads_carry_it_on():
    def of_the_thread():
        return dict(baggage.get_all())

    async def of_the_task():
        await asyncio.sleep(0)
        return dict(baggage.get_all())

    with context(user="ada", propagate=True):
        copied = contextvars.copy_context()
        task = asyncio.create_task(of_the_task())
    expected = {"llmlog.user": "ada"}
    assert await task == await asyncio.to_thread(copied.run, of_the_thread) == expected
    assert dict(baggage.get_all()) == {}


async def test_another_service_reads_all_of_it(capture, http):
    with context(**WHO, propagate=True):
        carrier: dict[str, str] = {}
        propagate.inject(carrier)
    received = otel_context.attach(propagate.extract(carrier))
    await http.post()
    otel_context.detach(received)
    (payload,) = capture.payloads()
    about = payload.metadata
    assert payload.session_id == "chat-7"
    assert (about.user_api_key_user_id, payload.end_user) == ("ada", "eve")
    assert (about.user_api_key_team_id, about.user_api_key_team_alias) == ("red", "Red, the team")
    assert about.user_api_key_org_id == "org"
    assert payload.request_tags == ["a,b", "ü"]


async def test_a_call_to_a_model_does_not_carry_it_and_its_row_has_it(capture, instrumented, http, provider):
    otel_context.attach(baggage.set_baggage("theirs", "1"))
    with context(**WHO, propagate=True):
        await http.post()
        await http.read(await http.open(chat_body(stream=True)))
        assert baggage.get_baggage("llmlog.user") == "ada"
    assert sent(provider) == ["theirs=1", "theirs=1"]
    assert {payload.session_id for payload in capture.payloads()} == {"chat-7"}


async def test_what_came_from_upstream_does_not_go_to_a_model_either(capture, instrumented, http, provider):
    otel_context.attach(propagate.extract({"baggage": "llmlog.user=ada,user.id=7"}))
    await http.post()
    assert sent(provider) == ["user.id=7"]


async def test_no_other_request_to_a_host_of_models_carries_it_and_one_to_a_service_does(
    capture_with, instrumented, http, provider
):
    capture_with()  # has seen no call yet

    def get():
        return http.client.build_request("GET", "/healthz")

    with context(user="ada", propagate=True):
        await http.send(get())
        await http.post()
        await http.send(get())
    assert sent(provider) == ["llmlog.user=ada", None, None]


@pytest.mark.parametrize(
    ("url", "hidden"),
    [
        ("https://api.openai.com/v1/moderations", True),
        ("https://eu.openai.com/v1/files", True),
        ("https://thing.openai.azure.com/openai/files", True),
        ("https://llm.corp.example/v1/files", True),
        ("https://orders.corp.example/", False),
        ("https://api.openai.com.example/", False),
    ],
)
def test_providers_are_known_by_their_hosts(capture_with, url, hidden):
    import httpx

    recorder = capture_with(provider_hosts={"llm.corp.example": "vllm"}).recorder
    request = httpx.Request("GET", url)
    assert recorder.shield(request) is None
    with context(user="ada", propagate=True):
        assert (recorder.shield(request) is not None) == hidden

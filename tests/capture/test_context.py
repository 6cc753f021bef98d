"""`context(...)`: what is set inside counts inside and is gone outside; tasks and threads never see each other's."""

from __future__ import annotations

import asyncio
import contextvars
import threading
import uuid

import pytest

from otel_llmlog.capture.context import NOBODY, Caller, context, current
from tests.capture.clients import Http, chat_body


def session():
    return current().session_id


def test_a_with_block_holds_inside_and_is_gone_outside():
    with context(session_id="s", user="u", team="t", tags=["a"], metadata={"k": 1}) as caller:
        assert caller == current() == Caller("s", "u", None, "t", tags=("a",), metadata={"k": 1})
    assert current() is NOBODY


def test_an_exception_leaves_the_block_unchanged_and_ends_the_context():
    raised = ValueError("the app's")
    with pytest.raises(ValueError) as caught, context(session_id="s"):
        raise raised
    assert caught.value is raised
    assert current() is NOBODY


def test_contexts_nest_and_the_inner_one_wins_while_tags_and_metadata_add_up():
    with context(session_id="outer", user="u", tags=["a", "b"], metadata={"x": 1, "y": 1}):
        with context(session_id="inner", tags=["b", "c"], metadata={"y": 2}):
            assert current() == Caller("inner", "u", tags=("a", "b", "c"), metadata={"x": 1, "y": 2})
        assert current() == Caller("outer", "u", tags=("a", "b"), metadata={"x": 1, "y": 1})


def test_one_tag_may_be_given_as_text():
    with context(tags="batch"):
        assert current().tags == ("batch",)


def test_ids_of_other_types_are_taken_as_text():
    session = uuid.UUID(int=7)
    with context(session_id=session, user=42):
        assert current() == Caller("00000000-0000-0000-0000-000000000007", "42")


def test_changing_the_metadata_afterwards_changes_nothing():
    given = {"k": 1}
    with context(metadata=given):
        given["k"] = 2
        assert current().metadata == {"k": 1}


def test_a_decorated_function_runs_inside_and_stays_itself():
    @context(session_id="s")
    def work(n, *, more=0):
        """Says what it does."""
        return work(n - 1, more=more) + 1 if n else (session() == "s") + more

    assert work(3, more=1) == 5
    assert (work.__name__, work.__doc__) == ("work", "Says what it does.")
    assert session() is None


async def test_a_decorated_coroutine_function_runs_inside():
    @context(session_id="s")
    async def work():
        await asyncio.sleep(0)
        return session()

    waiting = work()
    assert session() is None
    assert await waiting == "s"
    assert session() is None


def test_a_decorated_generator_runs_inside_and_its_consumer_outside():
    seen = []

    @context(session_id="s")
    def numbers(count):
        for number in range(count):
            got = yield number
            seen.append((session(), got))
        return "the end"

    made = numbers(2)
    assert (next(made), session()) == (0, None)
    assert (made.send("x"), session()) == (1, None)
    with pytest.raises(StopIteration) as stop:
        next(made)
    assert stop.value.value == "the end"
    assert seen == [("s", "x"), ("s", None)]


def test_a_decorated_generator_is_closed_and_thrown_into_inside():
    seen = []

    @context(session_id="s")
    def work():
        try:
            yield 1
            yield 2
        except KeyError:
            seen.append(("thrown", session()))
            yield 3
        finally:
            seen.append(("closed", session()))

    made = work()
    next(made)
    assert made.throw(KeyError("app's")) == 3
    made.close()
    assert seen == [("thrown", "s"), ("closed", "s")]
    assert session() is None


async def test_a_decorated_async_generator_runs_inside_and_its_consumer_outside():
    seen = []

    @context(session_id="s")
    async def numbers():
        try:
            got = yield 1
            seen.append((session(), got))
            yield 2
        except KeyError:
            seen.append(("thrown", session()))
            yield 3
        finally:
            seen.append(("closed", session()))

    made = numbers()
    assert (await anext(made), session()) == (1, None)
    assert (await made.asend("x"), session()) == (2, None)
    assert await made.athrow(KeyError("app's")) == 3
    await made.aclose()
    assert seen == [("s", "x"), ("thrown", "s"), ("closed", "s")]
    assert [number async for number in numbers()] == [1, 2]
    assert session() is None


async def test_a_context_entered_with_async_with_is_the_same():
    async with context(session_id="s") as caller:
        assert caller == current() == Caller("s")
    assert current() is NOBODY


def test_leaving_in_another_order_does_not_bring_a_context_back():
    first, second = context(session_id="1"), context(session_id="2")
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert session() == "2"
    second.__exit__(None, None, None)
    first.__exit__(None, None, None)
    assert session() is None


def test_a_thread_starts_without_a_context_unless_it_is_handed_over():
    seen = []
    with context(session_id="s"):
        handed = contextvars.copy_context()
        for target in (lambda: seen.append(session()), lambda: handed.run(lambda: seen.append(session()))):
            thread = threading.Thread(target=target)
            thread.start()
            thread.join()
    assert seen == [None, "s"]


async def test_a_task_started_inside_inherits_and_what_it_sets_stays_its_own():
    async def child():
        before = session()
        with context(session_id="child"):
            await asyncio.sleep(0)
            return before, session()

    with context(session_id="parent"):
        task = asyncio.create_task(child())
        assert await task == ("parent", "child")
        assert await asyncio.to_thread(session) == "parent"
        assert session() == "parent"


async def test_concurrent_tasks_never_mix(capture, async_http):
    async def call(number):
        with context(session_id=f"s{number}", tags=[f"t{number}"], metadata={"n": number}):
            body = chat_body(stream=number % 2 == 0, user=f"u{number}")
            request = async_http.request(body, headers={"x-response-id": f"r{number}"})
            await asyncio.sleep(0)
            response = await async_http.send(request, stream=number % 2 == 0)
        # Who opened a stream owns it, wherever it is read.
        with context(session_id="elsewhere"):
            await async_http.read(response)

    await asyncio.gather(*map(call, range(24)))
    payloads = capture.payloads()
    assert len(payloads) == 24
    for payload in payloads:
        number = payload.id.removeprefix("r")
        assert (payload.session_id, payload.request_tags) == (f"s{number}", [f"t{number}"])
        assert (payload.end_user, payload.metadata.spend_logs_metadata) == (f"u{number}", {"n": int(number)})


@pytest.mark.parametrize("library", ["httpx", "httpx2"])
def test_concurrent_threads_never_mix(capture, provider, library):
    client = Http(__import__(library), False, provider.url).client
    ready = threading.Barrier(8)

    def call(number):
        ready.wait(20)
        for turn in range(4):
            with context(session_id=f"s{number}"):
                client.post("/v1/chat/completions", json=chat_body(), headers={"x-response-id": f"{number}-{turn}"})

    threads = [threading.Thread(target=call, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = {payload.id: payload.session_id for payload in capture.payloads()}
    assert found == {f"{number}-{turn}": f"s{number}" for number in range(8) for turn in range(4)}

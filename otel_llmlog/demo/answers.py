"""Which reply a request gets: its API by its path, its scenario by what it asks for.

Always true: the same requests in the same order get the same replies; one that cannot be read, or asks for what nobody
knows, gets an error.
"""

from __future__ import annotations

import json
import re
from collections import Counter, OrderedDict
from typing import TYPE_CHECKING, Any, NamedTuple

from otel_llmlog.demo import anthropic_wire, faults, openai_responses, openai_wire
from otel_llmlog.demo.framing import Request, read_shape
from otel_llmlog.demo.replies import Call, Failure, Reply, dump
from otel_llmlog.demo.scenarios import Ask, AskError, last_text, read_ask

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

# Responses kept for GET /responses/{id}; a test needs few, a load test must not grow.
MAX_STORED_RESPONSES = 1_000
_MODEL_IN_PATH = re.compile(r"/openai/deployments/([^/]+)/|/models/([^/:]+):[A-Za-z]+$|/model/([^/]+)/")
_RESPONSE_PATH = re.compile(r"/responses/([^/]+)$")


class Route(NamedTuple):
    """One API: requests whose path ends with `suffix`."""

    suffix: str
    content: str
    """The field a request cannot do without."""
    prefix: str
    make: Callable[[Call], Reply]
    wire: Any = None
    """Whose `headers(call)`, `error(call, failure)` and `stream_error(call, failure)` are used."""
    text: Callable[[dict[str, Any]], str] = last_text
    """The last thing the user said, of a request's body."""


# Longest first where one ends with another.
_ROUTES: tuple[Route, ...] = (
    Route("/chat/completions", "messages", "chatcmpl-", openai_wire.chat, openai_wire),
    Route("/completions", "prompt", "cmpl-", openai_wire.completions, openai_wire),
    Route("/responses", "input", "resp_", openai_responses.responses, openai_responses),
    Route("/embeddings", "input", "req_", openai_wire.embeddings, openai_wire),
    Route("/v1/messages", "messages", "msg_", anthropic_wire.messages, anthropic_wire),
    Route("/v1/messages/count_tokens", "messages", "req_", anthropic_wire.count_tokens, anthropic_wire),
)


class Answer(NamedTuple):
    call: Call
    """As far as the request could be read; without a body where it could not."""
    reply: Reply
    ask: Ask
    """How the reply is sent: plainly where what was asked for could not be read, lest its framing be broken, too."""


class Answers:
    """What one provider replies, and what it remembers for that."""

    def __init__(self, routes: Sequence[Route] = ()) -> None:
        """`routes`: APIs of more wire formats, looked at before those that are built in."""
        self._routes = (*routes, *_ROUTES)
        self._failures: Counter[str] = Counter()
        self._stored: OrderedDict[str, bytes] = OrderedDict()

    def answer(self, call: Call, request: Request) -> Answer:
        """The reply to a request, of which `call` has what its head says."""
        if call.path == "/healthz":
            return Answer(call, Reply("", b"ok\n", content_type="text/plain"), Ask())
        route = next((route for route in self._routes if call.path.endswith(route.suffix)), None)
        if route is None or request.method != "POST":
            return Answer(call, self._elsewhere(call, request), Ask())
        try:
            call = call._replace(prefix=route.prefix, wire=route.wire)
            call = _read_call(call, request, route)
            read_shape(call.ask)
            return Answer(call, self._play(call, route.make), call.ask)
        except AskError as bad:
            return Answer(call, faults.failed(call, Failure(400, str(bad), code="bad_scenario")), Ask())
        except RecursionError:
            return Answer(call, faults.failed(call, Failure(400, "The request is nested too deeply.")), Ask())

    def _elsewhere(self, call: Call, request: Request) -> Reply:
        if request.method == "GET" and (found := _RESPONSE_PATH.search(call.path)):
            stored = self._stored.get(found[1])
            if stored is not None:
                return Reply(openai_wire.headers(call), stored)
            return faults.failed(call, Failure(404, f"No response with id '{found[1]}' is stored.", code="not_found"))
        return faults.failed(
            call, Failure(404, f"Nothing is served at {request.method} {call.path}.", code="unknown_url")
        )

    def _play(self, call: Call, make: Callable[[Call], Reply]) -> Reply:
        ask = call.ask
        if ask.scenario == "plain":
            return self._stored_copy(call, make(call))
        if ask.scenario == "error" or (ask.scenario == "error_in_stream" and not call.stream):
            failing = self._still_failing(ask)
            return faults.failed(call, faults.failure_of(ask)) if failing else self._stored_copy(call, make(call))
        if ask.scenario == "raw":
            return faults.raw(call)
        reply = make(call)
        if ask.scenario == "litellm_proxy":
            reply.headers += _litellm_headers(call)
        elif ask.scenario == "not_json":
            return faults.not_json(call, reply)
        faults.damage(call, reply)
        return self._stored_copy(call, reply)

    def _stored_copy(self, call: Call, reply: Reply) -> Reply:
        if call.path.endswith("/responses") and call.body.get("store") is not False:
            response = openai_responses.finished_response(call)
            self._stored[response["id"]] = dump(response, call.ask)
            if len(self._stored) > MAX_STORED_RESPONSES:
                self._stored.popitem(last=False)
        return reply

    def _still_failing(self, ask: Ask) -> bool:
        times = ask.whole("times", -1)
        if times < 0:
            return True
        key = ask.params.get("key", "")
        self._failures[key] += 1
        return self._failures[key] <= times


def _read_call(call: Call, request: Request, route: Route) -> Call:
    try:
        body = json.loads(request.body)
    except ValueError:
        raise AskError("The body of the request is not JSON.") from None
    if not isinstance(body, dict):
        raise AskError("The body of the request is not a JSON object.")
    if (found := _MODEL_IN_PATH.search(call.path)) is not None:
        body.setdefault("model", found[found.lastindex or 1])
    if call.path.endswith((":streamGenerateContent", ":streamRawPredict", "/converse-stream", "-response-stream")):
        body["stream"] = True
    if not isinstance(body.get("model"), str) or not body["model"]:
        raise AskError("model: a model name is required.")
    if route.content not in body and not (route.content == "input" and "previous_response_id" in body):
        raise AskError(f"{route.content}: this field is required.")
    return call._replace(body=body, ask=read_ask(request.headers, route.text(body)))


def _litellm_headers(call: Call) -> str:
    ask = call.ask
    cost = ask.params.get("cost") or (f"{ask.usage.cost}" if ask.usage.cost is not None else "0.000123")
    return (
        f"x-litellm-call-id: 00000000-0000-4000-8000-{call.number:012d}\r\n"
        f"x-litellm-model-id: {ask.params.get('model_id', 'local-model-id')}\r\n"
        f"x-litellm-model-group: {ask.params.get('group', call.model)}\r\n"
        f"x-litellm-response-cost: {cost}\r\n"
        "x-litellm-version: 1.0.0\r\n"
        "x-litellm-key-spend: 0.5\r\n"
    )

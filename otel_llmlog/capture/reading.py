"""From a finished call to its payload: decode, find out who and which session, price. Background path; no clock.

Always true: no call raises here, whatever its bytes; what could not be read is in the payload's `notes`. With content
storage off nothing is kept but names, numbers and words from fixed vocabularies.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Any

from opentelemetry import baggage
from opentelemetry.trace import format_span_id, format_trace_id

from otel_llmlog import redact
from otel_llmlog.capture import identity
from otel_llmlog.capture.batches import Batches
from otel_llmlog.capture.call import Call
from otel_llmlog.capture.chains import Chains
from otel_llmlog.capture.counting import TokenCounter
from otel_llmlog.capture.encoding import decoded
from otel_llmlog.capture.failures import Failure, failure_of
from otel_llmlog.capture.headers import Headers
from otel_llmlog.capture.ids import Ids
from otel_llmlog.config import Settings
from otel_llmlog.payload import (
    CallPayload,
    StandardLoggingAdditionalHeaders,
    StandardLoggingHiddenParams,
    StandardLoggingMetadata,
    StandardLoggingModelCostFailureDebugInformation,
    StandardLoggingPayloadErrorInformation,
    Usage,
)
from otel_llmlog.pricing import Cost, Pricer
from otel_llmlog.providers import hosts
from otel_llmlog.providers.facts import RequestFacts, ResponseFacts
from otel_llmlog.stats import Stats

_RATE_LIMITS = {
    "x_ratelimit_limit_requests": ("x-ratelimit-limit-requests", "anthropic-ratelimit-requests-limit"),
    "x_ratelimit_limit_tokens": ("x-ratelimit-limit-tokens", "anthropic-ratelimit-tokens-limit"),
    "x_ratelimit_remaining_requests": ("x-ratelimit-remaining-requests", "anthropic-ratelimit-requests-remaining"),
    "x_ratelimit_remaining_tokens": ("x-ratelimit-remaining-tokens", "anthropic-ratelimit-tokens-remaining"),
}
# What may be believed of a price in a header: US dollars, less than any single token costs; and its characters.
_LEAST_STATED = Decimal("1e-12")
_MAX_STATED = 64


class Reader:
    """Reads finished calls. One thread uses it at a time."""

    def __init__(self, settings: Settings, pricer: Pricer, counter: TokenCounter, stats: Stats) -> None:
        self._settings = settings
        self._pricer = pricer
        self._counter = counter
        self._stats = stats
        self._content = settings.content.store_prompts_in_spend_logs
        self._caller = identity.said_by(settings.identity)
        self._chains = Chains()
        self._batches = Batches(settings.capture.max_body_bytes)

    @property
    def keeps_content(self) -> bool:
        """Whether what it reads has messages and replies in it."""
        return self._content

    def warm(self) -> None:
        """Load what takes long to load, while the first call is under way."""
        self._pricer.price(
            Usage(input_tokens=1, source="provider"),
            provider="openai",
            response_model=None,
            request_model="gpt-4o",
            call_type="completion",
            at=0.0,
        )

    def read(self, call: Call) -> CallPayload:
        """The payload of a finished call."""
        try:
            return self._read(call, call.ids)
        except Exception as error:  # a fault of ours must not cost the row: it holds what is certain
            self._stats.error("read", error)
            return _unread(call, call.ids, error)

    def lines(self, reading: Call) -> Iterator[Call]:
        """The calls in what was read of a batch."""
        _, received = reading.both_headers()
        pieces, _ = self._pieces(reading, _named(received))
        return self._batches.calls(reading, b"".join(pieces))

    def _read(self, call: Call, ids: Ids) -> CallPayload:
        endpoint, url = call.endpoint, call.url
        path = url.path
        headers, received = map(_named, call.both_headers())
        agent = headers.get("user-agent", "")
        provider = hosts.provider(endpoint.wire, url.host, url.port, path, agent, self._settings.capture.provider_hosts)
        request = self._request(call, path)
        response = self._response(call, request, received)
        if response.opaque:
            response = replace(response, complete=call.error is None and call.ending == "read")
        if endpoint.refine is not None and received:
            response = endpoint.refine(response, received)
        failure = failure_of(call, response)
        usage, notes, uncounted = self._usage(call, request, response, failure, received)
        call_type = endpoint.call_types[call.is_async]
        if usage.inference_geo is None and (place := hosts.place(url.host)):
            usage = usage.model_copy(update={"inference_geo": place})
        cost = self._pricer.price(
            usage,
            provider=provider,
            response_model=response.model,
            request_model=request.model,
            call_type=call_type,
            at=call.start_ns / 1e9,
            cache_hit=None,
        )
        caller = identity.resolve(
            request.identity,
            request.end_user,
            headers,
            call.caller,
            baggage.get_all(call.context),
            self._caller,
        )
        session_id = caller.session_id
        if endpoint.api == "responses":
            session_id = self._chains.join(
                session_id, response.id, request.previous_response_id, request.conversation_id
            )
        key, alias = identity.api_key(headers, self._settings.identity)
        call_id = redact.name(received.get("x-litellm-call-id")) or _own_id(ids)
        api_base = hosts.api_base(url.scheme, url.host, url.port, path)
        first = _first_token(call, response)
        model = request.model or response.model or ""
        model_id = redact.name(received.get("x-litellm-model-id"))
        agent_name = _agent_name(agent)
        return CallPayload(
            id=response.id or call_id,
            trace_id=format_trace_id(ids.trace_id),
            session_id=session_id,
            call_type=call_type,
            stream=request.stream or response.is_stream,
            custom_llm_provider=provider,
            response_cost=None if cost.total is None else float(cost.total),
            cost_breakdown=cost.breakdown,
            response_cost_failure_debug_info=_because(cost, uncounted),
            status="success" if failure is None else "failure",
            total_tokens=usage.input_tokens + usage.output_tokens,
            prompt_tokens=usage.input_tokens,
            completion_tokens=usage.output_tokens,
            startTime=call.start_ns / 1e9,
            endTime=call.end_ns / 1e9,
            completionStartTime=first / 1e9 if first else None,
            response_time=((first or call.end_ns) - call.start_ns) / 1e9,
            model_map_information=cost.model_information,
            model=model,
            model_id=model_id,
            model_group=redact.name(received.get("x-litellm-model-group")) or request.model,
            api_base=api_base,
            metadata=StandardLoggingMetadata(
                user_api_key_hash=key,
                user_api_key_alias=alias,
                user_api_key_org_id=caller.organization,
                user_api_key_team_id=caller.team,
                user_api_key_user_id=caller.user,
                user_api_key_team_alias=caller.team_alias,
                user_api_key_end_user_id=caller.end_user,
                user_api_key_request_route=redact.route(path),
                spend_logs_metadata=dict(caller.metadata) if caller.metadata else None,
                requester_metadata=identity.requester_metadata(request.identity),
                requester_custom_headers=redact.custom_headers(headers.items()),
            ),
            request_tags=list(caller.tags),
            end_user=caller.end_user,
            user_agent=agent_name,
            messages=self._stored(request.messages),
            response=self._stored(response.response),
            error_str=failure.text if failure else None,
            error_information=self._error_information(failure, provider),
            model_parameters=self._parameters(request),
            hidden_params=StandardLoggingHiddenParams(
                model_id=model_id,
                api_base=api_base,
                response_cost=None if cost.total is None else f"{cost.total:f}",
                additional_headers=_rate_limits(received),
                litellm_model_name=request.model,
            ),
            call_id=call_id,
            operation=endpoint.operation,
            previous_response_id=request.previous_response_id,
            conversation_id=request.conversation_id,
            response_model=response.model,
            finish_reasons=list(response.finish_reasons),
            usage=usage,
            spend=cost.total,
            cost_source=f"tiktoken+{cost.source}" if usage.source == "tiktoken" and cost.source else cost.source,
            price_version=cost.version,
            notes=[*dict.fromkeys((*request.notes, *response.notes, *notes))],
        )

    def _request(self, call: Call, path: str) -> RequestFacts:
        if call.request_body is None:
            return RequestFacts(stream=call.streamed, notes=("request: its body was not at hand to read",))
        # Without usage in the stream the messages are needed to count them, stored or not.
        return call.endpoint.read_request(call.request_body, path, self._content)

    def _response(self, call: Call, request: RequestFacts, received: Mapping[str, str]) -> ResponseFacts:
        if call.status_code == 0:
            return ResponseFacts()
        pieces, notes = self._pieces(call, received)
        if call.status_code >= 400:
            return ResponseFacts(error=call.endpoint.read_error(b"".join(pieces)), notes=notes)
        if call.missing:
            # Nothing speaks against a reply that was read, or closed as SDKs do after the last event.
            ended_well = call.error is None and call.ending in {"read", "closed"}
            facts = ResponseFacts(complete=ended_well, is_stream=request.stream, notes=(call.missing,))
        elif (request.stream and call.endpoint.framed) or _is_event_stream(pieces, request, received):
            facts = call.endpoint.read_stream(pieces, self._content)
        elif not call.streamed and call.body is None:
            facts = ResponseFacts(notes=("its body was not at hand to read",))
        else:
            facts = call.endpoint.read_response(b"".join(pieces), self._content)
        if not notes and not facts.notes:
            return facts
        return replace(facts, notes=(*notes, *(f"response: {note}" for note in facts.notes)))

    def _pieces(self, call: Call, received: Mapping[str, str]) -> tuple[list[bytes], tuple[str, ...]]:
        """The reply's bytes without their encoding, as they came in, and what is wrong with them."""
        if not call.streamed:
            return [call.body or b""], ()
        encoding = received.get("content-encoding", "")
        notes: tuple[str, ...] = ()
        pieces = call.pieces
        if call.tail is not None:
            notes = ("response: larger than LLMLOG_MAX_BODY_BYTES: its middle was not read",)
            pieces = pieces if encoding else [*pieces, b"\n\n", *call.tail]
        if encoding:
            pieces, note = decoded(pieces, encoding, self._settings.capture.max_body_bytes)
            notes += (f"response: {note}",) if note else ()
        return pieces, notes

    def _usage(
        self,
        call: Call,
        request: RequestFacts,
        response: ResponseFacts,
        failure: Failure | None,
        received: Mapping[str, str],
    ) -> tuple[Usage, tuple[str, ...], str | None]:
        """The usage, notes about it, and why there is none."""
        usage = response.usage
        why: str | None = None
        notes: tuple[str, ...] = ()
        if usage is None and response.output and call.endpoint.wire == "openai":
            usage, said = self._counted(call, request, response)
            if usage is None:
                why = f"the stream carried no usage; {said}"
            else:
                notes = (said,)
        if usage is None and request.usage is not None and failure is None:
            usage = request.usage
        if usage is None:
            usage = Usage()
            if why is None:
                absent = f"the response was {call.missing}" if call.missing else "the response carried no usage"
                why = f"the call failed: {failure.text}" if failure else absent
            if not request.usage_asked and failure is None and not call.missing:
                why += "; set stream_options.include_usage in the request, or LLMLOG_INJECT_STREAM_USAGE=true"
        stated = _stated(received.get("x-litellm-response-cost"))
        if stated is not None:
            usage = usage.model_copy(update={"stated_cost": stated})
        return usage, notes, why

    def _counted(self, call: Call, request: RequestFacts, response: ResponseFacts) -> tuple[Usage | None, str]:
        model = response.model or request.model
        if call.request_body is None or not model:
            return None, "neither request nor model are known"
        messages = request.messages
        if messages is None:
            messages = call.endpoint.read_request(call.request_body, call.url.path, True).messages
        return self._counter.count(model, messages, response.output)

    def _parameters(self, request: RequestFacts) -> dict[str, Any]:
        given = dict(request.parameters)
        if self._content:  # tools are among them, with the headers and tokens that their servers want
            given = redact.masked(redact.storable(given))
        return self._stored(given) or {}

    def _stored(self, content: Any) -> Any:
        if content is None:
            return None
        stored = redact.storable(content, self._settings.content.max_string_length_prompt_in_db)
        return stored if isinstance(stored, str | list | dict) else str(stored)

    def _error_information(
        self, failure: Failure | None, provider: str
    ) -> StandardLoggingPayloadErrorInformation | None:
        if failure is None:
            return None
        message = None
        if self._content and failure.message:
            message = redact.text(failure.message, self._settings.content.max_string_length_prompt_in_db)
        return StandardLoggingPayloadErrorInformation(
            error_code=failure.code, error_class=failure.error_class, llm_provider=provider, error_message=message
        )


def _own_id(ids: Ids) -> str:
    return f"{format_trace_id(ids.trace_id)}-{format_span_id(ids.span_id)}"


def _unread(call: Call, ids: Ids, error: Exception) -> CallPayload:
    """What is certain of a call that could not be read: that it was made, when, where to, and how it ended."""
    call_id = _own_id(ids)
    failure = failure_of(call, ResponseFacts(complete=0 < call.status_code < 400 and call.ending == "read"))
    reason = f"the call could not be read: {type(error).__name__}"
    return CallPayload(
        id=call_id,
        trace_id=format_trace_id(ids.trace_id),
        call_type=call.endpoint.call_types[call.is_async],
        stream=call.streamed,
        response_cost_failure_debug_info=StandardLoggingModelCostFailureDebugInformation(error_str=reason),
        status="success" if failure is None else "failure",
        startTime=call.start_ns / 1e9,
        endTime=call.end_ns / 1e9,
        response_time=(call.end_ns - call.start_ns) / 1e9,
        error_str=failure.text if failure else None,
        error_information=StandardLoggingPayloadErrorInformation(
            error_code=failure.code, error_class=failure.error_class
        )
        if failure
        else None,
        call_id=call_id,
        operation=call.endpoint.operation,
        notes=[reason],
    )


@lru_cache(maxsize=64)  # an app has a few clients
def _agent_name(agent: str) -> str | None:
    return redact.name(agent)


def _named(headers: Headers) -> dict[str, str]:
    """Headers as text under lower-case names. Not clean yet: whoever keeps one cleans it."""
    return {name.decode("latin-1").lower(): value.decode("utf-8", "replace") for name, value in headers}


def _is_event_stream(pieces: list[bytes], request: RequestFacts, received: Mapping[str, str]) -> bool:
    """Whether the reply is a stream of events: as its type says, or else as it was asked for and looks."""
    if "text/event-stream" in received.get("content-type", ""):
        return True
    begin = next((piece for piece in pieces if piece.strip()), b"").lstrip()
    return request.stream and begin.startswith((b"data:", b"event:", b":"))


def _first_token(call: Call, response: ResponseFacts) -> int | None:
    """When the first token came. Deep in a stream not every piece has a time: then that of one shortly before."""
    at = response.first_token
    if at is None:
        return None
    if at < len(call.times):
        return call.times[at]
    return max((ns for place, ns in call.marks if place <= at), default=None)


def _because(cost: Cost, uncounted: str | None) -> StandardLoggingModelCostFailureDebugInformation | None:
    if cost.failure is None or uncounted is None or cost.total is not None:
        return cost.failure
    return cost.failure.model_copy(update={"error_str": uncounted})


def _rate_limits(received: Mapping[str, str]) -> StandardLoggingAdditionalHeaders | None:
    found = {
        field: int(value)
        for field, names in _RATE_LIMITS.items()
        if (value := next((received[name] for name in names if name in received), ""))
        and value.isascii()
        and value.isdigit()
        and len(value) < 16
    }
    return StandardLoggingAdditionalHeaders(**found) if found else None


def _stated(cost: str | None) -> Decimal | None:
    """A LiteLLM proxy's own price of the call, US dollars. A zero often means "not priced", so it says nothing."""
    try:
        stated = Decimal(cost) if cost and len(cost) <= _MAX_STATED else None
    except InvalidOperation:
        return None
    # A smaller or longer one is broken or hostile: written out it could have 10**18 digits.
    return stated if stated is not None and stated.is_finite() and _LEAST_STATED <= stated < 10**6 else None

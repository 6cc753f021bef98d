"""What an ended call keeps of its request and reply: little, and all that is read later."""

from __future__ import annotations

import gc
import weakref

import httpx
import httpx2
import msgspec
import pytest
from hypothesis import example, given, strategies as st

from otel_llmlog.capture import headers, sending
from tests.capture.clients import CHAT, KEY, chat_body

some_headers = st.lists(st.tuples(st.binary(max_size=20), st.binary(max_size=40)), max_size=12)


@pytest.mark.parametrize("kind", [httpx.Headers, httpx2.Headers, sending.Headers])
@given(sent=some_headers, received=some_headers)
@example(sent=[], received=[])
@example(sent=[(b"", b"")], received=[(b"a", b"1\n2")])
def test_headers_of_any_client_come_back_as_they_were_whatever_bytes_they_hold(kind, sent, received):
    assert headers.unpack(headers.pack(kind(sent), kind(received))) == (sent, received)
    assert headers.unpack(headers.pack(kind(sent), None)) == (sent, [])


@pytest.mark.parametrize("kind", [httpx.Headers, httpx2.Headers])
def test_headers_are_looked_at_where_the_client_keeps_them(kind):
    """What is not public may go away in a later version. It would go on, and be slower."""
    found = kind({"Accept": "*/*"})
    assert headers.entries(found) is headers.entries(found)


def test_what_are_no_headers_is_said_to_be_none():
    for packed in (msgspec.msgpack.encode(([("accept", "*/*")], [])), msgspec.msgpack.encode(([()], [])), b"\xc1"):
        with pytest.raises(ValueError, match="names and values"):
            headers.unpack(packed)


def test_the_request_and_its_reply_are_gone_before_the_call_is_read(capture, monkeypatch):
    waiting = []
    monkeypatch.setattr(capture.recorder, "_on_end", waiting.append)
    with httpx.Client(transport=httpx.MockTransport(lambda _: httpx.Response(200, json={}))) as client:
        request = client.build_request("POST", f"https://in.process{CHAT}", json=chat_body())
        response = client.send(request)
        gone = [weakref.ref(request), weakref.ref(response)]
        del request, response
    gc.collect()
    assert len(waiting) == 1
    assert [found() for found in gone] == [None, None]


def test_a_key_that_the_client_adds_while_it_sends_is_hashed_all_the_same(capture):
    class Signing(httpx.Auth):
        def auth_flow(self, request):
            request.headers["authorization"] = f"Bearer {KEY}"
            yield request

    transport = httpx.MockTransport(lambda _: httpx.Response(200, json={}))
    with httpx.Client(transport=transport, auth=Signing()) as client:
        client.post(f"https://in.process{CHAT}", json=chat_body())
    assert len(capture.one().metadata.user_api_key_hash) == 64


def test_headers_that_cannot_be_read_leave_a_row_with_a_note_and_the_app_alone(capture, monkeypatch):
    def broken(_):
        raise RuntimeError("secret")

    monkeypatch.setattr(headers, "_pack", broken)
    with httpx.Client(transport=httpx.MockTransport(lambda _: httpx.Response(200, json={}))) as client:
        assert client.post(f"https://in.process{CHAT}", json=chat_body()).status_code == 200
    payload = capture.one()
    assert payload.model == "gpt-4o-mini"
    assert any("headers that could not be read: RuntimeError" in note for note in payload.notes)


def test_headers_that_are_no_bytes_leave_a_row_with_a_note(capture, monkeypatch):
    text = msgspec.msgpack.encode(([("accept", "*/*")], []))
    monkeypatch.setattr(headers, "_pack", lambda _: text)
    with httpx.Client(transport=httpx.MockTransport(lambda _: httpx.Response(200, json={}))) as client:
        assert client.post(f"https://in.process{CHAT}", json=chat_body()).status_code == 200
    payload = capture.one()
    assert payload.model == "gpt-4o-mini"
    assert any("no bytes" in note for note in payload.notes)

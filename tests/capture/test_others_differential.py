"""aiohttp, requests and botocore: with us and without us an app sees the same, however a call ends."""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass, field

import pytest
import urllib3

from otel_llmlog.capture import patch
from tests.capture.clients import USAGE, chat_body
from tests.capture.others import OTHERS, Aiohttp

WAYS = [pytest.param(other, way, id=f"{other.name}-{way}") for other in OTHERS for way in ("read", *other.ways)]
SCENARIOS = [
    "plain events=9",
    "error status=401",
    "error status=500",
    "error_in_stream",
    "invalid_json",
    "no_terminator keep=3",
    "cut after=1",
    "huge bytes=40000",
    "empty",
    "raw status=204",
]


@dataclass
class Seen:
    """All that an app can see of one reply."""

    status: int = 0
    headers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""
    kinds: list[bool] = field(default_factory=list)
    error: tuple[str, str, str] | None = None


async def watch(client, way, body, headers) -> Seen:
    seen = Seen()
    response = None
    try:
        response = await client.post(body, headers=headers, stream=way is not None)
        seen.status = client.status(response)
        seen.headers = sorted((name.lower(), value) for name, value in response.headers.items())
        if way in {None, "read"}:
            seen.body = await client.read(response)
        else:
            async for piece in client.pieces(response, way):
                seen.body += piece
    except Exception as error:
        said = re.sub("0x[0-9a-f]+", "0x", f"{error}")
        seen.error = (type(error).__module__, type(error).__name__, said)
    if response is not None:
        await client.close(response)
        raw = getattr(response, "raw", None)
        seen.kinds = [raw is None or (raw.closed, isinstance(raw, urllib3.HTTPResponse)) == (True, True)]
    return seen


async def both(capture, start_over, other, url, way, body, headers=None, **options):
    patch.remove()
    found = []
    for install in (lambda: None, capture.install):
        install()
        start_over()
        client = other(url, **options)
        found.append(await watch(client, way, body, headers))
        await client.end()
    payloads = len(capture.payloads())
    capture.clear()
    return (*found, payloads)


@pytest.mark.parametrize(("other", "way"), [*WAYS, *(pytest.param(o, None, id=f"{o.name}-plain") for o in OTHERS)])
async def test_the_app_sees_the_same_of_every_ending(capture, provider, same_replies, other, way):
    for scenario in SCENARIOS:
        if way == "iter_chunks" and "204" in scenario:
            continue  # aiohttp's own loop over the chunks of a reply without a body never ends
        body = chat_body(f"[scenario: {scenario}]", stream=way is not None, stream_options=USAGE)
        without, with_us, payloads = await both(capture, same_replies, other, provider.url, way, body)
        assert with_us == without, scenario
        assert payloads == 1, scenario
        assert without.status or without.error


@pytest.mark.parametrize(("other", "way"), WAYS)
async def test_the_app_sees_the_same_of_an_encoded_reply(capture, provider, same_replies, other, way):
    for encoding in ("gzip", "deflate", "br", "zstd"):
        for more in ({}, {"x-chunk-bytes": "7"}, {"x-scenario": "cut after=1"}):
            headers = {"x-encoding": encoding, **more}
            body = chat_body(stream=True, stream_options=USAGE)
            without, with_us, payloads = await both(capture, same_replies, other, provider.url, way, body, headers)
            assert with_us == without, headers
            assert payloads == 1


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("scenario", ["slow seconds=30", "stall after=1 seconds=30"])
async def test_the_app_sees_the_same_timeout(capture, provider, same_replies, other, scenario):
    body = chat_body(f"[scenario: {scenario}]", stream=True)
    without, with_us, payloads = await both(
        capture, same_replies, other, provider.url, other.ways[0], body, timeout=0.3
    )
    assert with_us == without
    assert without.error is not None
    assert payloads == 1


@pytest.mark.parametrize("other", OTHERS)
async def test_the_app_sees_the_same_refused_connection(capture, same_replies, other):
    with socket.socket() as bound:  # bound but not listening
        bound.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{bound.getsockname()[1]}"
        without, with_us, payloads = await both(capture, same_replies, other, url, None, chat_body())
    assert with_us == without
    assert without.error is not None
    assert payloads == 1


@pytest.mark.parametrize("other", OTHERS)
async def test_the_request_goes_out_as_it_was_made(capture, provider, other):
    client = other(provider.url)
    await client.read(await client.post(chat_body("ä\u2028"), headers={"x-test": "1"}))
    patch.remove()
    await client.read(await client.post(chat_body("ä\u2028"), headers={"x-test": "1"}))
    await client.end()
    with_us, without = provider.wait_ended(2)
    assert (with_us.body, with_us.headers, with_us.path) == (without.body, without.headers, without.path)


@pytest.mark.parametrize(
    ("given", "kind"),
    [({"json": {"a": 1}, "data": b"x"}, ValueError), ({"json": {"a": {1}}}, TypeError), ({"headers": 7}, TypeError)],
)
async def test_what_aiohttp_refuses_it_refuses_in_its_own_words(capture, provider, given, kind):
    said = []
    for _ in range(2):
        client = Aiohttp(provider.url)
        with pytest.raises(kind) as refused:
            await client.session.post(provider.url, **given)
        await client.end()
        said.append(str(refused.value))
        patch.remove()
    assert said[0] == said[1]

"""Images, audio and moderation through the OpenAI SDK, requests and aiohttp: one payload a request, the right units."""

from __future__ import annotations

import io
from typing import Any

import aiohttp
import pytest
import requests

from tests.capture.clients import openai_client
from tests.wires.media_server import SOUND, MediaServer


@pytest.fixture(scope="module")
def server():
    with MediaServer() as running:
        yield running


def wav() -> io.BytesIO:
    sound = io.BytesIO(b"RIFF" + SOUND)
    sound.name = "a.wav"
    return sound


def counted(payload) -> dict[str, Any]:
    return payload.usage.model_dump(exclude_defaults=True, mode="json")


HEARD = {"input_tokens": 14, "output_tokens": 45, "input_audio_tokens": 10, "source": "provider"}
DRAWN = {
    "input_tokens": 50, "output_tokens": 1056, "input_image_tokens": 40, "output_image_tokens": 1056,
    "image_size": "1024x1024", "image_quality": "low", "source": "provider",
}  # fmt: skip
MINI, IMAGE = "gpt-4o-mini-transcribe", "gpt-image-1"
CALLS = {
    "transcription": (lambda c: c.audio.transcriptions.create(model=MINI, file=wav()), "transcription", MINI, HEARD),
    "translation": (
        lambda c: c.audio.translations.create(model="whisper-1", file=wav()),
        "transcription",
        "whisper-1",
        {"input_audio_ms": 3000, "source": "provider"},
    ),
    "verbose": (
        lambda c: c.audio.transcriptions.create(model="whisper-1", file=wav(), response_format="verbose_json"),
        "transcription",
        "whisper-1",
        {"input_audio_ms": 2500, "source": "provider"},
    ),
    "text": (
        lambda c: c.audio.transcriptions.create(model="whisper-1", file=wav(), response_format="text"),
        "transcription",
        "whisper-1",
        {},
    ),
    "speech": (
        lambda c: c.audio.speech.create(model="tts-1", voice="alloy", input="Hello"),
        "speech",
        "tts-1",
        {"input_characters": 5, "source": "request"},
    ),
    "dall-e": (
        lambda c: c.images.generate(model="dall-e-3", prompt="A pear", size="1024x1792", quality="hd"),
        "image_generation",
        "dall-e-3",
        {"output_images": 1, "image_size": "1024x1792", "image_quality": "hd", "source": "request"},
    ),
    "image": (lambda c: c.images.generate(model=IMAGE, prompt="A pear"), "image_generation", IMAGE, DRAWN),
    "edit": (lambda c: c.images.edit(model=IMAGE, prompt="A pear", image=wav()), "image_edit", IMAGE, DRAWN),
    "moderation": (
        lambda c: c.moderations.create(input="hello"),
        "moderation",
        "omni-moderation-latest",
        {"source": "provider", "stated_cost": "0"},
    ),
}


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("name", CALLS)
async def test_each_api_leaves_one_payload_with_its_units(capture, server, name, is_async):
    make, call_type, model, usage = CALLS[name]
    made = make(openai_client(server.url, is_async=is_async))
    made = await made if is_async else made
    payload = capture.one()
    assert (payload.status, payload.model, payload.custom_llm_provider) == ("success", model, "openai")
    assert payload.call_type == ("a" if is_async else "") + call_type
    assert counted(payload) == usage
    assert (payload.messages, payload.response) == (None, None)
    if name == "speech":
        assert made.content == SOUND
    if name == "moderation":
        assert (payload.spend, payload.cost_source) == (0, "provider")
    if name == "text":
        assert payload.spend is None
        assert payload.notes == ["response: the reply is text alone: it states no usage"]
    if name in {"transcription", "image", "edit"}:
        assert payload.spend is not None


STREAMS = {
    "transcription": (lambda c: c.audio.transcriptions.create(model=MINI, file=wav(), stream=True), HEARD),
    "image": (lambda c: c.images.generate(model=IMAGE, prompt="x", stream=True, partial_images=1), DRAWN),
    "edit": (lambda c: c.images.edit(model=IMAGE, prompt="x", image=wav(), stream=True), DRAWN),
}


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
@pytest.mark.parametrize("name", STREAMS)
async def test_each_stream_leaves_one_payload_with_its_units(capture, server, name, is_async):
    make, usage = STREAMS[name]
    made = make(openai_client(server.url, is_async=is_async))
    if is_async:
        assert [event async for event in await made]
    else:
        assert list(made)
    payload = capture.one()
    assert (payload.status, payload.stream) == ("success", True)
    assert counted(payload) == usage
    assert payload.completionStartTime is not None


@pytest.mark.parametrize("early", [False, True], ids=["whole", "early"])
async def test_speech_that_is_streamed_to_its_end_is_a_success_and_one_that_is_not_is_none(capture, server, early):
    client = openai_client(server.url)
    asked = {"model": "tts-1", "voice": "alloy", "input": "Hello"}
    with client.audio.speech.with_streaming_response.create(**asked) as response:
        pieces = response.iter_bytes(1000)
        heard = next(pieces) if early else b"".join(pieces)
    assert SOUND.startswith(heard)
    assert capture.one().status == ("failure" if early else "success")


async def test_a_form_is_read_whichever_client_makes_it(capture, server):
    url = f"{server.url}/v1/audio/transcriptions"
    requests.post(url, data={"model": MINI, "temperature": "0.5"}, files={"file": ("a.wav", SOUND)}, timeout=9)
    form = aiohttp.FormData({"model": MINI})
    form.add_field("file", SOUND, filename="a.wav")
    async with aiohttp.ClientSession() as session, session.post(url, data=form) as response:
        await response.read()
    payloads = capture.payloads()
    assert [(p.model, p.prompt_tokens, p.status) for p in payloads] == [(MINI, 14, "success")] * 2


def test_content_is_text_alone_never_a_picture_or_a_sound(capture_with, server):
    capture = capture_with(store_prompts_in_spend_logs=True)
    client = openai_client(server.url)
    client.images.generate(model=IMAGE, prompt="A pear")
    client.audio.transcriptions.create(model=MINI, file=wav())
    client.audio.speech.create(model="tts-1", voice="alloy", input="Hello")
    image, heard, spoken = capture.payloads()
    assert (image.messages, image.response["data"]) == ("A pear", [{}])
    assert (heard.messages, heard.response["text"]) == (None, "Hello.")
    assert (spoken.messages, spoken.response) == ("Hello", None)
    assert "iVBOR" not in repr([record.attributes for record in capture.records()])

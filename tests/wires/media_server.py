"""A server of OpenAI's images, audio, moderation, files and batches, and of Anthropic's batches, on loopback.

What a batch answers is given to it: `server.files[id]` are the bytes of a file, `server.batches[id]` a batch.
"""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar, Self

from otel_llmlog.providers import forms

IMAGE_USAGE = {
    "input_tokens": 50,
    "input_tokens_details": {"text_tokens": 10, "image_tokens": 40},
    "output_tokens": 1056,
    "total_tokens": 1106,
}
HEARD = {
    "type": "tokens",
    "input_tokens": 14,
    "input_token_details": {"text_tokens": 4, "audio_tokens": 10},
    "output_tokens": 45,
    "total_tokens": 59,
}
PICTURE = "iVBORw0KGgo"
SOUND = bytes(range(256)) * 64


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: MediaServer

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        *_, kind, name = path.split("/")
        if name in {"content", "results"}:
            body = self.server.files[kind]
            self._send(body, "application/binary", pieces=2 if self.server.chunked else 1)
        elif name == "batches":
            self._json(
                {"data": list(self.server.batches.values()), "has_more": False, "first_id": None, "last_id": None}
            )
        else:
            self._json(self.server.batches[name])

    def do_POST(self) -> None:
        raw = self.rfile.read(int(self.headers["content-length"]))
        given: dict[str, Any] = forms.fields(raw) if forms.is_form(raw) else json.loads(raw)
        self.server.seen.append((self.path, given))
        if self.path.endswith("/moderations"):
            self._json({"id": "modr-1", "model": "omni-moderation-latest", "results": [{"flagged": False}]})
        elif "/images/" in self.path:
            self._image(given)
        elif self.path.endswith("/speech"):
            self._speech(given)
        else:
            self._heard(given)

    def _image(self, given: dict[str, Any]) -> None:
        kind = "image_edit" if self.path.endswith("edits") else "image_generation"
        if str(given.get("stream")).lower() == "true":
            done = {"b64_json": PICTURE, "size": "1024x1024", "quality": "low", "usage": IMAGE_USAGE}
            self._events(
                {"type": f"{kind}.partial_image", "b64_json": PICTURE, "partial_image_index": 0},
                {"type": f"{kind}.completed", **done},
            )
        elif str(given["model"]).startswith("dall-e"):
            self._json({"created": 1_700_000_000, "data": [{"url": "https://example.com/1.png"}]})
        else:
            made = {"data": [{"b64_json": PICTURE}], "size": "1024x1024", "quality": "low", "usage": IMAGE_USAGE}
            self._json({"created": 1_700_000_000, **made})

    def _speech(self, given: dict[str, Any]) -> None:
        if given.get("stream_format") == "sse":
            usage = {"input_tokens": 14, "output_tokens": 101, "total_tokens": 115}
            self._events({"type": "speech.audio.delta", "audio": "AAAA"}, {"type": "speech.audio.done", "usage": usage})
        else:
            self._send(SOUND, "audio/mpeg", pieces=4)

    def _heard(self, given: dict[str, Any]) -> None:
        shape = given.get("response_format", "json")
        if shape == "text":
            self._send(b"Hello.\n", "text/plain")
        elif str(given.get("stream")).lower() == "true":
            self._events(
                {"type": "transcript.text.delta", "delta": "Hello."},
                {"type": "transcript.text.done", "text": "Hello.", "usage": HEARD},
            )
        elif shape == "verbose_json":
            self._json({"task": "transcribe", "language": "english", "duration": 2.5, "text": "Hello.", "segments": []})
        elif given["model"] == "whisper-1":
            self._json({"text": "Hello.", "usage": {"type": "duration", "seconds": 3}})
        else:
            self._json({"text": "Hello.", "usage": HEARD})

    def _json(self, value: Any) -> None:
        self._send(json.dumps(value).encode(), "application/json")

    def _events(self, *events: dict[str, Any]) -> None:
        lines = [f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in events]
        self._send(b"".join(lines), "text/event-stream")

    def _send(self, body: bytes, kind: str, *, pieces: int = 1) -> None:
        self.send_response(200)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        size = -(-len(body) // pieces) or 1
        for at in range(0, len(body), size):
            self.wfile.write(body[at : at + size])

    def log_message(self, *_: Any) -> None:
        pass


class MediaServer(ThreadingHTTPServer):
    daemon_threads = True
    chunked: ClassVar[bool] = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, bytes] = {}
        self.batches: dict[str, dict[str, Any]] = {}
        self.seen: list[tuple[str, dict[str, Any]]] = []
        self._thread = threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True)

    def handle_error(self, *_: Any) -> None:
        """A client that goes away early is what some tests are about."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()

"""Count tokens ourselves, for OpenAI streams that carry no usage. Needs the `tiktoken` extra.

The vocabulary of an encoding is a file that tiktoken fetches once and caches (`TIKTOKEN_CACHE_DIR`). It is loaded on
a thread of its own: while it is not there, or cannot be had, calls stay uncounted and say so.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

from otel_llmlog import forks, native
from otel_llmlog.payload import Usage

# Per message and per reply, from OpenAI's description of how chat is turned into tokens.
_PER_MESSAGE = 3
_PER_NAME = 1
_REPLY = 3
# Seconds that the first call of a model may wait for its encoding. Later ones do not wait.
_LOAD_SECONDS = 5.0
# Characters counted per call; a longer text is counted in part and scaled up, to bound the time.
_MAX_CHARACTERS = 400_000


class TokenCounter:
    """Counts with tiktoken where it is installed and its encoding is at hand."""

    def __init__(self) -> None:
        if find_spec("tiktoken"):
            # What it fetches with. It would import that on the thread below, where an app that looks for it in
            # `sys.modules` would find half of it.
            import requests  # noqa: F401 - see above
        self._encodings: dict[str, Any] = {}
        self._loading: dict[str, native.Thread] = {}

    def count(self, model: str, messages: Any, output: Sequence[str]) -> tuple[Usage | None, str]:
        """Usage of a chat or text completion, or None and why it could not be counted."""
        encoding = self._encoding(model)
        if isinstance(encoding, str):
            return None, encoding
        try:
            used = Usage(
                input_tokens=_count_messages(encoding, messages),
                output_tokens=_count(encoding, "".join(output)),
                source="tiktoken",
            )
        except Exception as error:  # a tokenizer of a plug-in may fail in its own ways
            return None, f"tiktoken could not count: {type(error).__name__}"
        return used, "tokens were counted by tiktoken: the stream carried no usage"

    def _encoding(self, model: str) -> Any:
        found = self._encodings.get(model)
        if found is None:
            thread = self._loading.get(model)
            if thread is None:
                thread = native.Thread(self._load, "llmlog-tiktoken", model)
                self._loading[model] = thread
                thread.start()
                thread.join(_LOAD_SECONDS)
            found = self._encodings.get(model, "tiktoken is still loading its vocabulary")
        return found

    def _load(self, model: str) -> None:
        found: Any
        try:
            with forks.held_off():
                import tiktoken

            found = tiktoken.encoding_for_model(model)
        except ImportError:
            found = "tiktoken is not installed: pip install 'otel-llmlog[tiktoken]'"
        except KeyError:
            found = "tiktoken does not know this model"
        except Exception as error:  # no network, no cache, a broken file: whatever the reason, it cannot count
            found = f"tiktoken could not load its vocabulary: {type(error).__name__}"
        self._encodings[model] = found


def _count(encoding: Any, text: str) -> int:
    if len(text) > _MAX_CHARACTERS:
        return len(encoding.encode_ordinary(text[:_MAX_CHARACTERS])) * len(text) // _MAX_CHARACTERS
    return len(encoding.encode_ordinary(text))


def _count_messages(encoding: Any, messages: Any) -> int:
    if isinstance(messages, str):
        return _count(encoding, messages)
    if not isinstance(messages, list):
        return 0
    if all(isinstance(prompt, str) for prompt in messages):
        return sum(_count(encoding, prompt) for prompt in messages)
    total = _REPLY
    for message in messages:
        if not isinstance(message, dict):
            continue
        total += _PER_MESSAGE + (_PER_NAME if message.get("name") else 0)
        total += sum(_count(encoding, text) for text in _texts(message))
    return total


def _texts(message: dict[str, Any]) -> list[str]:
    found = [value for key in ("role", "name", "content") if isinstance(value := message.get(key), str)]
    parts = message.get("content")
    if isinstance(parts, list):
        found += [part["text"] for part in parts if isinstance(part, dict) and isinstance(part.get("text"), str)]
    return found

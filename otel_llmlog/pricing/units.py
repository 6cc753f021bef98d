"""What of a usage is billed, and in which unit: every token in exactly one class that has a price.

Always true: a part without a price of its own stays in its whole; what is counted in two units is billed in one.
"""

from __future__ import annotations

from collections.abc import Container
from operator import itemgetter

from otel_llmlog.payload import Usage

# Parts that stay in their whole when a price list has no price for them; the deepest first.
_PARTS = (
    ("cache_read_audio", "cache_read"),
    ("cache_read_image", "cache_read"),
    ("cache_write_1h", "cache_write"),
    ("input_audio", "input"),
    ("input_image", "input"),
    ("input_video", "input"),
    ("reasoning", "output"),
    ("output_audio", "output"),
    ("output_image", "output"),
    ("output_video", "output"),
    ("annotated_pages", "pages"),
)
_KINDS = (
    "cache_read_audio_tokens", "cache_read_image_tokens", "input_audio_tokens", "input_image_tokens",
    "input_video_tokens", "output_audio_tokens", "output_image_tokens", "output_video_tokens",
)  # fmt: skip
# What stands beside the tokens of a call, whatever those are.
_EXTRAS = {
    "web_search": "web_search_requests",
    "file_search": "file_search_requests",
    "code_interpreter": "code_interpreter_sessions",
}
# What may be counted beside the tokens that stand for the same, or instead of them. The class of tokens that it
# replaces where it has a price; without one it is only missed if there are no tokens.
_INSTEAD = {
    "input_characters": "input",
    "output_characters": "output",
    "input_audio_ms": "input_audio",
    "output_audio_ms": "output_audio",
    "input_images": "input_image",
}
_ALONE = ("pages", "annotated_pages", "output_images", "search_units")
# The look at what is not there is most of the work: it is done for many at once.
_of_text = itemgetter("cache_read_tokens", "cache_write_tokens", "reasoning_tokens")
_of_kinds = itemgetter(*_KINDS)
_tools = itemgetter(*_EXTRAS.values())
_others = itemgetter(*[*_INSTEAD, *_ALONE])
# How the units of a class are called in a sentence; any other class is counted in tokens.
_NAMES = {
    "web_search": "web searches",
    "file_search": "file searches",
    "code_interpreter": "sessions of the code interpreter",
    "query": "queries",
    "request": "requests",
    "input_characters": "characters of input",
    "output_characters": "characters of output",
    "input_audio_ms": "seconds of audio input",
    "output_audio_ms": "seconds of audio output",
    "input_images": "images sent",
    "output_images": "images made",
    "pages": "pages",
    "annotated_pages": "annotated pages",
}


def plural(name: str) -> str:
    """The units of a class, as a sentence has them."""
    return _NAMES.get(name) or f"{name} tokens"


def split(usage: Usage, prices: Container[str], *, one_search: bool = False) -> list[tuple[str, int]]:
    """Units of each class, all above 0. `one_search`: however often a call searches, it is billed as one search."""
    counts = usage.__dict__
    kinds, others = any(_of_kinds(counts)), any(_others(counts))
    if kinds:
        classes = _tokens(usage, prices)
    elif any(_of_text(counts)):
        classes = _text(usage, prices)
    else:
        classes = {"input": usage.input_tokens, "output": usage.output_tokens}
    if others:
        _add_others(usage, prices, classes)
    if kinds or others:
        for part, whole in _PARTS:
            if classes.get(part) and part not in prices:
                classes[whole] = classes.get(whole, 0) + classes.pop(part)
    if any(_tools(counts)):
        for name, field in _EXTRAS.items():
            classes[name] = counts[field]
        if one_search and classes["web_search"]:
            classes["web_search"] = 1
    if "request" in prices:
        # A fee for each request stands for the searches that the request makes.
        classes["request"] = 1
        if "web_search" not in prices:
            classes.pop("web_search", None)
    if "query" in prices:
        classes["query"] = usage.search_units or 1
    return [(name, units) for name, units in classes.items() if units]


def _text(usage: Usage, prices: Container[str]) -> dict[str, int]:
    """Tokens of text alone: what nearly all calls have."""
    total, output = usage.input_tokens, usage.output_tokens
    read = min(usage.cache_read_tokens, total)
    write = min(usage.cache_write_tokens, total - read) if "cache_write" in prices else 0
    if "cache_read" not in prices:
        read = 0
    hour = min(usage.cache_write_1h_tokens, write) if "cache_write_1h" in prices else 0
    reasoning = min(usage.reasoning_tokens, output) if "reasoning" in prices else 0
    return {
        "input": total - read - write,
        "cache_read": read,
        "cache_write": write - hour,
        "cache_write_1h": hour,
        "output": output - reasoning,
        "reasoning": reasoning,
    }


def _tokens(usage: Usage, prices: Container[str]) -> dict[str, int]:
    total, output = usage.input_tokens, usage.output_tokens
    read = min(usage.cache_read_tokens, total) if "cache_read" in prices else 0
    write = min(usage.cache_write_tokens, total - min(usage.cache_read_tokens, total)) if "cache_write" in prices else 0
    hour = min(usage.cache_write_1h_tokens, write)
    uncached = total - read - write
    audio = min(usage.input_audio_tokens, total)
    image = min(usage.input_image_tokens, total - audio)
    video = min(usage.input_video_tokens, total - audio - image)
    # Where nobody reports how much of the audio was cached, only what cannot have been sent afresh counts as such.
    read_audio = min(usage.cache_read_audio_tokens, read, audio)
    read_image = min(usage.cache_read_image_tokens, read - read_audio, image)
    fresh_audio = min(audio - read_audio, uncached)
    read_audio = min(audio - fresh_audio, read - read_image)
    fresh_image = min(image - read_image, uncached - fresh_audio)
    read_image = min(image - fresh_image, read - read_audio)
    fresh_video = min(video, uncached - fresh_audio - fresh_image)
    said = min(usage.output_audio_tokens, output)
    drawn = min(usage.output_image_tokens, output - said)
    filmed = min(usage.output_video_tokens, output - said - drawn)
    reasoning = min(usage.reasoning_tokens, output - said - drawn - filmed)
    return {
        "input": uncached - fresh_audio - fresh_image - fresh_video,
        "cache_read": read - read_audio - read_image,
        "cache_read_audio": read_audio,
        "cache_read_image": read_image,
        "cache_write": write - hour,
        "cache_write_1h": hour,
        "input_audio": fresh_audio,
        "input_image": fresh_image,
        "input_video": fresh_video,
        "output": output - said - drawn - filmed - reasoning,
        "reasoning": reasoning,
        "output_audio": said,
        "output_image": drawn,
        "output_video": filmed,
    }


def _add_others(usage: Usage, prices: Container[str], classes: dict[str, int]) -> None:
    tokens = usage.input_tokens or usage.output_tokens
    for name, counted in _INSTEAD.items():
        units = getattr(usage, name)
        if units and name in prices:
            classes[name] = units
            classes.pop(counted, None)
        elif units and not tokens:
            classes[name] = units
    if usage.output_images and "output_images" in prices and not ("output" in prices or "output_image" in prices):
        # Billed by the piece: what tokens were counted beside them say nothing more.
        classes.clear()
        classes["output_images"] = usage.output_images
    elif usage.output_images and not tokens:
        classes["output_images"] = usage.output_images
    if usage.search_units and not tokens and "query" not in prices:
        classes["query"] = usage.search_units
    annotated = min(usage.annotated_pages, usage.pages)
    classes["pages"], classes["annotated_pages"] = usage.pages - annotated, annotated
